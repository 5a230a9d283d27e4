package postgres

import (
	"fmt"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/damage"
	"github.com/stint-dev/stint/store/internal/lifecycle"
)

// A plain group is decided before anything is read, by the same code as any other, and is one round trip. Where
// a decision would look at a row, the unit assumes what that row says nearly always, and the statement that
// writes tests it: an assumption that fails is an error of the server, which undoes the whole group. Then
// the group is decided again, with its rows locked and read. So what a plain group commits is what the
// general path would have decided:
//
//   - A run that ends is executed under the outcome's lease, was not asked to cancel, has no limits, and
//     nobody waits for its end. lifecycle.Finish reads nothing else of it (Rows.Try).
//   - A durable call is made by an execution that is current, and no entry at its address is done.
//   - What the process remembers (lanes, pauses, workers, whether runs have limits) holds: the epoch is the
//     same, under the lock that who changes it takes alone.
//   - New keys come after all that is committed: the server moves them up if they do not.
//
// A decision that needs any other row misses it, and the group is not plain.

// assumed are the changes of a group to rows that were not read, and the runs whose keys the server may move.
type assumed struct {
	ends    map[int64]*endRow // by run
	entries []*callRow
	fresh   []*freshRow
	begun   map[int64]*freshRow // those of fresh that are workflows' runs, and have begun
	flows   map[int64]*flowRow  // workflows' runs
	tasks   []*taskRow          // that start
}

// An endRow is the end of a run. Its outcome names the lease.
type endRow struct {
	run, lease, state, ended int64
	output, reason           []byte
}

// A callRow is the entry of a durable call that an execution makes.
type callRow struct {
	entryRow
	lease int64
}

// A freshRow is a new run that is like most: none of the columns that it lacks is set.
type freshRow struct {
	runRow
	out *store.Enqueued // nil: it is a task of a workflow's run
}

var (
	endColumns = []column[endRow]{
		number("id", func(r *endRow) *int64 { return &r.run }),
		number("lease", func(r *endRow) *int64 { return &r.lease }),
		number("state", func(r *endRow) *int64 { return &r.state }),
		number("ended_at", func(r *endRow) *int64 { return &r.ended }),
		col("output", "bytea", func(r *endRow) *[]byte { return &r.output }),
		col("error", "text", func(r *endRow) *[]byte { return &r.reason }),
	}
	callColumns = []column[callRow]{
		number("run", func(r *callRow) *int64 { return &r.run }),
		number("lease", func(r *callRow) *int64 { return &r.lease }),
		text("scope", func(r *callRow) *string { return &r.scope }),
		number("seq", func(r *callRow) *int64 { return &r.seq }),
		number("kind", func(r *callRow) *int64 { return &r.kind }),
		text("name", func(r *callRow) *string { return &r.name }),
		col("value", "bytea", func(r *callRow) *[]byte { return &r.value }),
		col("error", "text", func(r *callRow) *[]byte { return &r.reason }),
		number("at", func(r *callRow) *int64 { return &r.at }),
		number("attempts", func(r *callRow) *int64 { return &r.attempts }),
		number("began_at", func(r *callRow) *int64 { return &r.began }),
		col("tries", "text", func(r *callRow) *[]byte { return &r.tries }),
	}
	freshColumns = []column[freshRow]{
		number("id", func(r *freshRow) *int64 { return &r.Key }),
		number("lane", func(r *freshRow) *int64 { return &r.Lane }),
		number("rank", func(r *freshRow) *int64 { return &r.Rank }),
		number("due_at", func(r *freshRow) *int64 { return &r.Due }),
		stored("state", "smallint", func(r *freshRow) *int64 { return &r.state }, func(r *freshRow) int16 { return int16(r.State) }),
		number("priority", func(r *freshRow) *int64 { return &r.priority }),
		col("metadata", "text", func(r *freshRow) *[]byte { return &r.metadata }),
		col("input", "bytea", func(r *freshRow) *[]byte { return &r.input }),
	}
	// freshFlowColumns are those of a group that has workflows' runs and their first tasks among its new runs.
	freshFlowColumns = append(freshColumns[:len(freshColumns):len(freshColumns)],
		number("started_at", func(r *freshRow) *int64 { return &r.Started }),
		number("parent", func(r *freshRow) *int64 { return &r.Parent }),
		number("root", func(r *freshRow) *int64 { return &r.root }),
		number("node", func(r *freshRow) *int64 { return &r.Node }),
		stored("flags", "smallint", func(r *freshRow) *int64 { return &r.flags }, func(r *freshRow) int16 { return r.storedFlags() }))
)

