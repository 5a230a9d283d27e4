package storetest

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/workflow"
)

// Package workflow decides for every store; the model only counts and stores. That the decisions are right is tested
// through the public API.

type modelEvent struct {
	store.NewEvent
	id            store.ID
	at            time.Time
	started, woke []store.ID
}

// isTask reports whether the run is a workflow's task.
func (r *modelRun) isTask() bool { return r.graph != nil && !r.Workflow }

// claimName returns the task that a worker needs a handler for.
func (r *modelRun) claimName() string {
	if r.isTask() && r.lane == "" {
		return r.graph.Lane()
	}
	return r.Task
}

func (r *modelRun) node() int64 {
	if r.graph == nil {
		return 0
	}
	return 1<<20 | int64(r.place)
}

// A modelWorkflow is a workflow's run. It implements workflow.Run.
type modelWorkflow struct {
	m   *Model
	r   *modelRun
	now time.Time
}

func (m *Model) begin(r *modelRun, now time.Time) {
	r.State, r.Started = store.Running, now
	m.must(workflow.Begin(modelWorkflow{m, r, now}, r.graph))
}

// must panics on an error, which a modelWorkflow never returns.
func (m *Model) must(err error) {
	if err != nil {
		panic(err)
	}
}

// follow does what follows from the end of a workflow's task.
func (m *Model) follow(r *modelRun, now time.Time) {
	if !r.isTask() || r.place >= len(r.graph.Tasks) {
		return
	}
	f := modelWorkflow{m, m.runs[r.Parent], now}
	if r.State == store.Failed && r.graph.OnFailure != nil {
		f.startHook(r.graph.Failure())
	}
	m.must(workflow.Advance(f, r.graph, r.place, r.State))
}

func (f modelWorkflow) startHook(place int) {
	if f.m.taskOf(f.r, place) == nil {
		r := f.make(place, store.Queued)
		r.detached, r.startIn = true, f.r.graph.Task(place).StartIn
		r.limitStart(f.now)
		f.m.use(r, f.now)
		f.m.admit(r, f.now)
	}
}

// taskOf returns the run of a workflow's task, or nil.
func (m *Model) taskOf(flow *modelRun, place int) *modelRun {
	for _, r := range m.runs {
		if r.isTask() && r.Parent == flow.ID && r.place == place {
			return r
		}
	}
	return nil
}

// ParentEnded implements workflow.Run.
func (f modelWorkflow) ParentEnded(place int, a workflow.JoinState) (workflow.JoinState, error) {
	all, ok := f.r.joins[place]
	if ok {
		a = all.Join(a)
	}
	f.r.joins[place] = a
	return a, nil
}

// Start implements workflow.Run.
func (f modelWorkflow) Start(task int) (store.State, error) {
	r := f.make(task, store.Waiting)
	return f.decide(r), nil
}

// decide sets a task's state by its conditions.
func (f modelWorkflow) decide(r *modelRun) store.State {
	t := &r.graph.Tasks[r.place]
	leaves := workflow.Leaves(t)
	truths := make([]workflow.Truth, len(leaves))
	for i, c := range leaves {
		truths[i] = f.truth(r, i, c)
	}
	d := workflow.Decide(t, r.Created, f.now, truths)
	r.State, r.wake, r.Due = d.To, d.Next, r.Created
	if !d.Next.IsZero() {
		r.Due = d.Next
	}
	switch {
	case d.To == store.Queued:
		r.Due, r.startIn = f.now, t.StartIn
		r.limitStart(f.now)
	case d.To == store.Blocked:
		r.Error = []byte(fmt.Sprintf(`{"kind":"condition","message":%q}`, d.Reason))
	case d.To == store.Canceled:
		r.Error = []byte(`{"kind":"canceled","message":"its cancel condition held"}`)
	}
	if d.To.Terminal() {
		r.Ended = f.now
	}
	return d.To
}

