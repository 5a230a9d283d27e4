package sqlite_test

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/store"
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

// A store that cannot write says so, also of a statement in the app's transaction; other errors are not taken for that.
func TestUnavailable(t *testing.T) {
	s := open(t, t.TempDir())
	defer s.Close()
	big := store.NewRun{Task: "t", Queue: "q", Input: make([]byte, 1<<20)}
	orphan := store.NewRun{Task: "t", Queue: "q", Parent: store.ID{1}}
	_, other := s.Enqueue(t.Context(), time.Now(), []store.NewRun{orphan})
	s.LimitPages(t, 1)
	_, full := s.Enqueue(t.Context(), time.Now(), []store.NewRun{big})
	for err, want := range map[error]bool{full: true, other: false, store.ErrBusy: true, store.ErrFileGone: true, store.ErrReplaced: true,
		store.ErrClosed: false} {
		if got := errors.Is(err, store.ErrUnavailable); got != want || s.Unavailable(err) != want {
			t.Errorf("%v: unavailable %v, %v; want %v", err, got, s.Unavailable(err), want)
		}
	}
	s.LimitPages(t, 1<<30)
	tx, err := s.BeginTx(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	if _, err := tx.Exec("PRAGMA max_page_count = 1"); err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec("CREATE TABLE app AS SELECT randomblob(1000000) AS x"); err == nil || !s.Unavailable(err) {
		t.Errorf("the app's statement: %v", err)
	}
	if _, err := tx.Exec("SELECT nonsense"); err == nil || s.Unavailable(err) {
		t.Errorf("a mistake of the app: %v", err)
	}
}
