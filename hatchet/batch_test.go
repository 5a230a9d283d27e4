package hatchet_test

import (
	"encoding/json"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/hatchet"
	"github.com/stint-dev/stint/hatchet/internal/wire"
)

// Runs of one key come as one batch when it is full; those of another key do not; a member fails by itself; and the
// members hold no slots while they wait, so that one slot is enough.
func TestBatch(t *testing.T) {
	g := serve(t, hatchet.Options{})
	k := g.dial(g.token)
	k.defineBatch(t, "many", &wire.BatchConfig{BatchMaxSize: 2, BatchMaxIntervalMs: proto.Int32(3_600_000),
		BatchGroupKey: proto.String("input.group")})
	w := k.workAs(t, &wire.RegisterRequest{WorkerName: "fake", Actions: []string{"many:many"}, SlotConfig: map[string]int32{"default": 1}})
	one, other, two := k.trigger(t, "many", `{"group":"a"}`), k.trigger(t, "many", `{"group":"b"}`), k.trigger(t, "many", `{"group":"a"}`)
	b := w.next(wire.ActionType_ACTION_START_BATCH)
	var items map[string]struct {
		Payload struct{ Input struct{ Group string } }
		Run     string `json:"workflow_run_id"`
	}
	if err := json.Unmarshal([]byte(b.ActionPayload), &items); err != nil {
		t.Fatal(err)
	}
	if len(items) != 2 || items[one].Payload.Input.Group != "a" || items[two].Run != two || b.GetBatchKey() != "a" || b.GetBatchSize() != 2 {
		t.Errorf("batch is %v", b)
	}
	report := func(kind wire.StepEventType, run, payload string) {
		w.reportBatch(b, kind, run, payload)
	}
	report(wire.StepEventType_STEP_EVENT_STARTED, one, "")
	report(wire.StepEventType_STEP_EVENT_COMPLETED, one, `"fine"`)
	report(wire.StepEventType_STEP_EVENT_FAILED, two, "broken")
	if r := k.result(t, one).Results[0]; r.GetOutput() != `"fine"` || r.Error != nil {
		t.Errorf("the first ended with %v", r)
	}
	if r := k.result(t, two).Results[0]; r.GetError() != "broken" {
		t.Errorf("the second ended with %v", r)
	}
	info := must[*stint.RunInfo](t)(g.c.GetRun(t.Context(), other))
	if info.State == stint.StateSucceeded || info.State == stint.StateFailed {
		t.Errorf("the run of another key is %v", info.State)
	}
}

// A member that has ended does not keep a report from the others, also where that names its worker by name.
func TestBatchWithoutOne(t *testing.T) {
	g := serve(t, hatchet.Options{})
	k := g.dial(g.token)
	k.defineBatch(t, "many", &wire.BatchConfig{BatchMaxSize: 2, BatchMaxIntervalMs: proto.Int32(3_600_000)})
	w := k.work(t, "many")
	one, two := k.trigger(t, "many", "{}"), k.trigger(t, "many", "{}")
	b := w.next(wire.ActionType_ACTION_START_BATCH)
	if err := stint.RunByID[any](g.c, one).Cancel(t.Context()); err != nil {
		t.Fatal(err)
	}
	k.result(t, one)
	must[*wire.WorkerResponse](t)(k.SendBatchActionEvent(t.Context(), &wire.BatchActionEvent{WorkerId: "fake", ActionId: b.ActionId,
		BatchId: b.BatchId, EventType: wire.StepEventType_STEP_EVENT_COMPLETED, Items: []*wire.BatchActionEventItem{
			{TaskRunExternalId: one, EventPayload: "1"}, {TaskRunExternalId: two, EventPayload: "2"}}}))
	if r := k.result(t, two).Results[0]; r.GetOutput() != "2" {
		t.Errorf("the other ended with %v", r)
	}
}

