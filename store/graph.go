package store

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"time"

	"github.com/stint-dev/stint/internal/jsonx"
)

// A Graph is the shape of a workflow. It is stored, and never changes. NewGraph makes one.
type Graph struct {
	Workflow string        `json:"workflow"`
	AgeEvery time.Duration `json:"age,omitempty"` // as NewRun's
	Tasks    []GraphTask   `json:"tasks"`
	Sticky   Sticky        `json:"sticky,omitempty"`
	// OnFailure and OnSuccess are the queues of these tasks; nil: there is no such task.
	OnFailure *string `json:"on_failure,omitempty"`
	OnSuccess *string `json:"on_success,omitempty"`

	text     []byte
	hash     [32]byte
	children [][]int // of each task, and the end of the graph
	ends     int     // tasks that are nobody's parent
	places   map[string]int
}

// A GraphTask is a task of a graph. Its parents come before it.
type GraphTask struct {
	Name     string        `json:"name"`
	Queue    string        `json:"queue"`
	Priority *int8         `json:"priority,omitempty"` // nil: the workflow run's
	StartIn  time.Duration `json:"start_in,omitempty"` // canceled if it has not started so long after it was ready
	Parents  []int         `json:"parents,omitempty"`
	Wants    []Want        `json:"wants,omitempty"`
	Limited  bool          `json:"limited,omitempty"` // runs of the workflow may have TaskLimits for it
	// Tests names the predicates that conditions have on the task's output.
	Tests    []string   `json:"tests,omitempty"`
	CancelIf *Condition `json:"cancel_if,omitempty"`
	SkipIf   *Condition `json:"skip_if,omitempty"`
	WaitFor  *Condition `json:"wait_for,omitempty"`
}

// A Condition is exactly one of its fields.
type Condition struct {
	Sleep time.Duration `json:"sleep,omitempty"` // after the parents ended; negative: at once
	Event *Match        `json:"event,omitempty"`
	Test  *TestRef      `json:"test,omitempty"`
	Any   []Condition   `json:"any,omitempty"`
	All   []Condition   `json:"all,omitempty"`
}

// A Match selects events: those with the key and, if Field is not empty, whose payload is an
// object with Value in that field, as FieldOf returns it.
type Match struct {
	Key   string `json:"key"`
	Field string `json:"field,omitempty"`
	Value string `json:"value,omitempty"`
	// Filter is an expression that the event must pass too; empty: none.
	Filter string `json:"filter,omitempty"`
}

// A TestRef refers to a predicate on a parent's output.
type TestRef struct {
	Parent int `json:"parent"`
	Test   int `json:"test"` // place in the parent's Tests
}

// A TestResult is the result of a predicate on an output.
type TestResult struct {
	OK    bool   `json:"ok,omitempty"`
	Error string `json:"error,omitempty"` // a panic, or no such predicate
}

// Places in a graph after those of the tasks.
const (
	atEnd       = 0 // len(Tasks) + atEnd: the workflow's run itself
	atOnFailure = 1
	atOnSuccess = 2
	afterTasks  = 3
)

// MaxGraph is how many tasks a graph may have.
const MaxGraph = 1<<20 - afterTasks

// NewGraph returns a checked copy of a shape, ready for use.
func NewGraph(g Graph) (*Graph, error) {
	if len(g.Tasks) == 0 || len(g.Tasks) > MaxGraph {
		return nil, fmt.Errorf("workflow %q has %d tasks: want 1 to %d", g.Workflow, len(g.Tasks), MaxGraph)
	}
	g.children = make([][]int, len(g.Tasks))
	g.places = map[string]int{OnFailureName: g.Failure(), OnSuccessName: g.Success()}
	for i := range g.Tasks {
		if _, ok := g.places[g.Tasks[i].Name]; ok {
			return nil, fmt.Errorf("workflow %q has two tasks %q", g.Workflow, g.Tasks[i].Name)
		}
		g.places[g.Tasks[i].Name] = i
		for _, p := range g.Tasks[i].Parents {
			if p < 0 || p >= i {
				return nil, fmt.Errorf("workflow %q: task %d has parent %d: want one before it", g.Workflow, i, p)
			}
			g.children[p] = append(g.children[p], i)
		}
	}
	for i := range g.children {
		if len(g.children[i]) == 0 {
			g.children[i] = []int{g.End()}
			g.ends++
		}
	}
	var err error
	g.text, err = json.Marshal(&g)
	g.hash = sha256.Sum256(g.text)
	return &g, err
}