// assert is an expression that is an error, unless a condition holds: the server has no other that all
// versions share and that needs no function of ours. The text is what it logs.
func assert(condition string) string {
	return "(CASE WHEN " + condition + " THEN '1' ELSE 'stint: not the usual case, tried again' END)::integer"
}

var (
	// assumeEpochSQL asserts that what the process remembers holds.
	assumeEpochSQL = "SELECT " + assert("n = $1") + " FROM stint.epoch"

	// endSQL ends runs. Their rows stay locked, so that unawaitedSQL, which begins after that, sees all who
	// have come to wait for them. (state + 0: it is to find the rows by their keys, not by the index of what
	// is running.)
	endSQL = "WITH ended AS (UPDATE stint.runs t SET state = u.state, ended_at = u.ended_at, output = u.output, error = u.error FROM " +
		arraysOf(endColumns) + " WHERE t.id = u.id AND t.lease = u.lease AND t.state + 0 = 4 AND t.cancel_at IS NULL " +
		"AND t.limits IS NULL RETURNING 1) SELECT " + assert("count(*) = $7") + " FROM ended"
	unawaitedSQL = "SELECT " + assert("NOT EXISTS (SELECT 1 FROM stint.awaited WHERE child = ANY ($1))")

	// callSQL records the results of durable steps, or completes the entries that are pending there.
	callSQL = "WITH current AS MATERIALIZED (SELECT u.* FROM " + arraysOf(callColumns) + " CROSS JOIN LATERAL (" +
		"SELECT 1 FROM stint.runs t WHERE t.id = u.run AND t.lease = u.lease AND t.state + 0 = 4 FOR UPDATE) r), " +
		"made AS (INSERT INTO stint.journal AS j (run, scope, seq, kind, name, done, value, error, at, attempts, began_at, tries) " +
		"SELECT run, scope, seq, kind, name, true, value, error, at, attempts, nullif(began_at, 0), tries FROM current " +
		"ON CONFLICT (run, scope, seq) DO UPDATE SET name = excluded.name, done = true, value = excluded.value, " +
		"error = excluded.error, at = excluded.at, attempts = excluded.attempts, " +
		"began_at = coalesce(excluded.began_at, j.began_at, j.at), tries = excluded.tries " +
		"WHERE NOT j.done RETURNING 1) SELECT " + assert("count(*) = $13") + " FROM made"

	// freshSQL inserts runs, freshFlowSQL those of workflows and their first tasks too. The tasks refer to their
	// workflow's run as moved.
	freshSQL     = freshOf(freshColumns, "", "")
	freshFlowSQL = freshOf(freshFlowColumns, ", started_at, parent, root, node, flags, worker", ", nullif(u.started_at, 0) + "+movedMillis+
		", nullif(u.parent, 0) + by, nullif(u.root, 0) + by, nullif(u.node, 0), u.flags, CASE WHEN u.state = 4 THEN 0 END")
	movedMillis = "((u.id + by) >> 20) - (u.id >> 20)"

	// freshOneSQL does the same for one run, which waits for nothing but this statement: with arrays, and one part more,
	// the server takes a fifth longer. It leaves the numbers of earlier groups there.
	freshOneSQL = `WITH moved AS (INSERT INTO stint.groups (process, n, moved)
  SELECT $9, $10, ` + movedFrom("$1::bigint") + `
  WHERE ` + epochLocked("$11") + ` RETURNING moved AS by)
INSERT INTO stint.runs (id, lane, rank, due_at, state, priority, metadata, input)
  SELECT $1::bigint + by, $2, $3::bigint + CASE WHEN $4::bigint = 0 THEN (($1::bigint + by) >> 20) - ($1::bigint >> 20) ELSE 0 END,
    nullif($4::bigint, 0), $5::smallint, $6::smallint, $7, $8 FROM moved
RETURNING id - $1::bigint`
)

