package hatchet_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/hatchet"
	"github.com/stint-dev/stint/hatchet/internal/wire"
)

// tenant returns the ID of the tenant, which the paths of REST have.
func (g *gateway) tenant(k *sdk) string {
	g.t.Helper()
	return must[*wire.RegisterResponse](g.t)(k.Register(g.t.Context(), &wire.RegisterRequest{WorkerName: "w"})).TenantId
}

// A rate limit that an SDK sets is the one that its tasks take units of.
func TestPutRateLimit(t *testing.T) {
	g := serve(t, hatchet.Options{})
	k := g.dial(g.token)
	put := func(key string, limit int32, window wire.RateWindow) error {
		_, err := k.PutRateLimit(t.Context(), &wire.PutRateLimitRequest{Key: key, Limit: limit, Duration: window})
		return err
	}
	if err := put("api", 2, wire.RateWindow_RATE_YEAR); err != nil {
		t.Fatal(err)
	}
	wantCode(t, put("api", 0, wire.RateWindow_RATE_DAY), codes.InvalidArgument, "at least 1")
	wantCode(t, put("", 1, wire.RateWindow_RATE_DAY), codes.InvalidArgument, "empty rate limit key")
	wantCode(t, put("api", 1, 9), codes.InvalidArgument, "unknown")
	d := &wire.TaskDefinition{ReadableId: "job", Action: "job:job", RateLimits: []*wire.TaskRateLimit{{Key: "api", Units: proto.Int32(1)}}}
	must[*wire.PutWorkflowResponse](t)(k.PutWorkflow(t.Context(), &wire.PutWorkflowRequest{Name: "job", Tasks: []*wire.TaskDefinition{d}}))
	w := k.work(t, "job")
	for range 3 {
		k.trigger(t, "job", "{}")
	}
	w.complete(w.start(), "{}")
	w.complete(w.start(), "{}")
	var list struct {
		Rows []struct {
			Key, Window       string
			LimitValue, Value int
		}
	}
	g.rest("GET", "/api/v1/tenants/"+g.tenant(k)+"/rate-limits?search=ap", g.token, "", 200, &list)
	if len(list.Rows) != 1 || list.Rows[0].Key != "api" || list.Rows[0].LimitValue != 2 || list.Rows[0].Value != 0 || list.Rows[0].Window != "8760h0m0s" {
		t.Errorf("rate limits: %+v", list)
	}
	if limits := must[[]stint.RateLimitInfo](t)(g.c.ListRateLimits(t.Context())); limits[0].Waiting != 1 {
		t.Errorf("%d runs wait for units", limits[0].Waiting)
	}
}

