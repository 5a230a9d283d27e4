package hatchet_test

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/hatchet"
	"github.com/stint-dev/stint/hatchet/internal/wire"
)

// A durableTask is a durable task at the SDK: what it asks for, it asks for on the worker's stream.
type durableTask struct {
	*fakeWorker
	asks grpc.BidiStreamingClient[wire.DurableRequest, wire.DurableResponse]
	a    *wire.AssignedAction
	ends []int64 // nodes of whose end it was told while it waited for an answer
}

// workDurable registers a worker for a durable task, which it defines.
func (k *sdk) workDurable(t testing.TB, name string) *durableTask {
	t.Helper()
	must[*wire.PutWorkflowResponse](t)(k.PutWorkflow(t.Context(), &wire.PutWorkflowRequest{Name: name, Tasks: []*wire.TaskDefinition{
		{ReadableId: name, Action: name + ":" + name, IsDurable: true, SlotRequests: map[string]int32{"durable": 1}}}}))
	w := k.workAs(t, &wire.RegisterRequest{WorkerName: "fake", Actions: []string{name + ":" + name}, SlotConfig: map[string]int32{"durable": 2}})
	d := &durableTask{fakeWorker: w}
	d.asks = must[grpc.BidiStreamingClient[wire.DurableRequest, wire.DurableResponse]](t)(k.DurableTask(t.Context()))
	d.ask(&wire.DurableRequest{Message: &wire.DurableRequest_RegisterWorker{RegisterWorker: &wire.DurableWorker{WorkerId: w.id}}})
	return d
}

// ask sends an operation and returns the answer.
func (d *durableTask) ask(r *wire.DurableRequest) *wire.DurableResponse {
	d.t.Helper()
	if err := d.asks.Send(r); err != nil {
		d.t.Fatal(err)
	}
	return d.hear()
}

func (d *durableTask) hear() *wire.DurableResponse {
	d.t.Helper()
	return must[*wire.DurableResponse](d.t)(d.asks.Recv())
}

func (d *durableTask) invocation() int32 { return d.a.GetDurableTaskInvocationCount() }

func (d *durableTask) waitFor(sleep, event string) *wire.DurableResponse {
	d.t.Helper()
	c := &wire.DurableConditions{}
	if sleep != "" {
		c.SleepConditions = []*wire.SleepCondition{{Base: &wire.BaseCondition{ReadableDataKey: "slept", OrGroupId: "1"}, SleepFor: sleep}}
	}
	if event != "" {
		c.UserEventConditions = []*wire.EventCondition{{Base: &wire.BaseCondition{ReadableDataKey: "came", OrGroupId: "1",
			Expression: "input.n > 1"}, UserEventKey: event}}
	}
	return d.ask(&wire.DurableRequest{Message: &wire.DurableRequest_WaitFor{WaitFor: &wire.DurableWaitFor{InvocationCount: d.invocation(),
		DurableTaskExternalId: d.a.TaskRunExternalId, WaitForConditions: c}}})
}

func (d *durableTask) memo(key string) *wire.DurableMemoAck {
	d.t.Helper()
	return d.ask(&wire.DurableRequest{Message: &wire.DurableRequest_Memo{Memo: &wire.DurableMemo{InvocationCount: d.invocation(),
		DurableTaskExternalId: d.a.TaskRunExternalId, Key: []byte(key)}}}).GetMemoAck()
}

