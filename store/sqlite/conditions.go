package sqlite

import (
	"database/sql"
	"encoding/json"
	"errors"
	"time"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/keys"
	"github.com/stint-dev/stint/store/internal/lifecycle"
)

// Start implements store.WorkflowRun.
func (f *workflowRun) Start(task int) (store.State, error) {
	g := &f.Tasks[task]
	row := nodeRow{state: store.Queued, due: f.now}
	if g.CancelIf == nil && g.SkipIf == nil && g.WaitFor == nil {
		return row.state, f.insert(task, row)
	}
	leaves := g.Leaves()
	truths := make([]store.Truth, len(leaves))
	for i, c := range leaves {
		var err error
		if truths[i], err = f.truth(c, f.now); err != nil {
			return 0, err
		}
	}
	d := g.Decide(millis(f.now), millis(f.now), truths)
	row.decided(d, f.now)
	if err := f.insert(task, row); err != nil || d.To != store.Waiting {
		return d.To, err
	}
	key := f.u.lastKey
	for i, c := range leaves {
		if c.Event == nil || !truths[i].Since.IsZero() {
			continue
		}
		delete(f.u.triggers.noWaiters, c.Event.Key)
		err := f.u.exec("INSERT INTO stint_waits (run, leaf, key, field, value, filter) VALUES (?, ?, ?, ?, ?, ?)", key, i, c.Event.Key,
			c.Event.Field, c.Event.Value, c.Event.Filter)
		if err != nil {
			return 0, err
		}
	}
	return d.To, nil
}

// truth reports when a leaf became true for a task whose parents ended at parentsDone.
func (f *workflowRun) truth(c *store.Condition, parentsDone int64) (store.Truth, error) {
	switch {
	case c.Event != nil:
		at, err := f.u.events.eventSince(f.key, c.Event)
		return store.Truth{Since: at}, err
	case c.Test != nil:
		return f.test(c.Test, parentsDone)
	}
	return store.Truth{Since: millis(parentsDone).Add(max(c.Sleep, 0))}, nil
}

// test returns the result of a predicate on a parent's output; false if the parent did not succeed.
func (f *workflowRun) test(r *store.TestRef, parentsDone int64) (truth store.Truth, err error) {
	var text []byte
	err = f.u.one(`SELECT t.results FROM stint_runs r JOIN stint_tests t ON t.run = r.id WHERE r.parent = ? AND r.node = ?
		AND r.`+stateSucceeded,
		[]any{f.key, f.node | int64(r.Parent)}, &text)
	if errors.Is(err, sql.ErrNoRows) {
		return truth, nil
	}
	if err != nil {
		return truth, err
	}
	var results []store.TestResult
	if json.Unmarshal(text, &results) != nil || r.Test >= len(results) {
		return store.Truth{Error: "the results of the predicates on a parent's output cannot be read"}, nil
	}
	switch res := results[r.Test]; {
	case res.Error != "":
		truth.Error = res.Error
	case res.OK:
		truth.Since = millis(parentsDone)
	}
	return truth, nil
}

// reconsider decides a waiting task again, after an event or at its time.
func (ws *workflows) reconsider(key, now int64) error {
	var parent, node, rank, due int64
	err := ws.one("SELECT parent, node, rank, "+dueTime+" FROM stint_runs WHERE id = ? AND "+stateWaiting+" AND lease = 0 "+
		"AND node IS NOT NULL", []any{key}, &parent, &node, &rank, &due)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	f, err := ws.workflowRun(parent, node, now)
	if err != nil {
		return err
	}
	g := &f.Tasks[node&(1<<nodeBits-1)]
	truths, err := f.truthsAgain(key, g)
	if err != nil {
		return err
	}
	d := g.Decide(millis(keys.CreatedAt(key)), millis(now), truths)
	var row nodeRow
	row.decided(d, now)
	var dueAt, startBy, endedAt any
	switch {
	case d.To == store.Waiting && row.due > 0:
		dueAt = row.due
		ws.timers.add(row.due)
	case d.To == store.Queued:
		dueAt = row.due
		if in := lifecycle.StartIn(g.StartIn); in > 0 {
			at := now + in
			startBy = at
			ws.timers.add(at)
		}
	case d.To.Terminal():
		endedAt = now
	}
	if row.due > 0 {
		rank += row.due - due
	}
	if err := ws.exec(`UPDATE stint_runs SET state = ?2, due_at = ?3, rank = ?4, start_by = ?5, ended_at = ?6, error = ?7 WHERE id = ?1`,
		key, int64(d.To), dueAt, rank, startBy, endedAt, row.error); err != nil || d.To == store.Waiting {
		return err
	}
	return ws.decided(key, parent, node, d.To, now)
}

// decided does what follows from the decision about a waiting task.
func (ws *workflows) decided(key, parent, node int64, to store.State, now int64) error {
	if err := ws.exec("DELETE FROM stint_waits WHERE run = ?", key); err != nil {
		return err
	}
	if !to.Terminal() {
		return nil
	}
	ws.runs.Ended(key)
	return ws.advance(parent, node, to, now)
}

// truthsAgain returns which leaves of a waiting task are true by now.
func (f *workflowRun) truthsAgain(key int64, g *store.GraphTask) ([]store.Truth, error) {
	came := map[int]time.Time{}
	type row struct{ leaf, event int64 }
	rows, err := rowsOf(f.u, func(r *row) []any { return []any{&r.leaf, &r.event} }, "SELECT leaf, event FROM stint_waits "+
		"WHERE run = ? AND event IS NOT NULL", key)
	if err != nil {
		return nil, err
	}
	for _, r := range rows {
		came[int(r.leaf)] = millis(keys.CreatedAt(r.event))
	}
	leaves := g.Leaves()
	truths := make([]store.Truth, len(leaves))
	for i, c := range leaves {
		if at, ok := came[i]; ok {
			truths[i].Since = at
			continue
		}
		if truths[i], err = f.truth(c, keys.CreatedAt(key)); err != nil {
			return nil, err
		}
	}
	return truths, nil
}
