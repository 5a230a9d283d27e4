package postgres

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/stint-dev/stint/internal/clock"
	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/keys"
	"github.com/stint-dev/stint/store/internal/lifecycle"
	"github.com/stint-dev/stint/store/internal/reading"
	"github.com/stint-dev/stint/store/internal/workflow"
)

// workflowRows are the workflows of a unit.
type workflowRows struct{ *unit }

var _ workflow.Rows = workflowRows{}

// A graphRow is a row of stint.graphs, which never changes.
type graphRow struct {
	id    int64
	hash  []byte
	shape string
}

var graphStatements = newStatements("graphs", 1, "LIMIT 1",
	col("hash", "bytea", func(r *graphRow) *[]byte { return &r.hash }),
	number("id", func(r *graphRow) *int64 { return &r.id }),
	text("shape", func(r *graphRow) *string { return &r.shape }))

func newGraphs() *relation[string, graphRow] {
	return newRelation(graphStatements, cmp.Compare[string], func(r *graphRow) string { return string(r.hash) },
		func(hash string) graphRow { return graphRow{hash: []byte(hash)} })
}

// Graph implements workflow.Rows.
func (u workflowRows) Graph(id int64) (*store.Graph, error) {
	if g := u.s.graphs.Get(id); g != nil {
		return g, nil
	}
	if g := u.newGraphs[id]; g != nil {
		return g, nil
	}
	hashes, err := u.graphsByID.get(id)
	if err != nil {
		return nil, err
	}
	if len(hashes) == 0 {
		return nil, fmt.Errorf("graph %d: %w", id, store.ErrNotFound)
	}
	r, err := u.graphs.get(hashes[0])
	if err != nil {
		return nil, err
	}
	g, err := store.ParseGraph([]byte(r.shape))
	if err == nil {
		u.s.graphs.Put(id, g)
	}
	return g, err
}

// storeGraph stores a graph, unless it is stored, and returns its number.
func (u *unit) storeGraph(g *store.Graph) (int64, error) {
	hash := g.Hash()
	if id, ok := u.s.graphs.ID(hash); ok {
		return id, nil
	}
	r, err := u.graphs.get(string(hash[:]))
	if err != nil {
		return 0, err
	}
	if r == nil {
		numbers, err := u.graphNumbers.get(string(hash[:]))
		if err != nil {
			return 0, err
		}
		r = u.graphs.put(string(hash[:]), graphRow{id: numbers[0], hash: hash[:], shape: string(g.Text())})
	}
	u.newGraphs[r.id] = g // it is cached once it is committed
	return r.id, nil
}

// Runs implements workflow.Rows.
func (u workflowRows) Runs() lifecycle.Rows { return runRows(u) }

// Shared implements workflow.Rows.
func (u workflowRows) Shared(run int64) (s workflow.Shared, err error) {
	if s, ok := u.assumeShared(run); ok {
		return s, nil
	}
	r, err := u.run(run)
	if err != nil {
		return s, err
	}
	if r == nil {
		return s, fmt.Errorf("workflow run %s: %w", u.s.ids.ID(run), store.ErrNotFound)
	}
	s = workflow.Shared{Priority: int8(r.priority), Root: cmp.Or(r.root, run), Replayed: r.Replayed > 0}
	lane, ok, err := u.laneByID(r.Lane)
	if err == nil && ok {
		s.Route, err = store.ParseRoute(lane.route)
	}
	return s, err
}

// Changed implements workflow.Rows.
func (u workflowRows) Changed(int64) {}

// Insert implements workflow.Rows.
func (u workflowRows) Insert(g *store.Graph, t workflow.Task) (err error) {
	r := runRow{Run: t.Run, priority: int64(t.Priority), root: t.Root, limits: t.Limits, limiter: t.Limiter}
	place := workflow.Place(t.Node)
	if r.Lane, err = u.taskLane(g, place, t.Parent, laneOf{queue: g.QueueOf(place), task: g.Lane()}); err != nil {
		return err
	}
	if !u.assumeTask(&t, &r) {
		u.insert(r)
	}
	return nil
}

// taskLane returns the lane of a workflow's task, for workers that fit it: that of all its tasks in a queue, or of one
// for workers that have a handler for it.
func (u *unit) taskLane(g *store.Graph, place int, run int64, name laneOf) (int64, error) {
	route, err := workflow.RouteFor(workflowRows{u}, g, place, run)
	if err != nil {
		return 0, err
	}
	name.route = route.Text()
	return u.lane(name)
}

