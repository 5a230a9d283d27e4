package hatchet_test

import (
	"encoding/json"
	"maps"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/hatchet"
	"github.com/stint-dev/stint/hatchet/internal/wire"
)

// job is a task of workflow "flow".
func job(name string, conditions *wire.TaskConditions, parents ...string) *wire.TaskDefinition {
	return &wire.TaskDefinition{ReadableId: name, Action: "flow:" + name, Parents: parents, Conditions: conditions}
}

// workFlow puts the workflow, and opens a worker for its tasks.
func (k *sdk) workFlow(t testing.TB, r *wire.PutWorkflowRequest) *fakeWorker {
	t.Helper()
	r.Name = "flow"
	must[*wire.PutWorkflowResponse](t)(k.PutWorkflow(t.Context(), r))
	reg := &wire.RegisterRequest{WorkerName: "fake", SlotConfig: map[string]int32{"default": 10}}
	for _, d := range append(r.Tasks, r.OnFailureTask) {
		reg.Actions = append(reg.Actions, d.GetAction())
	}
	return k.workAs(t, reg)
}

type sent struct {
	Input    map[string]any            `json:"input"`
	Parents  map[string]map[string]any `json:"parents"`
	Triggers map[string]map[string]any `json:"triggers"`
	Errors   map[string]string         `json:"step_run_errors"`
}

func payloadOf(t testing.TB, a *wire.AssignedAction) (p sent) {
	t.Helper()
	if err := json.Unmarshal([]byte(a.ActionPayload), &p); err != nil {
		t.Fatal(err)
	}
	return p
}

// startOf returns the next action, which must be of the task.
func (w *fakeWorker) startOf(name, run string) *wire.AssignedAction {
	w.t.Helper()
	a := w.start()
	if a.TaskName != name || a.WorkflowRunId != run || a.TaskRunExternalId == run || a.ActionId != "flow:"+name {
		w.t.Fatalf("action is %v, want %s of %s", a, name, run)
	}
	w.started(a)
	return a
}

// A task of a workflow starts after its parents, and gets the outputs of all that came before it. One that is skipped has
// an output that says so.
func TestWorkflow(t *testing.T) {
	g := serve(t, hatchet.Options{})
	k := g.dial(g.token)
	w := k.workFlow(t, &wire.PutWorkflowRequest{Tasks: []*wire.TaskDefinition{
		job("last", nil, "middle", "other"),
		job("first", nil),
		job("middle", nil, "first"),
		job("other", &wire.TaskConditions{ParentOverrideConditions: []*wire.ParentCondition{{ParentReadableId: "first",
			Base: &wire.BaseCondition{Action: wire.ConditionAction_CONDITION_SKIP, Expression: "output.n > 1"}}}}, "first"),
	}})
	run := k.trigger(t, "flow", `{"x":1}`)
	a := w.startOf("first", run)
	if p := payloadOf(t, a); p.Input["x"] != 1.0 || len(p.Parents) != 0 {
		t.Errorf("payload of the first: %v", p)
	}
	w.complete(a, `{"n":2}`)
	b := w.startOf("middle", run)
	w.complete(b, `"text"`)
	c := w.startOf("last", run)
	p := payloadOf(t, c)
	if len(p.Parents) != 3 || p.Parents["first"]["n"] != 2.0 || p.Parents["middle"]["value"] != "text" || p.Parents["other"]["skipped"] != true {
		t.Errorf("parents of the last: %v", p.Parents)
	}
	w.complete(c, `{"end":true}`)
	outputs := map[string]string{}
	for _, r := range k.result(t, run).Results {
		outputs[r.TaskName] = r.GetOutput() + r.GetError()
	}
	if want := map[string]string{"first": `{"n":2}`, "middle": `"text"`, "other": `{"skipped":true}`, "last": `{"end":true}`}; !maps.Equal(outputs, want) {
		t.Errorf("results: %v", outputs)
	}
	d := must[*wire.GetRunDetailsResponse](t)(k.GetRunDetails(t.Context(), &wire.GetRunDetailsRequest{ExternalId: run}))
	if !d.Done || d.Status != wire.RunStatus_RUN_COMPLETED || len(d.TaskRuns) != 4 || string(d.TaskRuns["last"].Output) != `{"end":true}` {
		t.Errorf("details: %v", d)
	}
	var got struct {
		Run   struct{ Status string }
		Tasks []struct {
			DisplayName           string
			WorkflowRunExternalID string
		}
		Shape []struct {
			TaskName        string
			StepID          string
			ChildrenStepIDs []string
		}
	}
	g.rest("GET", "/api/v1/stable/workflow-runs/"+run, g.token, "", 200, &got)
	children := map[string]int{}
	for _, s := range got.Shape {
		children[s.TaskName] = len(s.ChildrenStepIDs)
	}
	if got.Run.Status != "COMPLETED" || len(got.Tasks) < 3 || got.Tasks[0].WorkflowRunExternalID != run ||
		!maps.Equal(children, map[string]int{"first": 2, "middle": 1, "other": 1, "last": 0}) {
		t.Errorf("REST: %+v", got)
	}
}

