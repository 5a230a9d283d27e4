package workflow_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/keys"
	"github.com/stint-dev/stint/store/internal/lifecycle"
	"github.com/stint-dev/stint/store/internal/limits"
	"github.com/stint-dev/stint/store/internal/misstest"
	"github.com/stint-dev/stint/store/internal/workflow"
)

const start = int64(1_000_000) // milliseconds

type event struct {
	key string
	at  int64
}

type wait struct {
	task int64
	leaf int
	key  string
	came int64
}

// rows implements workflow.Rows in memory, and of lifecycle.Rows what workflows need.
type rows struct {
	misstest.Misses
	lifecycle.Rows
	t        testing.TB
	graph    *store.Graph
	now      int64
	last     int64
	runs     map[int64]*workflow.Task
	events   []event
	waits    []wait
	joins    map[int]workflow.JoinState
	results  map[int64][]store.TestResult
	attempts map[int]int64
	limits   map[int][]store.Limit
	sticks   int64 // worker
	moved    []int
	woken    map[int64]bool            // the times of WakeAt
	shared   map[int64]workflow.Shared // what is remembered
	made     map[int64]store.State     // of runs when they were inserted
	ended    map[int64]int             // how often
}

var _ workflow.Rows = (*rows)(nil)

// newRows begins a workflow's run, of key 1.
func newRows(t testing.TB, g store.Graph, change ...func(*rows)) *rows {
	g.Workflow = "w"
	graph, err := store.NewGraph(g)
	ok(t, err)
	r := &rows{t: t, graph: graph, now: start, last: start << keys.SeqBits, runs: map[int64]*workflow.Task{},
		joins: map[int]workflow.JoinState{}, results: map[int64][]store.TestResult{}, attempts: map[int]int64{}, ended: map[int64]int{},
		woken: map[int64]bool{}, shared: map[int64]workflow.Shared{}, made: map[int64]store.State{}}
	for _, f := range change {
		f(r)
	}
	w := &workflow.Task{Run: lifecycle.Run{Key: r.NextKey(r.now), State: store.Running, Workflow: true, Node: r.node(graph.End())}}
	r.runs[w.Key] = w
	ok(t, workflow.BeginRun(r, w.Key, w.Node, r.now))
	return r
}

func (r *rows) node(place int) int64 { return 1<<lifecycle.NodeBits | int64(place) }

func (r *rows) key() int64 { return start<<keys.SeqBits + 1 }

func (r *rows) sorted() []*workflow.Task {
	return slices.SortedFunc(maps.Values(r.runs), func(a, b *workflow.Task) int { return int(a.Key - b.Key) })
}

// task returns the run of the task at a place, or nil.
func (r *rows) task(place int) *workflow.Task {
	for _, x := range r.runs {
		if x.Parent == r.key() && x.Node == r.node(place) {
			return x
		}
	}
	return nil
}

func (r *rows) workflow() *workflow.Task { return r.runs[r.key()] }

// finish ends the run of a task.
func (r *rows) finish(place int, to store.State, results ...store.TestResult) {
	r.t.Helper()
	x := r.task(place)
	x.Attempt++
	x.Lease++
	x.State, x.Ended, x.StartBy = to, r.now, 0
	if results != nil && to == store.Succeeded {
		r.results[x.Node] = results
	}
	r.Ended(x.Key)
	ok(r.t, workflow.TaskEnded(r, x.Parent, x.Node, to, r.now))
}

// publish stores an event, and decides the tasks again that wait for it.
func (r *rows) publish(key string) {
	r.t.Helper()
	r.events = append(r.events, event{key, r.now})
	var tasks []int64
	for i := range r.waits {
		if w := &r.waits[i]; w.key == key && w.came == 0 {
			w.came = r.now
			tasks = append(tasks, w.task)
		}
	}
	for _, task := range tasks {
		ok(r.t, workflow.Reconsider(r, task, r.now))
	}
}

// pass lets time pass, and decides the tasks again whose time has come.
func (r *rows) pass(ms int64) {
	r.t.Helper()
	r.now += ms
	for _, x := range r.sorted() {
		if x.State == store.Waiting && x.Due > 0 && x.Due <= r.now {
			ok(r.t, workflow.Reconsider(r, x.Key, r.now))
		}
	}
}

