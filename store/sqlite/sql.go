package sqlite

// Parts of SQL statements.
//
// States are literals, never bound: SQLite uses a partial index only for a statement whose
// condition implies that of the index, and a bound state implies nothing (schema/0001.sql).
// A test keeps numbers of states out of all other files.

// The numbers of package store's states.
const (
	scheduledState = "2"
	queuedState    = "3"
	runningState   = "4"
	waitingState   = "5"
	blockedState   = "6"
	succeededState = "7"
	canceledState  = "9"
)

// A run's state, as a condition or as an assignment.
const (
	stateScheduled = "state = " + scheduledState
	stateQueued    = "state = " + queuedState
	stateRunning   = "state = " + runningState
	stateWaiting   = "state = " + waitingState
	stateBlocked   = "state = " + blockedState
	stateSucceeded = "state = " + succeededState
	stateCanceled  = "state = " + canceledState
)

// Conditions on the states of a run, by their order.
const (
	notRunning   = "state <> " + runningState
	sinceQueued  = "state >= " + queuedState
	upToWaiting  = "state <= " + waitingState
	afterRunning = "state > " + runningState
	notEnded     = "state < " + succeededState
	hasEnded     = "state >= " + succeededState
)

const (
	// dueTime is when a run is due: a row without due_at is due when it is created.
	dueTime = "coalesce(due_at, id >> 20)"
	// setRank, and a new due time after it, moves a run's position in its lane by as much as
	// that is later (store.Rank).
	setRank = "rank = rank - " + dueTime + " + "
)

// distinctValues returns a WITH clause for the table found, whose column v has the distinct
// values of a column, ascending, and NULL after them. from is a table and the condition of its
// rows. It costs one search of an index for each value, however many rows have it.
func distinctValues(column, from string) string {
	return `
WITH RECURSIVE found (v) AS (
  SELECT (SELECT ` + column + " FROM " + from + " ORDER BY " + column + ` LIMIT 1)
  UNION ALL
  SELECT (SELECT ` + column + " FROM " + from + " AND " + column + " > found.v ORDER BY " + column + ` LIMIT 1)
  FROM found WHERE found.v IS NOT NULL)
`
}

// selectDistinct returns a statement that selects the distinct values of a column.
func selectDistinct(column, from string) string {
	return distinctValues(column, from) + "SELECT v FROM found WHERE v IS NOT NULL"
}

// nullable returns the value of a column in which 0 is NULL.
func nullable(n int64) any {
	if n == 0 {
		return nil
	}
	return n
}

// text returns bytes for a TEXT column; nil is NULL.
func text(b []byte) any {
	if b == nil {
		return nil
	}
	return string(b)
}