// Runs that are scheduled are listed, moved and canceled, and start at their time.
func TestSchedules(t *testing.T) {
	g := serve(t, hatchet.Options{})
	k := g.dial(g.token)
	k.define(t, "job")
	w := k.work(t, "job")
	later := timestamppb.New(time.Now().Add(time.Hour))
	r := must[*wire.ScheduleWorkflowResponse](t)(k.ScheduleWorkflow(t.Context(), &wire.ScheduleWorkflowRequest{Name: "job", Input: `{"n":1}`,
		Schedules: []*timestamppb.Timestamp{later, later}, AdditionalMetadata: proto.String(`{"of":"test"}`)}))
	if len(r.ScheduledWorkflows) != 2 || !r.ScheduledWorkflows[1].TriggerAt.AsTime().Equal(later.AsTime()) {
		t.Fatalf("schedules: %v", r)
	}
	path := "/api/v1/tenants/" + g.tenant(k) + "/workflows/"
	type row struct {
		Metadata     struct{ ID string }
		TriggerAt    time.Time
		WorkflowName string
	}
	var made row
	g.rest("POST", path+"job/scheduled", g.token, `{"input":{"n":2},"additionalMetadata":{},"triggerAt":"2099-01-01T00:00:00Z"}`, 200, &made)
	g.rest("DELETE", path+"scheduled/"+r.ScheduledWorkflows[1].Id, g.token, "", 200, nil)
	var list struct{ Rows []row }
	g.rest("GET", path+"scheduled", g.token, "", 200, &list)
	if len(list.Rows) != 2 || list.Rows[0].Metadata.ID != made.Metadata.ID || list.Rows[0].TriggerAt.Year() != 2099 {
		t.Errorf("schedules: %+v", list)
	}
	g.rest("PATCH", path+"scheduled/"+made.Metadata.ID, g.token, `{"triggerAt":"2020-01-01T00:00:00Z"}`, 200, nil)
	if a := w.start(); a.TaskRunExternalId != made.Metadata.ID || payloadOf(t, a).Input["n"] != 2.0 {
		t.Errorf("action is %v", a)
	}
	g.rest("GET", path+"scheduled?additionalMetadata=of:test", g.token, "", 200, &list)
	if len(list.Rows) != 1 || list.Rows[0].WorkflowName != "job" {
		t.Errorf("schedules: %+v", list)
	}
	var bulk struct {
		UpdatedIDs, DeletedIDs []string
		Errors                 []struct{ ID, Error string }
	}
	first := r.ScheduledWorkflows[0].Id
	g.rest("POST", path+"scheduled/bulk-update", g.token, `{"updates":[{"id":"`+first+`","triggerAt":"2098-01-01T00:00:00Z"},
		{"id":"`+noRun+`","triggerAt":"2098-01-01T00:00:00Z"}]}`, 200, &bulk)
	if len(bulk.UpdatedIDs) != 1 || len(bulk.Errors) != 1 || bulk.Errors[0].ID != noRun || bulk.Errors[0].Error == "" {
		t.Errorf("changes: %+v", bulk)
	}
	g.rest("POST", path+"scheduled/bulk-delete", g.token, `{"scheduledWorkflowRunIds":["`+first+`"]}`, 200, &bulk)
	if info := must[*stint.RunInfo](t)(g.c.GetRun(t.Context(), first)); len(bulk.DeletedIDs) != 1 || info.Scheduled.Year() != 2098 ||
		info.State != stint.StateCanceled {
		t.Errorf("%+v: the run is %v, due %v", bulk, info.State, info.Scheduled)
	}
	g.rest("POST", path+"scheduled/bulk-delete", g.token, `{"filter":{}}`, 400, nil)
	for _, of := range []string{"one", "two"} {
		g.rest("POST", path+"job/scheduled", g.token, `{"additionalMetadata":{"of":"`+of+`"},"triggerAt":"2099-01-01T00:00:00Z"}`, 200, &made)
	}
	g.rest("POST", path+"scheduled/bulk-delete", g.token, `{"filter":{"additionalMetadata":["of:two"]}}`, 200, &bulk)
	if len(bulk.DeletedIDs) != 1 || bulk.DeletedIDs[0] != made.Metadata.ID {
		t.Errorf("deleted by metadata: %+v, want %s", bulk, made.Metadata.ID)
	}
	g.rest("POST", path+"scheduled/bulk-delete", g.token, `{"filter":{"workflowId":"`+noRun+`"}}`, 200, &bulk)
	if len(bulk.DeletedIDs) != 0 {
		t.Errorf("deleted of no workflow: %+v", bulk)
	}
	g.rest("POST", path+"job/scheduled", g.token, `{}`, 400, nil)
	g.rest("POST", path+"unknown/scheduled", g.token, `{"triggerAt":"2099-01-01T00:00:00Z"}`, 400, nil)
}

