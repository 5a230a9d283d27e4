package hatchet_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/stint-dev/stint/hatchet"
	"github.com/stint-dev/stint/hatchet/internal/wire"
)

// Figures count the runs that wait, that a worker has, and that have ended.
func TestMetrics(t *testing.T) {
	g := serve(t, hatchet.Options{})
	k := g.dial(g.token)
	def := must[*wire.PutWorkflowResponse](t)(k.PutWorkflow(t.Context(), &wire.PutWorkflowRequest{Name: "job", Tasks: []*wire.TaskDefinition{
		{ReadableId: "job", Action: "job:job", Concurrency: []*wire.Concurrency{{Expression: "input.user", MaxRuns: proto.Int32(1),
			LimitStrategy: wire.LimitStrategy_LIMIT_GROUP_ROUND_ROBIN.Enum()}}}}}))
	k.define(t, "later")
	w := k.work(t, "job")
	k.trigger(t, "job", `{"user":"ann"}`)
	w.complete(w.start(), "{}")
	for _, user := range []string{"ann", "ann", "bob"} {
		k.trigger(t, "job", fmt.Sprintf(`{"user":%q}`, user))
	}
	k.trigger(t, "later", "{}")
	w.start()
	w.start()
	tenant := "/api/v1/tenants/" + g.tenant(k)
	var queues struct {
		Total    struct{ NumQueued, NumRunning, NumPending int }
		Workflow map[string]struct{ NumQueued, NumRunning int }
		Queues   map[string]int
	}
	g.rest("GET", tenant+"/queue-metrics", g.token, "", 200, &queues)
	if queues.Total.NumRunning != 2 || queues.Workflow["job"].NumRunning != 2 || queues.Workflow["later"].NumQueued != 1 {
		t.Errorf("queue-metrics: %+v", queues)
	}
	if g.rest("GET", tenant+"/step-run-queue-metrics", g.token, "", 200, &queues); queues.Queues["later"] != 1 {
		t.Errorf("step-run-queue-metrics: %+v", queues.Queues)
	}
	var stats map[string]struct{ Queued, Running struct{ Total int } }
	if g.rest("GET", tenant+"/task-stats", g.token, "", 200, &stats); stats["job"].Running.Total != 2 || stats["later"].Queued.Total != 1 {
		t.Errorf("task-stats: %+v", stats)
	}
	var rows []struct {
		Status string
		Count  int
	}
	counts := map[string]int{}
	g.rest("GET", "/api/v1/stable/tenants/"+g.tenant(k)+"/task-metrics?since=2020-01-01T00:00:00Z&workflow_ids="+def.WorkflowId, g.token, "",
		200, &rows)
	for _, r := range rows {
		counts[r.Status] = r.Count
	}
	if len(rows) != 5 || counts["RUNNING"] != 2 || counts["COMPLETED"] != 1 || counts["FAILED"] != 0 || counts["QUEUED"] != 1 {
		t.Errorf("task-metrics: %+v", rows)
	}
	var groups struct{ GroupKeyRunsCount, GroupKeyCount int }
	path := "/api/v1/workflows/" + def.WorkflowId + "/metrics"
	if g.rest("GET", path+"?groupKey=ann", g.token, "", 200, &groups); groups.GroupKeyRunsCount != 2 || groups.GroupKeyCount != 2 {
		t.Errorf("metrics of the workflow: %+v", groups)
	}
	if g.rest("GET", path+"?status=RUNNING", g.token, "", 200, &groups); groups.GroupKeyRunsCount != 2 {
		t.Errorf("running: %+v", groups)
	}
	g.rest("GET", "/api/v1/workflows/"+noRun+"/metrics", g.token, "", 404, nil)
	text := g.rest("GET", tenant+"/prometheus-metrics", g.token, "", 200, nil)
	for _, line := range []string{"# TYPE hatchet_tenant_created_tasks counter", `hatchet_tenant_queue_size{tenant_id="` + g.tenant(k) + `"} 1`,
		`hatchet_tenant_used_worker_slots{tenant_id="` + g.tenant(k) + `"} 2`} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("no %s in %s", line, text)
		}
	}
}

