package hatchet_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/stint-dev/stint/hatchet"
	"github.com/stint-dev/stint/hatchet/internal/wire"
)

// What cancels and replays by a filter with several pairs of metadata acts on the runs that have all of them, by REST and by gRPC.
func TestActionsByMetadata(t *testing.T) {
	g := serve(t, hatchet.Options{})
	k := g.dial(g.token)
	k.define(t, "job")
	runs := map[string]string{} // names by ID
	for _, name := range []string{"a1 b1", "a1 b2", "a2 b1"} {
		meta := fmt.Sprintf(`{"a":%q,"b":%q}`, name[1:2], name[4:])
		runs[must[*wire.TriggerWorkflowResponse](t)(k.TriggerWorkflow(t.Context(), &wire.TriggerWorkflowRequest{Name: "job", Input: "{}",
			AdditionalMetadata: proto.String(meta)})).WorkflowRunId] = name
	}
	byREST := func(what string) func(pairs ...string) []string {
		return func(pairs ...string) []string {
			var done struct{ IDs []string }
			g.rest("POST", "/api/v1/stable/tenants/"+g.tenant(k)+"/tasks/"+what, g.token,
				`{"filter":{"since":"2020-01-01T00:00:00Z","additionalMetadata":["`+strings.Join(pairs, `","`)+`"]}}`, 200, &done)
			return done.IDs
		}
	}
	request := func(pairs ...string) *wire.TasksRequest {
		return &wire.TasksRequest{Filter: &wire.TasksFilter{AdditionalMetadata: pairs}}
	}
	want := func(names string, ids []string) {
		t.Helper()
		var got []string
		for _, id := range ids {
			got = append(got, runs[id])
		}
		if slices.Sort(got); strings.Join(got, ", ") != names {
			t.Errorf("it acted on %q, want %s", got, names)
		}
	}
	want("a1 b2", byREST("cancel")("a:1", "b:2"))
	want("a1 b2", byREST("replay")("a:1", "b:2"))
	want("", byREST("cancel")("a:2", "b:2"))
	want("a1 b1", must[*wire.TasksResponse](t)(k.CancelTasks(t.Context(), request("a:1", "b:1"))).ExternalIds)
	want("a1 b1", must[*wire.TasksResponse](t)(k.ReplayTasks(t.Context(), request("a:1", "b:1", "b:1"))).ExternalIds)
	want("a1 b1, a1 b2", byREST("cancel")("a:1"))
	_, err := k.CancelTasks(t.Context(), request("a:1", "a:2"))
	wantCode(t, err, codes.InvalidArgument, "no run has both")
}
