//go:build unix

package stint_test

import (
	"context"
	"errors"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stint-dev/stint"
)

// A process that is merely stopped keeps its runs, however long.
func TestStoppedProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "stopped.db")
	c := openedAt(t, path)
	hang := stint.NewTask(c, "hang", func(context.Context, int) (string, error) { return "stolen", nil })
	run := enqueue(t, hang, 1)
	child := startChild(t, "hang", path)
	child.line(t)
	stopOutsideCommit(t, c, child)
	working(t, c)
	ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
	defer cancel()
	if got, err := run.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Wait = %q, %v: the run was taken from a process that lives", got, err)
	}
	if err := run.Cancel(t.Context()); err != nil {
		t.Fatal(err)
	}
	child.Process.Signal(syscall.SIGCONT) // it hears of the cancel from the other process's commit
	if _, err := run.Wait(t.Context()); !errors.Is(err, stint.ErrCanceled) {
		t.Errorf("Wait: %v, want ErrCanceled", err)
	}
}

// stopOutsideCommit stops a process at a moment at which it does not hold SQLite's
// write lock: one that does stops everybody.
func stopOutsideCommit(t *testing.T, c *stint.Client, child *child) {
	t.Helper()
	for {
		child.Process.Signal(syscall.SIGSTOP)
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		err := c.ResumeQueue(ctx, "any")
		cancel()
		if err == nil {
			return
		}
		child.Process.Signal(syscall.SIGCONT)
	}
}