// moveTask moves a workflow's task to another lane, in the queue that it is in.
func (u *unit) moveTask(g *store.Graph, key int64, place int, task string) error {
	r, err := u.run(key)
	if err != nil {
		return err
	}
	name := laneOf{queue: g.QueueOf(place), task: task} // if somebody has deleted the lane that it is in
	was, ok, err := u.laneByID(r.Lane)
	if err != nil {
		return err
	}
	if ok {
		name.queue = was.queue
	}
	if r.Lane, err = u.taskLane(g, place, r.Parent, name); err != nil {
		return err
	}
	return runRows{u}.Write(&r.Run)
}

// taskAt returns the run of a workflow's task; nil: it has none.
func (u *unit) taskAt(run, node int64) (*runRow, error) {
	if !u.isNew(run) {
		if err := u.tasks.get(placeOf{run, node}); err != nil {
			return nil, err
		}
	}
	for _, e := range u.runs.entries {
		if r := e.now; r != nil && r.Parent == run && r.Node == node && !r.Workflow {
			return r, nil
		}
	}
	return nil, nil
}

// Exists implements workflow.Rows.
func (u workflowRows) Exists(run, node int64) (bool, error) {
	r, err := u.taskAt(run, node)
	return r != nil, err
}

// TaskLimits implements workflow.Rows.
func (u workflowRows) TaskLimits(run int64, place int) (text string, all []store.Limit, err error) {
	r, err := u.taskLimits.get(placeOf{run, int64(place)})
	if r == nil || err != nil {
		return "", nil, err
	}
	all, err = store.DecodeLimits([]byte(r.limits))
	return r.limits, all, err
}

// Admit implements workflow.Rows.
func (u workflowRows) Admit(run int64, all []store.Limit) (*int64, error) {
	return u.admitNew(all, false, run)
}

// Attempts implements workflow.Rows.
func (u workflowRows) Attempts(run int64, place int) (int64, error) {
	r, err := u.remade.get(placeOf{run, int64(place)})
	if r == nil || err != nil {
		return 0, err
	}
	return r.attempts, nil
}

// KeepAttempts implements workflow.Rows.
func (u workflowRows) KeepAttempts(run int64, place int, attempts int64) error {
	k := placeOf{run, int64(place)}
	if _, err := u.remade.get(k); err != nil {
		return err
	}
	u.remade.put(k, placeRow{run: run, place: k.place, attempts: attempts})
	return nil
}

// The bits of joins.flags.
const joinRan, joinFailed, joinCanceled = 1, 2, 4

// ParentEnded implements workflow.Rows.
func (u workflowRows) ParentEnded(run int64, place int, a workflow.JoinState) (workflow.JoinState, error) {
	k := placeOf{run, int64(place)}
	had := (*placeRow)(nil)
	if !u.isNew(run) || u.joins.entries[k] != nil {
		var err error
		if had, err = u.joins.get(k); err != nil {
			return a, err
		}
	}
	if had != nil {
		a = workflow.JoinState{Ended: int(had.ended), Ran: had.flags&joinRan != 0, Failed: had.flags&joinFailed != 0,
			Canceled: had.flags&joinCanceled != 0, Cause: int(had.cause)}.Join(a)
	}
	row := placeRow{run: run, place: k.place, ended: int64(a.Ended), cause: int64(a.Cause)}
	for bit, on := range map[int64]bool{joinRan: a.Ran, joinFailed: a.Failed, joinCanceled: a.Canceled} {
		if on {
			row.flags |= bit
		}
	}
	u.joins.put(k, row)
	return a, nil
}

// DropJoins implements workflow.Rows.
func (u workflowRows) DropJoins(run int64) error {
	keys, err := u.joinsOf.get(run)
	if err != nil {
		return err
	}
	for _, k := range keys {
		u.joins.remove(k)
	}
	return nil
}

// End implements workflow.Rows.
func (u workflowRows) End(run int64, to store.State, now int64, reason []byte) (bool, error) {
	if u.assumeFlowEnd(run, to, now, reason) {
		return true, nil
	}
	r, err := u.run(run)
	if err != nil || r == nil || r.State != store.Running || r.CancelAt != 0 {
		return false, err
	}
	r.Run.End(to, now, reason)
	u.runs.change(run)
	return true, nil
}

