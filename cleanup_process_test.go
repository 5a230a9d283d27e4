package stint_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stint-dev/stint"
)

// sagaChild works the task "saga", says what it undoes, and hangs in the compensation of b.
func sagaChild(path string) {
	c, w := childClient(path)
	newSaga(c, func(_ context.Context, name string) error {
		fmt.Println(name)
		if name == "b" {
			select {}
		}
		return nil
	}, func() {})
	w.Run(context.Background())
}

// exitSagaChild works it too, and ends its process after the steps.
func exitSagaChild(path string) {
	c, w := childClient(path)
	newSaga(c, nil, func() { os.Exit(3) })
	w.Run(context.Background())
}

// newSaga defines a task that makes steps with compensations, which call holds; then it
// waits, or fails.
func newSaga(c *stint.Client, holds func(context.Context, string) error, after func()) (*stint.Task[string, int], *undoer) {
	u := &undoer{holds: holds}
	return stint.NewTask(c, "saga", func(ctx context.Context, how string) (int, error) {
		if err := u.saga(ctx); err != nil {
			return 0, err
		}
		after()
		if how == "fail" {
			return 0, errors.New("planned")
		}
		return 0, stint.Sleep(ctx, time.Hour)
	}), u
}

// What is left to undo is undone though the process is killed in the midst of it, and what
// was undone is not undone again.
func TestCleanUpSurvivesKill(t *testing.T) {
	for how, want := range map[string]stint.State{"fail": stint.StateFailed, "wait": stint.StateCanceled} {
		t.Run(how, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "saga.db")
			c := openedAt(t, path)
			saga, u := newSaga(c, nil, func() {})
			run := enqueue(t, saga, how)
			child := startChild(t, "saga", path)
			if how == "wait" {
				for infoOf(t, run).Started.IsZero() { // a cancel before its first step has nothing to undo
					waitWhile(t, run, stint.StateQueued)
				}
				for len(must[[]stint.JournalEntry](t)(c.Journal(t.Context(), run.ID()))) < 7 { // the sleep is recorded
				}
				if err := run.Cancel(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if got := child.line(t) + child.line(t); got != "cb" {
				t.Fatalf("the child undid %s", got)
			}
			child.Process.Kill()
			child.Wait()
			waitWhile(t, run, stint.StateRunning)
			if i := infoOf(t, run); i.State.Terminal() || i.Canceling != (how == "wait") {
				t.Errorf("after the death: %v, canceling %v", i.State, i.Canceling)
			}
			working(t, c)
			if _, err := run.Wait(t.Context()); err == nil {
				t.Error("it succeeded")
			}
			if i := infoOf(t, run); i.State != want || i.Executions < 2 || u.took() != "b a" {
				t.Errorf("in the end: %v, %d executions", i.State, i.Executions)
			}
		})
	}
}

// A quarantined run is told by a field. Canceled, it cleans up, where code does not kill
// its process any more.
func TestCleanUpOfQuarantined(t *testing.T) {
	path := filepath.Join(t.TempDir(), "poison.db")
	c := openedAt(t, path)
	saga, u := newSaga(c, nil, func() {})
	run := enqueue(t, saga, "wait")
	for infoOf(t, run).State != stint.StateBlocked {
		startChild(t, "exit saga", path).Wait()
		waitWhile(t, run, stint.StateRunning)
	}
	if i := infoOf(t, run); !i.Quarantined || i.Executions != 5 || i.Attempt != 0 {
		t.Errorf("quarantined %v after %d executions, attempt %d", i.Quarantined, i.Executions, i.Attempt)
	}
	if err := run.Cancel(t.Context()); err != nil {
		t.Fatal(err)
	}
	if i := infoOf(t, run); i.State != stint.StateQueued || !i.Canceling || i.Quarantined {
		t.Errorf("canceled: %v, canceling %v, quarantined %v", i.State, i.Canceling, i.Quarantined)
	}
	working(t, c)
	canceledWith(t, run)
	if got := u.took(); got != "c b a" {
		t.Errorf("undone %q", got)
	}
}

// A run that is blocked since its code has changed tries to clean up when it is canceled;
// canceled again while it cannot, it ends as it is. One with nothing to undo ends at once.
func TestCleanUpOfBlocked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "changed.db")
	var undone undoer
	define := func(c *stint.Client, step string) *stint.Task[bool, int] {
		return stint.NewTask(c, "code", func(ctx context.Context, undo bool) (int, error) {
			if _, err := stint.Step(ctx, step, func(context.Context) (int, error) { return 1, nil }); err != nil {
				return 0, err
			}
			if undo {
				undone.add(ctx, "a")
			}
			_, err := stint.WaitForEvent[int](ctx, "go")
			return 0, err
		})
	}
	old := openedAt(t, path, stint.WithMaxResident(0))
	task := define(old, "before")
	plain, saga := enqueue(t, task, false), enqueue(t, task, true)
	stop := working(t, old)
	awaitStates(t, old, stint.StateWaiting)
	stop()
	publish(t, old, "go", 1)
	changed := openedAt(t, path)
	define(changed, "after")
	working(t, changed)
	blocked := func(run *stint.Run[int]) {
		t.Helper()
		for state := infoOf(t, run).State; state != stint.StateBlocked; state = infoOf(t, run).State {
			waitWhile(t, run, state)
		}
	}
	blocked(plain)
	blocked(saga)
	for _, run := range []*stint.Run[int]{plain, saga} {
		if err := run.Cancel(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	canceledWith(t, plain)
	blocked(saga)
	if i := infoOf(t, saga); !i.Canceling || i.Divergence == nil || !strings.Contains(i.Blocked, "cancel it again") {
		t.Errorf("blocked in its clean-up: canceling %v, %q", i.Canceling, i.Blocked)
	}
	if err := saga.Cancel(t.Context()); err != nil {
		t.Fatal(err)
	}
	canceledWith(t, saga)
	if got := undone.took(); got != "" {
		t.Errorf("code that does not match undid %q", got)
	}
}
