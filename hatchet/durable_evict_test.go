package hatchet_test

import (
	"context"
	"runtime"
	"strconv"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/hatchet"
	"github.com/stint-dev/stint/hatchet/internal/wire"
)

// awaitEvent asks for a wait for an event, and returns its node. Ends of which it is told meanwhile are for hearEnds.
func (d *durableTask) awaitEvent(key string) int64 {
	d.t.Helper()
	r := d.ask(&wire.DurableRequest{Message: &wire.DurableRequest_WaitFor{WaitFor: &wire.DurableWaitFor{InvocationCount: d.invocation(),
		DurableTaskExternalId: d.a.TaskRunExternalId, WaitForConditions: &wire.DurableConditions{UserEventConditions: []*wire.EventCondition{
			{Base: &wire.BaseCondition{ReadableDataKey: key, OrGroupId: "1"}, UserEventKey: key}}}}}})
	for ; r.GetEntryCompleted() != nil; r = d.hear() {
		d.ends = append(d.ends, r.GetEntryCompleted().GetRef().GetNodeId())
	}
	return r.GetWaitForAck().GetRef().GetNodeId()
}

// hearEnds returns the nodes of the next n ends that it is told of.
func (d *durableTask) hearEnds(n int) (nodes []int64) {
	d.t.Helper()
	for ; len(d.ends) < n; d.ends = append(d.ends, d.hear().GetEntryCompleted().GetRef().GetNodeId()) {
	}
	nodes, d.ends = d.ends[:n], d.ends[n:]
	return nodes
}

// evict unloads the run, and waits until the server has that.
func (d *durableTask) evict() {
	d.t.Helper()
	r := d.ask(&wire.DurableRequest{Message: &wire.DurableRequest_EvictInvocation{EvictInvocation: &wire.DurableEvict{
		InvocationCount: d.invocation(), DurableTaskExternalId: d.a.TaskRunExternalId}}})
	if r.GetEvictionAck().GetDurableTaskExternalId() != d.a.TaskRunExternalId {
		d.t.Fatalf("the eviction was answered by %v", r)
	}
}

// startDurable returns when an invocation has begun.
func (d *durableTask) startDurable() {
	d.t.Helper()
	d.a = d.start()
	d.started(d.a)
}

func (g *gateway) publish(key, payload string) {
	g.t.Helper()
	must[string](g.t)(g.c.Publish(g.t.Context(), key, map[string]string{"of": payload}))
}

// A task is told of ends in the order in which they came, also of those that came while no worker had the run, and in the same
// order when it is executed again.
func TestOrderOfEnds(t *testing.T) {
	g := serve(t, hatchet.Options{})
	k := g.dial(g.token)
	d := k.workDurable(t, "order")
	run := k.trigger(t, "order", "{}")
	d.startDurable()
	for _, key := range []string{"a", "b", "c", "d"} {
		d.awaitEvent(key)
	}
	g.publish("c", "")
	if got := d.hearEnds(1); got[0] != 3 {
		t.Errorf("node %v ended, want 3", got)
	}
	must[*wire.WorkerResponse](t)(k.Unsubscribe(t.Context(), &wire.UnsubscribeRequest{WorkerId: d.id}))
	d.cut()
	g.awaitState(run, stint.StateQueued) // for the next worker
	for _, key := range []string{"d", "b"} {
		g.publish(key, "")
		<-time.After(2 * time.Millisecond) // the next wait ends in a later millisecond
	}
	d = k.workDurable(t, "order")
	for again := range 2 {
		d.startDurable()
		for _, key := range []string{"a", "b", "c", "d"} {
			d.awaitEvent(key)
		}
		if again == 0 {
			if got := d.hearEnds(3); got[0] != 3 || got[1] != 4 || got[2] != 2 {
				t.Errorf("told of nodes %v, want 3, 4, 2", got)
			}
			g.publish("a", "")
			d.hearEnds(1)
			d.complete(d.a, `1`)
			g.rest("POST", "/api/v1/stable/tenants/"+d.a.TenantId+"/tasks/replay", g.token, `{"externalIds":["`+run+`"]}`, 200, nil)
			continue
		}
		if got := d.hearEnds(4); got[0] != 3 || got[1] != 4 || got[2] != 2 || got[3] != 1 {
			t.Errorf("a replay was told of nodes %v, want 3, 4, 2, 1", got)
		}
		d.complete(d.a, `2`)
	}
}