// Crons that are made by REST are those of their workflow.
func TestCrons(t *testing.T) {
	g := serve(t, hatchet.Options{})
	k := g.dial(g.token)
	must[*wire.PutWorkflowResponse](t)(k.PutWorkflow(t.Context(), &wire.PutWorkflowRequest{Name: "job", CronTriggers: []string{"0 0 1 1 *"},
		Tasks: []*wire.TaskDefinition{{ReadableId: "job", Action: "job:job"}}}))
	k.define(t, "other")
	path := "/api/v1/tenants/" + g.tenant(k) + "/workflows/"
	type row struct {
		Metadata                                     struct{ ID string }
		Cron, Name, WorkflowName, WorkflowID, Method string
		Enabled                                      bool
		Input                                        map[string]any
		AdditionalMetadata                           map[string]string
		Priority                                     int
	}
	var made row
	body := `{"cronName":"daily","cronExpression":"0 5 * * *","input":{"n":1},"additionalMetadata":{"of":"test"},"priority":3}`
	g.rest("POST", path+"job/crons", g.token, body, 200, &made)
	g.rest("POST", path+"other/crons", g.token, body, 200, nil)
	if made.Cron != "0 5 * * *" || made.Name != "daily" || made.Method != "API" || !made.Enabled || made.Input["n"] != 1.0 ||
		made.AdditionalMetadata["of"] != "test" || made.Priority != 3 {
		t.Errorf("the cron is %+v", made)
	}
	var list struct{ Rows []row }
	g.rest("GET", path+"crons?workflowName=job", g.token, "", 200, &list)
	if len(list.Rows) != 2 || list.Rows[0].Method == list.Rows[1].Method {
		t.Errorf("crons: %+v", list)
	}
	one := path + "crons/" + made.Metadata.ID
	g.rest("PATCH", one, g.token, `{"enabled":false}`, 204, nil)
	if g.rest("GET", one, g.token, "", 200, &made); made.Enabled {
		t.Error("it is enabled")
	}
	g.rest("DELETE", one, g.token, "", 200, nil)
	g.rest("GET", one, g.token, "", 404, nil)
	g.rest("POST", path+"job/crons", g.token, `{"cronName":"bad","cronExpression":"often","input":{}}`, 400, nil)
}

// Filters that are made by REST decide which events start runs.
func TestFilters(t *testing.T) {
	g := serve(t, hatchet.Options{})
	k := g.dial(g.token)
	def := must[*wire.PutWorkflowResponse](t)(k.PutWorkflow(t.Context(), &wire.PutWorkflowRequest{Name: "job", EventTriggers: []string{"e"},
		Tasks: []*wire.TaskDefinition{{ReadableId: "job", Action: "job:job"}}}))
	w := k.work(t, "job")
	path := "/api/v1/stable/tenants/" + g.tenant(k) + "/filters"
	var made struct {
		Metadata          struct{ ID string }
		Scope, Expression string
		Payload           map[string]any
	}
	g.rest("POST", path, g.token, `{"workflowId":"`+def.WorkflowId+`","scope":"s","expression":"input.n > 5","payload":{"p":1}}`, 200, &made)
	g.rest("PATCH", path+"/"+made.Metadata.ID, g.token, `{"expression":"input.n > 1"}`, 200, &made)
	if made.Scope != "s" || made.Expression != "input.n > 1" || made.Payload["p"] != 1.0 {
		t.Errorf("the filter is %+v", made)
	}
	must[*wire.Events](t)(k.BulkPush(t.Context(), &wire.BulkPushEventRequest{Events: []*wire.PushEventRequest{
		{Key: "e", Payload: `{"n":1}`, Scope: proto.String("s")}, {Key: "e", Payload: `{"n":2}`, Scope: proto.String("s")}}}))
	if p := payloadOf(t, w.start()); p.Input["n"] != 2.0 || p.Triggers["filter_payload"]["p"] != 1.0 {
		t.Errorf("payload is %v", p)
	}
	var list struct{ Rows []any }
	if g.rest("GET", path+"?scopes=s", g.token, "", 200, &list); len(list.Rows) != 1 {
		t.Errorf("filters: %v", list)
	}
	g.rest("DELETE", path+"/"+made.Metadata.ID, g.token, "", 200, nil)
	g.rest("GET", path+"/"+made.Metadata.ID, g.token, "", 404, nil)
	g.rest("POST", path, g.token, `{"workflowId":"`+noRun+`","scope":"s","expression":"true"}`, 404, nil)
	g.rest("POST", path, g.token, `{"workflowId":"`+def.WorkflowId+`","scope":"s","expression":"input."}`, 400, nil)
}

