package hatchet_test

import (
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/hatchet"
	"github.com/stint-dev/stint/hatchet/internal/wire"
)

const noRun = "00000000-0000-4000-8000-000000000000"

// A task of a worker runs, and whoever waits gets its result. When the report was answered, it is stored.
func TestRunOnWorker(t *testing.T) {
	g := serve(t, hatchet.Options{})
	k := g.dial(g.token)
	k.define(t, "Greet")
	w := k.work(t, "greet") // actions are compared in lower case
	run := k.trigger(t, "Greet", `{"name":"Ann"}`)
	a := w.start()
	wantStatus := func(want string) {
		t.Helper()
		var status string
		g.rest("GET", "/api/v1/stable/workflow-runs/"+run+"/status", g.token, "", 200, &status)
		if details := must[*wire.GetRunDetailsResponse](t)(k.GetRunDetails(t.Context(), &wire.GetRunDetailsRequest{ExternalId: run})); status != want ||
			details.TaskRuns["Greet"].Status.String() != "RUN_"+want {
			t.Errorf("status is %s, in details %v: want %s", status, details.TaskRuns, want)
		}
	}
	wantStatus("QUEUED") // until the worker says that it has begun
	if a.TaskRunExternalId != run || a.WorkflowRunId != run || a.ActionId != "greet:greet" || a.TaskName != "Greet" || a.RetryCount != 0 ||
		a.ActionPayload != `{"input":{"name":"Ann"},"triggered_by":"manual","parents":{},"triggers":{"filter_payload":null},"user_data":null,"overrides":null}` {
		t.Errorf("action is %v", a)
	}
	w.started(a)
	wantStatus("RUNNING")
	w.complete(a, `{"text":"hello"}`)
	info := must[*stint.RunInfo](t)(g.c.GetRun(t.Context(), run))
	if info.State != stint.StateSucceeded || string(info.Output) != `{"text":"hello"}` {
		t.Errorf("run is %v with output %s when the report was answered", info.State, info.Output)
	}
	e := k.result(t, run)
	if len(e.Results) != 1 || e.Results[0].GetOutput() != `{"text":"hello"}` || e.Results[0].Error != nil || e.Results[0].TaskName != "Greet" {
		t.Errorf("result is %v", e)
	}
	wantStatus("COMPLETED")
}

// The runs of a worker whose connection is lost go to another, without an attempt; its late report changes nothing.
func TestLostWorker(t *testing.T) {
	g := serve(t, hatchet.Options{WorkerGrace: 10 * time.Millisecond})
	k := g.dial(g.token)
	k.define(t, "job")
	first := k.work(t, "job")
	run := k.trigger(t, "job", "{}")
	a := first.start()
	first.started(a)
	second := k.work(t, "job")
	first.cut()
	b := second.start()
	if b.TaskRunExternalId != run || b.RetryCount != 1 {
		t.Fatalf("the other worker got %v", b)
	}
	first.complete(a, `{"by":"first"}`)
	second.complete(b, `{"by":"second"}`)
	info := must[*stint.RunInfo](t)(g.c.GetRun(t.Context(), run))
	if string(info.Output) != `{"by":"second"}` || info.Attempt != 1 {
		t.Errorf("output is %s of attempt %d", info.Output, info.Attempt)
	}
}

// A worker whose stream breaks and comes back goes on with the runs that it has begun. One that may not have reached it
// is sent again.
func TestReconnect(t *testing.T) {
	g := serve(t, hatchet.Options{WorkerGrace: time.Hour})
	k := g.dial(g.token)
	k.define(t, "job")
	w := k.work(t, "job")
	begun, unheard := k.trigger(t, "job", "{}"), ""
	a := w.start()
	w.started(a)
	unheard = k.trigger(t, "job", "{}")
	w.start()
	w.cut()
	w.listen()
	b := w.start()
	if b.TaskRunExternalId != unheard || b.RetryCount != 1 {
		t.Errorf("%v was sent again", b)
	}
	w.complete(a, `1`)
	w.complete(b, `2`)
	for run, output := range map[string]string{begun: "1", unheard: "2"} {
		if got := k.result(t, run).Results[0].GetOutput(); got != output {
			t.Errorf("output is %s, want %s", got, output)
		}
	}
}

// After a restart of the server a worker goes on with its ID.
func TestRestart(t *testing.T) {
	open := openDB(t)
	g := serveOn(t, open(), "127.0.0.1:0", hatchet.Options{})
	k := g.dial(g.token)
	k.define(t, "job")
	w := k.work(t, "job")
	run := k.trigger(t, "job", "{}")
	a := w.start()
	w.started(a)
	g.stop()
	g = serveOn(t, open(), g.address, hatchet.Options{})
	w.k = g.dial(g.token)
	w.listen()
	b := w.start()
	if b.TaskRunExternalId != run || b.RetryCount != 1 {
		t.Errorf("%v was sent again", b)
	}
	w.complete(a, `"late"`)
	w.complete(b, `"new"`)
	if got := w.k.result(t, run).Results[0].GetOutput(); got != `"new"` {
		t.Errorf("output is %s", got)
	}
}