// A filter's expression is computed for an event that is not published, or it is said why it cannot be.
func TestDebugExpr(t *testing.T) {
	g := serve(t, hatchet.Options{})
	path := "/api/v1/stable/tenants/" + g.tenant(g.dial(g.token)) + "/cel/debug"
	for expr, want := range map[string]string{
		"input.n > payload.n && additional_metadata.a == 'b'": `{"output":true,"status":"SUCCESS"}`,
		"input.n < payload.n": `{"output":false,"status":"SUCCESS"}`, "input.gone": "no such key", "input.": "Syntax error", "1": "true or false",
	} {
		got := g.rest("POST", path, g.token, fmt.Sprintf(
			`{"expression":%q,"input":{"n":7},"filterPayload":{"n":5},"additionalMetadata":{"a":"b"}}`, expr), 200, nil)
		if !strings.Contains(got, want) {
			t.Errorf("%s: %s, want %s", expr, got, want)
		}
	}
}

// The lines of several tasks are listed in the order in which they were logged.
func TestListAllLogs(t *testing.T) {
	g := serve(t, hatchet.Options{})
	k := g.dial(g.token)
	k.define(t, "job")
	w := k.work(t, "job")
	var runs []string
	var began []*wire.AssignedAction
	for range 2 {
		runs = append(runs, k.trigger(t, "job", "{}"))
		began = append(began, w.start())
	}
	for i, line := range []string{"first", "second", "third", "fourth"} {
		must[*wire.PutLogResponse](t)(k.PutLog(t.Context(), &wire.PutLogRequest{TaskRunExternalId: runs[i%2], Message: line, Metadata: `{}`}))
	}
	for _, a := range began {
		w.complete(a, "{}")
	}
	type row struct {
		Message, TaskExternalID string
		CreatedAt               time.Time
	}
	lines := func(query string) (messages []string, rows []row) {
		t.Helper()
		var list struct{ Rows []row }
		g.rest("GET", "/api/v1/stable/tenants/"+g.tenant(k)+"/logs"+query, g.token, "", 200, &list)
		for _, r := range list.Rows {
			messages = append(messages, r.Message)
		}
		return messages, list.Rows
	}
	all, rows := lines("")
	if len(all) != 4 || !slices.IsSortedFunc(rows, func(a, b row) int { return a.CreatedAt.Compare(b.CreatedAt) }) {
		t.Fatalf("logs: %+v", rows)
	}
	if got, _ := lines("?limit=2"); !slices.Equal(got, all[:2]) {
		t.Errorf("the first two of %v: %v", all, got)
	}
	if _, got := lines("?limit=2&order_by_direction=DESC"); len(got) != 2 || !got[0].CreatedAt.Equal(rows[3].CreatedAt) ||
		got[1].CreatedAt.After(got[0].CreatedAt) {
		t.Errorf("the last two of %+v: %+v", rows, got)
	}
	if got, _ := lines("?taskExternalIds=" + runs[1]); !slices.Equal(got, []string{"second", "fourth"}) {
		t.Errorf("of one task: %v", got)
	}
	if got, _ := lines("?search=ir"); len(got) != 2 || !slices.Contains(got, "first") || !slices.Contains(got, "third") {
		t.Errorf("with a text: %v", got)
	}
}

// Events are listed by scope, and by what they started.
func TestListEvents(t *testing.T) {
	g := serve(t, hatchet.Options{})
	k := g.dial(g.token)
	def := must[*wire.PutWorkflowResponse](t)(k.PutWorkflow(t.Context(), &wire.PutWorkflowRequest{Name: "job", EventTriggers: []string{"starts"},
		Tasks: []*wire.TaskDefinition{{ReadableId: "job", Action: "job:job"}}}))
	for _, e := range []*wire.PushEventRequest{{Key: "starts", Payload: "{}"}, {Key: "nothing", Payload: "{}", Scope: proto.String("s")}} {
		must[*wire.Event](t)(k.Push(t.Context(), e))
	}
	var list struct{ Rows []struct{ Key string } }
	for query, want := range map[string]string{"": "nothing starts", "scopes=s": "nothing", "scopes=t": "", "workflowIds=" + def.WorkflowId: "starts",
		"workflowIds=" + noRun: "", "workflowRunStatuses=QUEUED": "starts", "workflowRunStatuses=FAILED": "", "limit=1&offset=1": "starts"} {
		g.rest("GET", "/api/v1/stable/tenants/"+g.tenant(k)+"/events?"+query, g.token, "", 200, &list)
		var got []string
		for _, r := range list.Rows {
			got = append(got, r.Key)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("events?%s: %v, want %q", query, got, want)
		}
	}
	g.rest("GET", "/api/v1/stable/tenants/"+g.tenant(k)+"/events?workflowRunStatuses=GONE", g.token, "", 400, nil)
}

