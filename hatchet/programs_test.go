package hatchet_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/hatchet"
	"github.com/stint-dev/stint/hatchet/internal/wire"
)

// These are what programs rely on that neither the protocol's description nor the Go SDK's tests say.

func (k *sdk) details(t testing.TB, run string) *wire.GetRunDetailsResponse {
	t.Helper()
	return must[*wire.GetRunDetailsResponse](t)(k.GetRunDetails(t.Context(), &wire.GetRunDetailsRequest{ExternalId: run}))
}

// A task that a condition cancels, and one that follows it, have an error that is empty: SDKs take another for a failure.
func TestCanceledByCondition(t *testing.T) {
	g := serve(t, hatchet.Options{})
	k := g.dial(g.token)
	w := k.workFlow(t, &wire.PutWorkflowRequest{Tasks: []*wire.TaskDefinition{job("first", nil),
		job("stopped", &wire.TaskConditions{ParentOverrideConditions: []*wire.ParentCondition{{ParentReadableId: "first",
			Base: &wire.BaseCondition{Action: wire.ConditionAction_CONDITION_CANCEL, Expression: "output.n > 1"}}}}, "first"),
		job("last", nil, "stopped")}})
	run := k.trigger(t, "flow", "{}")
	a := w.startOf("first", run)
	if d := k.details(t, run); len(d.TaskRuns) != 1 { // the others wait
		t.Errorf("details: %v", d)
	}
	w.complete(a, `{"n":2}`)
	for _, r := range k.result(t, run).Results {
		if r.TaskName != "first" && (r.Error == nil || r.GetError() != "") {
			t.Errorf("result: %v", r)
		}
	}
	d := k.details(t, run)
	if r := d.TaskRuns["stopped"]; d.Status != wire.RunStatus_RUN_CANCELLED || r.GetStatus() != wire.RunStatus_RUN_CANCELLED || r.Error != nil {
		t.Errorf("details at the end: %v", d)
	}
}

// A replay of a workflow's run runs all its tasks again, also those that succeeded.
func TestReplayWorkflow(t *testing.T) {
	g := serve(t, hatchet.Options{})
	k := g.dial(g.token)
	w := k.workFlow(t, &wire.PutWorkflowRequest{Tasks: []*wire.TaskDefinition{job("first", nil), job("last", nil, "first")}})
	run := k.trigger(t, "flow", "{}")
	w.complete(w.startOf("first", run), "{}")
	w.report(w.startOf("last", run), wire.StepEventType_STEP_EVENT_FAILED, "oh")
	k.result(t, run)
	must[*wire.TasksResponse](t)(k.ReplayTasks(t.Context(), &wire.TasksRequest{ExternalIds: []string{run}}))
	a := w.startOf("first", run)
	if a.RetryCount != 1 {
		t.Errorf("retry count %d", a.RetryCount)
	}
	w.complete(a, "{}")
	w.complete(w.startOf("last", run), "{}")
	if d := k.details(t, run); d.Status != wire.RunStatus_RUN_COMPLETED {
		t.Errorf("details: %v", d)
	}
}

// A run that is canceled and replayed at once runs again.
func TestReplayAfterCancel(t *testing.T) {
	g := serve(t, hatchet.Options{})
	k := g.dial(g.token)
	d := k.workDurable(t, "long")
	run := k.trigger(t, "long", "{}")
	d.a = d.start()
	d.waitFor("1h", "")
	must[*wire.TasksResponse](t)(k.CancelTasks(t.Context(), &wire.TasksRequest{ExternalIds: []string{run}}))
	if got := must[*wire.TasksResponse](t)(k.ReplayTasks(t.Context(), &wire.TasksRequest{ExternalIds: []string{run}})); len(got.ExternalIds) != 1 {
		t.Fatalf("replayed %v", got)
	}
	d.next(wire.ActionType_ACTION_CANCEL_TASK)
	d.a = d.start()
	d.complete(d.a, `{"again":true}`)
	if got := k.result(t, run).Results[0].GetOutput(); got != `{"again":true}` {
		t.Errorf("output is %s", got)
	}
}

// The timeout of a durable task counts its waits, and ends it also when the SDK has unloaded it.
func TestDurableTimeout(t *testing.T) {
	g := serve(t, hatchet.Options{})
	k := g.dial(g.token)
	d := k.workDurable(t, "long")
	must[*wire.PutWorkflowResponse](t)(k.PutWorkflow(t.Context(), &wire.PutWorkflowRequest{Name: "long", Tasks: []*wire.TaskDefinition{
		{ReadableId: "long", Action: "long:long", IsDurable: true, Timeout: "1s", SlotRequests: map[string]int32{"durable": 1}}}}))
	run := k.trigger(t, "long", "{}")
	d.a = d.start()
	d.waitFor("1h", "")
	d.evict()
	if got := k.result(t, run).Results[0].GetError(); got != "Task exceeded timeout of 1s" {
		t.Errorf("error is %q", got)
	}
	if next := k.trigger(t, "long", "{}"); d.start().TaskRunExternalId != next {
		t.Error("the worker was given the run again, whose time was over")
	}
}

