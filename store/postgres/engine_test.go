package postgres_test

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"errors"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/store/postgres"
)

// newSchema returns the URL of the server for tests, and the name of a schema that is dropped after the test.
func newSchema(t testing.TB) (url, schema string) {
	t.Helper()
	url = os.Getenv("STINT_DATABASE_URL")
	if url == "" {
		t.Skip("set STINT_DATABASE_URL to the URL of a PostgreSQL database")
	}
	half := make([]byte, 8)
	rand.Read(half)
	schema = "e_" + hex.EncodeToString(half)
	t.Cleanup(func() {
		c, err := pgx.Connect(context.Background(), url)
		if err == nil {
			_, err = c.Exec(context.Background(), "SET client_min_messages = warning; DROP SCHEMA IF EXISTS "+schema+" CASCADE")
			c.Close(context.Background())
		}
		if err != nil {
			t.Error(err)
		}
	})
	return url, schema
}

// newClient returns an engine on a schema, as a program of its own would have it.
func newClient(t testing.TB, url, schema string) *stint.Client {
	t.Helper()
	s, err := postgres.Open(t.Context(), url, postgres.Options{Schema: schema})
	if err != nil {
		t.Fatal(err)
	}
	c, err := stint.New(s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func work(t *testing.T, c *stint.Client, opts ...stint.WorkerOption) {
	t.Helper()
	w, err := c.NewWorker(opts...)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
}

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// The same program as on a file: a task that is retried, a workflow, a durable function, an event.
func TestEngine(t *testing.T) {
	url, schema := newSchema(t)
	c := newClient(t, url, schema)
	var tries atomic.Int32
	flaky := stint.NewTask(c, "flaky", func(_ context.Context, in int) (int, error) {
		if tries.Add(1) < 3 {
			return 0, errors.New("not yet")
		}
		return in + 1, nil
	}, stint.WithRetries(5), stint.WithRetryPolicy(func(int, error) time.Duration { return time.Millisecond }))
	w := stint.NewWorkflow[int](c, "sum")
	double := func(_ context.Context, in int) (int, error) { return 2 * in, nil }
	a, b := stint.AddTask(w, "a", double), stint.AddTask(w, "b", double)
	sum := stint.AddTask(w, "sum", func(ctx context.Context, _ int) (int, error) {
		x, err := a.Output(ctx)
		if err != nil {
			return 0, err
		}
		y, err := b.Output(ctx)
		return x + y, err
	}, stint.WithParents(a, b))
	durable := stint.NewTask(c, "durable", func(ctx context.Context, in string) (string, error) {
		one, err := stint.Step(ctx, "one", func(context.Context) (string, error) { return in + "1", nil })
		if err != nil {
			return "", err
		}
		if err := stint.Sleep(ctx, 10*time.Millisecond); err != nil {
			return "", err
		}
		two, err := stint.WaitForEvent[string](ctx, "go")
		return one + two, err
	})
	work(t, c)
	ctx := within(t)

	if got, err := flaky.Run(ctx, 1); got != 2 || err != nil {
		t.Errorf("flaky: %d, %v; want 2", got, err)
	}
	out, err := w.Run(ctx, 5)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := sum.From(out); got != 20 || err != nil {
		t.Errorf("workflow: %d, %v; want 20", got, err)
	}
	r, err := durable.Enqueue(ctx, "x")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Publish(ctx, "go", "2"); err != nil {
		t.Fatal(err)
	}
	if got, err := r.Wait(ctx); got != "x12" || err != nil {
		t.Errorf("durable: %q, %v; want x12", got, err)
	}
}

// What the app's own transaction enqueues exists if and only if it commits, and starts promptly: for
// database/sql with pgx, and for pgx itself.
func TestWithTx(t *testing.T) {
	url, schema := newSchema(t)
	c := newClient(t, url, schema)
	echo := stint.NewTask(c, "echo", func(_ context.Context, in string) (string, error) { return in, nil })
	work(t, c)
	ctx := within(t)
	db, err := sql.Open("pgx", url)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	p, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close(context.Background())
	for _, kind := range []string{"database/sql", "pgx"} {
		for _, commit := range []bool{true, false} {
			var tx stint.Tx
			var end func() error
			if kind == "pgx" {
				own, err := p.Begin(ctx)
				if err != nil {
					t.Fatal(err)
				}
				tx, end = postgres.Tx(own), func() error { return own.Rollback(ctx) }
				if commit {
					end = func() error { return own.Commit(ctx) }
				}
			} else {
				own, err := db.BeginTx(ctx, nil)
				if err != nil {
					t.Fatal(err)
				}
				tx, end = own, own.Rollback
				if commit {
					end = own.Commit
				}
			}
			r, err := echo.Enqueue(ctx, kind, stint.WithTx(tx))
			if err != nil {
				t.Fatalf("%s: %v", kind, err)
			}
			if _, err := c.GetRun(ctx, r.ID()); !errors.Is(err, stint.ErrNotFound) {
				t.Errorf("%s: before the end of the transaction: %v; want ErrNotFound", kind, err)
			}
			if err := end(); err != nil {
				t.Fatal(err)
			}
			got, err := r.Wait(ctx)
			if commit && (got != kind || err != nil) {
				t.Errorf("%s: %q, %v", kind, got, err)
			}
			if !commit && !errors.Is(err, stint.ErrNotFound) {
				t.Errorf("%s, rolled back: %q, %v; want ErrNotFound", kind, got, err)
			}
		}
	}
}

// Two programs on one database share the work, and a limit holds over both.
func TestTwoPrograms(t *testing.T) {
	url, schema := newSchema(t)
	var running, most, done atomic.Int32
	task := func(c *stint.Client) *stint.Task[int, int] {
		return stint.NewTask(c, "limited", func(_ context.Context, in int) (int, error) {
			n := running.Add(1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			defer running.Add(-1)
			done.Add(1)
			return in, nil
		}, stint.WithConcurrency(stint.Concurrency[int]{Name: "two", Max: 2, Key: func(int) string { return "k" }}))
	}
	a, b := newClient(t, url, schema), newClient(t, url, schema)
	first := task(a)
	task(b)
	work(t, a)
	work(t, b)
	ctx := within(t)
	ins := make([]int, 60)
	for i := range ins {
		ins[i] = i
	}
	runs, err := first.EnqueueMany(ctx, ins)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range runs {
		if got, err := r.Wait(ctx); got != i || err != nil {
			t.Errorf("run %d: %d, %v", i, got, err)
		}
	}
	if m := most.Load(); m > 2 || done.Load() != 60 {
		t.Errorf("%d ran at once, want at most 2; %d ran, want 60", m, done.Load())
	}
	if problems, err := a.Check(ctx); len(problems) > 0 || err != nil {
		t.Errorf("check: %v, %v", problems, err)
	}
}