// Sleeps that ended while no worker had the run are told in the order in which they ended.
func TestOrderOfSleeps(t *testing.T) {
	g := serve(t, hatchet.Options{})
	k := g.dial(g.token)
	d := k.workDurable(t, "order")
	k.trigger(t, "order", "{}")
	d.startDurable()
	d.waitFor("300ms", "")
	d.waitFor("100ms", "")
	d.evict()
	must[*wire.WorkerResponse](t)(k.Unsubscribe(t.Context(), &wire.UnsubscribeRequest{WorkerId: d.id}))
	d.cut()
	time.AfterFunc(time.Second, func() { g.publish("both are over", "") })
	ctx, cancel := context.WithTimeout(t.Context(), watchdog)
	defer cancel()
	for at := uint64(0); ; {
		page := must[*stint.EventPage](t)(g.c.ListEvents(t.Context(), stint.EventFilter{Key: "both are over"}))
		if len(page.Events) > 0 {
			break
		}
		at = must[uint64](t)(g.c.Changed(ctx, at))
	}
	d = k.workDurable(t, "order")
	d.startDurable()
	for _, sleep := range []string{"300ms", "100ms"} {
		if d.waitFor(sleep, "").GetWaitForAck() == nil {
			t.Fatal("a wait was not acknowledged")
		}
	}
	if got := d.hearEnds(2); got[0] != 2 || got[1] != 1 {
		t.Errorf("told of nodes %v, want 2, 1", got)
	}
	d.complete(d.a, `{}`)
}

// A run that its worker has unloaded is in nobody's memory. Each of a thousand goes on when its event comes.
func TestEvictedRuns(t *testing.T) {
	const runs = 1000
	g := serve(t, hatchet.Options{})
	k := g.dial(g.token)
	d := k.workDurable(t, "long")
	defer beat(t, d.fakeWorker)()
	for i := range runs {
		k.trigger(t, "long", `{"n":`+strconv.Itoa(i)+`}`)
	}
	before := 0
	for i := range runs {
		d.startDurable()
		d.awaitEvent("go")
		d.evict()
		if i == 0 {
			before = runtime.NumGoroutine()
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), watchdog)
	defer cancel()
	for tick := time.NewTicker(10 * time.Millisecond); runtime.NumGoroutine() > before+100; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%d goroutines for %d runs that are unloaded, %d for one", runtime.NumGoroutine(), runs, before)
		}
	}
	if n := must[map[stint.State]int](t)(g.c.CountRuns(t.Context()))[stint.StateWaiting]; n != runs {
		t.Errorf("%d runs wait, want %d", n, runs)
	}
	g.publish("go", "all")
	for range runs {
		d.startDurable()
		if d.invocation() != 2 {
			t.Fatalf("invocation %d", d.invocation())
		}
		d.awaitEvent("go")
		d.hearEnds(1)
		d.complete(d.a, `{}`)
	}
	for state, n := range must[map[stint.State]int](t)(g.c.CountRuns(t.Context())) {
		if n > 0 {
			t.Errorf("%d runs are %v", n, state)
		}
	}
}

