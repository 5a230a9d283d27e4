package hatchet_test

import (
	"context"
	"encoding/json"
	"sync"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/hatchet"
	"github.com/stint-dev/stint/hatchet/internal/wire"
)

// works runs a worker of the host for one task, until the test ends.
func (g *gateway) works(name string, h stint.Handler) {
	g.t.Helper()
	w := must[*stint.Worker](g.t)(g.c.NewWorker(stint.WithTasks(name), stint.WithHandler(h)))
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := w.Run(ctx); err != nil {
			g.t.Error(err)
		}
	})
	g.t.Cleanup(func() {
		stop()
		wg.Wait()
	})
}

// A workflow that the host defines has tasks of the host and of the workers of two SDKs, each of which says only what its own
// are called. They may not change what the host has defined.
func TestHostsWorkflow(t *testing.T) {
	g := serve(t, hatchet.Options{})
	version := must[string](t)(g.c.Define(t.Context(), stint.Definition{Name: "flow", Tasks: []stint.TaskSpec{{Name: "one"},
		{Name: "two", Parents: []string{"one"}, TaskOptions: stint.TaskOptions{Retries: 2}}, {Name: "three", Parents: []string{"two"}}}}))
	g.works("flow:one", func(_ context.Context, input []byte) ([]byte, error) { return input, nil })
	k := g.dial(g.token)
	workers := map[string]*fakeWorker{}
	for _, name := range []string{"two", "three"} {
		workers[name] = k.workFlow(t, &wire.PutWorkflowRequest{Tasks: []*wire.TaskDefinition{
			{ReadableId: name, Action: "flow:" + name, Timeout: "60s"}}})
	}
	run := must[*stint.Run[json.RawMessage]](t)(g.c.EnqueueJSON(t.Context(), "flow", json.RawMessage(`{"n":1}`)))
	two := workers["two"].startOf("two", run.ID())
	if p := payloadOf(t, two); p.Parents["one"]["n"] != 1.0 {
		t.Errorf("payload of the second: %v", p)
	}
	workers["two"].complete(two, `{"n":2}`)
	three := workers["three"].startOf("three", run.ID())
	if p := payloadOf(t, three); p.Parents["two"]["n"] != 2.0 || p.Parents["one"]["n"] != 1.0 {
		t.Errorf("payload of the third: %v", p)
	}
	workers["three"].complete(three, `{"n":3}`)
	if outputs := must[json.RawMessage](t)(run.Wait(t.Context())); string(outputs) != `{"one":{"n":1},"three":{"n":3},"two":{"n":2}}` {
		t.Errorf("outputs are %s", outputs)
	}

	for _, tt := range []struct {
		says  string
		r     *wire.PutWorkflowRequest
		words string
	}{
		{"a task that it has not", &wire.PutWorkflowRequest{Tasks: []*wire.TaskDefinition{job("four", nil)}}, `no task "four"`},
		{"other retries", &wire.PutWorkflowRequest{Tasks: []*wire.TaskDefinition{{ReadableId: "two", Action: "flow:two", Retries: 1}}}, "retries"},
		{"other parents", &wire.PutWorkflowRequest{Tasks: []*wire.TaskDefinition{job("two", nil), job("three", nil, "one", "two")}}, "parents"},
		{"an event", &wire.PutWorkflowRequest{Tasks: []*wire.TaskDefinition{job("two", nil)}, EventTriggers: []string{"e"}}, "events"},
		{"a failure", &wire.PutWorkflowRequest{Tasks: []*wire.TaskDefinition{job("two", nil)}, OnFailureTask: job("f", nil)}, "no on-failure task"},
	} {
		tt.r.Name = "flow"
		_, err := k.PutWorkflow(t.Context(), tt.r)
		wantCode(t, err, codes.InvalidArgument, tt.words)
	}
	same := &wire.PutWorkflowRequest{Name: "flow", Tasks: []*wire.TaskDefinition{{ReadableId: "two", Action: "flow:two", Retries: 2},
		job("three", nil, "two")}}
	put := must[*wire.PutWorkflowResponse](t)(k.PutWorkflow(t.Context(), same))
	g.rest("DELETE", "/api/v1/workflows/"+put.WorkflowId, g.token, "", 400, nil)
	if d := must[*stint.DefinitionInfo](t)(g.c.Definition(t.Context(), "flow")); d.Version != version || len(d.Tasks) != 3 {
		t.Errorf("the definition is %+v", d)
	}
}

// A task that stands alone and that the host defines has the host's options and an SDK's function. Once the host has deleted
// the definition, the name is the SDKs'.
func TestHostsTask(t *testing.T) {
	g := serve(t, hatchet.Options{})
	must[string](t)(g.c.Define(t.Context(), stint.Definition{Name: "task", TaskOptions: stint.TaskOptions{Retries: 1}}))
	k := g.dial(g.token)
	k.define(t, "task")
	w := k.work(t, "task")
	run := must[*stint.Run[json.RawMessage]](t)(g.c.EnqueueJSON(t.Context(), "task", json.RawMessage(`{}`)))
	a := w.start()
	w.report(a, wire.StepEventType_STEP_EVENT_FAILED, "once")
	w.complete(w.start(), `7`)
	if out := must[json.RawMessage](t)(run.Wait(t.Context())); string(out) != "7" {
		t.Errorf("output is %s", out)
	}
	if err := g.c.DeleteDefinition(t.Context(), "task"); err != nil {
		t.Fatal(err)
	}
	must[*wire.PutWorkflowResponse](t)(k.PutWorkflow(t.Context(), &wire.PutWorkflowRequest{Name: "task", Tasks: []*wire.TaskDefinition{
		{ReadableId: "task", Action: "task:task", Retries: 5}}}))
	if d := must[*stint.DefinitionInfo](t)(g.c.Definition(t.Context(), "task")); d.Retries != 5 {
		t.Errorf("the definition is %+v", d)
	}
}