// A task starts when each of its or-groups has a member that is true, and is told which. One that stands alone but has
// conditions waits too.
func TestConditions(t *testing.T) {
	g := serve(t, hatchet.Options{})
	k := g.dial(g.token)
	base := func(key, group string) *wire.BaseCondition {
		return &wire.BaseCondition{Action: wire.ConditionAction_CONDITION_QUEUE, ReadableDataKey: key, OrGroupId: group}
	}
	accepted := base("answer", "a")
	accepted.Expression = "input.ok"
	w := k.workFlow(t, &wire.PutWorkflowRequest{Tasks: []*wire.TaskDefinition{job("wait", &wire.TaskConditions{
		SleepConditions:     []*wire.SleepCondition{{Base: base("late", "a"), SleepFor: "1h"}, {Base: base("soon", ""), SleepFor: "1ms"}},
		UserEventConditions: []*wire.EventCondition{{Base: accepted, UserEventKey: "answered"}},
	})}})
	push := func(payload string) {
		must[*wire.Event](t)(k.Push(t.Context(), &wire.PushEventRequest{Key: "answered", Payload: payload}))
	}
	push(`{"ok":true,"by":"nobody"}`) // the run does not exist yet
	run := k.trigger(t, "flow", "{}")
	if info := must[*stint.RunInfo](t)(g.c.GetRun(t.Context(), run)); info.Tasks[0].State != stint.StateWaiting {
		t.Fatalf("the task is %v", info.Tasks[0].State)
	}
	push(`{"ok":false}`)
	push(`{"ok":true,"by":"Ann"}`)
	a := w.startOf("wait", run)
	p := payloadOf(t, a)
	if len(p.Triggers) != 3 || p.Triggers["answer"]["by"] != "Ann" || p.Triggers["soon"] == nil {
		t.Errorf("triggers: %s", a.ActionPayload)
	}
	w.complete(a, "{}")
}

