package stinttest_test

import (
	"context"
	"errors"
	"github.com/stint-dev/stint/internal/selfcheck"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/stinttest"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	selfcheck.Enable()
	goleak.VerifyTestMain(m, goleak.Cleanup(selfcheck.Exit))
}

// A month of sleep takes milliseconds; Drain returns when all remaining runs wait.
func TestMonth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { month(t, stinttest.New(t)) })
}

// The same on a file, although the client polls it for commits of other processes: the store
// decides how rarely, see TestPollsGrowApart.
func TestMonthOnFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "month.db")
	synctest.Test(t, func(t *testing.T) {
		c, err := stint.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		month(t, c)
	})
}

func month(t *testing.T, c *stint.Client) {
	task := stint.NewTask(c, "remind", func(ctx context.Context, days int) (int, error) {
		for range days {
			if err := stint.Sleep(ctx, 24*time.Hour); err != nil {
				return 0, err
			}
		}
		return stint.WaitForEvent[int](ctx, "answer")
	})
	run, err := task.Enqueue(t.Context(), 30)
	if err != nil {
		t.Fatal(err)
	}
	for range 31 {
		if err := stinttest.Drain(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		time.Sleep(24 * time.Hour)
	}
	if info, err := run.Info(t.Context()); err != nil || info.State != stint.StateWaiting {
		t.Fatalf("after a month: %v, %v", info.State, err)
	}
	if _, err := c.Publish(t.Context(), "answer", 42); err != nil {
		t.Fatal(err)
	}
	if err := stinttest.Drain(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if got, err := run.Wait(t.Context()); err != nil || got != 42 {
		t.Errorf("Wait = %d, %v", got, err)
	}
}

// Drain ends with its context.
func TestDrainContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := stinttest.New(t)
		task := stint.NewTask(c, "long", func(ctx context.Context, _ int) (int, error) {
			<-ctx.Done()
			return 0, ctx.Err()
		})
		if _, err := task.Enqueue(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := stinttest.Drain(ctx, c, stint.WithDrainTimeout(0)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Drain = %v", err)
		}
	})
}

// A program that lacks package cel is told to import it, where a filter is given.
func TestFilterWithoutCEL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := stinttest.New(t)
		task := stint.NewTask(c, "waits", func(ctx context.Context, _ int) (int, error) {
			return stint.WaitForEvent[int](ctx, "e", stint.WithFilter("true"))
		})
		run, err := task.Enqueue(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := stinttest.Drain(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		if _, err := run.Wait(t.Context()); err == nil || !strings.Contains(err.Error(), `import _ "github.com/stint-dev/stint/cel"`) {
			t.Errorf("Run = %v, want an error that names the package", err)
		}
	})
}
