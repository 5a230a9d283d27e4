package stint_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
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

// The error of a canceled run says that it was canceled, not that it failed.
func TestTextsOfCanceledRuns(t *testing.T) {
	c := opened(t)
	started := make(chan struct{})
	task := stint.NewTask(c, "long", func(ctx context.Context, _ int) (int, error) {
		close(started)
		<-ctx.Done()
		return 0, ctx.Err()
	})
	fresh, run := enqueue(t, task, 0, stint.WithDelay(time.Hour)), enqueue(t, task, 0)
	working(t, c)
	<-started
	for r, want := range map[*stint.Run[int]]string{fresh: "was canceled before it started", run: "was canceled on attempt 1"} {
		if err := r.Cancel(t.Context()); err != nil {
			t.Fatal(err)
		}
		_, err := r.Wait(t.Context())
		if !errors.Is(err, stint.ErrCanceled) || err.Error() != fmt.Sprintf("stint: task %q %s (run %s)", "long", want, r.ID()) {
			t.Errorf("%v", err)
		}
	}
	parent := stint.NewTask(c, "parent", func(ctx context.Context, _ int) (int, error) {
		_, err := stint.RunByID[int](c, run.ID()).Wait(ctx)
		return 0, fmt.Errorf("the child: %w", err)
	}, stint.WithRetries(0))
	waits := enqueue(t, parent, 0)
	_, err := waits.Wait(t.Context())
	_, later := stint.RunByID[int](c, waits.ID()).Wait(t.Context())
	for _, err := range []error{err, later} { // as it was, and as it was stored
		if !strings.Contains(err.Error(), `task "parent" failed on attempt 1`) || !strings.Contains(err.Error(), `"long" was canceled on attempt 1`) {
			t.Errorf("%v", err)
		}
		var inner *stint.TaskError
		if !errors.As(errors.Unwrap(err), &inner) || !strings.Contains(inner.Error(), "was canceled on attempt 1") {
			t.Errorf("within: %v", inner)
		}
	}
}

// sealed stands for a codec that encrypts: what it writes is a JSON text.
type sealed struct{}

func (sealed) Marshal(v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return json.Marshal(b)
}

func (sealed) Unmarshal(b []byte, v any) error {
	var inner []byte
	if err := json.Unmarshal(b, &inner); err != nil {
		return err
	}
	return json.Unmarshal(inner, v)
}

// A codec that hides the fields of payloads makes a wait for one of them an error, not a wait for ever. A scope is not encoded.
func TestMatchOfHiddenFields(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := openedAt(t, ":memory:", stint.WithCodec(sealed{}))
		match := stint.WithMatch("card", "4242")
		say := panics(func() {
			stint.AddTask(stint.NewWorkflow[int](c, "flow"), "t", double, stint.WithWaitFor(stint.UserEvent("paid", match)))
		})
		if say == nil || !strings.Contains(say.Error(), "no payload has the field") {
			t.Errorf("a workflow's condition: %v", say)
		}
		task := stint.NewTask(c, "waits", func(ctx context.Context, how int) (map[string]string, error) {
			switch how {
			case 0:
				return stint.WaitForEvent[map[string]string](ctx, "paid", match)
			case 1:
				_, err := stint.WaitFor(ctx, stint.AnyOf(stint.SleepFor(time.Hour), stint.UserEvent("paid", match)))
				return nil, err
			}
			return stint.WaitForEvent[map[string]string](ctx, "paid", stint.WithScope("4242"))
		}, stint.WithRetries(0))
		working(t, c)
		for how := range 2 {
			if _, err := task.Run(t.Context(), how); err == nil || !strings.Contains(err.Error(), "no payload has the field") {
				t.Errorf("wait %d: %v", how, err)
			}
		}
		run := enqueue(t, task, 2)
		synctest.Wait()
		if _, err := c.Publish(t.Context(), "paid", map[string]string{"card": "4242"}, stint.WithScope("4242")); err != nil {
			t.Fatal(err)
		}
		if got := output(t, run); got["card"] != "4242" {
			t.Errorf("got %v", got)
		}
	})
}

// An input that is not of the task's type is named as the input, also for a task whose key is computed from it.
func TestInputOfAnotherType(t *testing.T) {
	c := opened(t)
	stint.NewTask(c, "keyed", double, stint.WithIdempotency(func(n int) string { return fmt.Sprint(n) }, time.Hour))
	_, err := c.EnqueueJSON(t.Context(), "keyed", json.RawMessage(`"x"`))
	if err == nil || !strings.Contains(err.Error(), "the input is not of type int") {
		t.Errorf("%v", err)
	}
}