// The events of a run say that an attempt has failed, and that another follows.
func TestEventsOfRun(t *testing.T) {
	g := serve(t, hatchet.Options{})
	k := g.dial(g.token)
	must[*wire.PutWorkflowResponse](t)(k.PutWorkflow(t.Context(), &wire.PutWorkflowRequest{Name: "job", Tasks: []*wire.TaskDefinition{
		{ReadableId: "job", Action: "job:job", Retries: 1}}}))
	w := k.work(t, "job")
	run := k.trigger(t, "job", "{}")
	for range 2 {
		w.report(w.start(), wire.StepEventType_STEP_EVENT_FAILED, "broken")
	}
	var details struct {
		TaskEvents []struct{ EventType, ErrorMessage string }
	}
	g.rest("GET", "/api/v1/stable/workflow-runs/"+run, g.token, "", 200, &details)
	got := ""
	for _, e := range details.TaskEvents {
		got += e.EventType + " " + e.ErrorMessage + ";"
	}
	if got != "QUEUED ;STARTED ;FAILED broken;RETRYING ;STARTED ;FAILED broken;" {
		t.Errorf("events: %s", got)
	}
}

// A run that its worker cancels, alone or in a batch, is canceled.
func TestWorkerCancels(t *testing.T) {
	g := serve(t, hatchet.Options{})
	k := g.dial(g.token)
	k.define(t, "job")
	k.defineBatch(t, "many", &wire.BatchConfig{BatchMaxSize: 1})
	w := k.work(t, "job", "many")
	alone := k.trigger(t, "job", "{}")
	w.report(w.start(), wire.StepEventType_STEP_EVENT_CANCELLED, "")
	w.next(wire.ActionType_ACTION_CANCEL_TASK)
	member := k.trigger(t, "many", "{}")
	w.reportBatch(w.next(wire.ActionType_ACTION_START_BATCH), wire.StepEventType_STEP_EVENT_CANCELLED, member, "")
	for _, run := range []string{alone, member} {
		if info := must[*stint.RunInfo](t)(g.c.GetRun(t.Context(), run)); info.State != stint.StateCanceled {
			t.Errorf("run is %v when the report was answered", info.State)
		}
		if r := k.result(t, run).Results[0]; r.Error == nil || *r.Error != "" || r.Output != nil {
			t.Errorf("result is %v", r)
		}
	}
}

// A cancel reaches the worker, and ends the run at once. The error that it ends with is there, and empty.
func TestCancel(t *testing.T) {
	g := serve(t, hatchet.Options{})
	k := g.dial(g.token)
	k.define(t, "job")
	w := k.work(t, "job")
	run := k.trigger(t, "job", "{}")
	a := w.start()
	w.started(a)
	if err := stint.RunByID[any](g.c, run).Cancel(t.Context()); err != nil {
		t.Fatal(err)
	}
	if b := w.next(wire.ActionType_ACTION_CANCEL_TASK); b.TaskRunExternalId != run {
		t.Errorf("cancel of %v", b)
	}
	e := k.result(t, run)
	if len(e.Results) != 1 || e.Results[0].Error == nil || e.Results[0].GetError() != "" || e.Results[0].Output != nil {
		t.Errorf("result is %v", e)
	}
	w.complete(a, `"late"`)
}

// The codes by which SDKs decide what to do.
func TestWorkerCodes(t *testing.T) {
	g := serve(t, hatchet.Options{MaxWorkers: 2})
	k := g.dial(g.token)
	_, err := k.Heartbeat(t.Context(), &wire.HeartbeatRequest{WorkerId: noRun})
	wantCode(t, err, codes.NotFound, "register again")
	r := must[*wire.RegisterResponse](t)(k.Register(t.Context(), &wire.RegisterRequest{WorkerName: "w"}))
	_, err = k.Heartbeat(t.Context(), &wire.HeartbeatRequest{WorkerId: r.WorkerId})
	wantCode(t, err, codes.FailedPrecondition, "ListenV2")
	one := int32(1)
	_, err = k.Register(t.Context(), &wire.RegisterRequest{Slots: &one, SlotConfig: map[string]int32{"default": 1}})
	wantCode(t, err, codes.InvalidArgument, "set one")
	_, err = k.Register(t.Context(), &wire.RegisterRequest{SlotConfig: map[string]int32{"gpu": 1}})
	wantCode(t, err, codes.InvalidArgument, "gpu")
	must[*wire.RegisterResponse](t)(k.Register(t.Context(), &wire.RegisterRequest{WorkerName: "v"}))
	_, err = k.Register(t.Context(), &wire.RegisterRequest{WorkerName: "x"})
	wantCode(t, err, codes.ResourceExhausted, "MaxWorkers")
	_, err = k.TriggerWorkflow(t.Context(), &wire.TriggerWorkflowRequest{Name: "unknown"})
	wantCode(t, err, codes.InvalidArgument, "workflow names not found: unknown")
	k.define(t, "job")
	for _, input := range []string{"[1]", "{", `{"a":"\u0000"}`} {
		_, err = k.TriggerWorkflow(t.Context(), &wire.TriggerWorkflowRequest{Name: "job", Input: input})
		wantCode(t, err, codes.InvalidArgument, "input")
	}
	high := int32(4)
	_, err = k.TriggerWorkflow(t.Context(), &wire.TriggerWorkflowRequest{Name: "job", Priority: &high})
	wantCode(t, err, codes.InvalidArgument, "1 to 3")
}

// A report that has the worker's name in place of its ID, as the TypeScript SDK sends it, is of the worker that executes the
// run. One that comes late changes nothing.
func TestReportByName(t *testing.T) {
	g := serve(t, hatchet.Options{})
	k := g.dial(g.token)
	k.define(t, "task")
	w := k.work(t, "task")
	run := k.trigger(t, "task", "{}")
	a := w.start()
	w.id = "other"
	w.complete(a, `1`)
	w.id = "fake"
	w.complete(a, `2`)
	if got := k.result(t, run).Results[0].GetOutput(); got != "2" {
		t.Errorf("output is %s", got)
	}
	w.complete(a, `3`)
	if got := k.result(t, run).Results[0].GetOutput(); got != "2" {
		t.Errorf("output is %s", got)
	}
}