// Over implements workflow.Rows.
func (u workflowRows) Over(run int64, _ store.State, _ int64) { runRows(u).Ended(run) }

// EventSince implements workflow.Rows.
func (u workflowRows) EventSince(run int64, m *store.Match) (time.Time, error) {
	id, _, err := u.eventFor(run, reading.FirstKey(run, m), m, false)
	if id == 0 || err != nil {
		return time.Time{}, err
	}
	return clock.FromMillis(keys.CreatedAt(id)), nil
}

// Came implements workflow.Rows.
func (u workflowRows) Came(task int64) ([]workflow.Came, error) {
	waits, err := u.waitsOf(task)
	var all []workflow.Came
	for _, w := range waits {
		if w.event != 0 {
			all = append(all, workflow.Came{Leaf: int(w.leaf), At: clock.FromMillis(keys.CreatedAt(w.event))})
		}
	}
	return all, err
}

// AwaitEvent implements workflow.Rows.
func (u workflowRows) AwaitEvent(task int64, leaf int, m *store.Match) error {
	u.waits.put(placeOf{task, int64(leaf)},
		waitRow{run: task, leaf: int64(leaf), key: m.Key, field: m.Field, value: m.Value, filter: m.Filter})
	return nil
}

// DropWaits implements lifecycle.Rows.
func (u runRows) DropWaits(key int64) error {
	waits, err := u.waitsOf(key)
	for _, w := range waits {
		u.waits.remove(placeOf{w.run, w.leaf})
	}
	return err
}

// Results implements workflow.Rows.
func (u workflowRows) Results(run, node int64) ([]byte, error) {
	r, err := u.taskAt(run, node)
	if err != nil || r == nil || r.State != store.Succeeded {
		return nil, err
	}
	t, err := u.tests.get(r.Key)
	if t == nil || err != nil {
		return nil, err
	}
	return t.results, nil
}

// tasksOf returns the runs of the tasks of a workflow's run, in the order of their nodes.
func (u *unit) tasksOf(run int64) ([]*runRow, error) {
	if _, err := u.allTasks.get(run); err != nil {
		return nil, err
	}
	var all []*runRow
	for _, e := range u.runs.entries {
		if r := e.now; r != nil && r.Parent == run && r.IsTask() {
			all = append(all, r)
		}
	}
	slices.SortFunc(all, func(a, b *runRow) int { return cmp.Compare(a.Node, b.Node) })
	return all, nil
}

func oldOf(r *runRow) workflow.Old {
	return workflow.Old{Key: r.Key, Place: workflow.Place(r.Node), State: r.State, Attempts: r.Attempt, Begun: r.Lease != 0}
}

// Tasks implements workflow.Rows.
func (u workflowRows) Tasks(run, from, to int64) (all []workflow.Old, err error) {
	rows, err := u.tasksOf(run)
	for _, r := range rows {
		if r.Node >= from && r.Node <= to {
			all = append(all, oldOf(r))
		}
	}
	return all, err
}

// Delete implements workflow.Rows.
func (u workflowRows) Delete(task int64) error { return runRows(u).Delete(task) }

// Follows implements workflow.Rows.
func (u workflowRows) Follows(run int64) (string, error) {
	r, err := u.sticky.get(run)
	if r == nil || err != nil {
		return "", err
	}
	return r.worker, nil
}

// Stick implements workflow.Rows.
func (u workflowRows) Stick(run, worker int64) (bool, error) {
	had, err := u.sticky.get(run)
	if had != nil || err != nil {
		return false, err
	}
	w, err := u.workers.get(worker)
	if w == nil || err != nil {
		return false, err
	}
	u.sticky.put(run, stickyRow{run: run, worker: w.name})
	return true, nil
}

// Unstarted implements workflow.Rows.
func (u workflowRows) Unstarted(run int64) (all []workflow.Old, err error) {
	rows, err := u.tasksOf(run)
	for _, r := range rows {
		if !r.State.Terminal() && r.State != store.Running {
			all = append(all, oldOf(r))
		}
	}
	return all, err
}

// MoveTask implements workflow.Rows.
func (u workflowRows) MoveTask(g *store.Graph, t workflow.Old) error {
	return u.moveTask(g, t.Key, t.Place, g.Lane())
}