// A durable task waits for an event, of which the expression must be true, and for time; is unloaded; and goes on with
// all that it had.
func TestDurable(t *testing.T) {
	g := serve(t, hatchet.Options{})
	k := g.dial(g.token)
	k.define(t, "child")
	d := k.workDurable(t, "long")
	run := k.trigger(t, "long", "{}")
	d.a = d.start()
	if d.invocation() != 1 {
		t.Errorf("invocation %d", d.invocation())
	}
	ack := d.memo("key")
	if ack.MemoAlreadyExisted || ack.Ref.NodeId != 1 {
		t.Errorf("memo: %v", ack)
	}
	if err := d.asks.Send(&wire.DurableRequest{Message: &wire.DurableRequest_CompleteMemo{CompleteMemo: &wire.DurableCompleteMemo{Ref: ack.Ref,
		Payload: []byte(`"value"`)}}}); err != nil {
		t.Fatal(err)
	}
	if r := d.waitFor("1h", "ready").GetWaitForAck(); r.GetRef().GetNodeId() != 2 {
		t.Errorf("wait: %v", r)
	}
	for _, payload := range []string{`{"n":1}`, `{"n":2}`} {
		must[*wire.Event](t)(k.Push(t.Context(), &wire.PushEventRequest{Key: "ready", Payload: payload, EventTimestamp: timestamppb.Now()}))
	}
	if e := d.hear().GetEntryCompleted(); string(e.GetPayload()) != `{"CREATE":{"came":[{"n":2}]}}` || e.Ref.NodeId != 2 {
		t.Errorf("the wait ended with %v", e)
	}
	runs := d.ask(&wire.DurableRequest{Message: &wire.DurableRequest_TriggerRuns{TriggerRuns: &wire.DurableTriggerRuns{
		InvocationCount: 1, DurableTaskExternalId: run, TriggerOpts: []*wire.TriggerWorkflowRequest{{Name: "child", Input: "{}"}}}}}).GetTriggerRunsAck()
	if len(runs.GetRunEntries()) != 1 || runs.RunEntries[0].NodeId != 3 {
		t.Fatalf("children: %v", runs)
	}
	d.ask(&wire.DurableRequest{Message: &wire.DurableRequest_EvictInvocation{EvictInvocation: &wire.DurableEvict{InvocationCount: 1,
		DurableTaskExternalId: run}}})
	w := k.work(t, "child")
	w.complete(w.start(), `{"of":"child"}`)

	d.a = d.start()
	if d.invocation() < 2 || d.a.TaskRunExternalId != run {
		t.Fatalf("it goes on as %v", d.a)
	}
	if ack := d.memo("key"); !ack.MemoAlreadyExisted || string(ack.MemoResultPayload) != `"value"` {
		t.Errorf("memo again: %v", ack)
	}
	d.waitFor("1h", "ready")
	if e := d.hear().GetEntryCompleted(); string(e.GetPayload()) != `{"CREATE":{"came":[{"n":2}]}}` {
		t.Errorf("the wait again ended with %v", e)
	}
	again := d.ask(&wire.DurableRequest{Message: &wire.DurableRequest_TriggerRuns{TriggerRuns: &wire.DurableTriggerRuns{
		InvocationCount: d.invocation(), DurableTaskExternalId: run,
		TriggerOpts: []*wire.TriggerWorkflowRequest{{Name: "child", Input: "{}"}}}}}).GetTriggerRunsAck()
	if again.GetRunEntries()[0].WorkflowRunExternalId != runs.RunEntries[0].WorkflowRunExternalId {
		t.Errorf("the child was started again: %v", again)
	}
	if e := d.hear().GetEntryCompleted(); string(e.GetPayload()) != `{"of":"child"}` {
		t.Errorf("the child ended with %v", e)
	}
	d.complete(d.a, `{"done":true}`)
	if got := k.result(t, run).Results[0].GetOutput(); got != `{"done":true}` {
		t.Errorf("output is %s", got)
	}
}