func (f modelWorkflow) truth(r *modelRun, leaf int, c *store.Condition) (truth workflow.Truth) {
	switch {
	case c.Event != nil:
		if at, ok := r.came[leaf]; ok {
			return workflow.Truth{Since: at}
		}
		for _, e := range f.m.events {
			if e.Key == c.Event.Key && f.m.counts(&e, f.r.ID, c.Event) && matches(c.Event, e.NewEvent) {
				return workflow.Truth{Since: e.at}
			}
		}
		return truth
	case c.Test != nil:
		p := f.m.taskOf(f.r, c.Test.Parent)
		if p == nil || p.State != store.Succeeded || c.Test.Test >= len(p.tests) {
			return truth
		}
		if res := p.tests[c.Test.Test]; res.Error != "" {
			truth.Error = res.Error
		} else if res.OK {
			truth.Since = r.Created
		}
		return truth
	}
	return workflow.Truth{Since: r.Created.Add(max(c.Sleep, 0))}
}

// reconsider decides a waiting task again.
func (m *Model) reconsider(r *modelRun, now time.Time) {
	f := modelWorkflow{m, m.runs[r.Parent], now}
	if to := f.decide(r); to.Terminal() {
		m.follow(r, now)
	}
}

// EndUnstarted implements workflow.Run.
func (f modelWorkflow) EndUnstarted(task int, to store.State, cause int) error {
	r := f.make(task, to)
	r.Ended = f.now
	if cause >= 0 {
		r.Error = []byte(fmt.Sprintf(`{"kind":"parent","message":"task \"%s\" did not succeed"}`, r.graph.Tasks[cause].Name))
	}
	return nil
}

// make creates the run of a task.
func (f modelWorkflow) make(place int, state store.State) *modelRun {
	g := f.r.graph
	id := f.m.newID(f.now)
	r := &modelRun{Run: store.Run{
		ID: id, Task: g.TaskName(place), Queue: g.QueueOf(place), State: state, Priority: f.r.Priority, Created: f.now, Due: f.now,
		Parent: f.r.ID, Root: f.r.Root, Metadata: f.r.Metadata, Input: f.r.Input,
	}, ageEvery: g.AgeEvery, graph: g, place: place, route: workflow.RouteOf(g, place, "", f.r.route)}
	if r.Root == (store.ID{}) {
		r.Root = f.r.ID
	}
	if p := g.Task(place).Priority; p != nil {
		r.Priority = *p
	}
	if g.Task(place).Limited {
		r.limits, r.setBy = f.r.ofTask[place], f.r.setBy
	}
	r.Attempt, r.before = f.r.replayed[place], f.r.replayed[place]
	f.m.runs[id] = r
	f.m.order = append(f.m.order, id)
	return r
}

// EndWorkflow implements workflow.Run.
func (f modelWorkflow) EndWorkflow(all workflow.JoinState) error {
	r := f.r
	if r.State != store.Running {
		return nil
	}
	to, reason := all.State(), []byte(nil)
	if to != store.Succeeded {
		reason = []byte(fmt.Sprintf(`{"kind":"workflow","message":"task \"%s\" did not succeed"}`, r.graph.Tasks[all.Cause].Name))
	}
	if !r.CancelAt.IsZero() {
		to, reason = store.Canceled, r.Error
	}
	f.m.end(r, to, f.now, reason)
	if to == store.Succeeded && r.graph.OnSuccess != nil {
		f.startHook(r.graph.Success())
	}
	return nil
}

// Publish implements store.Schedules.
func (m *Model) Publish(_ context.Context, now time.Time, events []store.NewEvent) ([]store.ID, error) {
	if err := m.lock(); err != nil {
		return nil, err
	}
	defer m.unlock()
	m.advance(now)
	if len(events) > 0 {
		if c := events[0].Call; c != nil && m.held(c.ID, c.Lease) == nil {
			return nil, store.ErrStale
		}
	}
	ids := make([]store.ID, len(events))
	out := make([]store.Enqueued, len(events))
	for i, e := range events {
		if first := m.delivered(e.Delivery); first != nil {
			ids[i] = first.id
			continue
		}
		ids[i] = m.newID(now)
		e.Payload, e.Stored = slices.Clone(e.Payload), ids[i]
		ev := modelEvent{NewEvent: e, id: ids[i], at: now}
		m.events = append(m.events, ev)
		was := slices.Clone(m.order)
		started, err := m.trigger(now, &ev)
		if err != nil {
			return nil, err
		}
		var woke []store.ID
		for _, id := range was {
			took, got := m.deliver(m.runs[id], e, now), m.resolve(m.runs[id], ev)
			if took || got {
				woke = append(woke, id)
			}
		}
		m.events[len(m.events)-1].started, m.events[len(m.events)-1].woke = started, woke
	}
	if len(events) > 0 && events[0].Call != nil {
		for i, id := range ids {
			out[i].ID = id
		}
		m.recordCall(now, events[0].Call, out)
	}
	return ids, nil
}

