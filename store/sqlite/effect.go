package sqlite

import (
	"regexp"
	"strconv"
	"strings"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/reading"
	"github.com/stint-dev/stint/store/sqlite/internal/conn"
)

// An effect says in which lanes a statement may insert runs or make runs ready. It is derived from the
// statement's text when that is prepared, so that no caller has to report it. A text of an unknown form
// may change any lane.
type effect struct {
	kind    effectKind
	lanes   []int // of effectLanes: indexes of arguments, from 0
	state   int   // of effectKey: number of the argument with the run's new state, from 1; 0: none
	limiter int   // likewise for its limiter
}

// A statement is a prepared statement and its effect.
type statement struct {
	*conn.Stmt
	effect effect
}

type effectKind uint8

const (
	effectNone  effectKind = iota
	effectKey              // on the run whose key is the first argument
	effectLanes            // on the lanes that arguments name
	effectAny
)

var (
	changesRuns   = regexp.MustCompile(`\b(?:UPDATE(?:\s+OR\s+\w+)?|INTO)\s+stint_runs\b\s*`)
	changesLanes  = regexp.MustCompile(`\b(?:UPDATE(?:\s+OR\s+\w+)?|DELETE\s+FROM)\s+stint_lanes\b\s*`)
	changesQueues = regexp.MustCompile(`\b(?:UPDATE|INTO)\s+stint_queues\b.*\bpaused\b`)

	insertsRows = regexp.MustCompile(`^\(id, lane, [\w,\s]*\)\s*VALUES\s*`)
	insertsCopy = regexp.MustCompile(`^\(id, lane, [\w,\s]*\)\s*SELECT \?1, `)
	setsOther   = regexp.MustCompile(`^SET state = ([24-9]|10)[,\s]`)
	setsState   = regexp.MustCompile(`^SET state = \?(\d+),`)
	setsLimiter = regexp.MustCompile(`^SET limiter = \?(\d+)[,\s]`)
	setsOrder   = regexp.MustCompile(`\b(?:state|limiter|lane|rank|turn) =`)
	ofKey       = regexp.MustCompile(`^id = \?1\b`)
	ofLane      = regexp.MustCompile(` AND lane = \?(\d+)$`)
)

func effectOf(text string) effect {
	if !strings.Contains(text, "stint_") {
		return effect{}
	}
	if at := changesRuns.FindStringIndex(text); at != nil {
		return effectOnRuns(text[at[1]:])
	}
	if at := changesLanes.FindStringIndex(text); at != nil {
		switch rest := text[at[1]:]; {
		case strings.HasPrefix(rest, "SET stamp = "):
			return effect{}
		case rest == "SET staged = NULL WHERE id = ?":
			return effect{kind: effectLanes, lanes: []int{0}}
		}
		return effect{kind: effectAny}
	}
	if changesQueues.MatchString(text) {
		return effect{kind: effectAny}
	}
	return effect{}
}

// effectOnRuns returns the effect of a statement on stint_runs, given its text after that name.
func effectOnRuns(text string) effect {
	if at := insertsRows.FindStringIndex(text); at != nil {
		return effect{kind: effectLanes, lanes: secondValues(text[at[1]:])}
	}
	set, where, found := strings.Cut(text, "WHERE ")
	switch {
	case insertsCopy.MatchString(text):
		return effect{kind: effectKey}
	case setsOther.MatchString(text):
		return effect{} // it is not queued now
	case !strings.HasPrefix(text, "SET ") || !found || strings.Contains(set, "SELECT") || strings.Contains(where, " OR "):
		return effect{kind: effectAny}
	case !setsOrder.MatchString(set):
		return effect{}
	case ofKey.MatchString(where):
		return effect{kind: effectKey, state: numberIn(setsState, text), limiter: numberIn(setsLimiter, text)}
	case ofLane.MatchString(where) && !strings.Contains(set, "lane ="):
		return effect{kind: effectLanes, lanes: []int{numberIn(ofLane, where) - 1}}
	}
	return effect{kind: effectAny}
}

func numberIn(r *regexp.Regexp, text string) int {
	m := r.FindStringSubmatch(text)
	if m == nil {
		return 0
	}
	n, _ := strconv.Atoi(m[1]) // they are digits
	return n
}

// secondValues returns the arguments that are the second values of rows, (?,?,...),(NULL,?,...).
func secondValues(rows string) (at []int) {
	n := 0
	for row := range strings.SplitSeq(rows, ")") {
		if !strings.Contains(row, "(") {
			break
		}
		if strings.Contains(row, "(?") {
			at = append(at, n+1)
		} else {
			at = append(at, n)
		}
		n += strings.Count(row, "?")
	}
	return at
}

// noteEffect records the effect of a statement for touchNoted.
func (ls *lanes) noteEffect(e *effect, args []any) {
	switch e.kind {
	case effectNone:
		return
	case effectKey:
		if e.state > 0 && args[e.state-1] != any(int64(store.Queued)) || e.limiter > 0 && args[e.limiter-1] != nil {
			return
		}
		if key, ok := args[0].(int64); ok {
			ls.keys = append(ls.keys, key)
			return
		}
	case effectLanes:
		known := true
		for _, i := range e.lanes {
			id, ok := args[i].(int64)
			if known = known && ok; ok && (len(ls.noted) == 0 || ls.noted[len(ls.noted)-1] != id) {
				ls.noted = append(ls.noted, id)
			}
		}
		if known {
			return
		}
	}
	ls.any = true
}

// readying is rowsOf for a statement that changes the runs that it returns.
func readying[T any](u *unit, key func(*T) int64, fields func(*T) []any, text string, args ...any) ([]T, error) {
	before := u.lanes.any
	rows, err := rowsOf(u, fields, text, args...)
	if err != nil {
		return nil, err
	}
	u.lanes.any = before
	for i := range rows {
		u.lanes.keys = append(u.lanes.keys, key(&rows[i]))
	}
	return rows, nil
}

// touchNoted touches the lanes that the transaction's statements have changed.
func (ls *lanes) touchNoted() error {
	if len(ls.keys) > 0 {
		lanes, err := column[int64](ls, "SELECT lane FROM stint_runs WHERE id IN (SELECT value FROM json_each(?))",
			reading.JSONKeys(ls.keys))
		if err != nil {
			return err
		}
		ls.keys, ls.noted = ls.keys[:0], append(ls.noted, lanes...)
	}
	for i, id := range ls.noted {
		if i > 0 && ls.noted[i-1] == id {
			continue
		}
		l, err := ls.laneByID(id)
		if err != nil {
			return err
		}
		if l != nil {
			ls.touchLane(l)
		}
	}
	ls.noted = ls.noted[:0]
	if !ls.any {
		return nil
	}
	return ls.forgetLanes()
}
