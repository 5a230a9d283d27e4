package hatchet_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/stint-dev/stint"
	_ "github.com/stint-dev/stint/cel"
	"github.com/stint-dev/stint/hatchet"
	"github.com/stint-dev/stint/hatchet/internal/wire"
	"github.com/stint-dev/stint/store/postgres"
)

// watchdog ends what never comes.
const watchdog = 2 * time.Minute

// A gateway is a server under test, on a listener of this machine.
type gateway struct {
	t       testing.TB
	c       *stint.Client
	s       *hatchet.Server
	address string
	token   string
	stop    func()
}

// A database is a file, or a schema of the server of STINT_DATABASE_URL.
type database struct{ url, schema, path string }

// newDatabase returns a new one, which goes with the test.
func newDatabase(t testing.TB) database {
	t.Helper()
	d := database{os.Getenv("STINT_DATABASE_URL"), "h_" + strings.ToLower(rand.Text()), filepath.Join(t.TempDir(), "test.db")}
	if d.url != "" {
		t.Cleanup(func() {
			if err := postgres.Drop(context.Background(), d.url, postgres.Options{Schema: d.schema}); err != nil {
				t.Error(err)
			}
		})
	}
	return d
}

func (d database) open(ctx context.Context) (*stint.Client, error) {
	quiet := stint.WithLogger(slog.New(slog.DiscardHandler))
	if d.url == "" {
		return stint.Open(d.path, quiet)
	}
	s, err := postgres.Open(ctx, d.url, postgres.Options{Schema: d.schema})
	if err != nil {
		return nil, err
	}
	return stint.New(s, quiet)
}

// openDB makes a database. The function opens it, and opens it again.
func openDB(t testing.TB) func() *stint.Client {
	t.Helper()
	d := newDatabase(t)
	return func() *stint.Client { return must[*stint.Client](t)(d.open(t.Context())) }
}

// serve serves a new database until the test ends.
func serve(t testing.TB, opts hatchet.Options) *gateway {
	t.Helper()
	return serveOn(t, openDB(t)(), "127.0.0.1:0", opts)
}

// serveOn serves a database, which the gateway closes.
func serveOn(t testing.TB, c *stint.Client, address string, opts hatchet.Options) *gateway {
	t.Helper()
	opts.Logger = slog.New(slog.DiscardHandler)
	l := must[net.Listener](t)(net.Listen("tcp", address))
	opts.Address = l.Addr().String()
	g := &gateway{t: t, c: c, address: l.Addr().String()}
	g.s = must[*hatchet.Server](t)(hatchet.NewServer(c, opts))
	g.token = must[string](t)(g.s.Token())
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.s.Serve(ctx, l) }()
	stopped := false
	g.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
		if err := c.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	t.Cleanup(g.stop)
	return g
}

// An sdk is a connection with the calls that SDKs make.
type sdk struct {
	wire.DispatcherClient
	wire.WorkflowServiceClient
	wire.AdminServiceClient
	wire.EventsServiceClient
	wire.V1DispatcherClient
	conn *grpc.ClientConn
}

// named calls methods by the names that the protocol has for them.
type named struct{ *grpc.ClientConn }

func (n named) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	return n.ClientConn.Invoke(ctx, onWire(method), args, reply, opts...)
}

func (n named) NewStream(ctx context.Context, d *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	return n.ClientConn.NewStream(ctx, d, onWire(method), opts...)
}

func onWire(method string) string {
	method = strings.Replace(method, "stint.hatchet.wire.", "", 1)
	if strings.HasPrefix(method, "/Admin") || strings.HasPrefix(method, "/V1") {
		return "/v1." + method[1:]
	}
	return method
}

// dial connects with a token.
func (g *gateway) dial(token string) *sdk { return dialTo(g.t, g.address, token) }

// dialTo connects to an address.
func dialTo(t testing.TB, address, token string, opts ...grpc.DialOption) *sdk {
	t.Helper()
	conn := must[*grpc.ClientConn](t)(grpc.NewClient("passthrough:///"+address, append(opts,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithUnaryInterceptor(func(ctx context.Context, m string, req, reply any, cc *grpc.ClientConn, call grpc.UnaryInvoker,
			opts ...grpc.CallOption) error {
			return call(metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token), m, req, reply, cc, opts...)
		}),
		grpc.WithStreamInterceptor(func(ctx context.Context, d *grpc.StreamDesc, cc *grpc.ClientConn, m string, open grpc.Streamer,
			opts ...grpc.CallOption) (grpc.ClientStream, error) {
			return open(metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token), d, cc, m, opts...)
		}))...))
	t.Cleanup(func() { conn.Close() })
	n := named{conn}
	return &sdk{wire.NewDispatcherClient(n), wire.NewWorkflowServiceClient(n), wire.NewAdminServiceClient(n), wire.NewEventsServiceClient(n),
		wire.NewV1DispatcherClient(n), conn}
}

// A fakeWorker is a worker as an SDK has it, which does what the test says.
type fakeWorker struct {
	t      testing.TB
	k      *sdk
	id     string
	stream grpc.ServerStreamingClient[wire.AssignedAction]
	cut    context.CancelFunc // ends the stream
}

// define puts tasks that stand alone.
func (k *sdk) define(t testing.TB, names ...string) {
	t.Helper()
	for _, n := range names {
		must[*wire.PutWorkflowResponse](t)(k.PutWorkflow(t.Context(), &wire.PutWorkflowRequest{Name: n, Tasks: []*wire.TaskDefinition{
			{ReadableId: n, Action: n + ":" + n}}}))
	}
}