// states lists the states of the tasks by place, then of the workflow, then of its hooks.
func (r *rows) states() string {
	var all []string
	for i := range r.graph.Success() + 1 {
		name, x := r.graph.Name(i), r.task(i)
		if i == r.graph.End() {
			name, x = "=", r.workflow()
		}
		if x != nil {
			all = append(all, name+" "+x.State.String())
		}
	}
	return strings.Join(all, ", ")
}

func (r *rows) are(want string) {
	r.t.Helper()
	if got := r.states(); got != want {
		r.t.Errorf("got  %s\nwant %s", got, want)
	}
	for _, x := range r.sorted() {
		if wrong := r.wrong(x); wrong != "" {
			r.t.Errorf("%s: %+v", wrong, x)
		}
	}
}

// wrong says what is wrong with the row of a run; "": nothing.
func (r *rows) wrong(x *workflow.Task) string {
	waits := x.State == store.Waiting && x.Due > r.now
	switch {
	case x.State.Terminal() != (x.Ended != 0):
		return "it has ended, or not"
	case x.State.Terminal() && !r.made[x.Key].Terminal() && r.ended[x.Key] == 0:
		return "nobody is told that it has ended"
	case x.Due < 0 || x.Due != 0 && !waits && x.Rank != x.Due:
		return "it is due at a wrong time"
	case waits && !r.woken[x.Due] || x.StartBy > r.now && !r.woken[x.StartBy]:
		return "nothing wakes at its time"
	}
	return ""
}

func (r *rows) Runs() lifecycle.Rows                           { return r }
func (r *rows) Graph(int64) (*store.Graph, error)              { return r.graph, nil }
func (r *rows) Changed(run int64)                              { delete(r.shared, run) }
func (r *rows) ID(int64) (id store.ID)                         { return id }
func (r *rows) ResetUndo(int64) error                          { return nil }
func (r *rows) MoveLane(*lifecycle.Run, bool) error            { return nil }
func (r *rows) MoveQueue(*lifecycle.Run, string) (bool, error) { return true, nil }
func (r *rows) Ended(key int64)                                { r.ended[key]++ }
func (r *rows) DropJoins(int64) error                          { clear(r.joins); return nil }
func (r *rows) Attempts(_ int64, place int) (int64, error)     { return r.attempts[place], nil }
func (r *rows) Delete(task int64) error                        { delete(r.runs, task); return nil }
func (r *rows) Exists(_, node int64) (bool, error)             { return r.task(workflow.Place(node)) != nil, nil }
func (r *rows) KeepAttempts(_ int64, place int, n int64) (err error) {
	defer r.Miss(&err)
	r.attempts[place] = n
	return nil
}

func (r *rows) KeepAttempt(*lifecycle.Run, store.State, int64, []byte) (err error) {
	defer r.Miss(&err)
	return nil
}

func (r *rows) NextKey(now int64) int64 {
	r.last = max(r.last+1, now<<keys.SeqBits)
	return r.last
}

func (r *rows) WakeAt(at int64) { r.woken[at] = true }

func (r *rows) Run(key int64) (_ *lifecycle.Run, err error) {
	defer r.Miss(&err)
	if x := r.runs[key]; x != nil {
		row := x.Run
		return &row, nil
	}
	return nil, nil
}

func (r *rows) Write(x *lifecycle.Run) (err error) {
	defer r.Miss(&err)
	if was := r.runs[x.Key].State; was != x.State && !store.Legal(was, x.State) {
		r.t.Errorf("not store.Legal: %v to %v", was, x.State)
	}
	if r.runs[x.Key].State.Terminal() && !x.State.Terminal() {
		delete(r.ended, x.Key)
	}
	r.runs[x.Key].Run = *x
	return nil
}

func (r *rows) Shared(key int64) (_ workflow.Shared, err error) {
	defer r.Miss(&err)
	if _, ok := r.shared[key]; !ok {
		r.shared[key] = workflow.Shared{Priority: 2, Root: key, Replayed: r.runs[key].Replayed > 0}
	}
	return r.shared[key], nil
}