// ParseGraph is the inverse of Text.
func ParseGraph(text []byte) (*Graph, error) {
	var g Graph
	if err := json.Unmarshal(text, &g); err != nil {
		return nil, fmt.Errorf("stored graph: %w", err)
	}
	return NewGraph(g)
}

// Text returns the graph as it is stored.
func (g *Graph) Text() []byte { return g.text }

// Hash returns a digest that differs between graphs.
func (g *Graph) Hash() [32]byte { return g.hash }

// End returns the place of the workflow's run itself.
func (g *Graph) End() int { return len(g.Tasks) + atEnd }

// Failure returns the place of the on-failure task.
func (g *Graph) Failure() int { return len(g.Tasks) + atOnFailure }

// Success returns the place of the on-success task.
func (g *Graph) Success() int { return len(g.Tasks) + atOnSuccess }

// Names of the tasks that every workflow may have.
const (
	OnFailureName = "on-failure"
	OnSuccessName = "on-success"
)

// Place returns the place of the task with that name.
func (g *Graph) Place(name string) (place int, ok bool) {
	place, ok = g.places[name]
	return place, ok
}

// Name returns the name, within the workflow, of the task at a place.
func (g *Graph) Name(place int) string {
	switch place {
	case g.End():
		return ""
	case g.Failure():
		return OnFailureName
	case g.Success():
		return OnSuccessName
	}
	return g.Tasks[place].Name
}

// TaskName returns the full name of the task at a place: "workflow:task"; of End, "workflow".
func (g *Graph) TaskName(place int) string {
	if place == g.End() {
		return g.Workflow
	}
	return g.Workflow + ":" + g.Name(place)
}

// Lane returns the task name of the lanes that have all tasks of a workflow.
func (g *Graph) Lane() string { return GraphLane(g.Workflow) }

// GraphLane returns the Lane of a workflow's graphs.
func GraphLane(workflow string) string { return workflow + ":" }

// QueueOf returns the queue of the task at a place.
func (g *Graph) QueueOf(place int) string {
	switch place {
	case g.Failure():
		return *g.OnFailure
	case g.Success():
		return *g.OnSuccess
	}
	return g.Tasks[place].Queue
}

// StartIn returns the GraphTask.StartIn of the task at a place.
func (g *Graph) StartIn(place int) time.Duration {
	if place < len(g.Tasks) {
		return g.Tasks[place].StartIn
	}
	return 0
}

// Tests names the predicates on the output of the task at a place.
func (g *Graph) Tests(place int) []string {
	if place < len(g.Tasks) {
		return g.Tasks[place].Tests
	}
	return nil
}

// Reruns reports which tasks a replay runs again: those that neither succeeded nor were skipped,
// and those that depend on them; all if there are none. state returns 0 for a task without a run.
func (g *Graph) Reruns(state func(task int) State) []bool {
	again, some := make([]bool, len(g.Tasks)), false
	for i := range g.Tasks {
		s := state(i)
		again[i] = s != Succeeded && s != Skipped
		for _, p := range g.Tasks[i].Parents {
			again[i] = again[i] || again[p]
		}
		some = some || again[i]
	}
	for i := range again {
		again[i] = again[i] || !some
	}
	return again
}

// Children returns the places of the tasks of which a task is a parent; if there are none, of End.
func (g *Graph) Children(task int) []int { return g.children[task] }

// Leaf reports whether a task is no task's parent.
func (g *Graph) Leaf(task int) bool { return g.children[task][0] == g.End() }

