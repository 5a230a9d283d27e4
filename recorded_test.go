package stint_test

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/stint-dev/stint"
)

// What Recorded reports is stored: another client on the file reads it at once.
func TestRecorded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "test.db")
	c := openedAt(t, path)
	reports := make(chan (<-chan error), 2)
	again := make(chan (<-chan error), 1)
	task := stint.NewTask(c, "acked", func(ctx context.Context, in int) (int, error) {
		reports <- stint.Recorded(ctx)
		again <- stint.Recorded(ctx)
		return in + 1, nil
	})
	working(t, c)
	run, err := task.Enqueue(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	report := <-reports
	if <-again != nil {
		t.Error("a second call of Recorded has a channel too")
	}
	if err := <-report; err != nil {
		t.Fatalf("the outcome was refused: %v", err)
	}
	other, err := openAt(t, path)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	info, err := other.GetRun(t.Context(), run.ID())
	if err != nil || info.State != stint.StateSucceeded {
		t.Errorf("run is %+v (%v) when its handler was told that it is recorded", info, err)
	}
	if stint.Recorded(t.Context()) != nil {
		t.Error("Recorded has a channel outside of a run")
	}
}

// Closing tells what is built on a client that Close has begun, while a handler still goes on.
func TestClosing(t *testing.T) {
	c, err := openAt(t, filepath.Join(t.TempDir(), "test.db"))
	if err != nil {
		t.Fatal(err)
	}
	started, release := make(chan struct{}), make(chan struct{})
	task := stint.NewTask(c, "held", func(context.Context, int) (int, error) {
		close(started)
		<-release
		return 0, nil
	})
	working(t, c)
	if _, err := task.Enqueue(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	<-started
	select {
	case <-c.Closing():
		t.Error("Closing is closed before Close")
	default:
	}
	closed := make(chan error, 1)
	go func() { closed <- c.Close() }()
	<-c.Closing()
	select {
	case err := <-closed:
		t.Errorf("Close returned (%v) while a handler goes on", err)
	default:
	}
	close(release)
	if err := <-closed; err != nil {
		t.Error(err)
	}
}