// The on-failure task gets the errors of the tasks that failed. It is one of the tasks, by the name that the SDK gave it; it
// is skipped if none failed.
func TestOnFailure(t *testing.T) {
	g := serve(t, hatchet.Options{})
	k := g.dial(g.token)
	w := k.workFlow(t, &wire.PutWorkflowRequest{Tasks: []*wire.TaskDefinition{job("one", nil), job("two", nil, "one")},
		OnFailureTask: job("cleanup", nil)})
	run := k.trigger(t, "flow", "{}")
	w.report(w.startOf("one", run), wire.StepEventType_STEP_EVENT_FAILED, "broken")
	a := w.startOf("cleanup", run)
	if p := payloadOf(t, a); len(p.Errors) != 1 || p.Errors["one"] != "broken" {
		t.Errorf("payload is %s", a.ActionPayload)
	}
	w.complete(a, `{"clean":true}`)
	results := map[string]string{}
	for _, r := range k.result(t, run).Results {
		results[r.TaskName] = r.GetOutput()
		if r.Error != nil && (*r.Error == "") != (r.TaskName == "two") { // which was canceled
			t.Errorf("the error of %s is %q", r.TaskName, *r.Error)
		}
	}
	if !maps.Equal(results, map[string]string{"one": "", "two": "", "cleanup": `{"clean":true}`}) {
		t.Errorf("results: %v", results)
	}
	run = k.trigger(t, "flow", "{}")
	w.complete(w.startOf("one", run), "{}")
	w.complete(w.startOf("two", run), "{}")
	for _, r := range k.result(t, run).Results {
		if r.TaskName == "cleanup" && r.GetOutput() != `{"skipped":true}` {
			t.Errorf("it is not skipped: %v", r)
		}
	}
}

// The on-failure task has limits, labels and a schedule timeout, as SDKs can give it.
func TestOnFailureOptions(t *testing.T) {
	g := serve(t, hatchet.Options{})
	k := g.dial(g.token)
	required := true
	cleanup := job("cleanup", nil)
	cleanup.WorkerLabels = map[string]*wire.DesiredLabel{"zone": {StrValue: text("eu"), Required: &required}}
	cleanup.Concurrency = []*wire.Concurrency{{Expression: `"one"`, MaxRuns: proto.Int32(1), LimitStrategy: wire.LimitStrategy_LIMIT_GROUP_ROUND_ROBIN.Enum()}}
	w := k.workFlow(t, &wire.PutWorkflowRequest{Tasks: []*wire.TaskDefinition{job("one", nil)}, OnFailureTask: cleanup})
	fail := func() string {
		run := k.trigger(t, "flow", "{}")
		w.report(w.startOf("one", run), wire.StepEventType_STEP_EVENT_FAILED, "broken")
		return run
	}
	first, second := fail(), fail()
	eu := k.workAs(t, &wire.RegisterRequest{WorkerName: "eu", SlotConfig: map[string]int32{"default": 10}, Actions: []string{"flow:cleanup"},
		Labels: map[string]*wire.LabelValue{"zone": {StrValue: text("eu")}}})
	a := eu.startOf("cleanup", first)
	all := must[[]stint.ConcurrencyInfo](t)(g.c.ListConcurrency(t.Context()))
	if len(all) != 1 || all[0].Active != 1 || all[0].Waiting != 1 {
		t.Errorf("limits are %+v", all)
	}
	eu.complete(a, "{}")
	eu.complete(eu.startOf("cleanup", second), "{}")

	cleanup.Concurrency, cleanup.ScheduleTimeout = nil, text("1s")
	cleanup.WorkerLabels["zone"].StrValue = text("us")
	cleanup.RateLimits = []*wire.TaskRateLimit{{KeyExpr: text(`"api"`), Units: proto.Int32(1), LimitValuesExpr: text("10")}}
	must[*wire.PutWorkflowResponse](t)(k.PutWorkflow(t.Context(), &wire.PutWorkflowRequest{Name: "flow",
		Tasks: []*wire.TaskDefinition{job("one", nil)}, OnFailureTask: cleanup}))
	for _, r := range k.result(t, fail()).Results {
		if r.TaskName == "cleanup" && r.Error == nil {
			t.Errorf("no worker has its label: %v", r)
		}
	}
}