// defineBatch puts a task of batches.
func (k *sdk) defineBatch(t testing.TB, name string, b *wire.BatchConfig) {
	t.Helper()
	must[*wire.PutWorkflowResponse](t)(k.PutWorkflow(t.Context(), &wire.PutWorkflowRequest{Name: name, Tasks: []*wire.TaskDefinition{
		{ReadableId: name, Action: name + ":" + name, Batch: b}}}))
}

// work registers a worker for tasks that stand alone, and opens its stream.
func (k *sdk) work(t testing.TB, tasks ...string) *fakeWorker {
	t.Helper()
	r := &wire.RegisterRequest{WorkerName: "fake", SlotConfig: map[string]int32{"default": 10}}
	for _, n := range tasks {
		r.Actions = append(r.Actions, n+":"+n)
	}
	return k.workAs(t, r)
}

func (k *sdk) workAs(t testing.TB, r *wire.RegisterRequest) *fakeWorker {
	t.Helper()
	w := &fakeWorker{t: t, k: k, id: must[*wire.RegisterResponse](t)(k.Register(t.Context(), r)).WorkerId}
	w.listen()
	return w
}

// listen opens the worker's stream, and waits until the server has it.
func (w *fakeWorker) listen() {
	w.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	w.cut = cancel
	w.t.Cleanup(cancel)
	w.stream = must[grpc.ServerStreamingClient[wire.AssignedAction]](w.t)(w.k.ListenV2(ctx, &wire.ListenRequest{WorkerId: w.id}))
	must[metadata.MD](w.t)(w.stream.Header())
}

// next returns the next action, which must be of the type.
func (w *fakeWorker) next(kind wire.ActionType) *wire.AssignedAction {
	w.t.Helper()
	a := must[*wire.AssignedAction](w.t)(w.stream.Recv())
	if a.ActionType != kind {
		w.t.Fatalf("action is %v, want %v: %v", a.ActionType, kind, a)
	}
	return a
}

func (w *fakeWorker) start() *wire.AssignedAction {
	w.t.Helper()
	return w.next(wire.ActionType_ACTION_START_TASK)
}

// report reports on an action.
func (w *fakeWorker) report(a *wire.AssignedAction, kind wire.StepEventType, payload string) {
	w.t.Helper()
	must[*wire.WorkerResponse](w.t)(w.k.SendStepActionEvent(w.t.Context(), &wire.StepActionEvent{WorkerId: w.id, JobId: a.JobId,
		TaskId: a.TaskId, TaskRunExternalId: a.TaskRunExternalId, ActionId: a.ActionId, EventType: kind, EventPayload: payload,
		RetryCount: &a.RetryCount}))
}

// reportBatch reports on one member of a batch.
func (w *fakeWorker) reportBatch(b *wire.AssignedAction, kind wire.StepEventType, run, payload string) {
	w.t.Helper()
	must[*wire.WorkerResponse](w.t)(w.k.SendBatchActionEvent(w.t.Context(), &wire.BatchActionEvent{WorkerId: w.id, ActionId: b.ActionId,
		BatchId: b.BatchId, EventType: kind, Items: []*wire.BatchActionEventItem{{TaskRunExternalId: run, EventPayload: payload}}}))
}

func (w *fakeWorker) started(a *wire.AssignedAction) {
	w.t.Helper()
	w.report(a, wire.StepEventType_STEP_EVENT_STARTED, "")
}

func (w *fakeWorker) complete(a *wire.AssignedAction, output string) {
	w.t.Helper()
	w.report(a, wire.StepEventType_STEP_EVENT_COMPLETED, output)
}

// trigger starts a run.
func (k *sdk) trigger(t testing.TB, name, input string) string {
	t.Helper()
	return must[*wire.TriggerWorkflowResponse](t)(k.TriggerWorkflow(t.Context(), &wire.TriggerWorkflowRequest{Name: name, Input: input})).WorkflowRunId
}

// result waits for the result of a run.
func (k *sdk) result(t testing.TB, run string) *wire.WorkflowRunEvent {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), watchdog)
	defer cancel()
	stream, err := k.SubscribeToWorkflowRuns(ctx)
	if err == nil {
		err = stream.Send(&wire.SubscribeToWorkflowRunsRequest{WorkflowRunId: run})
	}
	if err != nil {
		t.Fatal(err)
	}
	return must[*wire.WorkflowRunEvent](t)(stream.Recv())
}

// get calls REST, checks the status, and decodes the answer into v unless it is nil.
func (g *gateway) rest(method, path, token, body string, want int, v any) string {
	g.t.Helper()
	req, err := http.NewRequestWithContext(g.t.Context(), method, "http://"+g.address+path, strings.NewReader(body))
	if err != nil {
		g.t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		g.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		g.t.Fatal(err)
	}
	if resp.StatusCode != want {
		g.t.Fatalf("%s %s: status %d, want %d: %s", method, path, resp.StatusCode, want, text)
	}
	if v != nil {
		if err := json.Unmarshal(text, v); err != nil {
			g.t.Fatalf("%s %s: %v in %s", method, path, err, text)
		}
	}
	return string(text)
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// wantCode checks the status of an error, and that its text has the words.
func wantCode(t testing.TB, err error, code codes.Code, words string) {
	t.Helper()
	if status.Code(err) != code || !strings.Contains(status.Convert(err).Message(), words) {
		t.Errorf("error is %v, want %v with %q", err, code, words)
	}
}