// A stream by metadata has the events of the runs that have it, and ends with the last of them.
func TestStreamByMetadata(t *testing.T) {
	g := serve(t, hatchet.Options{})
	k := g.dial(g.token)
	k.define(t, "job")
	w := k.work(t, "job")
	trigger := func(of string) string {
		return must[*wire.TriggerWorkflowResponse](t)(k.TriggerWorkflow(t.Context(), &wire.TriggerWorkflowRequest{Name: "job", Input: "{}",
			AdditionalMetadata: proto.String(fmt.Sprintf(`{"of":%q}`, of))})).WorkflowRunId
	}
	first, other := trigger("ann"), trigger("bob")
	actions := map[string]*wire.AssignedAction{}
	for range 2 {
		a := w.start()
		actions[a.WorkflowRunId] = a
	}
	ctx, cancel := context.WithTimeout(t.Context(), watchdog)
	defer cancel()
	stream := must[grpc.ServerStreamingClient[wire.WorkflowEvent]](t)(k.SubscribeToWorkflowEvents(ctx, &wire.SubscribeToWorkflowEventsRequest{
		AdditionalMetaKey: proto.String("of"), AdditionalMetaValue: proto.String("ann")}))
	next := func(run string, kind wire.ResourceEventType) *wire.WorkflowEvent {
		t.Helper()
		e := must[*wire.WorkflowEvent](t)(stream.Recv())
		if e.WorkflowRunId != run || e.EventType != kind {
			t.Fatalf("event %v of run %s, want %v of %s", e.EventType, e.WorkflowRunId, kind, run)
		}
		return e
	}
	next(first, wire.ResourceEventType_RESOURCE_EVENT_STARTED)
	second := trigger("ann")
	actions[second] = w.start()
	next(second, wire.ResourceEventType_RESOURCE_EVENT_STARTED)
	w.complete(actions[other], "{}")
	w.complete(actions[first], "{}")
	next(first, wire.ResourceEventType_RESOURCE_EVENT_COMPLETED)
	if e := next(first, wire.ResourceEventType_RESOURCE_EVENT_COMPLETED); e.Hangup {
		t.Error("it hangs up before the last run has ended")
	}
	w.complete(actions[second], "{}")
	next(second, wire.ResourceEventType_RESOURCE_EVENT_COMPLETED)
	if e := next(second, wire.ResourceEventType_RESOURCE_EVENT_COMPLETED); !e.Hangup {
		t.Error("it does not hang up with the last run")
	}
	if e, err := stream.Recv(); err == nil {
		t.Errorf("after the end: %v", e)
	}
	stream = must[grpc.ServerStreamingClient[wire.WorkflowEvent]](t)(k.SubscribeToWorkflowEvents(ctx, &wire.SubscribeToWorkflowEventsRequest{}))
	_, err := stream.Recv()
	wantCode(t, err, codes.InvalidArgument, "additional_meta_key")
}

// Traces that SDKs export are given to the host, or dropped.
func TestTraces(t *testing.T) {
	const export = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
	got := make(chan []byte, 1)
	for _, opts := range []hatchet.Options{{}, {Traces: func(_ context.Context, request []byte) error { got <- request; return nil }}} {
		k := serve(t, opts)
		sent := &wire.PushEventRequest{Key: "any", Payload: "bytes"}
		if err := k.dial(k.token).conn.Invoke(t.Context(), export, sent, &wire.GetVersionResponse{}); err != nil {
			t.Fatal(err)
		}
		if err := k.dial("").conn.Invoke(t.Context(), export, sent, &wire.GetVersionResponse{}); err == nil {
			t.Error("traces are taken without a token")
		}
		if opts.Traces == nil {
			continue
		}
		back := &wire.PushEventRequest{}
		if err := proto.Unmarshal(<-got, back); err != nil || !proto.Equal(back, sent) {
			t.Errorf("the host got %v, %v", back, err)
		}
	}
}
