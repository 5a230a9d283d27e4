package hatchet_test

import (
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/stint-dev/stint/hatchet"
	"github.com/stint-dev/stint/hatchet/internal/wire"
)

// A worker that goes on at a new server has what it had: its tasks, slots and labels, also those that it got later, and its pause.
func TestAdoption(t *testing.T) {
	open := openDB(t)
	g := serveOn(t, open(), "127.0.0.1:0", hatchet.Options{})
	k := g.dial(g.token)
	k.define(t, "job")
	w := k.workAs(t, &wire.RegisterRequest{WorkerName: "mine", Actions: []string{"job:job"}, SlotConfig: map[string]int32{"default": 2},
		Labels: map[string]*wire.LabelValue{"model": {StrValue: text("old")}}})
	must[*wire.WorkerResponse](t)(k.UpsertWorkerLabels(t.Context(), &wire.UpsertWorkerLabelsRequest{WorkerId: w.id,
		Labels: map[string]*wire.LabelValue{"model": {StrValue: text("new")}}}))
	pause := func(is string) (r struct {
		Name, Status string
		SlotConfig   map[string]struct{ Limit int }
	}) {
		g.rest("PATCH", "/api/v1/workers/"+w.id, g.token, `{"isPaused":`+is+`}`, 200, &r)
		return r
	}
	pause("true")
	g.stop()

	g = serveOn(t, open(), g.address, hatchet.Options{})
	k = g.dial(g.token)
	_, err := k.Heartbeat(t.Context(), &wire.HeartbeatRequest{WorkerId: w.id})
	wantCode(t, err, codes.FailedPrecondition, "ListenV2")
	w.k = k
	w.listen()
	must[*wire.HeartbeatResponse](t)(k.Heartbeat(t.Context(), &wire.HeartbeatRequest{WorkerId: w.id}))
	var r struct{ Status string }
	g.rest("PATCH", "/api/v1/workers/"+w.id, g.token, `{}`, 200, &r)
	if r.Status != "PAUSED" {
		t.Errorf("status is %s", r.Status)
	}
	if r := pause("false"); r.Name != "mine" || r.Status != "ACTIVE" || r.SlotConfig["default"].Limit != 2 {
		t.Errorf("worker is %+v", r)
	}
	required := true
	for _, label := range []string{"old", "new"} {
		must[*wire.TriggerWorkflowResponse](t)(k.TriggerWorkflow(t.Context(), &wire.TriggerWorkflowRequest{Name: "job", Input: `{"for":"` + label + `"}`,
			DesiredWorkerLabels: map[string]*wire.DesiredLabel{"model": {StrValue: text(label), Required: &required}}}))
	}
	if a := w.start(); a.ActionPayload[:22] != `{"input":{"for":"new"}` {
		t.Errorf("the worker got %s", a.ActionPayload)
	}
}

func text(s string) *string { return &s }
