package sqlite

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/stint-dev/stint/internal/clock"
	"github.com/stint-dev/stint/store"
)

// Runs are started and ended together: one statement opens the table and its indexes once, for as many runs as it lists. A start
// takes three fifths of the time that it takes alone, an end two thirds.

// listSizes are the numbers of runs that such a statement may have. Fewer are changed by one statement each.
var listSizes = [...]int{32, 8}

var (
	startListSQL, endListSQL = listTexts()
	recordListSQL            = recordTexts()
)

// listTexts returns the statements for each of listSizes.
func listTexts() (starts, ends [len(listSizes)]string) {
	for i, n := range listSizes {
		var list, outputs strings.Builder
		for k := range n {
			fmt.Fprintf(&list, ",?%d", 3+k)
			fmt.Fprintf(&outputs, " WHEN ?%d THEN ?%d", 3+k, 3+n+k)
		}
		in := "id IN (" + list.String()[1:] + ")"
		starts[i] = startSet + "WHERE " + in + " AND " + stateQueued
		ends[i] = "UPDATE OR FAIL stint_runs SET " + stateSucceeded + ", ended_at = ?1, output = CASE id" + outputs.String() +
			" END, error = NULL WHERE " + in + " AND lease = ?2 AND " + stateRunning + " AND cancel_at IS NULL"
	}
	return starts, ends
}

// startTogether starts runs that a claim has read, but for tasks of sticky workflows: the first that starts moves the others,
// one after another. It marks those that it has started.
func (cs *claims) startTogether(worker int64, got []claimable) error {
	if cs.apart {
		return nil
	}
	var list []*claimable
	for i := range got {
		if r := &got[i]; r.node == nil || cs.workflows.loose(*r.node) {
			list = append(list, r)
		}
	}
	var args []any
	for i, size := range listSizes {
		for ; len(list) >= size; list = list[size:] {
			args = append(slices.Grow(args[:0], 2+size), worker, cs.now)
			for _, r := range list[:size] {
				args = append(args, r.key)
			}
			if err := cs.changeAll(size, startListSQL[i], args); err != nil {
				return err
			}
			for _, r := range list[:size] {
				r.started = true
			}
		}
	}
	return nil
}

// loose reports whether a task's start changes no other task: its workflow is known, and not sticky.
func (ws *workflows) loose(node int64) bool {
	g, err := ws.Graph(node >> nodeBits)
	return err == nil && g.Sticky == 0
}

// endTogether makes the changes of outcomes, the first of those given, in their order, and returns of how many. They are ends of
// usual runs: succeeded, with the same lease, and nothing else to store that the fence must let through. So what follows from
// one does not change another.
func (rs *runs) endTogether(now int64, keys []int64, outcomes []store.Outcome) (int, error) {
	most := 0
	for most < len(outcomes) && keys[most] != 0 && endsAsUsual(&outcomes[most]) && outcomes[most].Lease == outcomes[0].Lease {
		most++
	}
	if rs.apart {
		return 0, nil
	}
	var args []any
	ended := 0
	for i, size := range listSizes {
		for ; most-ended >= size; ended += size {
			args = append(slices.Grow(args[:0], 2+2*size), now, int64(outcomes[0].Lease))
			for _, key := range keys[ended : ended+size] {
				args = append(args, key)
			}
			for _, o := range outcomes[ended : ended+size] {
				args = append(args, o.Output)
			}
			if err := rs.changeAll(size, endListSQL[i], args); err != nil {
				return 0, err
			}
		}
	}
	return ended, nil
}

// recordTexts returns appendSQL for several entries that are done, which package entries calls plain.
func recordTexts() (texts [len(listSizes)]string) {
	for i, n := range listSizes {
		texts[i] = `
INSERT INTO stint_journal (run, scope, seq, kind, name, done, value, error, at, attempts, began_at, tries)
SELECT r.id, column3, column4, column5, column6, 1, column7, column8, column9, column10, nullif(column11, column9), column12
FROM (VALUES ` + strings.Repeat(",(?,?,?,?,?,?,?,?,?,?,?,?)", n)[1:] + `) v
CROSS JOIN stint_runs r ON r.id = column1 AND r.lease = column2 AND r.` + stateRunning + `
WHERE true
ON CONFLICT DO UPDATE SET name = excluded.name, done = 1, value = excluded.value, error = excluded.error, at = excluded.at,
  attempts = excluded.attempts, began_at = excluded.began_at, tries = excluded.tries
WHERE done = 0`
	}
	return texts
}

// appendTogether makes the changes of plain durable calls in a group, and marks these.
//
// They are made before the group's other changes. All were queued by calls that were not answered yet, so that none of these can
// rely on having come before another. One whose execution is not current, or whose entry is done, inserts nothing: errSomeLeft.
func (js *journals) appendTogether(ops []*op) error {
	var list []*appending
	for _, o := range ops {
		if o.made = false; o.appends == nil || js.apart {
			continue
		}
		if _, ok := js.s.ids.Key(o.appends.ID); ok { // else it is stale
			list = append(list, o.appends)
		}
	}
	var args []any
	for i, size := range listSizes {
		for ; len(list) >= size; list = list[size:] {
			args = args[:0]
			for _, a := range list[:size] {
				e := &a.Entry
				key, _ := js.s.ids.Key(a.ID)
				args = append(args, key, int64(a.Lease), e.Scope, e.Seq, int64(e.Kind), e.Name, e.Value, text(e.Error), a.now, e.Attempts,
					clock.Millis(e.Began), text(e.Tries))
			}
			if err := js.changeAll(size, recordListSQL[i], args); err != nil {
				return err
			}
			for _, a := range list[:size] {
				a.made, a.entry, a.entry.At = true, a.Entry, millis(a.now)
			}
		}
	}
	return nil
}

func endsAsUsual(o *store.Outcome) bool {
	r := &o.Record
	return o.To == store.Succeeded && o.Error == nil && len(o.Follow) == 0 && r.Progress == nil && len(r.Logs)+len(r.Chunks) == 0
}

// errSomeLeft means that a statement for several runs has left some of them as they were, because an outcome is late, or its run
// was asked to cancel. The statement does not tell which. So the transaction is rolled back, and made again with a statement for
// each run.
var errSomeLeft = errors.New("a statement for several runs has not changed all of them")

// changeAll runs a statement that must change so many runs.
func (u *unit) changeAll(runs int, text string, args []any) error {
	n, err := u.execN(text, args...)
	if err == nil && int(n) != runs {
		err = errSomeLeft
	}
	return err
}