func (m *Model) deliver(r *modelRun, e store.NewEvent, now time.Time) (some bool) {
	if r == nil || !r.isTask() || r.State != store.Waiting || r.Lease != 0 {
		return false
	}
	for i, c := range workflow.Leaves(&r.graph.Tasks[r.place]) {
		if _, ok := r.came[i]; !ok && c.Event != nil && c.Event.Key == e.Key && matches(c.Event, e) {
			if r.came == nil {
				r.came = map[int]time.Time{}
			}
			r.came[i], some = now, true
		}
	}
	if some {
		m.reconsider(r, now)
	}
	return some
}

// Workflow implements store.History.
func (m *Model) Workflow(_ context.Context, id store.ID, names []string) (*store.Graph, []store.WorkflowTask, error) {
	if err := m.lock(); err != nil {
		return nil, nil, err
	}
	defer m.mu.Unlock()
	m.advance(time.Now())
	r := m.runs[id]
	if r == nil || !r.Workflow {
		return nil, nil, fmt.Errorf("workflow run %s: %w", id, store.ErrNotFound)
	}
	var places []int
	for _, name := range names {
		if p, ok := r.graph.Place(name); ok {
			places = append(places, p)
		}
	}
	if names == nil {
		for i := range r.graph.Success() + 1 {
			places = append(places, i)
		}
	}
	tasks := []store.WorkflowTask{r.workflowTask()}
	for _, p := range places {
		if t := m.taskOf(r, p); t != nil {
			tasks = append(tasks, t.workflowTask())
		}
	}
	return r.graph, tasks, nil
}

func (r *modelRun) workflowTask() store.WorkflowTask {
	return store.WorkflowTask{
		Place: r.place, ID: r.ID, State: r.State, Attempt: r.Attempt, Due: r.Due, Started: r.Started, Ended: r.Ended,
		Output: r.Output, Error: r.Error, NoHandler: r.lane != "" && r.State == store.Queued,
	}
}

// replayWorkflow runs the tasks of a workflow's run again that did not succeed, and those that depend on them, or
// all.
func (m *Model) replayWorkflow(r *modelRun, now time.Time, whole bool) {
	r.State, r.Started, r.Error, r.Ended, r.CancelAt = store.Running, now, nil, time.Time{}, time.Time{}
	r.joins = map[int]workflow.JoinState{}
	r.limitStart(now)
	g := r.graph
	old := make([]*modelRun, g.Success()+1)
	for i := range old {
		old[i] = m.taskOf(r, i)
	}
	again := workflow.Reruns(g, whole, func(i int) store.State {
		if old[i] == nil {
			return 0
		}
		return old[i].State
	})
	f := modelWorkflow{m, r, now}
	if r.replayed == nil {
		r.replayed = map[int]int{}
	}
	var leaves, ready []int
	join := func(place int, parents []int) (waits bool) {
		for _, p := range parents {
			if again[p] {
				waits = true
			} else {
				f.ParentEnded(place, workflow.JoinState{Ended: 1, Ran: old[p].State != store.Skipped, Cause: -1})
			}
		}
		return waits
	}
	for i := range g.Tasks {
		if g.Leaf(i) {
			leaves = append(leaves, i)
		}
		if !again[i] {
			continue
		}
		waits := join(i, g.Tasks[i].Parents)
		if !waits {
			ready = append(ready, i)
		}
		if old[i] != nil && (waits || old[i].Lease == 0) {
			m.remake(r, old[i])
			old[i] = nil
		}
	}
	join(g.End(), leaves)
	for _, place := range []int{g.Failure(), g.Success()} {
		if old[place] != nil {
			m.remake(r, old[place])
		}
	}
	for _, i := range ready {
		if old[i] != nil {
			m.requeue(old[i], now)
		} else if to, _ := f.Start(i); to.Terminal() {
			m.must(workflow.Advance(f, g, i, to))
		}
	}
}

// remake deletes the run of a task of the workflow's run r, whose next one continues its attempts.
func (m *Model) remake(r, old *modelRun) {
	r.replayed[old.place] = old.Attempt
	m.remove(old)
}
