package stint_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/webhook"
)

// A name that is no text is refused where it is given, whatever it names.
func TestNamesAreText(t *testing.T) {
	c := opened(t)
	working(t, c)
	task := stint.NewTask(c, "fine", double)
	ctx := t.Context()
	opt := func(opts ...stint.RunOption) error {
		_, err := task.Enqueue(ctx, 1, opts...)
		return err
	}
	defines := func(define func(name string)) error {
		return panics(func() { define(fmt.Sprint("t", time.Now().UnixNano())) })
	}
	with := func(o stint.TaskOption) error {
		return defines(func(name string) { stint.NewTask(c, name, double, o) })
	}
	keyed := func(bad string, o func(func(int) string) stint.TaskOption) error {
		var err error
		if perr := defines(func(name string) {
			_, err = stint.NewTask(c, name, double, o(func(int) string { return bad })).Enqueue(ctx, 1)
		}); perr != nil {
			return perr
		}
		return err
	}
	worker := func(o stint.WorkerOption) error { _, err := c.NewWorker(o); return err }
	for what, give := range map[string]func(name string) error{
		"task":     func(n string) error { return panics(func() { stint.NewTask(c, n, double) }) },
		"workflow": func(n string) error { return panics(func() { stint.NewWorkflow[int](c, n) }) },
		"workflow's task": func(n string) error {
			return defines(func(w string) { stint.AddTask(stint.NewWorkflow[int](c, w), n, double) })
		},
		"task by name":    func(n string) error { _, err := c.EnqueueJSON(ctx, n, json.RawMessage("1")); return err },
		"queue":           func(n string) error { return opt(stint.WithQueue(n)) },
		"task's queue":    func(n string) error { return with(stint.WithQueue(n)) },
		"paused queue":    func(n string) error { return c.PauseQueue(ctx, n) },
		"idempotency key": func(n string) error { return opt(stint.WithIdempotencyKey(n, time.Hour)) },
		"debounce key":    func(n string) error { return opt(stint.WithDebounce(n, time.Hour, time.Hour)) },
		"key function": func(n string) error {
			return keyed(n, func(f func(int) string) stint.TaskOption { return stint.WithIdempotency(f, time.Hour) })
		},
		"concurrency": func(n string) error { return with(stint.WithConcurrency(stint.Concurrency[int]{Name: n, Max: 1})) },
		"concurrency key": func(n string) error {
			return keyed(n, func(f func(int) string) stint.TaskOption {
				return stint.WithConcurrency(stint.Concurrency[int]{Key: f, Max: 1})
			})
		},
		"rate limit":     func(n string) error { return with(stint.WithRateLimit(n, 1)) },
		"set rate limit": func(n string) error { return c.SetRateLimit(ctx, n, 1, 1) },
		"rate limit of an input": func(n string) error {
			return keyed(n, func(f func(int) string) stint.TaskOption {
				return stint.WithRateLimitFunc(func(i int) stint.RateLimit { return stint.RateLimit{Key: f(i), Units: 1, Limit: 1, Burst: 1} })
			})
		},
		"label":          func(n string) error { return worker(stint.WithLabels(map[string]string{n: "x"})) },
		"label's value":  func(n string) error { return worker(stint.WithLabels(map[string]string{"x": n})) },
		"wanted label":   func(n string) error { return with(stint.WithAffinity(stint.Affinity{Label: n, Value: "x"})) },
		"wanted value":   func(n string) error { return with(stint.WithAffinity(stint.Affinity{Label: "x", Value: n})) },
		"worker":         func(n string) error { return worker(stint.WithName(n)) },
		"worker's queue": func(n string) error { return worker(stint.WithQueues("a", n)) },
		"cron":           func(n string) error { return task.Cron(ctx, n, "@daily", 1) },
		"event":          func(n string) error { _, err := c.Publish(ctx, n, 1); return err },
		"event's scope":  func(n string) error { _, err := c.Publish(ctx, "e", 1, stint.WithScope(n)); return err },
		"delivery":       func(n string) error { _, err := c.Publish(ctx, "e", 1, stint.WithDeliveryID(n)); return err },
		"trigger":        func(n string) error { return with(stint.WithEvents(n)) },
		"waited event": func(n string) error {
			return defines(func(w string) {
				stint.AddTask(stint.NewWorkflow[int](c, w), "a", double, stint.WithWaitFor(stint.UserEvent(n)))
			})
		},
		"webhook": func(n string) error { return panics(func() { c.WebhookHandler(n, webhook.APIKey("k", "v"), "") }) },
		"compensation": func(n string) error {
			task := stint.NewTask(c, fmt.Sprint("c", time.Now().UnixNano()), func(ctx context.Context, _ int) (int, error) {
				stint.Compensate(ctx, n, func(context.Context) error { return nil })
				return 1, nil
			}, stint.WithRetries(0))
			_, err := task.Run(ctx, 1)
			return err
		},
		"version": func(n string) error {
			task := stint.NewTask(c, fmt.Sprint("v", time.Now().UnixNano()), func(ctx context.Context, _ int) (int, error) {
				stint.Version(ctx, n)
				return 1, nil
			}, stint.WithRetries(0))
			_, err := task.Run(ctx, 1)
			return err
		},
		"step": func(n string) error {
			step := stint.NewTask(c, fmt.Sprint("s", time.Now().UnixNano()), func(ctx context.Context, _ int) (int, error) {
				return stint.Step(ctx, n, func(context.Context) (int, error) { return 1, nil })
			})
			_, err := step.Run(ctx, 1)
			return err
		},
	} {
		for _, bad := range []string{"\xff", "a\xc3", "\xed\xa0\x80", strings.Repeat("x", 254) + "é"} {
			if err := give(bad); err == nil {
				t.Errorf("%s %.20q is taken", what, bad)
			}
		}
		if err := give("é 漢字 \u202e " + strings.NewReplacer(" ", "-", "'", "").Replace(what)); err != nil {
			t.Errorf("%s of text: %v", what, err)
		}
	}
}

// panics returns what f panicked with as an error, or nil.
func panics(f func()) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = errors.New(fmt.Sprint(v))
		}
	}()
	f()
	return nil
}