func (r *rows) Insert(_ *store.Graph, t workflow.Task) (err error) {
	defer r.Miss(&err)
	if r.task(workflow.Place(t.Node)) != nil {
		r.t.Errorf("%s has two runs", r.graph.Name(workflow.Place(t.Node)))
	}
	r.runs[t.Key], r.made[t.Key] = &t, t.State
	return nil
}

func (r *rows) TaskLimits(_ int64, place int) (_ string, _ []store.Limit, err error) {
	defer r.Miss(&err)
	if ls := r.limits[place]; ls != nil {
		return "some", ls, nil
	}
	return "", nil, nil
}

func (r *rows) Admit(_ int64, all []store.Limit) (_ *int64, err error) {
	defer r.Miss(&err)
	if all[0].Units > 9 {
		return nil, fmt.Errorf("too many: %w", limits.ErrUnits)
	}
	at := int64(7)
	return &at, nil
}

func (r *rows) Over(run int64, _ store.State, _ int64) { r.Ended(run) }

func (r *rows) ParentEnded(_ int64, place int, a workflow.JoinState) (_ workflow.JoinState, err error) {
	defer r.Miss(&err)
	if r.graph.Joins(place) < 2 {
		r.t.Errorf("place %d joins nothing", place)
	}
	if all, ok := r.joins[place]; ok {
		a = all.Join(a)
	}
	r.joins[place] = a
	return a, nil
}

func (r *rows) End(key int64, to store.State, now int64, reason []byte) (_ bool, err error) {
	defer r.Miss(&err)
	w := r.runs[key]
	if w.State != store.Running || w.CancelAt != 0 {
		return false, nil
	}
	w.Run.End(to, now, reason)
	return true, nil
}

func (r *rows) EventSince(_ int64, m *store.Match) (_ time.Time, err error) {
	defer r.Miss(&err)
	for _, e := range r.events {
		if e.key == m.Key {
			return time.UnixMilli(e.at), nil
		}
	}
	return time.Time{}, nil
}

func (r *rows) AwaitEvent(task int64, leaf int, m *store.Match) (err error) {
	defer r.Miss(&err)
	r.waits = append(r.waits, wait{task, leaf, m.Key, 0})
	return nil
}

func (r *rows) Came(task int64) (all []workflow.Came, err error) {
	defer r.Miss(&err)
	for _, w := range r.waits {
		if w.task == task && w.came > 0 {
			all = append(all, workflow.Came{Leaf: w.leaf, At: time.UnixMilli(w.came)})
		}
	}
	return all, nil
}

func (r *rows) DropWaits(task int64) (err error) {
	defer r.Miss(&err)
	r.waits = slices.DeleteFunc(r.waits, func(w wait) bool { return w.task == task })
	return nil
}

func (r *rows) Results(_, node int64) (_ []byte, err error) {
	defer r.Miss(&err)
	if x := r.task(workflow.Place(node)); x == nil || x.State != store.Succeeded {
		return nil, nil
	}
	return json.Marshal(r.results[node])
}

func (r *rows) Tasks(_, from, to int64) (all []workflow.Old, err error) {
	defer r.Miss(&err)
	for node := from; node <= to; node++ {
		if x := r.task(workflow.Place(node)); x != nil {
			all = append(all, workflow.Old{Key: x.Key, Place: workflow.Place(node), State: x.State, Attempts: x.Attempt, Begun: x.Lease > 0})
		}
	}
	return all, nil
}

func (r *rows) Follows(int64) (worker string, err error) {
	defer r.Miss(&err)
	if r.sticks != 0 {
		worker = fmt.Sprintf("w%d", r.sticks)
	}
	return worker, nil
}

func (r *rows) Stick(_, worker int64) (_ bool, err error) {
	defer r.Miss(&err)
	first := r.sticks == 0
	if first {
		r.sticks = worker
	}
	return first, nil
}

func (r *rows) Unstarted(int64) (all []workflow.Old, err error) {
	defer r.Miss(&err)
	for _, x := range r.sorted() {
		if !x.Workflow && !x.State.Terminal() && x.State != store.Running {
			all = append(all, workflow.Old{Key: x.Key, Place: workflow.Place(x.Node), State: x.State})
		}
	}
	return all, nil
}

func (r *rows) MoveTask(_ *store.Graph, t workflow.Old) (err error) {
	defer r.Miss(&err)
	r.moved = append(r.moved, t.Place)
	return nil
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
