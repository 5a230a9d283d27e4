package sqlite_test

import (
	"context"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/stint-dev/stint"
)

// A full disk acknowledges nothing, is reported, and is over when there is room again.
func TestFullDisk(t *testing.T) {
	s := open(t, t.TempDir())
	c, err := stint.New(s, stint.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	finish := make(chan struct{})
	task := stint.NewTask(c, "t", func(_ context.Context, text string) (string, error) { <-finish; return text, nil })
	big := strings.Repeat("x", 1<<20)
	run, err := task.Enqueue(t.Context(), big)
	if err != nil {
		t.Fatal(err)
	}
	w, err := c.NewWorker()
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { w.Run(ctx) })
	defer wg.Wait()
	defer stop()
	waitRunning(t, run)

	s.LimitPages(t, 1) // as many as there are
	if _, err := task.Enqueue(t.Context(), big); err == nil || !strings.Contains(err.Error(), "disk is full: make room") {
		t.Errorf("Enqueue: %v", err)
	}
	if err := c.Healthy(); err == nil || !strings.Contains(err.Error(), "degraded") {
		t.Errorf("Healthy: %v", err)
	}
	close(finish) // its outcome cannot be written, and is tried until it can
	s.LimitPages(t, 1<<30)
	if out, err := run.Wait(t.Context()); err != nil || out != big {
		t.Errorf("Wait: %d bytes, %v", len(out), err)
	}
	if err := c.Healthy(); err != nil {
		t.Errorf("Healthy: %v", err)
	}
	page, err := c.ListRuns(t.Context(), stint.RunFilter{})
	if err != nil || len(page.Runs) != 1 {
		t.Errorf("%d runs, %v: what was refused is there", len(page.Runs), err)
	}
}

func waitRunning(t *testing.T, run *stint.Run[string]) {
	t.Helper()
	for {
		info, err := run.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if info.State == stint.StateRunning {
			return
		}
	}
}

// A disk that is full for a while is not the failure of a durable function: what it would
// record waits until there is room.
func TestFullDiskInDurable(t *testing.T) {
	s := open(t, t.TempDir())
	c, err := stint.New(s, stint.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	big := strings.Repeat("x", 1<<20)
	begun, full := make(chan struct{}), make(chan struct{})
	child := stint.NewTask(c, "child", func(_ context.Context, text string) (int, error) { return len(text), nil })
	task := stint.NewTask(c, "t", func(ctx context.Context, _ int) (int, error) {
		stint.Step(ctx, "begin", func(context.Context) (int, error) { close(begun); <-full; return 1, nil })
		text, err := stint.Step(ctx, "big", func(context.Context) (string, error) { return big, nil })
		if err != nil {
			return 0, err
		}
		return child.Run(ctx, text)
	})
	run, err := task.Enqueue(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	w, err := c.NewWorker()
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { w.Run(ctx) })
	defer wg.Wait()
	defer stop()
	<-begun
	s.LimitPages(t, 1)
	close(full)
	for c.Healthy() == nil { // until it has noticed
		runtime.Gosched()
	}
	s.LimitPages(t, 1<<30)
	if out, err := run.Wait(t.Context()); err != nil || out != len(big) {
		t.Errorf("Wait: %d, %v", out, err)
	}
}
