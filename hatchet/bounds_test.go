package hatchet_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/stint-dev/stint/hatchet"
	"github.com/stint-dev/stint/hatchet/internal/wire"
)

// A message over the limit is refused, by gRPC and by REST. What is within it passes, and the connection goes on.
func TestMessageBound(t *testing.T) {
	g := serve(t, hatchet.Options{MaxMessage: 10_000})
	k := g.dial(g.token)
	k.define(t, "job")
	input := func(n int) string { return `{"pad":"` + strings.Repeat("x", n) + `"}` }
	for range 3 {
		_, err := k.TriggerWorkflow(t.Context(), &wire.TriggerWorkflowRequest{Name: "job", Input: input(10_000)})
		wantCode(t, err, codes.ResourceExhausted, "larger than max")
		k.trigger(t, "job", input(9_000))
	}
	w := k.work(t, "job") // what it says of a run may be as long, and the result too
	a := w.start()
	g.rest("POST", "/api/v1/stable/tenants/"+a.TenantId+"/workflow-runs/trigger", g.token, `{"workflowName":"job","input":`+input(10_000)+`}`, 413, nil)
	_, err := k.SendStepActionEvent(t.Context(), &wire.StepActionEvent{WorkerId: w.id, TaskRunExternalId: a.TaskRunExternalId,
		EventType: wire.StepEventType_STEP_EVENT_COMPLETED, EventPayload: input(10_000), RetryCount: &a.RetryCount})
	wantCode(t, err, codes.ResourceExhausted, "larger than max")
	w.complete(a, input(9_500))
	if e := k.result(t, a.TaskRunExternalId); e.WorkflowRunId != a.TaskRunExternalId {
		t.Errorf("result is %v", e)
	}
}

// A stream may wait for so many runs, and others for as many.
func TestWaitsBound(t *testing.T) {
	g := serve(t, hatchet.Options{MaxWaits: 2})
	k := g.dial(g.token)
	k.define(t, "job")
	waitFor := func(runs ...string) grpc.BidiStreamingClient[wire.SubscribeToWorkflowRunsRequest, wire.WorkflowRunEvent] {
		stream := must[grpc.BidiStreamingClient[wire.SubscribeToWorkflowRunsRequest, wire.WorkflowRunEvent]](t)(k.SubscribeToWorkflowRuns(t.Context()))
		for _, r := range runs {
			if err := stream.Send(&wire.SubscribeToWorkflowRunsRequest{WorkflowRunId: r}); err != nil {
				t.Fatal(err)
			}
		}
		return stream
	}
	one, two, three := k.trigger(t, "job", "{}"), k.trigger(t, "job", "{}"), k.trigger(t, "job", "{}")
	_, err := waitFor(one, two, two, three).Recv()
	wantCode(t, err, codes.ResourceExhausted, "MaxWaits")
	within := waitFor(one, two)
	w := k.work(t, "job")
	for range 3 {
		w.complete(w.start(), "1")
	}
	for range 2 {
		must[*wire.WorkflowRunEvent](t)(within.Recv())
	}
	_, err = waitFor("no ID").Recv()
	wantCode(t, err, codes.InvalidArgument, "not a UUID")
}

// A connection has so many calls at once; the next begins when one has ended. Another connection has its own.
func TestStreamsBound(t *testing.T) {
	g := serve(t, hatchet.Options{MaxStreams: 2})
	k := g.dial(g.token)
	k.define(t, "job")
	first, second := k.work(t, "job"), k.work(t, "job")
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := k.GetVersion(short, &wire.GetVersionRequest{})
	wantCode(t, err, codes.DeadlineExceeded, "")
	must[*wire.GetVersionResponse](t)(g.dial(g.token).GetVersion(t.Context(), &wire.GetVersionRequest{}))
	first.cut()
	must[*wire.GetVersionResponse](t)(k.GetVersion(t.Context(), &wire.GetVersionRequest{}))
	second.cut()
}

// Connections beyond the bound are closed, and others go on. When one has ended there is room for another.
func TestConnectionsBound(t *testing.T) {
	g := serve(t, hatchet.Options{MaxConnections: 2})
	one, two, three := g.dial(g.token), g.dial(g.token), g.dial(g.token)
	version := func(k *sdk, opts ...grpc.CallOption) error {
		_, err := k.GetVersion(t.Context(), &wire.GetVersionRequest{}, opts...)
		return err
	}
	for _, k := range []*sdk{one, two} {
		if err := version(k); err != nil {
			t.Fatal(err)
		}
	}
	wantCode(t, version(three), codes.Unavailable, "")
	if err := version(two); err != nil {
		t.Errorf("a connection within the bound: %v", err)
	}
	one.conn.Close()
	if err := version(three, grpc.WaitForReady(true)); err != nil {
		t.Errorf("after another has ended: %v", err)
	}
}
