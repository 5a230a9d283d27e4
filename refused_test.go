package stint_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stint-dev/stint"
)

// A restart beyond the journal is refused. At the address after the last entry it keeps all.
func TestRestartBeyondJournal(t *testing.T) {
	durably(t, func(t *testing.T, c *stint.Client) {
		task := stint.NewTask(c, "steps", func(ctx context.Context, _ int) (int, error) {
			for range 3 {
				if _, err := stint.Step(ctx, "s", func(context.Context) (int, error) { return 1, nil }); err != nil {
					return 0, err
				}
			}
			return 3, nil
		})
		working(t, c)
		run := enqueue(t, task, 0)
		output(t, run)
		for _, at := range []string{"5", "99"} {
			if err := c.RestartAt(t.Context(), run.ID(), at); !errors.Is(err, stint.ErrNotFound) || !strings.Contains(err.Error(), "is 3") {
				t.Errorf("a restart at %s: %v", at, err)
			}
		}
		if err := c.RestartAt(t.Context(), run.ID(), "4"); err != nil {
			t.Error(err)
		}
		output(t, run)
	})
}

// A chunk of nothing is a chunk, whether it is nil or empty.
func TestStreamNothing(t *testing.T) {
	c := opened(t)
	task := stint.NewTask(c, "chunks", func(ctx context.Context, _ int) (int, error) {
		return 0, errors.Join(stint.Stream(ctx, nil), stint.Stream(ctx, []byte{}), stint.Stream(ctx, []byte("x")))
	})
	working(t, c)
	run := enqueue(t, task, 0)
	output(t, run)
	var all []string
	for chunk, err := range run.Stream(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, string(chunk))
	}
	if got := strings.Join(all, "|"); got != "||x" {
		t.Errorf("the stream is %q", got)
	}
}

// What a spec can have in place of a mistake is said.
func TestCronSpecsSay(t *testing.T) {
	for spec, want := range map[string]string{
		"0 9 * * 7": "0 (Sunday) to 6", "0 9 * * 1-7": "0 (Sunday) to 6", "@every 1.5s": "whole seconds", "@every 1ms": "a second or more",
	} {
		if _, err := stint.CronTicks(spec, time.Now(), 1); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", spec, err, want)
		}
	}
	last := time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)
	if all, err := stint.CronTicks("CRON_TZ=UTC 0 12 * * *", last, 3); err != nil || len(all) > 1 {
		t.Errorf("at the end of time: %v, %v", all, err)
	}
}

// A worker says which names of WithTasks its program does not have.
func TestWorkerNamesUnknownTasks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		c, err := stint.Open(":memory:", stint.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
		if err != nil {
			t.Fatal(err)
		}
		stint.NewTask(c, "there", double)
		w, err := c.NewWorker(stint.WithTasks("there", "typo"))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- w.Run(ctx) }()
		synctest.Wait()
		cancel()
		if err := errors.Join(<-done, c.Close()); err != nil {
			t.Error(err)
		}
		if got := log.String(); !strings.Contains(got, "task=typo") || strings.Contains(got, "task=there") {
			t.Errorf("the log is %s", got)
		}
	})
}
