package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/stint-dev/stint/store"
)

const (
	flagWorkflow     = 2 // a workflow's run
	nodeBits         = 20
	maxWorkflowBytes = 8 << 20 // of workflows that are remembered
)

// graphCache is what is known of stored graphs, which never change. It is forgotten
// when a transaction is rolled back, which may have stored one.
type graphCache struct {
	mu     sync.Mutex
	byID   map[int64]*store.Graph
	byHash map[[32]byte]int64
}

func (c *graphCache) get(id int64) *store.Graph {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.byID[id]
}

func (c *graphCache) id(hash [32]byte) (int64, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	id, ok := c.byHash[hash]
	return id, ok
}

func (c *graphCache) put(id int64, g *store.Graph) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byID == nil {
		c.byID, c.byHash = map[int64]*store.Graph{}, map[[32]byte]int64{}
	}
	c.byID[id], c.byHash[g.Hash()] = g, id
}

func (c *graphCache) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.byID, c.byHash = nil, nil
}

// graph returns a stored graph.
func (c *graphCache) graph(q querier, id int64) (*store.Graph, error) {
	if g := c.get(id); g != nil {
		return g, nil
	}
	var text []byte
	if err := q.one("SELECT shape FROM stint_graphs WHERE id = ?", []any{id}, &text); err != nil {
		return nil, fmt.Errorf("graph %d: %w", id, err)
	}
	g, err := store.ParseGraph(text)
	if err == nil {
		c.put(id, g)
	}
	return g, err
}

// storeGraph stores a graph, if it is new, and returns its number.
func (t *txn) storeGraph(g *store.Graph) (id int64, err error) {
	hash := g.Hash()
	if id, ok := t.workflows.graphs.id(hash); ok {
		return id, nil
	}
	err = t.one("SELECT id FROM stint_graphs WHERE hash = ?", []any{hash[:]}, &id)
	if errors.Is(err, sql.ErrNoRows) {
		err = t.one("INSERT INTO stint_graphs (hash, shape) VALUES (?, ?) RETURNING id", []any{hash[:], string(g.Text())}, &id)
	}
	if err == nil {
		t.workflows.graphs.put(id, g)
	}
	return id, err
}

// A workflowRun is one run of a graph, in a transaction. It implements store.Flow.
type workflowRun struct {
	*store.Graph
	workflowInfo
	t    *txn
	key  int64 // the workflow run's
	node int64 // graph << 20
	now  int64
}

// workflowInfo is what the tasks of a workflow's run have in common. Only a replay changes it.
type workflowInfo struct {
	priority, root  int64
	input, metadata []byte
	replayed        bool
}

func (i *workflowInfo) size() int { return 100 + len(i.input) + len(i.metadata) }

func (t *txn) workflowRun(key, node, now int64) (*workflowRun, error) {
	g, err := t.workflows.graphs.graph(t, node>>nodeBits)
	if err != nil {
		return nil, err
	}
	info, err := t.workflowInfo(key)
	return &workflowRun{Graph: g, workflowInfo: info, t: t, key: key, node: node >> nodeBits << nodeBits, now: now}, err
}

// workflowInfo reads what the tasks of a workflow's run have in common.
func (t *txn) workflowInfo(key int64) (i workflowInfo, err error) {
	if i, ok := t.workflows.infos[key]; ok {
		return i, nil
	}
	err = t.one("SELECT priority, coalesce(root, id), coalesce(input, (SELECT data FROM stint_inputs i WHERE i.id = r.id)), metadata, replayed > 0 FROM stint_runs r WHERE id = ?",
		[]any{key}, &i.priority, &i.root, &i.input, &i.metadata, &i.replayed)
	if err == nil {
		t.workflows.keep(key, i)
	}
	return i, err
}