// A run that is unloaded can be made to go on. What an invocation asks for after that is answered by its eviction.
func TestRestore(t *testing.T) {
	g := serve(t, hatchet.Options{})
	k := g.dial(g.token)
	d := k.workDurable(t, "long")
	run := k.trigger(t, "long", "{}")
	restored := func() bool {
		return must[*wire.RestoreEvictedTaskResponse](t)(k.RestoreEvictedTask(t.Context(), &wire.RestoreEvictedTaskRequest{
			TaskRunExternalId: run})).Requeued
	}
	d.startDurable()
	d.awaitEvent("e")
	if restored() {
		t.Error("a run that is executed was restored")
	}
	d.evict()
	details := must[*wire.GetRunDetailsResponse](t)(k.GetRunDetails(t.Context(), &wire.GetRunDetailsRequest{ExternalId: run}))
	if !details.IsEvicted || details.Status != wire.RunStatus_RUN_RUNNING {
		t.Errorf("details of a run that is unloaded: %v", details)
	}
	stale := d.a
	if !restored() {
		t.Error("it was not restored")
	}
	d.startDurable()
	if d.invocation() != 2 {
		t.Errorf("invocation %d", d.invocation())
	}
	r := d.ask(&wire.DurableRequest{Message: &wire.DurableRequest_Memo{Memo: &wire.DurableMemo{
		InvocationCount: stale.GetDurableTaskInvocationCount(), DurableTaskExternalId: run, Key: []byte("k")}}}).GetServerEvict()
	if r.GetInvocationCount() != 1 || r.GetDurableTaskExternalId() != run {
		t.Errorf("the former invocation was answered by %v", r)
	}
	if node := d.awaitEvent("e"); node != 1 {
		t.Errorf("the wait is node %d", node)
	}
	g.publish("e", "")
	d.hearEnds(1)
	d.complete(d.a, `{}`)
	k.result(t, run)
}

// Each invocation has the task's timeout.
func TestTimeoutOfInvocation(t *testing.T) {
	g := serve(t, hatchet.Options{})
	k := g.dial(g.token)
	d := k.workDurable(t, "long")
	run := k.trigger(t, "long", "{}")
	for i := range 3 {
		d.startDurable()
		for j := range i + 1 {
			d.awaitEvent(strconv.Itoa(j))
		}
		d.hearEnds(i)
		if i == 2 {
			break
		}
		d.evict()
		g.publish(strconv.Itoa(i), "")
	}
	g.publish("2", "")
	d.hearEnds(1)
	d.complete(d.a, `"in time"`)
	if got := k.result(t, run).Results[0]; got.GetOutput() != `"in time"` {
		t.Errorf("result is %v", got)
	}
}

// reconnect opens another stream for operations.
func (d *durableTask) reconnect() {
	d.t.Helper()
	d.asks = must[grpc.BidiStreamingClient[wire.DurableRequest, wire.DurableResponse]](d.t)(d.k.DurableTask(d.t.Context()))
	d.ask(&wire.DurableRequest{Message: &wire.DurableRequest_RegisterWorker{RegisterWorker: &wire.DurableWorker{WorkerId: d.id}}})
}

