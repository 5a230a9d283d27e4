package postgres

import (
	"context"
	"errors"
	"os"
	"testing"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/storetest"
)

// poolerURL returns the URL of a pooler in transaction mode before the server for tests.
func poolerURL(t testing.TB) string {
	t.Helper()
	serverURL(t)
	u := os.Getenv("STINT_POOLER_URL")
	if u == "" {
		t.Skip("set STINT_POOLER_URL to the URL of a PgBouncer in transaction mode before STINT_DATABASE_URL")
	}
	return u
}

func TestStoreBehindPooler(t *testing.T) {
	url := poolerURL(t)
	storetest.Run(t, func(t testing.TB, dir string) store.Store {
		return openBubbleAt(t, url, dir)
	})
}

// Open finds out that a pooler is between, and that a direct way is none.
func TestPoolerIsFound(t *testing.T) {
	direct, pooler := serverURL(t), poolerURL(t)
	for _, c := range []struct {
		name, url     string
		opts          Options
		pooled, polls bool
	}{
		{"server", direct, Options{}, false, false},
		{"server, without LISTEN", direct, Options{NoNotify: true}, false, true},
		{"pooler", pooler, Options{}, true, true},
		{"pooler, and a way past it", pooler, Options{Direct: direct}, true, false},
	} {
		s, err := newSettings(c.url, c.opts)
		if err != nil {
			t.Fatal(err)
		}
		conn, err := s.first(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		conn.Close(t.Context())
		if s.pool.pooled != c.pooled || s.polls() != c.polls {
			t.Errorf("%s: pooled %t, polls %t; want %t, %t", c.name, s.pool.pooled, s.polls(), c.pooled, c.polls)
		}
	}
	s, err := newSettings(pooler, Options{Direct: pooler})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.first(t.Context()); !errors.Is(err, ErrServer) {
		t.Errorf("a direct way that is the pooler: %v; want ErrServer", err)
	}
}

// Two programs behind a pooler share the work and the runs' ends, with a way past it and without.
func TestEngineBehindPooler(t *testing.T) {
	for name, opts := range map[string]Options{"polling": {}, "direct": {Direct: serverURL(t)}} {
		t.Run(name, func(t *testing.T) {
			url := poolerURL(t)
			opts.Schema = noTables(t).Schema
			begin := func() (*stint.Client, *stint.Task[int, int]) {
				s, err := Open(t.Context(), url, opts)
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
				return c, stint.NewTask(c, "t", func(ctx context.Context, in int) (int, error) {
					return stint.Step(ctx, "double", func(context.Context) (int, error) { return 2 * in, nil })
				}, stint.WithConcurrency(stint.Concurrency[int]{Max: 3, Key: func(in int) string { return string(rune('a' + in%2)) }}))
			}
			_, first := begin()
			second, _ := begin()
			w, err := second.NewWorker()
			if err != nil {
				t.Fatal(err)
			}
			working, stop := context.WithCancel(context.Background())
			done := make(chan struct{})
			go func() { defer close(done); w.Run(working) }()
			t.Cleanup(func() { stop(); <-done })
			ctx := withinMinutes(t)
			for i := range 3 {
				if got, err := first.Run(ctx, i); got != 2*i || err != nil {
					t.Errorf("run %d: %d, %v", i, got, err)
				}
			}
			ins := make([]int, 50)
			runs, err := first.EnqueueMany(ctx, ins)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range runs {
				if got, err := r.Wait(ctx); got != 0 || err != nil {
					t.Errorf("run: %d, %v", got, err)
				}
			}
		})
	}
}

// A database whose default is to acknowledge before it has written to its disk does not do so for the store.
func TestSynchronousCommit(t *testing.T) {
	for _, normal := range []bool{false, true} {
		s := newTables(t)
		s.Normal = normal
		s.pool.RuntimeParams["synchronous_commit"] = "off"
		var is string
		if err := dial(t, s).QueryRow(t.Context(), "SHOW synchronous_commit").Scan(&is); err != nil {
			t.Fatal(err)
		}
		if want := map[bool]string{false: "on", true: "off"}[normal]; is != want {
			t.Errorf("synchronous_commit is %s with Normal %t, want %s", is, normal, want)
		}
	}
}