// A workflowCache has what tasks of workflows need again and again, and the rows of tasks
// that a change has made ready.
type workflowCache struct {
	passive
	graphs *graphCache // the store's, or an app's transaction's own: that may have stored one
	infos  map[int64]workflowInfo
	bytes  int // of infos
	nodes  bulk
}

func (c *workflowCache) flush(t *txn) error { return c.nodes.flush(t) }

func (c *workflowCache) rolledBack() {
	c.graphs.forget()
	c.outdated()
	c.nodes = bulk{kind: nodeRows}
}

func (c *workflowCache) outdated() { c.infos, c.bytes = nil, 0 } // another may have replayed them

// keep remembers what a workflow's next tasks will need of it.
func (c *workflowCache) keep(key int64, i workflowInfo) {
	if i.size() > maxWorkflowBytes/1000 {
		return
	}
	if c.infos == nil || c.bytes > maxWorkflowBytes {
		c.infos, c.bytes = map[int64]workflowInfo{}, 0
	}
	c.drop(key)
	c.infos[key] = i
	c.bytes += i.size()
}

// drop forgets a workflow that has ended.
func (c *workflowCache) drop(key int64) {
	if i, ok := c.infos[key]; ok {
		c.bytes -= i.size()
		delete(c.infos, key)
	}
}

// beginWorkflow starts the first tasks of a workflow's run.
func (t *txn) beginWorkflow(key, node, now int64) error {
	f, err := t.workflowRun(key, node, now)
	if err != nil {
		return err
	}
	return f.Begin(f)
}

// advance does what follows from the end of a run, if it is a task of a workflow.
func (t *txn) advance(parent, node *int64, to store.State, now int64) error {
	if node == nil || parent == nil {
		return nil
	}
	f, err := t.workflowRun(*parent, *node, now)
	if err != nil {
		return err
	}
	place := int(*node & (1<<nodeBits - 1))
	if place >= len(f.Tasks) {
		return nil // nothing follows from the workflow's own end, or its on-failure task's
	}
	if to == store.Failed && f.OnFailure != nil {
		if err := f.startHook(f.Failure()); err != nil {
			return err
		}
	}
	return f.Advance(f, place, to)
}

// startHook starts the on-failure or on-success task, once.
func (f *workflowRun) startHook(place int) error {
	var there bool
	err := f.t.one("SELECT EXISTS (SELECT 1 FROM stint_runs WHERE parent = ? AND node = ?)", []any{f.key, f.node | int64(place)}, &there)
	if err != nil || there {
		return err
	}
	return f.insert(place, nodeRow{state: store.Queued, due: f.now, flags: flagDetached})
}

const (
	joinSQL = `INSERT INTO stint_joins (run, place, ended, flags, cause) VALUES (?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET ended = ended + excluded.ended, flags = flags | excluded.flags, cause = coalesce(cause, excluded.cause)
RETURNING ended, flags, cause`

	joinRan, joinFailed, joinCanceled = 1, 2, 4
)

// ParentEnded implements store.Flow.
func (f *workflowRun) ParentEnded(place int, a store.JoinState) (store.JoinState, error) {
	flags := 0
	for bit, on := range map[int]bool{joinRan: a.Ran, joinFailed: a.Failed, joinCanceled: a.Canceled} {
		if on {
			flags |= bit
		}
	}
	var cause *int
	if a.Cause >= 0 {
		cause = &a.Cause
	}
	err := f.t.one(joinSQL, []any{f.key, place, a.Ended, flags, cause}, &a.Ended, &flags, &cause)
	a.Ran, a.Failed, a.Canceled, a.Cause = flags&joinRan != 0, flags&joinFailed != 0, flags&joinCanceled != 0, -1
	if cause != nil {
		a.Cause = *cause
	}
	return a, err
}

