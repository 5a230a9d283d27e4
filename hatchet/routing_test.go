package hatchet_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/hatchet"
	"github.com/stint-dev/stint/hatchet/internal/wire"
)

// The tasks of a workflow that is sticky go to the worker that has its first task; hard, they wait for it.
func TestSticky(t *testing.T) {
	g := serve(t, hatchet.Options{})
	k := g.dial(g.token)
	first := k.workFlow(t, &wire.PutWorkflowRequest{Sticky: wire.Sticky_STICKY_HARD.Enum(),
		Tasks: []*wire.TaskDefinition{job("one", nil), job("two", nil, "one")}})
	run := k.trigger(t, "flow", "{}")
	a := first.startOf("one", run)
	second := k.workAs(t, &wire.RegisterRequest{WorkerName: "second", Actions: []string{"flow:one", "flow:two"},
		SlotConfig: map[string]int32{"default": 10}})
	g.pause(first, true)
	first.complete(a, "{}")
	other := k.trigger(t, "flow", "{}") // which the second worker begins, after the first run's task could have come
	b := second.startOf("one", other)
	second.complete(b, "{}")
	second.complete(second.startOf("two", other), "{}")
	if info := must[*stint.RunInfo](t)(g.c.GetRun(t.Context(), run)); info.Tasks[1].State != stint.StateQueued {
		t.Errorf("the second task is %v: want it to wait for its worker", info.Tasks[1].State)
	}
	g.pause(first, false)
	first.complete(first.startOf("two", run), "{}")
}

// A run that wants a worker goes to it.
func TestDesiredWorker(t *testing.T) {
	g := serve(t, hatchet.Options{})
	k := g.dial(g.token)
	k.define(t, "job")
	workers := []*fakeWorker{k.work(t, "job"), k.work(t, "job")}
	for at := uint64(0); len(must[[]stint.WorkerInfo](t)(g.c.ListWorkers(t.Context()))) < 2; { // one that does not claim yet is not waited for
		at = must[uint64](t)(g.c.Changed(t.Context(), at))
	}
	for i := range 6 {
		w := workers[i%2]
		run := must[*wire.TriggerWorkflowResponse](t)(k.TriggerWorkflow(t.Context(), &wire.TriggerWorkflowRequest{Name: "job",
			Input: "{}", DesiredWorkerId: &w.id})).WorkflowRunId
		if a := w.start(); a.WorkflowRunId != run {
			t.Fatalf("worker %d has run %s, want %s", i%2, a.WorkflowRunId, run)
		}
	}
}

// pause pauses a worker by REST, or ends that.
func (g *gateway) pause(w *fakeWorker, paused bool) {
	w.t.Helper()
	var got struct{ Status string }
	g.rest("PATCH", "/api/v1/workers/"+w.id, g.token, fmt.Sprintf(`{"isPaused":%t}`, paused), 200, &got)
	if want := map[bool]string{true: "PAUSED", false: "ACTIVE"}[paused]; got.Status != want {
		w.t.Errorf("the worker is %s, want %s", got.Status, want)
	}
}

// A worker that is paused keeps its runs and gets no new ones until that ends.
func TestPauseWorker(t *testing.T) {
	g := serve(t, hatchet.Options{})
	k := g.dial(g.token)
	k.define(t, "job")
	w := k.work(t, "job")
	k.trigger(t, "job", "{}")
	a := w.start()
	g.pause(w, true)
	waits := k.trigger(t, "job", "{}")
	other := k.work(t, "job")
	if b := other.start(); b.WorkflowRunId != waits {
		t.Errorf("the other worker has run %s, want %s", b.WorkflowRunId, waits)
	}
	g.pause(other, true)
	waits = k.trigger(t, "job", "{}")
	w.complete(a, `{"n":1}`)
	if r := k.result(t, a.WorkflowRunId).Results[0]; r.GetOutput() != `{"n":1}` {
		t.Errorf("the run that it had ended with %v", r)
	}
	if info := must[*stint.RunInfo](t)(g.c.GetRun(t.Context(), waits)); info.State != stint.StateQueued {
		t.Errorf("the run that waits is %v", info.State)
	}
	g.pause(w, false)
	if b := w.start(); b.WorkflowRunId != waits {
		t.Errorf("it has run %s, want %s", b.WorkflowRunId, waits)
	}
	g.rest("PATCH", "/api/v1/workers/"+noRun, g.token, `{"isPaused":true}`, 404, nil)
}