// A durable task that asks for another child under the index of a former one is told so, and gets none.
func TestChildOfAnotherName(t *testing.T) {
	g := serve(t, hatchet.Options{})
	k := g.dial(g.token)
	k.define(t, "one", "two")
	d := k.workDurable(t, "parent")
	run := k.trigger(t, "parent", "{}")
	d.a = d.start()
	child := func(name string) *wire.DurableResponse {
		return d.ask(&wire.DurableRequest{Message: &wire.DurableRequest_TriggerRuns{TriggerRuns: &wire.DurableTriggerRuns{
			InvocationCount: d.invocation(), DurableTaskExternalId: run, TriggerOpts: []*wire.TriggerWorkflowRequest{
				{Name: name, Input: "{}", ParentId: &run, ParentTaskRunExternalId: &run, ChildIndex: proto.Int32(0)}}}}})
	}
	first := child("one").GetTriggerRunsAck().GetRunEntries()
	if same := child("one").GetTriggerRunsAck().GetRunEntries(); len(same) != 1 || same[0].WorkflowRunExternalId != first[0].WorkflowRunExternalId {
		t.Errorf("the same child again: %v", same)
	}
	if e := child("two").GetError(); e.GetErrorType() != wire.DurableErrorType_DURABLE_ERROR_NONDETERMINISM || e.GetRef().GetNodeId() != 3 {
		t.Errorf("another child: %v", e)
	}
	if page := must[*stint.RunPage](t)(g.c.ListRuns(t.Context(), stint.RunFilter{ParentID: run})); len(page.Runs) != 1 {
		t.Errorf("%d children", len(page.Runs))
	}
}

// An idempotency key that is in use is an error also if the request has a child's index and no parent. SDKs know it by
// its text.
func TestCollisionText(t *testing.T) {
	g := serve(t, hatchet.Options{})
	k := g.dial(g.token)
	must[*wire.PutWorkflowResponse](t)(k.PutWorkflow(t.Context(), &wire.PutWorkflowRequest{Name: "job", Tasks: []*wire.TaskDefinition{
		{ReadableId: "job", Action: "job:job"}}, Idempotency: &wire.Idempotency{Expression: "input.id", TtlMs: 60_000}}))
	r := &wire.TriggerWorkflowRequest{Name: "job", Input: `{"id":"a"}`, ChildIndex: proto.Int32(0)}
	must[*wire.TriggerWorkflowResponse](t)(k.TriggerWorkflow(t.Context(), r))
	_, err := k.TriggerWorkflow(t.Context(), r)
	if status.Code(err) != codes.AlreadyExists || status.Convert(err).Message() != "idempotency key collision" {
		t.Errorf("error is %v", err)
	}
}

// A cron starts a run when REST says so.
func TestTriggerCron(t *testing.T) {
	g := serve(t, hatchet.Options{})
	k := g.dial(g.token)
	must[*wire.PutWorkflowResponse](t)(k.PutWorkflow(t.Context(), &wire.PutWorkflowRequest{Name: "job", CronTriggers: []string{"0 0 1 1 *"},
		CronInput: proto.String(`{"name":"x"}`), Tasks: []*wire.TaskDefinition{{ReadableId: "job", Action: "job:job"}}}))
	path := "/api/v1/tenants/" + g.tenant(k) + "/workflows/crons"
	var list struct {
		Rows []struct{ Metadata struct{ ID string } }
	}
	g.rest("GET", path, g.token, "", 200, &list)
	var run struct{ ExternalID string }
	g.rest("POST", path+"/"+list.Rows[0].Metadata.ID, g.token, "", 200, &run)
	w := k.work(t, "job")
	if a := w.start(); a.TaskRunExternalId != run.ExternalID || payloadOf(t, a).Input["name"] != "x" {
		t.Errorf("started %v", a)
	}
	g.rest("POST", path+"/"+run.ExternalID, g.token, "", 404, nil)
	g.rest("POST", strings.Replace(path, "crons", "job", 1)+"/more", g.token, "", 501, nil)
}