// Joins returns how many parents the task, or the end, at a place has.
func (g *Graph) Joins(place int) int {
	if place == g.End() {
		return g.ends
	}
	return len(g.Tasks[place].Parents)
}

// A JoinState is how the parents of a task have ended: one, or all so far.
type JoinState struct {
	Ended    int  // how many
	Ran      bool // one was not skipped
	Failed   bool // one failed, or was canceled because another failed
	Canceled bool // one was canceled
	Cause    int  // a task that failed or was canceled by itself; -1: none
}

// Join returns the sum of a and b.
func (a JoinState) Join(b JoinState) JoinState {
	a.Ended += b.Ended
	a.Ran = a.Ran || b.Ran
	a.Failed = a.Failed || b.Failed
	a.Canceled = a.Canceled || b.Canceled
	if a.Cause < 0 {
		a.Cause = b.Cause
	}
	return a
}

// A WorkflowRun is one run of a graph, in a transaction of its store.
type WorkflowRun interface {
	// ParentEnded adds a to the JoinState of the task, or the end, at a place, and returns the
	// sum. It is called if there are several parents.
	ParentEnded(place int, a JoinState) (JoinState, error)
	// Start creates the run of a task whose parents have all ended, and returns its state, which
	// its conditions decide.
	Start(task int) (State, error)
	// EndUnstarted creates the run of a task that ends without a start: as Canceled because of the
	// task at place cause (-1: none), or as Skipped.
	EndUnstarted(task int, to State, cause int) error
	// EndWorkflow ends the workflow's run.
	EndWorkflow(all JoinState) error
}

// Begin creates the runs of the tasks without parents.
func (g *Graph) Begin(f WorkflowRun) error {
	for i := range g.Tasks {
		if len(g.Tasks[i].Parents) > 0 {
			continue
		}
		to, err := f.Start(i)
		if err != nil {
			return err
		}
		if to.Terminal() {
			if err := g.Advance(f, i, to); err != nil {
				return err
			}
		}
	}
	return nil
}

// Advance does what follows from the end of a task's run: it creates the runs of the tasks whose
// last parent this was, and of those that follow in turn. A task starts once all its parents have
// ended and at least one ran. If one failed or was canceled, the task is canceled, even if others
// were skipped. If all were skipped, it is skipped, unless it has a skip condition of its own.
func (g *Graph) Advance(f WorkflowRun, task int, to State) error {
	type end struct {
		place int
		how   JoinState
	}
	ended := []end{{task, joinState(task, to)}}
	for len(ended) > 0 {
		e := ended[len(ended)-1]
		ended = ended[:len(ended)-1]
		for _, c := range g.children[e.place] {
			all := e.how
			if n := g.Joins(c); n > 1 {
				var err error
				if all, err = f.ParentEnded(c, e.how); err != nil {
					return err
				}
				if all.Ended < n {
					continue
				}
			}
			if c == g.End() {
				return f.EndWorkflow(all) // the last to end
			}
			to, how, err := g.startOrEnd(f, c, all)
			if err != nil {
				return err
			}
			if to.Terminal() {
				ended = append(ended, end{c, how})
			}
		}
	}
	return nil
}

func joinState(task int, to State) JoinState {
	a := JoinState{Ended: 1, Ran: to != Skipped, Failed: to == Failed, Canceled: to == Canceled, Cause: -1}
	if a.Failed || a.Canceled {
		a.Cause = task
	}
	return a
}

// startOrEnd starts a task whose parents have all ended, or ends it unstarted.
func (g *Graph) startOrEnd(f WorkflowRun, task int, all JoinState) (State, JoinState, error) {
	switch {
	case all.Failed || all.Canceled:
		how := all
		how.Ended, how.Canceled = 1, true
		return Canceled, how, f.EndUnstarted(task, Canceled, all.Cause)
	case !all.Ran && g.Tasks[task].SkipIf == nil:
		return Skipped, joinState(task, Skipped), f.EndUnstarted(task, Skipped, -1)
	}
	to, err := f.Start(task)
	return to, joinState(task, to), err
}

