package stint_test

import (
	"context"
	"database/sql"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/store/sqlite"
)

func isDeadline(err error) bool { return errors.Is(err, context.DeadlineExceeded) }

// says fails unless err has each of the words: an error must say what to do.
func says(t *testing.T, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Error("no error")
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q does not say %q", err, w)
		}
	}
}

// R8: bad input is an error at the call.
func TestOpenErrors(t *testing.T) {
	ofFile(t)
	dir := t.TempDir()
	write := func(name, text string, mode fs.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	newer := filepath.Join(dir, "newer.db")
	c, err := stint.Open(newer)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	db := appFile(t, newer)
	if _, err := db.Exec("UPDATE stint_schema SET version = 1000"); err != nil {
		t.Fatal(err)
	}
	db.Close()
	for _, tt := range []struct {
		path  string
		words []string
	}{
		{"", []string{"empty path"}},
		{filepath.Join(dir, "missing", "x.db"), []string{"does not exist", "make it first"}},
		{dir, []string{"is a directory"}},
		{write("text.db", strings.Repeat("this is no database\n", 500), 0o600), []string{"not a SQLite database"}},
		{newer, []string{"newer version", "upgrade"}},
	} {
		c, err := stint.Open(tt.path)
		if err == nil {
			c.Close()
		}
		says(t, err, tt.words...)
	}
	_, err = stint.Open(newer)
	if !errors.Is(err, sqlite.ErrNewer) {
		t.Errorf("%v is not ErrNewer", err)
	}
}

func TestOpenReadOnly(t *testing.T) {
	ofFile(t)
	if os.Getuid() == 0 {
		// Root may write what is read-only: an immutable file system would be needed.
		// SQLite's own read-only answer is what is left to look at.
		path := filepath.Join(t.TempDir(), "ro.db")
		c := openedAt(t, path)
		db := must[*sql.DB](t)(sql.Open("sqlite", "file:"+path+"?mode=ro"))
		defer db.Close()
		tx := beginTx(t, db)
		defer tx.Rollback()
		_, err := stint.NewTask(c, "t", double).Enqueue(t.Context(), 1, stint.WithTx(tx))
		says(t, err, "readonly")
		return
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "ro.db")
	c, err := stint.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if err := errors.Join(os.Chmod(path, 0o400), os.Chmod(dir, 0o500)); err != nil {
		t.Fatal(err)
	}
	defer os.Chmod(dir, 0o700)
	_, err = stint.Open(path)
	says(t, err, "read-only")
}

// A file that another program keeps locked is waited for, and then is an error that
// says so.
func TestOpenLocked(t *testing.T) {
	ofFile(t)
	path := filepath.Join(t.TempDir(), "locked.db")
	db := appFile(t, path)
	tx := beginTx(t, db)
	if _, err := tx.Exec("INSERT INTO orders DEFAULT VALUES"); err != nil {
		t.Fatal(err)
	}
	_, err := sqlite.Open(path, sqlite.Options{BusyTimeout: 200 * time.Millisecond})
	says(t, err, "locked by another program", "200ms")
	tx.Rollback()
	s, err := sqlite.Open(path, sqlite.Options{BusyTimeout: 200 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	c, err := stint.New(s)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	task := stint.NewTask(c, "t", double)
	tx = beginTx(t, db)
	if _, err := task.Enqueue(t.Context(), 1); !errors.Is(err, stint.ErrBusy) {
		t.Errorf("Enqueue: %v, want ErrBusy", err)
	}
	if err := c.Healthy(); !errors.Is(err, stint.ErrBusy) {
		t.Errorf("Healthy: %v", err)
	}
	tx.Rollback()
	if _, err := task.Enqueue(t.Context(), 1); err != nil || c.Healthy() != nil {
		t.Errorf("after the lock is gone: %v, %v", err, c.Healthy())
	}
}

func TestEnqueueErrors(t *testing.T) {
	c := opened(t, stint.WithMaxPayload(100))
	task := stint.NewTask(c, "t", double)
	text := stint.NewTask(c, "text", func(context.Context, string) (int, error) { return 0, nil })
	channel := stint.NewTask(c, "chan", func(context.Context, chan int) (int, error) { return 0, nil })
	ctx := t.Context()
	enqueue := func(opts ...stint.RunOption) error { _, err := task.Enqueue(ctx, 1, opts...); return err }

	_, err := channel.Enqueue(ctx, make(chan int))
	says(t, err, `"chan"`, "encode", "unsupported type")
	_, err = text.Enqueue(ctx, strings.Repeat("x", 100))
	says(t, err, "102 bytes", "at most 100")
	_, err = text.EnqueueMany(ctx, []string{"ok", strings.Repeat("x", 100)})
	says(t, err, "input 1")
	says(t, enqueue(stint.WithPriority(128)), "128", "-128 to 127")
	says(t, enqueue(stint.WithQueue("")), "empty queue")
	says(t, enqueue(stint.WithQueue(strings.Repeat("q", 300))), "300 bytes")
	says(t, enqueue(stint.WithDelay(-1)), "0 or more")
	says(t, enqueue(stint.WithIdempotencyKey("", time.Hour)), "empty key")
	says(t, enqueue(stint.WithIdempotencyKey("k", 0)), "more than 0")
	says(t, enqueue(stint.WithTx(nil)), "transaction")
	if runs, err := task.EnqueueMany(ctx, nil); runs != nil || err != nil {
		t.Errorf("nothing: %v, %v", runs, err)
	}
	done, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := task.Enqueue(done, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("a canceled context: %v", err)
	}
	if page := must[*stint.RunPage](t)(c.ListRuns(ctx, stint.RunFilter{})); len(page.Runs) != 0 {
		t.Errorf("%d runs were stored", len(page.Runs))
	}
	if err := enqueue(stint.WithRunAt(time.Now().Add(-time.Hour)), nil); err != nil {
		t.Errorf("a time that has passed, and a nil option: %v", err)
	}
}

func TestOptionErrors(t *testing.T) {
	for _, tt := range []struct {
		opt  stint.ClientOption
		word string
	}{
		{stint.WithLogger(nil), "WithLogger"}, {stint.WithDurability(7), "WithDurability"}, {stint.WithRetention(-1), "WithRetention"},
		{stint.WithCodec(nil), "WithCodec"}, {stint.WithMiddleware(nil), "WithMiddleware"}, {stint.WithMaxPayload(0), "WithMaxPayload"},
		{stint.WithPriorityAgeing(-1), "WithPriorityAgeing"},
	} {
		_, err := stint.Open(":memory:", tt.opt)
		says(t, err, tt.word)
	}
	c := opened(t)
	for _, tt := range []struct {
		opt  stint.WorkerOption
		word string
	}{
		{stint.WithSlots(0), "WithSlots"}, {stint.WithSlots(1 << 30), "WithSlots"}, {stint.WithQueues("a", ""), "WithQueues"},
		{stint.WithDrainTimeout(-1), "WithDrainTimeout"}, {stint.WithName(""), "WithName"},
	} {
		_, err := c.NewWorker(tt.opt)
		says(t, err, tt.word)
	}
	_, err := stint.New(nil)
	says(t, err, "nil store")
	s, err := sqlite.Open(":memory:", sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	_, err = stint.New(s, stint.WithDurability(stint.DurabilityNormal))
	says(t, err, "WithDurability is for Open")
}

// A programmer's mistake in a definition panics with a clear message.
func TestDefinitionPanics(t *testing.T) {
	c := opened(t)
	stint.NewTask(c, "taken", double)
	def := func(name string, opts ...stint.TaskOption) func() {
		return func() { stint.NewTask(c, name, double, opts...) }
	}
	hook := func(name string, opt stint.TaskOption) func() {
		return func() {
			stint.NewWorkflow[int](c, name).OnFailure(func(context.Context, int, *stint.WorkflowError) error { return nil }, opt)
		}
	}
	for _, tt := range []struct {
		f    func()
		word string
	}{
		{def(""), "empty task name"}, {def("taken"), "defined already"}, {def(strings.Repeat("n", 256)), "256 bytes"},
		{func() { stint.NewTask(nil, "t", double) }, "nil client"},
		{def("t", stint.WithRetries(-1)), "WithRetries"}, {def("t", stint.WithRetryBackoff(0.5, time.Hour)), "factor"},
		{def("t", stint.WithRetryBackoff(2, 0)), "max"}, {def("t", stint.WithRetryPolicy(nil)), "WithRetryPolicy"},
		{def("t", stint.WithTimeout(0)), "WithTimeout"}, {def("t", stint.WithScheduleTimeout(-1)), "WithScheduleTimeout"},
		{def("t", stint.WithIdempotency(func(string) string { return "" }, time.Hour)), "input string, this one has int"},
		{def("t", stint.WithIdempotency[int](nil, time.Hour)), "nil key"},
		{def("t", stint.WithOnFailure(func(context.Context, string, *stint.TaskError) error { return nil })), "input string, this one has int"},
		{func() {
			var none *stint.Node[int]
			stint.AddTask(stint.NewWorkflow[int](c, "w"), "a", double, stint.WithParents(none))
		}, "nil task"},
		{hook("w1", stint.WithSkipIf(stint.SleepFor(time.Hour))), "no parents and no conditions"},
		{hook("w2", stint.WithCron("@hourly")), "WithCron"},
		{hook("w3", stint.WithMetadata(map[string]string{"a": "b"})), "metadata"},
	} {
		func() {
			defer func() {
				v := recover()
				if s, _ := v.(string); !strings.Contains(s, tt.word) {
					t.Errorf("panic %v does not say %q", v, tt.word)
				}
			}()
			tt.f()
		}()
	}
}

func TestAdminErrors(t *testing.T) {
	c := opened(t)
	ctx := t.Context()
	_, err := c.GetRun(ctx, "nonsense")
	if !errors.Is(err, stint.ErrNotFound) {
		t.Errorf("GetRun: %v", err)
	}
	bad := stint.RunByID[int](c, "nonsense")
	_, werr := bad.Wait(ctx)
	_, ierr := bad.Info(ctx)
	for _, err := range []error{werr, ierr, bad.Cancel(ctx)} {
		if !errors.Is(err, stint.ErrNotFound) {
			t.Errorf("a bad ID: %v", err)
		}
	}
	for _, err := range bad.Stream(ctx) {
		if !errors.Is(err, stint.ErrNotFound) {
			t.Errorf("a bad ID: %v", err)
		}
	}
	if _, err := stint.RunByID[int](c, "0198c0de-0000-7000-8000-000000000000").Wait(ctx); !errors.Is(err, stint.ErrNotFound) {
		t.Errorf("Wait for no run: %v", err)
	}
	for _, f := range []stint.RunFilter{{Limit: -1}, {Limit: 1001}, {Cursor: "x"}, {IDs: []string{"x"}}, {States: []stint.State{0}}, {ParentID: "x"}} {
		if _, err := c.ListRuns(ctx, f); err == nil {
			t.Errorf("%+v: no error", f)
		}
	}
	_, err = c.DeleteRuns(ctx, stint.RunFilter{IDs: []string{"x"}})
	says(t, err, "delete runs")
	says(t, c.PauseQueue(ctx, ""), "empty queue")
	_, err = c.Logs(ctx, "x", 0, 1)
	says(t, err, "not a UUID")
	says(t, c.AddLogs(ctx, "x"), "not a UUID")
	for want, line := range map[string]stint.LogLine{"attempt 0": {}, "not a JSON object": {Attempt: 1, Attrs: []byte("[1]")}} {
		says(t, c.AddLogs(ctx, "0198c0de-0000-7000-8000-000000000000", line), want)
	}
	if err := c.AddLogs(ctx, "0198c0de-0000-7000-8000-000000000000", stint.LogLine{Attempt: 1}); !errors.Is(err, stint.ErrNotFound) {
		t.Errorf("AddLogs to no run: %v", err)
	}
}

func TestClosed(t *testing.T) {
	c, err := openAt(t, filepath.Join(t.TempDir(), "c.db"))
	if err != nil {
		t.Fatal(err)
	}
	task := stint.NewTask(c, "t", double)
	run := enqueue(t, task, 1)
	w := must[*stint.Worker](t)(c.NewWorker())
	waiting := make(chan error, 1)
	go func() { _, err := run.Wait(t.Context()); waiting <- err }()
	for range 2 {
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	_, eerr := task.Enqueue(t.Context(), 1)
	_, lerr := c.ListRuns(t.Context(), stint.RunFilter{})
	_, nerr := c.NewWorker()
	for i, err := range []error{<-waiting, eerr, lerr, nerr, w.Run(t.Context()), run.Cancel(t.Context())} {
		if !errors.Is(err, stint.ErrClosed) {
			t.Errorf("call %d: %v, want ErrClosed", i, err)
		}
	}
}

// A row that cannot be decoded fails its run with a clear message, and holds up nothing.
func TestPoisonedRows(t *testing.T) {
	path := filepath.Join(t.TempDir(), "poison.db")
	c := openedAt(t, path)
	task := stint.NewTask(c, "t", double, stint.WithRetries(3))
	runs := enqueueMany(t, task, []int{1, 2, 3, 4, 5})
	db := appFile(t, path)
	for i, set := range []string{
		"input = x'7b6e6f'", "input = NULL", "input = x''", "metadata = 'nonsense'",
	} {
		if _, err := db.Exec("UPDATE stint_runs SET "+set+" WHERE id = ?", keyOf(t, runs[i].ID())); err != nil {
			t.Fatal(err)
		}
	}
	working(t, c)
	for i, r := range runs {
		got, err := r.Wait(t.Context())
		if i >= 3 {
			if err != nil || got != 2*(i+1) {
				t.Errorf("run %d: %d, %v", i, got, err)
			}
			continue
		}
		says(t, err, "attempt 1", "stored input is not of type int")
	}
	if _, err := c.ListRuns(t.Context(), stint.RunFilter{Metadata: map[string]string{"a": "b"}}); err != nil {
		t.Errorf("a filter over broken metadata: %v", err)
	}
}