// leftGroups is the most numbers of groups of one run that a process leaves in the table: one in so many groups deletes those before it.
const leftGroups = 32

// freshOf returns a statement that inserts runs, with keys after all that are committed (R5), and ranks as of those. By how
// much they were moved is stored with the group's number, for those who lose the answer. It takes the lock of the epoch too:
// what it reads may be older than the lock, and the epoch is tested after it (assumeEpoch). more are further columns of the
// table, and values their values.
func freshOf(columns []column[freshRow], more, values string) string {
	first := fmt.Sprintf("$%d::bigint", len(columns)+1)
	return fmt.Sprintf(`WITH moved AS MATERIALIZED (
  SELECT `+movedFrom(first)+`
  WHERE `+epochLocked("$%[3]d")+`),
old AS (DELETE FROM stint.groups WHERE process = $%[1]d AND n BETWEEN $%[2]d::bigint - 64 AND $%[2]d::bigint - 1),
mine AS (INSERT INTO stint.groups (process, n, moved) SELECT $%[1]d, $%[2]d, by FROM moved),
runs AS (INSERT INTO stint.runs (id, lane, rank, due_at, state, priority, metadata, input`+more+`)
  SELECT u.id + by, u.lane, u.rank + CASE WHEN u.due_at = 0 THEN `+movedMillis+` ELSE 0 END, nullif(u.due_at, 0),
    u.state, u.priority, u.metadata, u.input`+values+` FROM moved CROSS JOIN `+arraysOf(columns)+`)
SELECT by FROM moved`, len(columns)+2, len(columns)+3, len(columns)+4)
}

// foresee decides a group before anything is read, and reports whether it is plain. If not, what its
// decisions have missed is asked for.
func (u *unit) foresee(group []*change) bool {
	u.assuming = true
	plain := u.tryAll(group)
	u.assuming = false
	if plain {
		rest := &pgx.Batch{}
		u.flushKnown(rest)
		plain = rest.Len() == 0 && !u.newEpoch
	}
	if !plain {
		u.tryAll(group) // what was assumed is asked for too
	}
	return plain
}

// tryAll applies all changes, and reports whether none has missed a row or failed.
func (u *unit) tryAll(group []*change) bool {
	u.begin()
	ok := true
	for _, x := range group {
		ok = damage.Guard(func() error { return x.apply(u) }) == nil && ok
	}
	return ok && damage.Guard(u.follow) == nil
}

// assumeEnd ends a run that was not read, and reports whether it may.
func (u *unit) assumeEnd(key int64, lease store.Lease, c *lifecycle.Change) bool {
	if !u.assuming || !c.To.Terminal() || u.ends(key) || !u.runs.unknown(key) || lease&leaseLimited != 0 {
		return false
	}
	if u.assumed.ends == nil {
		u.assumed.ends = map[int64]*endRow{}
	}
	u.assumed.ends[key] = &endRow{run: key, lease: int64(lease), state: int64(c.To), ended: c.Ended, output: c.Output, reason: c.Error}
	return true
}

// ends reports whether the group ends a run that was not read.
func (u *unit) ends(run int64) bool {
	f := u.assumed.flows[run]
	return u.assumed.ends[run] != nil || f != nil && f.state != 0
}