// Start implements store.Flow.
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
	key := f.t.lastKey
	for i, c := range leaves {
		if c.Event == nil || !truths[i].Since.IsZero() {
			continue
		}
		delete(f.t.triggers.noWaiters, c.Event.Key)
		err := f.t.exec("INSERT INTO stint_waits (run, leaf, key, field, value, filter) VALUES (?, ?, ?, ?, ?, ?)", key, i, c.Event.Key, c.Event.Field, c.Event.Value, c.Event.Filter)
		if err != nil {
			return 0, err
		}
	}
	return d.To, nil
}

// truth is since when a leaf is true of a task whose parents were done at a time.
func (f *workflowRun) truth(c *store.Condition, parentsDone int64) (store.Truth, error) {
	switch {
	case c.Event != nil:
		at, err := f.t.eventSince(f.key, c.Event)
		return store.Truth{Since: at}, err
	case c.Test != nil:
		return f.test(c.Test, parentsDone)
	}
	return store.Truth{Since: millis(parentsDone).Add(max(c.Sleep, 0))}, nil
}

// test is what a predicate said when the parent ended; of one that was skipped, false.
func (f *workflowRun) test(r *store.TestRef, parentsDone int64) (truth store.Truth, err error) {
	var text []byte
	err = f.t.one(`SELECT t.results FROM stint_runs r JOIN stint_tests t ON t.run = r.id WHERE r.parent = ? AND r.node = ? AND r.`+stateSucceeded,
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

// EndUnstarted implements store.Flow.
func (f *workflowRun) EndUnstarted(task int, to store.State, cause int) error {
	row := nodeRow{state: to, due: f.now}
	if cause >= 0 {
		row.error = parentError(f.Tasks[cause].Name)
	}
	return f.insert(task, row)
}

// failureJSON is an error as the engine gives them.
func failureJSON(kind, message string) string {
	b, _ := json.Marshal(map[string]string{"kind": kind, "message": message}) // strings always encode
	return string(b)
}

func parentError(task string) string {
	return failureJSON(store.KindParent, fmt.Sprintf("task %q did not succeed", task))
}

// EndWorkflow implements store.Flow.
func (f *workflowRun) EndWorkflow(all store.JoinState) error {
	to := all.State()
	var reason any
	if to != store.Succeeded && all.Cause >= 0 {
		reason = failureJSON(store.KindWorkflow, fmt.Sprintf("task %q did not succeed", f.Tasks[all.Cause].Name))
	}
	var ended store.State
	err := f.t.one(`UPDATE stint_runs SET state = CASE WHEN cancel_at IS NULL THEN ?2 ELSE `+canceledState+` END, ended_at = ?3, start_by = NULL,
		error = CASE WHEN cancel_at IS NULL THEN ?4 ELSE error END WHERE id = ?1 AND `+stateRunning+` RETURNING state`,
		[]any{f.key, int64(to), f.now, reason}, &ended)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	f.t.end(f.key, 1)
	f.t.workflows.drop(f.key)
	if ended == store.Succeeded && f.OnSuccess != nil {
		return f.startHook(f.Success())
	}
	return nil
}

// A nodeRow is the run of a task of a workflow, to be inserted.
type nodeRow struct {
	state store.State
	due   int64
	error any
	flags int
}

func (r *nodeRow) decided(d store.Decision, now int64) {
	r.state, r.due = d.To, now
	switch {
	case d.To == store.Blocked:
		r.error = failureJSON(store.KindCondition, d.Reason)
	case d.To == store.Canceled:
		r.error = failureJSON("canceled", "its cancel condition held")
	case d.To == store.Waiting && d.Next.IsZero():
		r.due = 0
	case d.To == store.Waiting:
		r.due = ceilMillis(d.Next)
	}
}

const (
	nodeHead    = "INSERT INTO stint_runs (id, lane, state, priority, rank, parent, root, node) VALUES "
	nodeFullSQL = `INSERT INTO stint_runs (id, lane, state, priority, rank, parent, root, node, due_at, start_by, start_in, ended_at, error, flags, limits, limiter, attempt, replayed)
VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?17,?17)`
)

// insert makes the run of a task. Usual ones gather, and are inserted together at the
// end of the change that makes them.
func (f *workflowRun) insert(place int, r nodeRow) error {
	t := f.t
	lane, err := t.nodeLane(f.Graph, place, f.key)
	if err != nil {
		return err
	}
	priority := f.priority
	var startBy, dueAt, endedAt any
	if place < len(f.Tasks) {
		if p := f.Tasks[place].Priority; p != nil {
			priority = int64(*p)
		}
		if in, ok := startIn(f.Tasks[place].StartIn).(int64); ok && r.state == store.Queued {
			at := f.now + in
			startBy = at
			t.timers.add(at)
		}
	}
	key := t.nextKey(f.now)
	rank := store.Rank(max(r.due, createdAt(key)), int8(priority), f.AgeEvery)
	node := f.node | int64(place)
	text, limits, err := f.taskLimits(place)
	if err != nil {
		return err
	}
	attempts, err := f.attempts(place)
	if err != nil {
		return err
	}
	if r.state == store.Queued && startBy == nil && r.flags == 0 && text == nil && attempts == 0 {
		return t.workflows.nodes.add(t, key, lane, priority, rank, f.key, f.root, node)
	}
	if r.state == store.Waiting && r.due > 0 {
		dueAt = r.due
		t.timers.add(r.due)
	}
	if r.state.Terminal() {
		endedAt = f.now
	}
	if err := t.workflows.nodes.flush(t); err != nil {
		return err
	}
	var limiter any
	if text != nil && r.state == store.Queued {
		if limiter, err = t.admitNewRun(f.key, limits, r.flags); err != nil { // not what finishes the parent
			r.state, r.error = store.Blocked, failureJSON(store.KindCondition, err.Error())
		}
	}
	return t.exec(nodeFullSQL, key, lane, int64(r.state), priority, rank, f.key, f.root, node, dueAt, startBy, startIn(f.StartIn(place)), endedAt, r.error, r.flags, text, limiter, attempts)
}

// attempts is how many attempts a task had made before its workflow was replayed.
func (f *workflowRun) attempts(place int) (n int64, err error) {
	if !f.replayed {
		return 0, nil
	}
	err = f.t.one("SELECT attempts FROM stint_remade WHERE run = ? AND place = ?", []any{f.key, place}, &n)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return n, err
}

// reconsider decides a waiting task again: its time has come, or an event.
func (t *txn) reconsider(key, now int64) error {
	var parent, node, rank, due int64
	err := t.one("SELECT parent, node, rank, "+dueTime+" FROM stint_runs WHERE id = ? AND "+stateWaiting+" AND lease = 0 AND node IS NOT NULL", []any{key}, &parent, &node, &rank, &due)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	f, err := t.workflowRun(parent, node, now)
	if err != nil {
		return err
	}
	g := &f.Tasks[node&(1<<nodeBits-1)]
	truths, err := f.truthsAgain(key, g)
	if err != nil {
		return err
	}
	d := g.Decide(millis(createdAt(key)), millis(now), truths)
	var row nodeRow
	row.decided(d, now)
	var dueAt, startBy, endedAt any
	switch {
	case d.To == store.Waiting && row.due > 0:
		dueAt = row.due
		t.timers.add(row.due)
	case d.To == store.Queued:
		dueAt = row.due
		if in, ok := startIn(g.StartIn).(int64); ok {
			at := now + in
			startBy = at
			t.timers.add(at)
		}
	case d.To.Terminal():
		endedAt = now
	}
	if row.due > 0 {
		rank += row.due - due
	}
	if err := t.exec(`UPDATE stint_runs SET state = ?2, due_at = ?3, rank = ?4, start_by = ?5, ended_at = ?6, error = ?7 WHERE id = ?1`,
		key, int64(d.To), dueAt, rank, startBy, endedAt, row.error); err != nil || d.To == store.Waiting {
		return err
	}
	return t.decided(key, parent, node, d.To, now)
}

// decided does what follows from the decision on a waiting task.
func (t *txn) decided(key, parent, node int64, to store.State, now int64) error {
	if err := t.exec("DELETE FROM stint_waits WHERE run = ?", key); err != nil {
		return err
	}
	if !to.Terminal() {
		return nil
	}
	t.end(key, 1)
	return t.advance(&parent, &node, to, now)
}

// truthsAgain is what is true by now of a waiting task's leaves.
func (f *workflowRun) truthsAgain(key int64, g *store.GraphTask) ([]store.Truth, error) {
	came := map[int]time.Time{}
	type row struct{ leaf, event int64 }
	rows, err := rowsOf(f.t, func(r *row) []any { return []any{&r.leaf, &r.event} }, "SELECT leaf, event FROM stint_waits WHERE run = ? AND event IS NOT NULL", key)
	if err != nil {
		return nil, err
	}
	for _, r := range rows {
		came[int(r.leaf)] = millis(createdAt(r.event))
	}
	leaves := g.Leaves()
	truths := make([]store.Truth, len(leaves))
	for i, c := range leaves {
		if at, ok := came[i]; ok {
			truths[i].Since = at
			continue
		}
		if truths[i], err = f.truth(c, createdAt(key)); err != nil {
			return nil, err
		}
	}
	return truths, nil
}

const workflowTaskSQL = `
SELECT id, node, state, attempt, ` + dueTime + `, started_at, ended_at, output, error,
  ` + stateQueued + ` AND coalesce((SELECT task FROM stint_lanes l WHERE l.id = r.lane) NOT LIKE '%:', 0)
FROM stint_runs r WHERE `

// Workflow implements store.Admin.
func (s *Store) Workflow(ctx context.Context, id store.ID, names []string) (g *store.Graph, tasks []store.WorkflowTask, err error) {
	key, ok := s.ids.key(id)
	if !ok {
		return nil, nil, fmt.Errorf("run %s: %w", id, store.ErrNotFound)
	}
	err = s.view(ctx, func(q querier) error {
		node, err := s.workflowTasks(q, &tasks, "id = ? AND flags & 2", key)
		if err != nil {
			return err
		}
		if len(tasks) == 0 {
			return fmt.Errorf("workflow run %s: %w", id, store.ErrNotFound)
		}
		if g, err = s.graphs.graph(q, node>>nodeBits); err != nil {
			return err
		}
		base := node >> nodeBits << nodeBits
		if names == nil {
			_, err = s.workflowTasks(q, &tasks, "parent = ? AND node >= ? AND node <= ? ORDER BY parent, node", key, base, base|int64(g.Success()))
			return err
		}
		for _, name := range names {
			if p, ok := g.Place(name); ok {
				if _, err := s.workflowTasks(q, &tasks, "parent = ? AND node = ?", key, base|int64(p)); err != nil {
					return err
				}
			}
		}
		return nil
	})
	return g, tasks, err
}

// workflowTasks reads rows of a workflow's run, and says what the last one's node is.
func (s *Store) workflowTasks(q querier, into *[]store.WorkflowTask, where string, args ...any) (node int64, err error) {
	rows, err := q.query(workflowTaskSQL+where, args...)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	for rows.Next() {
		var t store.WorkflowTask
		var key, due int64
		var started, ended *int64
		if err := rows.Scan(&key, &node, &t.State, &t.Attempt, &due, &started, &ended, &t.Output, &t.Error, &t.NoHandler); err != nil {
			return 0, err
		}
		t.Place = int(node & (1<<nodeBits - 1))
		t.ID, t.Due, t.Started, t.Ended = s.ids.id(key), millis(due), optionalTime(started), optionalTime(ended)
		*into = append(*into, t)
	}
	return node, rows.Err()
}