// State returns the state in which a workflow's run ends.
func (a JoinState) State() State {
	switch {
	case a.Failed:
		return Failed
	case a.Canceled:
		return Canceled
	}
	return Succeeded
}

// Leaves lists the sleeps, events and tests of a task's conditions: of cancel, then skip, then
// wait. Their order is their numbering.
func (t *GraphTask) Leaves() (all []*Condition) {
	for _, c := range []*Condition{t.CancelIf, t.SkipIf, t.WaitFor} {
		all = c.leaves(all)
	}
	return all
}

func (c *Condition) leaves(all []*Condition) []*Condition {
	if c == nil {
		return all
	}
	if c.Any == nil && c.All == nil {
		return append(all, c)
	}
	for i := range c.Any {
		all = c.Any[i].leaves(all)
	}
	for i := range c.All {
		all = c.All[i].leaves(all)
	}
	return all
}

// A Truth is when a leaf became true; zero: it is not. A sleep's may be in the future.
type Truth struct {
	Since time.Time
	Error string // why it cannot be decided
}

// A Decision is what the conditions of a task whose parents have ended decide.
type Decision struct {
	To     State     // Queued, Skipped, Canceled, Blocked, or Waiting: nothing is decided yet
	Next   time.Time // if Waiting: when to decide again, if no event comes before; zero: only after an event
	Reason string    // if Blocked
}

// Decide evaluates a task's conditions: of cancel, skip and wait, the one that became true first
// wins; at the same time cancel beats skip beats wait. truths are those of its Leaves.
func (t *GraphTask) Decide(parentsDone, now time.Time, truths []Truth) Decision {
	for _, truth := range truths {
		if truth.Error != "" {
			return Decision{To: Blocked, Reason: truth.Error}
		}
	}
	next := func() (tr Truth) { tr, truths = truths[0], truths[1:]; return tr }
	best := Decision{To: Waiting}
	for _, c := range []struct {
		cond *Condition
		to   State
	}{{t.CancelIf, Canceled}, {t.SkipIf, Skipped}, {t.WaitFor, Queued}} {
		since := parentsDone
		if c.cond != nil {
			since = c.cond.since(next)
		} else if c.to != Queued {
			continue
		}
		if !since.IsZero() && (best.Next.IsZero() || since.Before(best.Next)) {
			best = Decision{To: c.to, Next: since}
		}
	}
	if best.Next.After(now) {
		best.To = Waiting
	}
	if best.To != Waiting {
		best.Next = time.Time{}
	}
	return best
}

// since returns when a condition became true, or will by itself; zero: unknown.
func (c *Condition) since(next func() Truth) (at time.Time) {
	switch {
	case c.Any != nil:
		for i := range c.Any {
			if t := c.Any[i].since(next); !t.IsZero() && (at.IsZero() || t.Before(at)) {
				at = t
			}
		}
		return at
	case c.All != nil:
		never := false
		for i := range c.All {
			t := c.All[i].since(next)
			never = never || t.IsZero()
			if t.After(at) {
				at = t
			}
		}
		if never {
			return time.Time{}
		}
		return at
	}
	return next().Since
}

// Matches reports whether m selects an event that has m's key. The error is the filter's.
func (m *Match) Matches(e *NewEvent) (bool, error) {
	if m.Field != "" && FieldOf(e.Payload, m.Field) != m.Value {
		return false, nil
	}
	return m.Passes(e)
}

// Passes reports whether an event passes m's filter. The error is the filter's.
func (m *Match) Passes(e *NewEvent) (bool, error) { return passes(m.Filter, e) }

// FieldOf returns a field of a JSON object as a Match compares it: in the form of jsonx.Canonical,
// so that numbers are exact and 10, 10.0 and 1e1 are equal. It returns "" if payload is not an
// object, or has no such field.
func FieldOf(payload []byte, field string) string {
	var o map[string]json.RawMessage
	if json.Unmarshal(payload, &o) != nil {
		return ""
	}
	raw, ok := o[field]
	if !ok {
		return ""
	}
	value, _ := jsonx.Canonical(raw)
	return value
}
