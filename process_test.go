package stint_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stint-dev/stint"
)

// echoChild works the task "echo" until it is killed.
func echoChild(path string) {
	c, w := childClient(path)
	stint.NewTask(c, "echo", func(_ context.Context, n int) (int, error) { return n, nil })
	fmt.Println("ready")
	w.Run(context.Background())
}

// hangChild takes a run of "hang", says so, and works on it until it hears more.
func hangChild(path string) {
	c, w := childClient(path)
	stint.NewTask(c, "hang", func(ctx context.Context, _ int) (string, error) {
		fmt.Println("started")
		<-ctx.Done()
		return "", context.Cause(ctx)
	})
	w.Run(context.Background())
}

// exitChild ends its process in the middle of the run "exit", and works "fine".
func exitChild(path string) {
	c, w := childClient(path)
	stint.NewTask(c, "fine", func(_ context.Context, n int) (int, error) { return n, nil })
	stint.NewTask(c, "exit", func(context.Context, int) (int, error) { os.Exit(3); return 0, nil })
	w.Run(context.Background())
}

// A second process on the same file shares the work, and each sees the other's commits
// without being told.
func TestTwoProcesses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "two.db")
	c := openedAt(t, path)
	echo := stint.NewTask[int, int](c, "echo", nil) // only the child has it
	startChild(t, "echo", path).line(t)
	for i := range 20 {
		if got, err := echo.Run(t.Context(), i); err != nil || got != i {
			t.Fatalf("Run(%d) = %d, %v", i, got, err)
		}
	}
}

// A process that dies is noticed at once, and its runs are queued within a second. A
// machine with other work may be late once; it is not late each time.
func TestDeadProcess(t *testing.T) {
	best := time.Hour
	for range 5 {
		if best = min(best, afterDeath(t)); best < time.Second {
			return
		}
	}
	t.Errorf("took at least %v after the death, want under 1s", best)
}

// afterDeath is how long it takes from the death of a worker's process until its run
// has been worked by another.
func afterDeath(t *testing.T) time.Duration {
	path := filepath.Join(t.TempDir(), "dead.db")
	c := openedAt(t, path)
	hang := stint.NewTask[int, string](c, "hang", nil)
	run := must[*stint.Run[string]](t)(hang.Enqueue(t.Context(), 1))
	child := startChild(t, "hang", path)
	child.line(t)

	mine := openedAt(t, path)
	stint.NewTask(mine, "hang", func(ctx context.Context, _ int) (string, error) {
		info, _ := stint.Info(ctx)
		return fmt.Sprint("attempt ", info.Attempt), nil
	})
	working(t, mine)
	child.Process.Kill()
	began := time.Now()
	if got, err := run.Wait(t.Context()); err != nil || got != "attempt 1" { // the death costs no attempt
		t.Errorf("Wait = %q, %v", got, err)
	}
	return time.Since(began)
}

// A run that kills its process each time is quarantined; the others complete.
// Durable scenario 26.
func TestQuarantine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "exit.db")
	c := openedAt(t, path)
	exit, fine := stint.NewTask[int, int](c, "exit", nil), stint.NewTask[int, int](c, "fine", nil)
	bad := must[*stint.Run[int]](t)(exit.Enqueue(t.Context(), 1))
	good := must[[]*stint.Run[int]](t)(fine.EnqueueMany(t.Context(), []int{1, 2, 3, 4, 5}))
	deaths := 0
	for {
		info := must[*stint.RunInfo](t)(bad.Info(t.Context()))
		if info.State == stint.StateBlocked {
			if info.Blocked == "" {
				t.Error("does not say why it is blocked")
			}
			break
		}
		if deaths++; deaths > 10 {
			t.Fatalf("not quarantined after %d deaths: %v", deaths-1, info.State)
		}
		startChild(t, "exit", path).Wait()
		waitWhile(t, bad, stint.StateRunning)
	}
	if deaths != 5 {
		t.Errorf("quarantined after %d deaths, want 5", deaths)
	}
	last := startChild(t, "exit", path)
	for i, r := range good {
		if got, err := r.Wait(t.Context()); err != nil || got != i+1 {
			t.Errorf("the others: %d, %v", got, err)
		}
	}
	last.Process.Kill()
	last.Wait()
}

// waitWhile waits until a run is in another state than this.
func waitWhile(t *testing.T, r *stint.Run[int], state stint.State) {
	t.Helper()
	for tick := time.NewTicker(5 * time.Millisecond); ; <-tick.C {
		if must[*stint.RunInfo](t)(r.Info(t.Context())).State != state {
			tick.Stop()
			return
		}
	}
}