// Ends are told on the stream that the worker has now. An operation whose answer was lost with a stream is not carried out twice
// when the task, which fails, is executed again.
func TestDurableReconnect(t *testing.T) {
	g := serve(t, hatchet.Options{})
	k := g.dial(g.token)
	k.define(t, "child")
	d := k.workDurable(t, "long")
	must[*wire.PutWorkflowResponse](t)(k.PutWorkflow(t.Context(), &wire.PutWorkflowRequest{Name: "long", Tasks: []*wire.TaskDefinition{
		{ReadableId: "long", Action: "long:long", IsDurable: true, Retries: 1, SlotRequests: map[string]int32{"durable": 1}}}}))
	run := k.trigger(t, "long", "{}")
	d.startDurable()
	d.awaitEvent("e")
	d.reconnect()
	g.publish("e", "")
	if got := d.hearEnds(1); got[0] != 1 {
		t.Errorf("told of node %v", got)
	}
	status := &wire.DurableRequest{Message: &wire.DurableRequest_WorkerStatus{WorkerStatus: &wire.DurableWorkerStatus{WorkerId: d.id,
		WaitingEntries: []*wire.DurableWaitingEntry{{DurableTaskExternalId: run, BranchId: 1, NodeId: 1, InvocationCount: 1}}}}}
	if got := d.ask(status).GetEntryCompleted().GetRef().GetNodeId(); got != 1 {
		t.Errorf("asked again, told of node %d", got)
	}
	children := func() *wire.DurableRequest {
		return &wire.DurableRequest{Message: &wire.DurableRequest_TriggerRuns{TriggerRuns: &wire.DurableTriggerRuns{
			InvocationCount: d.invocation(), DurableTaskExternalId: run, TriggerOpts: []*wire.TriggerWorkflowRequest{{Name: "child", Input: "{}"}}}}}
	}
	if err := d.asks.Send(children()); err != nil {
		t.Fatal(err)
	}
	w := k.work(t, "child")
	child := w.start() // it has started: the answer is on its way, or lost
	d.reconnect()
	d.report(d.a, wire.StepEventType_STEP_EVENT_FAILED, "the answer did not come")
	d.startDurable()
	d.awaitEvent("e")
	d.hearEnds(1)
	again := d.ask(children()).GetTriggerRunsAck().GetRunEntries()
	if len(again) != 1 || again[0].WorkflowRunExternalId != child.TaskRunExternalId || again[0].NodeId != 2 {
		t.Errorf("children again: %v, want %s", again, child.TaskRunExternalId)
	}
	w.complete(child, `{}`)
	d.hearEnds(1)
	d.complete(d.a, `{}`)
	if n := len(must[*stint.RunPage](t)(g.c.ListRuns(t.Context(), stint.RunFilter{Tasks: []string{"child"}})).Runs); n != 1 {
		t.Errorf("%d children", n)
	}
}

// A wait that looks back takes the newest event of its scope, and waits for the rest. A replay is told the same.
func TestLookBack(t *testing.T) {
	g := serve(t, hatchet.Options{})
	k := g.dial(g.token)
	d := k.workDurable(t, "long")
	since := timestamppb.New(time.Now().Add(-time.Minute))
	for i, scope := range []string{"s", "s", "other"} {
		must[string](t)(g.c.Publish(t.Context(), "past", map[string]int{"n": i}, stint.WithScope(scope)))
	}
	run := k.trigger(t, "long", "{}")
	for again := range 2 {
		d.startDurable()
		ack := d.ask(&wire.DurableRequest{Message: &wire.DurableRequest_WaitFor{WaitFor: &wire.DurableWaitFor{InvocationCount: d.invocation(),
			DurableTaskExternalId: run, WaitForConditions: &wire.DurableConditions{UserEventConditions: []*wire.EventCondition{
				{Base: &wire.BaseCondition{ReadableDataKey: "past", OrGroupId: "1"}, UserEventKey: "past", EventScope: proto.String("s"),
					ConsiderEventsSince: since},
				{Base: &wire.BaseCondition{ReadableDataKey: "next", OrGroupId: "2"}, UserEventKey: "next", EventScope: proto.String("s")}}}}}})
		if ack.GetWaitForAck().GetRef().GetNodeId() != 1 {
			t.Fatalf("answer %v", ack)
		}
		if again == 0 {
			for _, scope := range []string{"other", "s"} {
				must[string](t)(g.c.Publish(t.Context(), "next", map[string]string{"of": scope}, stint.WithScope(scope)))
			}
		}
		if got := string(d.hear().GetEntryCompleted().GetPayload()); got != `{"CREATE":{"next":[{"of":"s"}],"past":[{"n":1}]}}` {
			t.Errorf("it ended with %s", got)
		}
		d.complete(d.a, `{}`)
		if again == 0 {
			g.publish("past", "later")
			g.rest("POST", "/api/v1/stable/tenants/"+d.a.TenantId+"/tasks/replay", g.token, `{"externalIds":["`+run+`"]}`, 200, nil)
		}
	}
}