// For SDKs a run goes on until its on-failure task has ended: its status says so, its result waits, and a cancel of it cancels
// that task.
func TestRunEndsAfterOnFailure(t *testing.T) {
	g := serve(t, hatchet.Options{})
	k := g.dial(g.token)
	w := k.workFlow(t, &wire.PutWorkflowRequest{Tasks: []*wire.TaskDefinition{job("one", nil), job("two", nil, "one")},
		OnFailureTask: job("cleanup", nil)})
	fail := func() (run string, cleanup *wire.AssignedAction) {
		run = k.trigger(t, "flow", "{}")
		w.report(w.startOf("one", run), wire.StepEventType_STEP_EVENT_FAILED, "broken")
		cleanup = w.startOf("cleanup", run)
		if _, err := stint.RunByID[json.RawMessage](g.c, run).Wait(t.Context()); err == nil {
			t.Fatal("the run has not failed")
		}
		return run, cleanup
	}
	state := func(run string) (text string, done bool) {
		g.rest("GET", "/api/v1/stable/workflow-runs/"+run+"/status", g.token, "", 200, &text)
		d := must[*wire.GetRunDetailsResponse](t)(k.GetRunDetails(t.Context(), &wire.GetRunDetailsRequest{ExternalId: run}))
		return text, d.Done
	}
	run, cleanup := fail()
	if text, done := state(run); text != "RUNNING" || done {
		t.Errorf("while its on-failure task executes, the run is %s, done: %v", text, done)
	}
	var got struct{ Run map[string]any }
	g.rest("GET", "/api/v1/stable/workflow-runs/"+run, g.token, "", 200, &got)
	if at, ok := got.Run["finishedAt"]; ok || got.Run["status"] != "RUNNING" {
		t.Errorf("it is %v, and finished at %v", got.Run["status"], at)
	}
	stream, err := k.SubscribeToWorkflowRuns(t.Context())
	if err == nil {
		err = stream.Send(&wire.SubscribeToWorkflowRunsRequest{WorkflowRunId: run})
	}
	if err != nil {
		t.Fatal(err)
	}
	w.complete(cleanup, `{"clean":true}`)
	for _, r := range must[*wire.WorkflowRunEvent](t)(stream.Recv()).Results {
		if r.TaskName == "cleanup" && r.GetOutput() != `{"clean":true}` {
			t.Errorf("the result came before the on-failure task had ended: %v", r)
		}
	}
	if text, done := state(run); text != "FAILED" || !done {
		t.Errorf("then it is %s, done: %v", text, done)
	}
	run, cleanup = fail()
	must[*wire.TasksResponse](t)(k.CancelTasks(t.Context(), &wire.TasksRequest{ExternalIds: []string{run}}))
	if a := w.next(wire.ActionType_ACTION_CANCEL_TASK); a.TaskRunExternalId != cleanup.TaskRunExternalId {
		t.Errorf("canceled %v", a)
	}
	w.report(cleanup, wire.StepEventType_STEP_EVENT_CANCELLED, "")
	k.result(t, run)
	if text, done := state(run); text != "FAILED" || !done {
		t.Errorf("after the cancel it is %s, done: %v", text, done)
	}
}

// A workflow that cannot be served as it says is refused, with the name of what is wrong.
func TestWorkflowErrors(t *testing.T) {
	g := serve(t, hatchet.Options{})
	k := g.dial(g.token)
	queue := &wire.BaseCondition{Action: wire.ConditionAction_CONDITION_QUEUE}
	for words, x := range map[string]struct {
		r    *wire.PutWorkflowRequest
		code codes.Code
	}{
		`"nobody"`: {&wire.PutWorkflowRequest{Tasks: []*wire.TaskDefinition{job("one", nil, "nobody")}}, codes.InvalidArgument},
		"cycle":    {&wire.PutWorkflowRequest{Tasks: []*wire.TaskDefinition{job("one", nil, "two"), job("two", nil, "one")}}, codes.InvalidArgument},
		"sleep_for": {&wire.PutWorkflowRequest{Tasks: []*wire.TaskDefinition{job("one", &wire.TaskConditions{SleepConditions: []*wire.SleepCondition{
			{Base: queue, SleepFor: "soon"}}})}}, codes.InvalidArgument},
		"CREATE": {&wire.PutWorkflowRequest{Tasks: []*wire.TaskDefinition{job("one", &wire.TaskConditions{SleepConditions: []*wire.SleepCondition{
			{SleepFor: "1s"}}})}}, codes.InvalidArgument},
		"on_failure_task": {&wire.PutWorkflowRequest{Tasks: []*wire.TaskDefinition{job("one", nil)}, OnFailureTask: job("cleanup", nil, "one")},
			codes.InvalidArgument},
	} {
		x.r.Name = "flow"
		_, err := k.PutWorkflow(t.Context(), x.r)
		wantCode(t, err, x.code, words)
	}
}

