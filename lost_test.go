package stint_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stint-dev/stint"
)

// A handler whose process is taken for dead, because somebody removed its lock file, ends with a cause that says
// so: the run was given to others. The worker takes runs again, here that one.
func TestHandlerOfALostWorker(t *testing.T) {
	ofFile(t)
	path := filepath.Join(t.TempDir(), "app.db")
	c := openedAt(t, path)
	locks := must[[]string](t)(filepath.Glob(filepath.Join(filepath.Dir(path), ".app.db-stint", "*")))
	started, causes := make(chan struct{}, 1), make(chan error, 1)
	task := stint.NewTask(c, "t", func(ctx context.Context, _ int) (int, error) {
		if info, _ := stint.Info(ctx); info.Executions > 1 {
			return info.Executions, nil
		}
		started <- struct{}{}
		<-ctx.Done()
		causes <- context.Cause(ctx)
		return 0, ctx.Err()
	})
	working(t, c)
	run := enqueue(t, task, 1)
	<-started
	var cause error
	for cause == nil { // until one that opens the file looks before the lock is there again
		for _, lock := range locks {
			os.Remove(lock)
		}
		openedAt(t, path)
		select {
		case cause = <-causes:
		case <-time.After(100 * time.Millisecond):
		}
	}
	if !errors.Is(cause, stint.ErrShutdown) || !strings.Contains(cause.Error(), "taken for dead") {
		t.Errorf("the handler's context ended with %v", cause)
	}
	if n, err := run.Wait(t.Context()); err != nil || n < 2 {
		t.Errorf("execution %d, %v", n, err)
	}
}
