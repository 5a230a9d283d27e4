package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/sqlite"
)

// makeFile makes an empty file with the store's tables.
func makeFile(t testing.TB, path string) {
	t.Helper()
	openedFile(t, path).Close()
}

func openedFile(t testing.TB, path string) *sqlite.Store {
	t.Helper()
	s, err := sqlite.Open(path, sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// newTarget returns the options of a schema that is dropped after the test.
func newTarget(t testing.TB) Options {
	t.Helper()
	return dropAfter(t, Options{Schema: "t_" + randomHex()})
}

// dropAfter drops a schema after the test.
func dropAfter(t testing.TB, opts Options) Options {
	t.Helper()
	set, err := newSettings(serverURL(t), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c := dial(t, set)
		_, err := c.Exec(context.Background(), "SET client_min_messages = warning; DROP SCHEMA IF EXISTS "+set.Schema+" CASCADE")
		if err != nil {
			t.Error(err)
		}
	})
	return opts
}

// move moves a file, without problems.
func move(t testing.TB, path string, opts Options) MoveReport {
	t.Helper()
	r, err := Move(context.Background(), path, serverURL(t), MoveOptions{Options: opts})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range r.Problems {
		t.Error(p)
	}
	return r
}

// A shop has a task of every kind. Its client works on s, and is closed by the caller.
type shop struct {
	*stint.Client
	ok, fails, waits, children, limited, rated, later *stint.Task[int, int]
	flow                                              *stint.Workflow[int]
}

func newShop(t testing.TB, s store.Store) *shop {
	t.Helper()
	c, err := stint.New(s, stint.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	x := &shop{Client: c}
	plain := func(ctx context.Context, n int) (int, error) { return n + 1, nil }
	x.ok = stint.NewTask(c, "ok", func(ctx context.Context, n int) (int, error) {
		stint.Logger(ctx).Info("at work", "n", n, "text", "äöü\u2028")
		return n + 1, errors.Join(stint.Progress(ctx, int64(n), 100), stint.Stream(ctx, []byte{0, 1, 255, byte(n)}))
	}, stint.WithEvents("order:*"))
	x.fails = stint.NewTask(c, "fails", func(_ context.Context, n int) (int, error) { return 0, fmt.Errorf("no %d", n) }, stint.WithRetries(2),
		stint.WithRetryPolicy(func(int, error) time.Duration { return time.Millisecond }))
	x.waits = stint.NewTask(c, "waits", func(ctx context.Context, n int) (int, error) {
		one, err := stint.Step(ctx, "one", func(context.Context) (int, error) { return n + 1, nil })
		if err != nil {
			return 0, err
		}
		two, err := stint.WaitForEvent[int](ctx, fmt.Sprint("paid:", n))
		return one + two, err
	})
	x.children = stint.NewTask(c, "children", func(ctx context.Context, n int) (int, error) { return x.waits.Run(ctx, n) })
	x.limited = stint.NewTask(c, "limited", plain, stint.WithConcurrency(stint.Concurrency[int]{Name: "one", Max: 1}))
	x.rated = stint.NewTask(c, "rated", plain, stint.WithRateLimit("api", 1))
	x.later = stint.NewTask(c, "later", plain, stint.WithCron("0 3 * * *"), stint.WithCronInput(7))
	x.flow = stint.NewWorkflow[int](c, "flow")
	a := stint.AddTask(x.flow, "a", plain)
	b := stint.AddTask(x.flow, "b", plain, stint.WithParents(a))
	stint.AddTask(x.flow, "c", plain, stint.WithParents(a, b), stint.WithWaitFor(stint.UserEvent("ship")))
	return x
}

// work runs a worker until the function that it returns.
func (x *shop) work(t testing.TB, opts ...stint.WorkerOption) (stop func()) {
	t.Helper()
	w, err := x.NewWorker(opts...)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// fill makes rows of every kind.
func (x *shop) fill(t testing.TB) {
	t.Helper()
	ctx := t.Context()
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ok(x.SetRateLimit(ctx, "api", 100, 3))
	stop := x.work(t, stint.WithName("w1"), stint.WithLabels(map[string]string{"zone": "a"}))
	for i := range 5 {
		_, err := x.ok.Run(ctx, i, stint.WithMetadata(map[string]string{"tenant": "acme"}))
		ok(err)
		_, err = x.rated.Run(ctx, i)
		ok(err)
	}
	if _, err := x.fails.Run(ctx, 1); err == nil {
		t.Fatal("fails did not")
	}
	_, err := x.children.Enqueue(ctx, 4, stint.WithIdempotencyKey("kept", time.Hour))
	ok(err)
	_, err = x.flow.Enqueue(ctx, 5, stint.WithIdempotencyKey("kept", time.Hour))
	ok(err)
	_, err = x.Publish(ctx, "order:new", 6, stint.WithDeliveryID("d1"))
	ok(err)
	for n := range 3 {
		_, err := x.limited.Enqueue(ctx, n, stint.WithQueue("closed"))
		ok(err)
	}
	_, err = x.limited.Run(ctx, 3)
	ok(err)
	big := strings.Repeat("x", 50_000)
	_, err = x.later.Enqueue(ctx, 1, stint.WithDelay(time.Hour), stint.WithMetadata(map[string]string{"big": big[:900]}))
	ok(err)
	runs := make([]int, 5000) // a bulk that fills a lane of its own
	_, err = x.ok.EnqueueMany(ctx, runs, stint.WithQueue("bulk"), stint.WithDelay(time.Hour))
	ok(err)
	ok(x.PauseQueue(ctx, "closed"))
	for { // until the workflow and the durable function wait
		c, err := x.ListRuns(ctx, stint.RunFilter{States: []stint.State{stint.StateWaiting}})
		ok(err)
		if len(c.Runs) >= 3 {
			break
		}
		_, err = x.ok.Run(ctx, 1)
		ok(err)
	}
	stop()
}

func TestMoveOfEveryKind(t *testing.T) {
	opts := newTarget(t)
	path := filepath.Join(t.TempDir(), "app.db")
	x := newShop(t, openedFile(t, path))
	x.fill(t)
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	s := openedFile(t, path)
	before := dump(t, s, true)
	s.Close()
	withPassword := strings.Replace(serverURL(t), "@", ":secret@", 1)
	if _, err := Move(t.Context(), path, withPassword, MoveOptions{Options: opts}); err != nil {
		t.Fatal(err)
	}
	refused(t, path)
	if _, err := sqlite.Open(path, sqlite.Options{}); !errors.Is(err, store.ErrMoved) || !strings.Contains(err.Error(), "postgres://") {
		t.Errorf("open of the file: %v; want ErrMoved with the URL", err)
	}
	if _, err := sqlite.Open(path, sqlite.Options{ReadOnly: true}); !errors.Is(err, store.ErrMoved) {
		t.Errorf("open of the file to read: %v; want ErrMoved", err)
	}
	p, err := Open(t.Context(), serverURL(t), opts)
	if err != nil {
		t.Fatal(err)
	}
	same(t, before, dump(t, p, true))
	p.Close()

	back := filepath.Join(t.TempDir(), "back.db")
	r, err := MoveBack(t.Context(), serverURL(t), back, MoveOptions{Options: opts})
	if err != nil || len(r.Problems) > 0 {
		t.Fatal(err, r.Problems)
	}
	if _, err := Open(t.Context(), serverURL(t), opts); !errors.Is(err, store.ErrMoved) || !strings.Contains(err.Error(), back) {
		t.Errorf("open of the database: %v; want ErrMoved with the path", err)
	}
	s = openedFile(t, back)
	same(t, before, dump(t, s, true))
	x = newShop(t, s)
	defer x.Close()
	x.goesOn(t)
}

// goesOn ends what fill has begun.
func (x *shop) goesOn(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	waiting, err := x.children.Enqueue(ctx, 4, stint.WithIdempotencyKey("kept", time.Hour))
	if err != nil || !waiting.Existing() {
		t.Fatalf("the idempotency key is new: %v", err)
	}
	defer x.work(t)()
	for key, payload := range map[string]any{"paid:4": 10, "ship": nil} {
		if _, err := x.Publish(ctx, key, payload); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := waiting.Wait(ctx); got != 15 || err != nil {
		t.Errorf("the durable function returned %d, %v; want 15", got, err)
	}
	run, err := x.flow.Enqueue(ctx, 5, stint.WithIdempotencyKey("kept", time.Hour))
	if err != nil || !run.Existing() {
		t.Fatalf("the workflow's idempotency key is new: %v", err)
	}
	if _, err := run.Wait(ctx); err != nil {
		t.Errorf("workflow: %v", err)
	}
	if err := x.ResumeQueue(ctx, "closed"); err != nil {
		t.Fatal(err)
	}
	if _, err := x.limited.Run(ctx, 9, stint.WithQueue("closed")); err != nil {
		t.Errorf("after a run in the resumed queue: %v", err)
	}
}

// refused checks that a file refuses the writes of a program that knows nothing of moves, and names the database
// without its password.
func refused(t *testing.T, path string) {
	t.Helper()
	db, err := openFile(path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, statement := range []string{"UPDATE stint_runs SET priority = 1", "DELETE FROM stint_journal", "DELETE FROM stint_keys",
		"INSERT INTO stint_queues (name) VALUES ('new')", "INSERT OR REPLACE INTO stint_queues (name) VALUES ('default')"} {
		_, err := db.ExecContext(t.Context(), statement)
		if err == nil || !strings.Contains(err.Error(), "this file has moved to postgres://") || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v; want an error with the URL without its password", statement, err)
		}
	}
	if _, err := sqlite.Open(path, sqlite.Options{}); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("open: %v; want an error without the password", err)
	}
}

func TestTextsForServer(t *testing.T) {
	for text, want := range map[string]string{"": "", "äöü": "äöü", "a\x00b": "a?b", "\xff\xfeü\xc3": "??ü?", "\uFFFD": "\uFFFD"} {
		if got := toServer(text, "text"); got != want || len(want) != len(text) {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// A server whose clock is off is told of, since its time decides from the switch on.
func TestMoveComparesClocks(t *testing.T) {
	for _, c := range []struct {
		ahead time.Duration
		told  bool
	}{{0, false}, {MaxSkew, false}, {-MaxSkew, false}, {time.Hour, true}, {-time.Hour, true}} {
		var said []string
		m := mover{MoveOptions: MoveOptions{Progress: func(text string) { said = append(said, text) }}}
		m.compareClocks(c.ahead)
		if told := len(said) == 1 && strings.Contains(said[0], c.ahead.String()); told != c.told {
			t.Errorf("%v ahead: said %q", c.ahead, said)
		}
	}
}