// Tasks of several runs of a workflow come as one batch, with the outputs of their parents.
func TestBatchInWorkflow(t *testing.T) {
	g := serve(t, hatchet.Options{})
	k := g.dial(g.token)
	many := job("many", nil, "first")
	many.Batch = &wire.BatchConfig{BatchMaxSize: 2, BatchMaxIntervalMs: proto.Int32(3_600_000)}
	w := k.workFlow(t, &wire.PutWorkflowRequest{Tasks: []*wire.TaskDefinition{job("first", nil), many, job("last", nil, "many")}})
	runs := []string{k.trigger(t, "flow", `{"n":1}`), k.trigger(t, "flow", `{"n":2}`)}
	for range runs {
		a := w.start()
		w.complete(a, fmt.Sprintf(`{"of":%q}`, a.WorkflowRunId))
	}
	b := w.next(wire.ActionType_ACTION_START_BATCH)
	var items map[string]struct {
		Payload sent
		Run     string `json:"workflow_run_id"`
	}
	if err := json.Unmarshal([]byte(b.ActionPayload), &items); err != nil || len(items) != 2 {
		t.Fatalf("%v: batch is %v", err, b)
	}
	for task, item := range items {
		if item.Payload.Parents["first"]["of"] != item.Run || task == item.Run {
			t.Errorf("member %s is %+v", task, item)
		}
		w.reportBatch(b, wire.StepEventType_STEP_EVENT_COMPLETED, task, fmt.Sprintf(`{"for":%q}`, item.Run))
	}
	for range runs {
		a := w.start()
		if p := payloadOf(t, a); a.TaskName != "last" || p.Parents["many"]["for"] != a.WorkflowRunId {
			t.Errorf("after the batch: %v", a)
		}
		w.complete(a, "{}")
	}
}

// A task is skipped, or canceled, if an event comes before what it waits for; what follows a task that is skipped, is too.
func TestSkipAndCancel(t *testing.T) {
	g := serve(t, hatchet.Options{})
	k := g.dial(g.token)
	on := func(action wire.ConditionAction, key string) *wire.TaskConditions {
		return &wire.TaskConditions{
			SleepConditions: []*wire.SleepCondition{{Base: &wire.BaseCondition{Action: wire.ConditionAction_CONDITION_QUEUE}, SleepFor: "1h"}},
			UserEventConditions: []*wire.EventCondition{{Base: &wire.BaseCondition{Action: action, Expression: "input.now"},
				UserEventKey: key}},
		}
	}
	k.workFlow(t, &wire.PutWorkflowRequest{Tasks: []*wire.TaskDefinition{job("skipped", on(wire.ConditionAction_CONDITION_SKIP, "skip")),
		job("canceled", on(wire.ConditionAction_CONDITION_CANCEL, "cancel")), job("after", nil, "skipped")}})
	run := k.trigger(t, "flow", "{}")
	for _, key := range []string{"skip", "cancel"} {
		for _, payload := range []string{`{"now":false}`, `{"now":true}`} {
			must[*wire.Event](t)(k.Push(t.Context(), &wire.PushEventRequest{Key: key, Payload: payload}))
		}
	}
	for _, r := range k.result(t, run).Results {
		switch r.TaskName {
		case "skipped", "after":
			if r.GetOutput() != `{"skipped":true}` {
				t.Errorf("skipped: %v", r)
			}
		case "canceled":
			if r.Error == nil {
				t.Errorf("canceled: %v", r)
			}
		}
	}
}