// A task that stands alone may become a workflow of several. Runs of before go on as they began.
func TestTaskBecomesWorkflow(t *testing.T) {
	g := serve(t, hatchet.Options{})
	k := g.dial(g.token)
	k.define(t, "flow")
	before := k.trigger(t, "flow", "{}")
	must[*wire.PutWorkflowResponse](t)(k.PutWorkflow(t.Context(), &wire.PutWorkflowRequest{Name: "flow",
		Tasks: []*wire.TaskDefinition{job("one", nil), job("two", nil, "one")}}))
	w := k.workAs(t, &wire.RegisterRequest{WorkerName: "fake", SlotConfig: map[string]int32{"default": 10},
		Actions: []string{"flow:flow", "flow:one", "flow:two"}})
	a := w.start()
	if a.TaskRunExternalId != before || a.WorkflowRunId != before {
		t.Errorf("action is %v, want that of the run of before", a)
	}
	w.complete(a, "{}")
	run := k.trigger(t, "flow", "{}")
	w.complete(w.startOf("one", run), "{}")
	w.complete(w.startOf("two", run), "{}")
	if e := k.result(t, run); len(e.Results) != 2 {
		t.Errorf("results: %v", e)
	}
	var d struct {
		Run   struct{ WorkflowID string }
		Shape []any
	}
	if g.rest("GET", "/api/v1/stable/workflow-runs/"+run, g.token, "", 200, &d); len(d.Shape) != 2 {
		t.Errorf("REST: %+v", d)
	}
}

// A condition's event has the scope that it asks for; with a time, it may be older than the run.
func TestConditionScope(t *testing.T) {
	g := serve(t, hatchet.Options{})
	k := g.dial(g.token)
	queue := func(key string) *wire.BaseCondition {
		return &wire.BaseCondition{Action: wire.ConditionAction_CONDITION_QUEUE, ReadableDataKey: key}
	}
	push := func(key, payload, scope string) {
		t.Helper()
		must[*wire.Event](t)(k.Push(t.Context(), &wire.PushEventRequest{Key: key, Payload: payload, Scope: &scope}))
	}
	since := timestamppb.New(time.Now().Add(-time.Minute))
	push("before", `{"n":1}`, "bob")
	push("before", `{"n":2}`, "ann")
	w := k.workFlow(t, &wire.PutWorkflowRequest{Tasks: []*wire.TaskDefinition{job("wait", &wire.TaskConditions{
		UserEventConditions: []*wire.EventCondition{
			{Base: queue("had"), UserEventKey: "before", EventScope: proto.String("ann"), ConsiderEventsSince: since},
			{Base: queue("got"), UserEventKey: "after", EventScope: proto.String("ann")},
		}})}})
	run := k.trigger(t, "flow", "{}")
	push("after", `{"n":3}`, "bob")
	if info := must[*stint.RunInfo](t)(g.c.GetRun(t.Context(), run)); info.Tasks[0].State != stint.StateWaiting {
		t.Fatalf("the task is %v", info.Tasks[0].State)
	}
	push("after", `{"n":4}`, "ann")
	a := w.startOf("wait", run)
	if p := payloadOf(t, a); p.Triggers["had"]["n"] != 2.0 || p.Triggers["got"]["n"] != 4.0 {
		t.Errorf("triggers: %s", a.ActionPayload)
	}
	w.complete(a, "{}")
}
