package store

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/stint-dev/stint/internal/jsonx"
)

// A Graph is the shape of a workflow. It is stored, and never changes. NewGraph makes one.
type Graph struct {
	Workflow string        `json:"workflow"`
	AgeEvery time.Duration `json:"age,omitempty"` // as NewRun's
	Tasks    []GraphTask   `json:"tasks"`
	Sticky   Sticky        `json:"sticky,omitempty"`
	// OnFailure and OnSuccess are the queues of the on-failure and the on-success task; nil: there is no such task.
	OnFailure *string `json:"on_failure,omitempty"`
	OnSuccess *string `json:"on_success,omitempty"`
	// FailureTask and SuccessTask have the Priority, StartIn, Wants and Limited of these two tasks; nil: all of these are zero.
	FailureTask *GraphTask `json:"failure_task,omitempty"`
	SuccessTask *GraphTask `json:"success_task,omitempty"`

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
	StartIn  time.Duration `json:"start_in,omitempty"` // canceled if it has not started this long after it was ready; 0: never
	Parents  []int         `json:"parents,omitempty"`
	Wants    []Want        `json:"wants,omitempty"`
	Limited  bool          `json:"limited,omitempty"` // runs of the workflow may have TaskLimits for it
	// Tests names the predicates that conditions have on the task's output.
	Tests    []string   `json:"tests,omitempty"`
	CancelIf *Condition `json:"cancel_if,omitempty"`
	SkipIf   *Condition `json:"skip_if,omitempty"`
	WaitFor  *Condition `json:"wait_for,omitempty"`
}

// A Condition decides about a task of a graph, or ends a Wait. Beside Name, exactly one of its fields is set.
type Condition struct {
	Name  string        `json:"name,omitempty"`  // under which it is reported if it fired; empty: see ReportedName
	Sleep time.Duration `json:"sleep,omitempty"` // after the parents ended; negative: at once
	Event *Match        `json:"event,omitempty"`
	Test  *TestRef      `json:"test,omitempty"`
	Any   []Condition   `json:"any,omitempty"`
	All   []Condition   `json:"all,omitempty"`
}

// Leaves returns the sleeps, events and tests of a condition. Their order is their numbering.
func (c *Condition) Leaves() []*Condition { return c.leaves(nil) }

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

// SleepName is the name of a sleep that has none of its own.
const SleepName = "sleep"

// ReportedName returns the name under which a condition is reported if it fired; "": it is not.
func (c *Condition) ReportedName() string {
	switch {
	case c.Name != "":
		return c.Name
	case c.Event != nil:
		return c.Event.Key
	case c.Any == nil && c.All == nil && c.Test == nil:
		return SleepName
	}
	return ""
}

// A Match selects events: those with the key and, if Field is not empty, whose payload is an
// object with Value in that field, as FieldOf returns it.
type Match struct {
	Key   string `json:"key"`
	Field string `json:"field,omitempty"`
	Value string `json:"value,omitempty"`
	// Filter is an expression that the event must pass too; empty: none.
	Filter string `json:"filter,omitempty"`
	// FromNow: only events that come after the wait has begun.
	FromNow bool `json:"from_now,omitempty"`
	// Since, if not 0, counts events from that time on, in milliseconds, instead of those since the run was enqueued.
	Since int64 `json:"since,omitempty"`
}

// scopeMark begins the Field of a Match that asks for a scope, and separates the scope from the rest of its Value: so an
// index by field and value finds both. No value has it, as it is JSON, and WithMatch takes no field that begins with it.
const scopeMark = "\x01"

// WithScope returns a Match that selects, of the events that m selects, those with a scope.
func (m Match) WithScope(scope string) Match {
	_, field, value := m.Parts()
	m.Field, m.Value = scopeMark+field, scope+scopeMark+value
	return m
}

// IsScoped reports whether a field's name is the form of a field with a scope.
func IsScoped(field string) bool { return strings.HasPrefix(field, scopeMark) }

// Parts returns the scope that m asks for, or "", and the field of the payload with its value.
func (m *Match) Parts() (scope, field, value string) {
	field, scoped := strings.CutPrefix(m.Field, scopeMark)
	if !scoped {
		return "", m.Field, m.Value
	}
	i := max(strings.LastIndex(m.Value, scopeMark), 0) // a scope may have it
	return m.Value[:i], field, strings.TrimPrefix(m.Value[i:], scopeMark)
}

// ValueOf returns what an event has in the field of a Match, or "" if the event matches none with
// that field.
func (e *NewEvent) ValueOf(field string) string {
	name, scoped := strings.CutPrefix(field, scopeMark)
	switch {
	case !scoped:
		return FieldOf(e.Payload, field)
	case e.Scope == "":
		return ""
	case name == "":
		return e.Scope + scopeMark
	}
	if v := FieldOf(e.Payload, name); v != "" {
		return e.Scope + scopeMark + v
	}
	return ""
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

// MaxGraph is the highest number of tasks in a graph.
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

// Task returns the task at a place. That of the on-failure or the on-success task has what FailureTask or SuccessTask says, and
// that of End nothing.
func (g *Graph) Task(place int) *GraphTask {
	var t *GraphTask
	switch place {
	case g.End():
	case g.Failure():
		t = g.FailureTask
	case g.Success():
		t = g.SuccessTask
	default:
		t = &g.Tasks[place]
	}
	if t == nil {
		return &noTask
	}
	return t
}

var noTask GraphTask

// Tests names the predicates on the output of the task at a place.
func (g *Graph) Tests(place int) []string {
	if place < len(g.Tasks) {
		return g.Tasks[place].Tests
	}
	return nil
}

// Children returns the places of the tasks that have a task as a parent. If there are none, it
// returns the place of End.
func (g *Graph) Children(task int) []int { return g.children[task] }

// Ancestors returns the places of the tasks that come before a task, in order.
func (g *Graph) Ancestors(task int) (places []int) {
	before := make([]bool, task+1)
	before[task] = true
	for i := task; i >= 0; i-- { // parents come before their children
		if !before[i] {
			continue
		}
		for _, p := range g.Tasks[i].Parents {
			before[p] = true
		}
	}
	for i := range task {
		if before[i] {
			places = append(places, i)
		}
	}
	return places
}

// Leaf reports whether a task is no task's parent.
func (g *Graph) Leaf(task int) bool { return g.children[task][0] == g.End() }

// Joins returns how many parents the task, or the end, at a place has.
func (g *Graph) Joins(place int) int {
	if place == g.End() {
		return g.ends
	}
	return len(g.Tasks[place].Parents)
}

// Matches reports whether m selects an event that has m's key. The error is the filter's.
func (m *Match) Matches(e *NewEvent) (bool, error) {
	if m.Field != "" && e.ValueOf(m.Field) != m.Value {
		return false, nil
	}
	return m.Passes(e)
}

// Passes reports whether an event passes m's filter. The error is the filter's.
func (m *Match) Passes(e *NewEvent) (bool, error) { return passes(FilterCall{Expr: m.Filter}, e) }

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