// A run that its worker has unloaded waits on when that worker is gone, and goes on at another when its wait ends.
func TestEvictedOutlivesWorker(t *testing.T) {
	g := serve(t, hatchet.Options{WorkerGrace: 10 * time.Millisecond})
	k := g.dial(g.token)
	d := k.workDurable(t, "long")
	unloaded := k.trigger(t, "long", "{}")
	d.a = d.start()
	d.started(d.a)
	d.waitFor("", "ready")
	d.ask(&wire.DurableRequest{Message: &wire.DurableRequest_EvictInvocation{EvictInvocation: &wire.DurableEvict{InvocationCount: 1,
		DurableTaskExternalId: unloaded}}})
	loaded := k.trigger(t, "long", "{}")
	d.started(d.start())
	d.cut()
	other := k.workDurable(t, "long")
	if other.a = other.start(); other.a.TaskRunExternalId != loaded {
		t.Errorf("the other worker got %v", other.a)
	}
	other.complete(other.a, "1")
	if r := must[*wire.GetRunDetailsResponse](t)(k.GetRunDetails(t.Context(), &wire.GetRunDetailsRequest{ExternalId: unloaded})); !r.IsEvicted {
		t.Errorf("the run is no longer unloaded: %v", r)
	}
	for query, want := range map[string]int{"EVICTED": 1, "ON_WORKER": 0} {
		var list struct{ Rows []any }
		g.rest("GET", "/api/v1/stable/tenants/"+g.tenant(k)+"/workflow-runs?only_tasks=true&statuses=RUNNING&running_filter="+query, g.token, "",
			200, &list)
		if len(list.Rows) != want {
			t.Errorf("%s: %d runs, want %d", query, len(list.Rows), want)
		}
	}
	must[*wire.Event](t)(k.Push(t.Context(), &wire.PushEventRequest{Key: "ready", Payload: `{"n":2}`, EventTimestamp: timestamppb.Now()}))
	if other.a = other.start(); other.a.TaskRunExternalId != unloaded || other.invocation() != 2 {
		t.Errorf("it goes on as %v", other.a)
	}
	other.complete(other.a, "2")
}

// A task that asks for something else than before is told at which node, and may end all the same.
func TestNondeterminism(t *testing.T) {
	g := serve(t, hatchet.Options{})
	k := g.dial(g.token)
	d := k.workDurable(t, "odd")
	run := k.trigger(t, "odd", "{}")
	d.a = d.start()
	d.memo("one")
	d.waitFor("1ms", "")
	d.hear()
	d.complete(d.a, `1`)
	g.rest("POST", "/api/v1/stable/tenants/"+d.a.TenantId+"/tasks/replay", g.token, `{"externalIds":["`+run+`"]}`, 200, nil)
	d.a = d.start()
	r := d.waitFor("1ms", "").GetError()
	if r.GetRef().GetNodeId() != 1 || !strings.Contains(r.GetErrorMessage(), "non-determinism") {
		t.Errorf("answer is %v", r)
	}
	d.complete(d.a, `2`)
	info := must[*stint.RunInfo](t)(g.c.GetRun(t.Context(), run))
	if info.State != stint.StateSucceeded || string(info.Output) != "2" {
		t.Errorf("run is %v with %s: %s", info.State, info.Output, info.Blocked)
	}
}

// A run goes on from a node: what was recorded before it is kept.
func TestBranchFromNode(t *testing.T) {
	g := serve(t, hatchet.Options{})
	k := g.dial(g.token)
	d := k.workDurable(t, "steps")
	run := k.trigger(t, "steps", "{}")
	d.a = d.start()
	for _, key := range []string{"one", "two"} {
		ack := d.memo(key)
		if err := d.asks.Send(&wire.DurableRequest{Message: &wire.DurableRequest_CompleteMemo{CompleteMemo: &wire.DurableCompleteMemo{Ref: ack.Ref,
			Payload: []byte(key)}}}); err != nil {
			t.Fatal(err)
		}
	}
	d.complete(d.a, `1`)
	var b struct{ BranchID, NodeID int64 }
	g.rest("POST", "/api/v1/stable/tenants/"+d.a.TenantId+"/durable-tasks/branch", g.token,
		`{"taskExternalId":"`+run+`","nodeId":2,"branchId":1}`, 200, &b)
	if b.BranchID != 2 || b.NodeID != 2 {
		t.Errorf("branch is %+v", b)
	}
	d.a = d.start()
	if one, two := d.memo("one"), d.memo("two"); !one.MemoAlreadyExisted || two.MemoAlreadyExisted {
		t.Errorf("memos: %v, %v", one, two)
	}
	d.complete(d.a, `2`)
}
