package hatchet_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/hatchet"
	"github.com/stint-dev/stint/hatchet/internal/wire"
)

// Two runs ask on one stream without waiting for answers. Each gets its acknowledgements in the order of its operations, and the
// end of a node after the node's acknowledgement, also where the wait was over before it began.
func TestDurableOrder(t *testing.T) {
	const asks = 30
	g := serve(t, hatchet.Options{})
	k := g.dial(g.token)
	d := k.workDurable(t, "long")
	must[*wire.Event](t)(k.Push(t.Context(), &wire.PushEventRequest{Key: "before", Payload: "{}", EventTimestamp: timestamppb.Now()}))
	var actions []*wire.AssignedAction
	for range 2 {
		k.trigger(t, "long", "{}")
		actions = append(actions, d.start())
	}
	for i := range asks {
		for _, a := range actions {
			if err := d.asks.Send(orderedAsk(a, i)); err != nil {
				t.Fatal(err)
			}
		}
	}
	acked, ended := map[string]int64{}, map[string]int{}
	for len(ended) < 2 || acked[actions[0].TaskRunExternalId] < asks || acked[actions[1].TaskRunExternalId] < asks ||
		ended[actions[0].TaskRunExternalId] < asks/3*2 || ended[actions[1].TaskRunExternalId] < asks/3*2 {
		r := d.hear()
		ref := r.GetMemoAck().GetRef()
		if ref == nil {
			ref = r.GetWaitForAck().GetRef()
		}
		switch end := r.GetEntryCompleted(); {
		case ref != nil:
			if acked[ref.DurableTaskExternalId]++; acked[ref.DurableTaskExternalId] != ref.NodeId {
				t.Fatalf("acknowledgement %d is of node %d", acked[ref.DurableTaskExternalId], ref.NodeId)
			}
		case end != nil:
			if ended[end.Ref.DurableTaskExternalId]++; end.Ref.NodeId > acked[end.Ref.DurableTaskExternalId] {
				t.Errorf("node %d ended before it was acknowledged", end.Ref.NodeId)
			}
		default:
			t.Fatalf("answer is %v", r)
		}
	}
	for _, a := range actions {
		d.complete(a, "1")
	}
}

// orderedAsk returns operation i of a run: a memo, a sleep or a wait for an event that has come.
func orderedAsk(a *wire.AssignedAction, i int) *wire.DurableRequest {
	if i%3 == 0 {
		return &wire.DurableRequest{Message: &wire.DurableRequest_Memo{Memo: &wire.DurableMemo{InvocationCount: 1,
			DurableTaskExternalId: a.TaskRunExternalId, Key: fmt.Append(nil, i), Payload: []byte("1")}}}
	}
	base, c := &wire.BaseCondition{ReadableDataKey: "data", OrGroupId: "1"}, &wire.DurableConditions{}
	if i%3 == 1 {
		c.SleepConditions = []*wire.SleepCondition{{Base: base, SleepFor: "1ns"}}
	} else {
		c.UserEventConditions = []*wire.EventCondition{{Base: base, UserEventKey: "before", ConsiderEventsSince: timestamppb.New(time.Unix(1, 0))}}
	}
	return &wire.DurableRequest{Message: &wire.DurableRequest_WaitFor{WaitFor: &wire.DurableWaitFor{InvocationCount: 1,
		DurableTaskExternalId: a.TaskRunExternalId, WaitForConditions: c}}}
}

// The value of a memo that comes after the report of success is kept: SDKs send it on another stream.
func TestLateMemo(t *testing.T) {
	g := serve(t, hatchet.Options{})
	k := g.dial(g.token)
	d := k.workDurable(t, "long")
	for range 20 {
		run := k.trigger(t, "long", "{}")
		d.a = d.start()
		ack := d.memo("key")
		reported := make(chan error, 1)
		go func() {
			_, err := k.SendStepActionEvent(context.Background(), &wire.StepActionEvent{WorkerId: d.id, TaskRunExternalId: run,
				EventType: wire.StepEventType_STEP_EVENT_COMPLETED, EventPayload: "1", RetryCount: &d.a.RetryCount})
			reported <- err
		}()
		for range 3 { // by now the report is there
			must[*wire.HeartbeatResponse](t)(k.Heartbeat(t.Context(), &wire.HeartbeatRequest{WorkerId: d.id}))
		}
		if err := d.asks.Send(&wire.DurableRequest{Message: &wire.DurableRequest_CompleteMemo{CompleteMemo: &wire.DurableCompleteMemo{Ref: ack.Ref,
			Payload: []byte(`"value"`)}}}); err != nil {
			t.Fatal(err)
		}
		if err := <-reported; err != nil {
			t.Fatal(err)
		}
		entries := must[[]stint.JournalEntry](t)(g.c.Journal(t.Context(), run))
		if len(entries) == 0 || !entries[0].Done {
			t.Fatalf("the memo is lost: %+v", entries)
		}
	}
}

// Many durable runs wait for events of their own, which are published at once, among others: each wait ends, with its event.
func TestManyEventWaits(t *testing.T) {
	const runs = 120
	g := serve(t, hatchet.Options{})
	k := g.dial(g.token)
	must[*wire.PutWorkflowResponse](t)(k.PutWorkflow(t.Context(), &wire.PutWorkflowRequest{Name: "long", Tasks: []*wire.TaskDefinition{
		{ReadableId: "long", Action: "long:long", IsDurable: true, SlotRequests: map[string]int32{"durable": 1}}}}))
	f := newFleet(t, g.address, g.token)
	waiting, keys := 0, map[string]bool{}
	f.work(&wire.RegisterRequest{WorkerName: "many", Actions: []string{"long:long"}, SlotConfig: map[string]int32{"durable": runs}},
		func(w *steadyWorker, a *wire.AssignedAction) {
			w.durable.runDurable(a, func() {
				f.note(func() { waiting++; keys["go-"+a.TaskRunExternalId] = true })
			})
		})
	ids := make([]string, runs)
	for i := range ids {
		ids[i] = k.trigger(t, "long", "{}")
	}
	f.until("all wait", func() bool { return waiting == runs })
	bulk := &wire.BulkPushEventRequest{}
	for key := range keys {
		for _, k := range []string{key, "other"} {
			bulk.Events = append(bulk.Events, &wire.PushEventRequest{Key: k, Payload: fmt.Sprintf(`{"of":%q}`, k), EventTimestamp: timestamppb.Now()})
		}
	}
	must[*wire.Events](t)(k.BulkPush(t.Context(), bulk))
	f.wg.Go(func() { f.awaitResults(f.dial(), ids) })
	f.until("all have ended", func() bool { return len(f.results) == runs })
	for _, id := range ids {
		if want := fmt.Sprintf(`{"came":"{\"CREATE\":{\"came\":[{\"of\":\"go-%s\"}]}}"`, id); len(f.results[id]) < len(want) || f.results[id][:len(want)] != want {
			t.Errorf("result is %s, want %s", f.results[id], want)
		}
	}
}