// Expressions that do not compile are refused where they are defined, with their field.
func TestExpressionsRefused(t *testing.T) {
	g := serve(t, hatchet.Options{})
	k := g.dial(g.token)
	with := func(change func(*wire.PutWorkflowRequest, *wire.TaskDefinition)) *wire.PutWorkflowRequest {
		d := &wire.TaskDefinition{ReadableId: "a", Action: "a:a"}
		r := &wire.PutWorkflowRequest{Name: "a", Tasks: []*wire.TaskDefinition{d, {ReadableId: "b", Action: "a:b", Parents: []string{"a"}}}}
		change(r, d)
		return r
	}
	condition := func(c *wire.TaskConditions) *wire.PutWorkflowRequest {
		return with(func(r *wire.PutWorkflowRequest, _ *wire.TaskDefinition) { r.Tasks[1].Conditions = c })
	}
	base := &wire.BaseCondition{Action: wire.ConditionAction_CONDITION_SKIP, Expression: "output."}
	for words, r := range map[string]*wire.PutWorkflowRequest{
		"idempotency: key": with(func(r *wire.PutWorkflowRequest, _ *wire.TaskDefinition) {
			r.Idempotency = &wire.Idempotency{Expression: "input.", TtlMs: 1000}
		}),
		"filter": with(func(r *wire.PutWorkflowRequest, _ *wire.TaskDefinition) {
			r.DefaultFilters = []*wire.DefaultFilter{{Scope: "s", Expression: "1"}}
		}),
		"rate_limits": with(func(_ *wire.PutWorkflowRequest, d *wire.TaskDefinition) {
			d.RateLimits = []*wire.TaskRateLimit{{Key: "k", KeyExpr: proto.String("input."), Units: proto.Int32(1)}}
		}),
		"parent: output": condition(&wire.TaskConditions{ParentOverrideConditions: []*wire.ParentCondition{{Base: base, ParentReadableId: "a"}}}),
		"event":          condition(&wire.TaskConditions{UserEventConditions: []*wire.EventCondition{{Base: base, UserEventKey: "e"}}}),
	} {
		_, err := k.PutWorkflow(t.Context(), r)
		wantCode(t, err, codes.InvalidArgument, words)
	}
}

// Runs, tasks, crons and others that do not exist are not found, and change nothing.
func TestUnknown(t *testing.T) {
	g := serve(t, hatchet.Options{})
	k := g.dial(g.token)
	tenant := g.tenant(k)
	for _, path := range []string{"GET /api/v1/stable/workflow-runs/", "GET /api/v1/stable/tasks/", "GET /api/v1/workers/", "GET /api/v1/workflows/",
		"DELETE /api/v1/workflows/", "GET /api/v1/tenants/" + tenant + "/workflows/crons/", "DELETE /api/v1/tenants/" + tenant + "/workflows/crons/",
		"GET /api/v1/stable/tenants/" + tenant + "/events/", "DELETE /api/v1/stable/tenants/" + tenant + "/filters/",
		"DELETE /api/v1/stable/tenants/" + tenant + "/webhooks/"} {
		var method, at string
		if _, err := fmt.Sscan(path, &method, &at); err != nil {
			t.Fatal(err)
		}
		g.rest(method, at+noRun, g.token, "", 404, nil)
	}
	g.rest("GET", "/api/v1/tenants/"+noRun+"/workflows", g.token, "", 403, nil)
	_, err := k.GetRunDetails(t.Context(), &wire.GetRunDetailsRequest{ExternalId: noRun})
	wantCode(t, err, codes.NotFound, "")
	_, err = k.RefreshTimeout(t.Context(), &wire.RefreshTimeoutRequest{TaskRunExternalId: noRun, IncrementTimeoutBy: "1s"})
	wantCode(t, err, codes.NotFound, "")
}