// assumeCall records a durable call of a run that was not read, and reports whether it may.
func (u *unit) assumeCall(run int64, lease store.Lease, e *store.Entry) bool {
	if !u.assuming || !u.runs.unknown(run) || e.Kind != store.EntryStep || !e.Done || !e.Due.IsZero() {
		return false
	}
	u.assumed.entries = append(u.assumed.entries, &callRow{newEntryRow(run, e), int64(lease)})
	u.told.chunks = append(u.told.chunks, run)
	return true
}

// assumeFresh inserts a run whose key the server may move, and reports whether it may.
func (u *unit) assumeFresh(n *store.NewRun, r *runRow, out *store.Enqueued) bool {
	if !u.assuming || n.Key != "" || n.Parent != (store.ID{}) || n.Call != nil || n.Detached || n.StartIn != 0 ||
		r.limits != "" || len(n.TaskLimits) > 0 || r.input == nil {
		return false
	}
	fresh := &freshRow{*r, out}
	u.assumed.fresh = append(u.assumed.fresh, fresh)
	switch r.State {
	case store.Queued:
		u.ready(&r.Run)
	case store.Running: // a workflow's
		if u.assumed.begun == nil {
			u.assumed.begun = map[int64]*freshRow{}
		}
		u.assumed.begun[r.Key] = fresh
	}
	return true
}

// flushAssumed queues the statements that write what was assumed.
func (u *unit) flushAssumed(b *pgx.Batch) {
	a := &u.assumed
	if fresh := a.fresh; len(fresh) > 0 {
		text, args := u.freshStatement()
		b.Queue(u.s.sql(text), args...).QueryRow(func(r pgx.Row) error {
			var by int64
			err := r.Scan(&by)
			u.moved(fresh, by)
			return err
		})
		u.grouped = true
		u.s.w.assumeEpoch(b)
	}
	u.flushFlows(b)
	if len(a.ends) > 0 {
		keys := slices.Sorted(maps.Keys(a.ends))
		rows := make([]*endRow, len(keys))
		for i, k := range keys {
			rows[i] = a.ends[k]
		}
		b.Queue(u.s.sql(endSQL), append(arguments(endColumns, rows), len(rows))...)
		for _, f := range a.flows {
			if f.state != 0 {
				keys = append(keys, f.run)
			}
		}
		b.Queue(u.s.sql(unawaitedSQL), keys)
	}
	if len(a.entries) > 0 {
		slices.SortFunc(a.entries, func(a, b *callRow) int { return compareEntries(a.key(), b.key()) })
		b.Queue(u.s.sql(callSQL), append(arguments(callColumns, a.entries), len(a.entries))...)
	}
}

// freshStatement returns the statement that inserts new runs, and its arguments.
func (u *unit) freshStatement() (text string, args []any) {
	fresh, process, n, schema := u.assumed.fresh, u.s.direct.process.name, u.s.w.n, u.s.settings.Schema
	if slices.ContainsFunc(fresh, func(r *freshRow) bool { return r.Node != 0 }) {
		return freshFlowSQL, append(arguments(freshFlowColumns, fresh), fresh[0].Key, process, n, schema)
	}
	if len(fresh) > 1 || n%leftGroups == 0 {
		return freshSQL, append(arguments(freshColumns, fresh), fresh[0].Key, process, n, schema)
	}
	r := fresh[0]
	return freshOneSQL, []any{r.Key, r.Lane, r.Rank, r.Due, int16(r.State), r.priority, r.metadata, r.input, process, n, schema}
}

// moved does what follows from new keys that the server has moved up.
func (u *unit) moved(fresh []*freshRow, by int64) {
	if by == 0 {
		return
	}
	for _, r := range fresh {
		if r.out != nil {
			r.out.ID = u.s.ids.ID(r.Key + by)
		}
	}
	u.s.keys.from(fresh[len(fresh)-1].Key + by)
}
