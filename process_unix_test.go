//go:build unix

package stint_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
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
	run := must[*stint.Run[string]](t)(hang.Enqueue(t.Context(), 1))
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

// SQLite keeps a log for each name of a file, so that two hard links in use destroy it.
func TestHardLinksAreRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.db")
	c := openedAt(t, path)
	task := stint.NewTask(c, "double", double)
	other := filepath.Join(filepath.Dir(path), "other.db")
	if err := os.Link(path, other); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{path, other} {
		if c, err := stint.Open(name); err == nil {
			c.Close()
			t.Errorf("%s was opened", name)
		} else if !strings.Contains(err.Error(), "hard links") {
			t.Error(err)
		}
	}
	if left := must[[]string](t)(filepath.Glob(other + "?*")); len(left) > 0 {
		t.Errorf("beside the link: %v", left)
	}
	if err := os.Remove(other); err != nil {
		t.Fatal(err)
	}
	again := openedAt(t, path) // the control
	run := must[*stint.Run[int]](t)(task.Enqueue(t.Context(), 2))
	stint.NewTask(again, "double", double)
	working(t, again)
	if got, err := run.Wait(t.Context()); err != nil || got != 4 {
		t.Errorf("after the link is gone: %d, %v", got, err)
	}
}