// A definition that cannot be carried out is refused, with a word why.
func TestDefinitionsRefused(t *testing.T) {
	g := serve(t, hatchet.Options{})
	k := g.dial(g.token)
	task := func(change func(*wire.TaskDefinition)) *wire.PutWorkflowRequest {
		d := &wire.TaskDefinition{ReadableId: "a", Action: "a:a"}
		change(d)
		return &wire.PutWorkflowRequest{Name: "a", Tasks: []*wire.TaskDefinition{d}}
	}
	for words, r := range map[string]*wire.PutWorkflowRequest{
		"0 tasks":       {Name: "a"},
		"service:name":  task(func(d *wire.TaskDefinition) { d.Action = "a" }),
		"no name":       task(func(d *wire.TaskDefinition) { d.ReadableId = "" }),
		"timeout":       task(func(d *wire.TaskDefinition) { d.Timeout = "soon" }),
		"no expression": task(func(d *wire.TaskDefinition) { d.Concurrency = []*wire.Concurrency{{}} }),
		"concurrency":   task(func(d *wire.TaskDefinition) { d.Concurrency = []*wire.Concurrency{{Expression: "input."}} }),
		"pool":          task(func(d *wire.TaskDefinition) { d.SlotRequests = map[string]int32{"gpu": 1} }),
		"batch_group_key": task(func(d *wire.TaskDefinition) {
			d.Batch = &wire.BatchConfig{BatchMaxSize: 1, BatchGroupKey: proto.String("(")}
		}),
		"batches of 0":      task(func(d *wire.TaskDefinition) { d.Batch = &wire.BatchConfig{} }),
		"has no value":      task(func(d *wire.TaskDefinition) { d.WorkerLabels = map[string]*wire.DesiredLabel{"l": {}} }),
		"cron":              {Name: "a", CronTriggers: []string{"often"}, Tasks: task(func(*wire.TaskDefinition) {}).Tasks},
		"1 to 3":            {Name: "a", DefaultPriority: proto.Int32(9), Tasks: task(func(*wire.TaskDefinition) {}).Tasks},
		"not a JSON object": {Name: "a", CronInput: proto.String("[]"), Tasks: task(func(*wire.TaskDefinition) {}).Tasks},
	} {
		_, err := k.PutWorkflow(t.Context(), r)
		wantCode(t, err, codes.InvalidArgument, words)
	}
	if _, err := k.TriggerWorkflow(t.Context(), &wire.TriggerWorkflowRequest{Name: "a"}); err == nil {
		t.Error("a definition that was refused can be run")
	}
}

// What a task streams and logs, and a longer timeout.
func TestStreamAndLog(t *testing.T) {
	g := serve(t, hatchet.Options{})
	k := g.dial(g.token)
	k.define(t, "talk")
	w := k.work(t, "talk")
	run := k.trigger(t, "talk", "{}")
	a := w.start()
	late := make(chan error, 1)
	go func() { // it waits for the chunk before it
		_, err := k.PutStreamEvent(t.Context(), &wire.PutStreamEventRequest{TaskRunExternalId: run, Message: []byte("b"), EventIndex: proto.Int64(1)})
		late <- err
	}()
	must[*wire.PutStreamEventResponse](t)(k.PutStreamEvent(t.Context(), &wire.PutStreamEventRequest{TaskRunExternalId: run,
		Message: []byte("a"), EventIndex: proto.Int64(0)}))
	if err := <-late; err != nil {
		t.Fatal(err)
	}
	must[*wire.PutLogResponse](t)(k.PutLog(t.Context(), &wire.PutLogRequest{TaskRunExternalId: run, Message: "hello", Level: proto.String("WARN")}))
	_, err := k.PutLog(t.Context(), &wire.PutLogRequest{TaskRunExternalId: run, Message: "x", Level: proto.String("LOUD")})
	wantCode(t, err, codes.InvalidArgument, "LOUD")
	must[*wire.RefreshTimeoutResponse](t)(k.RefreshTimeout(t.Context(), &wire.RefreshTimeoutRequest{TaskRunExternalId: run, IncrementTimeoutBy: "15s"}))
	must[*wire.ReleaseSlotResponse](t)(k.ReleaseSlot(t.Context(), &wire.ReleaseSlotRequest{TaskRunExternalId: run}))
	w.complete(a, `{}`)
	stream, err := k.SubscribeToWorkflowEvents(t.Context(), &wire.SubscribeToWorkflowEventsRequest{WorkflowRunId: &run})
	if err != nil {
		t.Fatal(err)
	}
	text := ""
	for {
		e, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if e.Hangup {
			break
		}
		if e.EventType == wire.ResourceEventType_RESOURCE_EVENT_STREAM {
			text += e.EventPayload
		}
	}
	lines := must[[]stint.LogLine](t)(g.c.Logs(t.Context(), run, 0, 10))
	if text != "ab" || len(lines) != 1 || lines[0].Message != "hello" || lines[0].Level.String() != "WARN" {
		t.Errorf("streamed %q, logged %+v", text, lines)
	}
	_, err = k.RefreshTimeout(t.Context(), &wire.RefreshTimeoutRequest{TaskRunExternalId: run, IncrementTimeoutBy: "15s"})
	wantCode(t, err, codes.NotFound, "executes")
}