// The lines that a task logs are listed.
func TestListLogs(t *testing.T) {
	g := serve(t, hatchet.Options{})
	k := g.dial(g.token)
	k.define(t, "job")
	w := k.work(t, "job")
	run := k.trigger(t, "job", "{}")
	a := w.start()
	for _, line := range []string{"first", "second", "third"} {
		must[*wire.PutLogResponse](t)(k.PutLog(t.Context(), &wire.PutLogRequest{TaskRunExternalId: run, Message: line, Level: proto.String("WARN"),
			Metadata: `{"n":1}`}))
	}
	w.complete(a, "{}")
	var list struct {
		Rows []struct {
			Message, Level, TaskDisplayName string
			Metadata                        map[string]any
		}
	}
	for query, want := range map[string]string{"": "first second third", "?limit=1": "first", "?limit=2&order_by_direction=DESC": "third second",
		"?search=sec": "second", "?levels=ERROR": ""} {
		g.rest("GET", "/api/v1/stable/tasks/"+run+"/logs"+query, g.token, "", 200, &list)
		var got []string
		for _, r := range list.Rows {
			if got = append(got, r.Message); r.Level != "WARN" || r.Metadata["n"] != 1.0 || r.TaskDisplayName != "job" {
				t.Errorf("line is %+v", r)
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("logs%s: %q, want %q", query, got, want)
		}
	}
}

// A line that comes when its run has ended, or of an execution that another has followed, is kept with the attempt.
func TestLateLogs(t *testing.T) {
	g := serve(t, hatchet.Options{})
	k := g.dial(g.token)
	must[*wire.PutWorkflowResponse](t)(k.PutWorkflow(t.Context(), &wire.PutWorkflowRequest{Name: "job", Tasks: []*wire.TaskDefinition{
		{ReadableId: "job", Action: "job:job", Retries: 1}}}))
	w := k.work(t, "job")
	run := k.trigger(t, "job", "{}")
	put := func(a *wire.AssignedAction, line string) {
		must[*wire.PutLogResponse](t)(k.PutLog(t.Context(), &wire.PutLogRequest{TaskRunExternalId: run, Message: line, TaskRetryCount: &a.RetryCount,
			Level: proto.String("WARN"), Metadata: `{"n":1}`}))
	}
	first := w.start()
	put(first, "in time")
	w.report(first, wire.StepEventType_STEP_EVENT_FAILED, `"it fails"`)
	second := w.start()
	put(first, "of the first, late")
	w.complete(second, "{}")
	put(second, "of the second, late")
	must[*wire.PutLogResponse](t)(k.PutLog(t.Context(), &wire.PutLogRequest{TaskRunExternalId: run, Message: "of any, late"}))
	var got []string
	for _, l := range must[[]stint.LogLine](t)(g.c.Logs(t.Context(), run, 0, 10)) {
		got = append(got, fmt.Sprint(l.Attempt, " ", l.Message, " ", string(l.Attrs)))
	}
	want := []string{`1 in time {"n":1}`, `1 of the first, late {"n":1}`, `2 of the second, late {"n":1}`, "2 of any, late "}
	if !slices.Equal(got, want) {
		t.Errorf("lines %q, want %q", got, want)
	}
	for _, id := range []string{noRun, "no ID"} { // there is nothing to keep it with
		must[*wire.PutLogResponse](t)(k.PutLog(t.Context(), &wire.PutLogRequest{TaskRunExternalId: id, Message: "x"}))
	}
}

// Runs are started, canceled and replayed by calls of gRPC too.
func TestAdminCalls(t *testing.T) {
	g := serve(t, hatchet.Options{})
	k := g.dial(g.token)
	k.define(t, "job")
	run := must[*wire.TriggerWorkflowRunResponse](t)(k.TriggerWorkflowRun(t.Context(), &wire.TriggerWorkflowRunRequest{WorkflowName: "job",
		Input: []byte(`{"n":1}`), AdditionalMetadata: []byte(`{"of":"test"}`)})).ExternalId
	k.trigger(t, "job", "{}")
	done := must[*wire.TasksResponse](t)(k.CancelTasks(t.Context(), &wire.TasksRequest{Filter: &wire.TasksFilter{AdditionalMetadata: []string{"of:test"}}}))
	if len(done.ExternalIds) != 1 || done.ExternalIds[0] != run {
		t.Errorf("canceled %v, want %s", done.ExternalIds, run)
	}
	if again := must[*wire.TasksResponse](t)(k.CancelTasks(t.Context(), &wire.TasksRequest{ExternalIds: []string{run}})); len(again.ExternalIds) != 0 {
		t.Errorf("canceled again: %v", again)
	}
	if done = must[*wire.TasksResponse](t)(k.ReplayTasks(t.Context(), &wire.TasksRequest{ExternalIds: []string{run}})); len(done.ExternalIds) != 1 {
		t.Errorf("replayed %v", done.ExternalIds)
	}
	if info := must[*stint.RunInfo](t)(g.c.GetRun(t.Context(), run)); info.State != stint.StateQueued || string(info.Input) != `{"n":1}` {
		t.Errorf("the run is %v with input %s", info.State, info.Input)
	}
	_, err := k.CancelTasks(t.Context(), &wire.TasksRequest{ExternalIds: []string{run}, Filter: &wire.TasksFilter{}})
	wantCode(t, err, codes.InvalidArgument, "not both")
}

// Of a bulk, a run whose idempotency key is in use is not started, which the status names; the others are. That a run has
// an index says nothing if it has no parent.
func TestBulkIdempotency(t *testing.T) {
	g := serve(t, hatchet.Options{})
	k := g.dial(g.token)
	must[*wire.PutWorkflowResponse](t)(k.PutWorkflow(t.Context(), &wire.PutWorkflowRequest{Name: "once",
		Idempotency: &wire.Idempotency{Expression: "input.id", TtlMs: 3_600_000}, Tasks: []*wire.TaskDefinition{{ReadableId: "once", Action: "once:once"}}}))
	request := func(id string, index int32) *wire.TriggerWorkflowRequest {
		return &wire.TriggerWorkflowRequest{Name: "once", Input: `{"id":"` + id + `"}`, ChildIndex: &index}
	}
	_, err := k.BulkTriggerWorkflow(t.Context(), &wire.BulkTriggerWorkflowRequest{Workflows: []*wire.TriggerWorkflowRequest{
		request("a", 0), request("a", 1), request("b", 2)}})
	wantCode(t, err, codes.AlreadyExists, "idempotency key")
	var of wire.BulkIdempotencyCollision
	detail := status.Convert(err).Proto().GetDetails()[0]
	if err := proto.Unmarshal(detail.Value, &of); err != nil || detail.TypeUrl != "type.googleapis.com/v1.BulkTriggerIdempotencyCollisionError" {
		t.Fatalf("detail %s: %v", detail.TypeUrl, err)
	}
	if len(of.SuccessfulWorkflowRunExternalIds) != 2 || len(of.Collisions) != 1 ||
		of.Collisions[0].ExistingRunExternalId != of.SuccessfulWorkflowRunExternalIds[0] {
		t.Errorf("the status says %v", &of)
	}
}
