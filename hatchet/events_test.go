package hatchet_test

import (
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/hatchet"
	"github.com/stint-dev/stint/hatchet/internal/wire"
)

// Filters read the event by the protocol's names, and their own payload: both those of a definition and those of REST.
func TestFilterVariables(t *testing.T) {
	g := serve(t, hatchet.Options{})
	k := g.dial(g.token)
	def := must[*wire.PutWorkflowResponse](t)(k.PutWorkflow(t.Context(), &wire.PutWorkflowRequest{Name: "job", EventTriggers: []string{"e"},
		Tasks: []*wire.TaskDefinition{{ReadableId: "job", Action: "job:job"}}, DefaultFilters: []*wire.DefaultFilter{
			{Expression: "input.n > payload.from && event_key == 'e'", Scope: "s", Payload: []byte(`{"from":5}`)},
			{Expression: "input.n > payload.from && event_key == 'e'", Scope: "s", Payload: []byte(`{"from":50}`)}}}))
	path := "/api/v1/stable/tenants/" + g.tenant(k) + "/filters"
	g.rest("POST", path, g.token, `{"workflowId":"`+def.WorkflowId+
		`","scope":"s","expression":"additional_metadata.of == payload.of && event_id.size() == 36","payload":{"of":"test"}}`, 200, nil)
	for _, tc := range []struct {
		payload, meta string
		want          int
	}{{`{"n":5}`, `{}`, 0}, {`{"n":6}`, `{}`, 1}, {`{"n":51}`, `{}`, 2}, {`{"n":6}`, `{"of":"test"}`, 2}, {`{"n":0}`, `{"of":"else"}`, 0}} {
		e := must[*wire.Event](t)(k.Push(t.Context(), &wire.PushEventRequest{Key: "e", Payload: tc.payload, AdditionalMetadata: &tc.meta,
			Scope: proto.String("s")}))
		if runs := must[*stint.RunPage](t)(g.c.ListRuns(t.Context(), stint.RunFilter{Event: e.EventId})).Runs; len(runs) != tc.want {
			t.Errorf("event %s %s starts %d runs, want %d", tc.payload, tc.meta, len(runs), tc.want)
		}
	}
}

// A run that an event started says so in its metadata, by which it is listed.
func TestRunsByEvent(t *testing.T) {
	g := serve(t, hatchet.Options{})
	k := g.dial(g.token)
	must[*wire.PutWorkflowResponse](t)(k.PutWorkflow(t.Context(), &wire.PutWorkflowRequest{Name: "job", EventTriggers: []string{"e"},
		Tasks: []*wire.TaskDefinition{{ReadableId: "job", Action: "job:job"}}}))
	e := must[*wire.Event](t)(k.Push(t.Context(), &wire.PushEventRequest{Key: "e", Payload: "{}"}))
	k.trigger(t, "job", "{}")
	var list struct {
		Rows []struct {
			AdditionalMetadata map[string]string `json:"additionalMetadata"`
		} `json:"rows"`
	}
	g.rest("GET", "/api/v1/stable/tenants/"+g.tenant(k)+"/workflow-runs?additional_metadata=hatchet__event_id:"+e.EventId, g.token, "", 200, &list)
	if len(list.Rows) != 1 || list.Rows[0].AdditionalMetadata["hatchet__event_id"] != e.EventId ||
		list.Rows[0].AdditionalMetadata["hatchet__event_key"] != "e" {
		t.Errorf("runs: %v", list.Rows)
	}
}

// The runs that an event starts have its priority.
func TestEventPriority(t *testing.T) {
	g := serve(t, hatchet.Options{})
	k := g.dial(g.token)
	must[*wire.PutWorkflowResponse](t)(k.PutWorkflow(t.Context(), &wire.PutWorkflowRequest{Name: "job", EventTriggers: []string{"e"},
		DefaultPriority: proto.Int32(1), Tasks: []*wire.TaskDefinition{{ReadableId: "job", Action: "job:job"}}}))
	events := must[*wire.Events](t)(k.BulkPush(t.Context(), &wire.BulkPushEventRequest{Events: []*wire.PushEventRequest{
		{Key: "e", Payload: "{}"}, {Key: "e", Payload: "{}", Priority: proto.Int32(3)}}})).Events
	for i, want := range []int{1, 3} {
		runs := must[*stint.RunPage](t)(g.c.ListRuns(t.Context(), stint.RunFilter{Event: events[i].EventId})).Runs
		if len(runs) != 1 || runs[0].Priority != want {
			t.Errorf("event %d starts %+v, want priority %d", i, runs, want)
		}
	}
	for _, p := range []int32{0, 4} {
		_, err := k.Push(t.Context(), &wire.PushEventRequest{Key: "e", Payload: "{}", Priority: &p})
		wantCode(t, err, codes.InvalidArgument, "want 1 to 3")
	}
}