// The rows of REST: tasks by their workflow, a workflow's run with its tasks, what an attempt that is retried went
// through, and which event it was.
func TestRunRows(t *testing.T) {
	g := serve(t, hatchet.Options{})
	k := g.dial(g.token)
	first := job("first", nil)
	first.Retries = 1
	w := k.workFlow(t, &wire.PutWorkflowRequest{EventTriggers: []string{"go"}, Tasks: []*wire.TaskDefinition{first}, OnFailureTask: job("fail", nil)})
	e := must[*wire.Event](t)(k.Push(t.Context(), &wire.PushEventRequest{Key: "go", Payload: "{}"}))
	w.report(w.start(), wire.StepEventType_STEP_EVENT_FAILED, "oh")
	w.complete(w.start(), `{"n":1}`)
	type row struct {
		DisplayName, Type  string
		AdditionalMetadata map[string]string
		Output             map[string]int
		Children           []row
	}
	var list struct{ Rows []row }
	runs := "/api/v1/stable/tenants/" + g.tenant(k) + "/workflow-runs?since=2020-01-01T00:00:00Z&workflow_ids=" + g.workflowID(k, "flow")
	g.rest("GET", runs+"&only_tasks=false&triggering_event_external_id="+e.EventId, g.token, "", 200, &list)
	if len(list.Rows) != 1 || list.Rows[0].AdditionalMetadata["hatchet__event_id"] != e.EventId || len(list.Rows[0].Children) != 1 ||
		list.Rows[0].Children[0].Output["n"] != 1 {
		t.Errorf("workflows: %+v", list)
	}
	g.rest("GET", runs+"&only_tasks=false&additional_metadata=hatchet__event_id:"+e.EventId, g.token, "", 200, &list)
	if len(list.Rows) != 1 {
		t.Errorf("runs of the event: %+v", list)
	}
	g.rest("GET", runs+"&only_tasks=true", g.token, "", 200, &list)
	if len(list.Rows) != 1 || !strings.HasPrefix(list.Rows[0].DisplayName, "first-") || list.Rows[0].Output["n"] != 1 {
		t.Errorf("tasks: %+v", list)
	}
	page := must[*stint.RunPage](t)(g.c.ListRuns(t.Context(), stint.RunFilter{Tasks: []string{"flow"}}))
	var got struct{ TaskEvents []struct{ EventType string } }
	g.rest("GET", "/api/v1/stable/workflow-runs/"+page.Runs[0].ID, g.token, "", 200, &got)
	counts := map[string]int{}
	for _, e := range got.TaskEvents {
		counts[e.EventType]++
	}
	if want := map[string]int{"QUEUED": 1, "STARTED": 2, "FAILED": 1, "RETRYING": 1, "FINISHED": 1}; !maps.Equal(counts, want) {
		t.Errorf("events: %v, want %v", counts, slices.Sorted(maps.Keys(want)))
	}
}

// Runs are listed by one of several metadata, or all of them, and by the key that they have.
func TestRunFilters(t *testing.T) {
	g := serve(t, hatchet.Options{})
	k := g.dial(g.token)
	must[*wire.PutWorkflowResponse](t)(k.PutWorkflow(t.Context(), &wire.PutWorkflowRequest{Name: "job",
		Idempotency: &wire.Idempotency{Expression: "input.key", TtlMs: 60_000}, Tasks: []*wire.TaskDefinition{{ReadableId: "job", Action: "job:job"}}}))
	for i, meta := range []string{`{"a":"1","b":"1"}`, `{"a":"1","b":"2"}`, `{"a":"2","b":"2"}`} {
		must[*wire.TriggerWorkflowResponse](t)(k.TriggerWorkflow(t.Context(), &wire.TriggerWorkflowRequest{Name: "job",
			Input: `{"key":"k` + string(rune('0'+i)) + `"}`, AdditionalMetadata: &meta}))
	}
	runs := "/api/v1/stable/tenants/" + g.tenant(k) + "/workflow-runs?since=2020-01-01T00:00:00Z&only_tasks=false"
	for query, want := range map[string]int{"": 3, "&additional_metadata=a:1": 2, "&additional_metadata=a:1&additional_metadata=b:2": 3,
		"&additional_metadata=a:1&additional_metadata=b:2&additional_metadata_operator=AND": 1, "&idempotency_keys=k1&idempotency_keys=k2": 2,
		"&idempotency_keys=none": 0, "&running_filter=EVICTED": 3} {
		var list struct{ Rows []any }
		if g.rest("GET", runs+query, g.token, "", 200, &list); len(list.Rows) != want {
			t.Errorf("%s: %d runs, want %d", query, len(list.Rows), want)
		}
	}
	g.rest("GET", runs+"&additional_metadata_operator=XOR", g.token, "", 400, nil)
}
