package browser

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/alert"
	_ "github.com/stint-dev/stint/cel"
	"github.com/stint-dev/stint/webhook"
)

// hostile stands in every field that a user's data reaches: markup, quotes, an attribute,
// a script, characters that turn the text around or are not seen. Pictures for people have
// another text there.
var hostile = `<img src=x onerror="document.title='owned'"><script>document.title='owned'</script>"'` + "\u202e\u0000\u200b" + `</td></main>{{.}}`

type letter struct {
	To    string `json:"to"`
	Copy  bool   `json:"copy,omitempty"`
	Times int    `json:"times"`
}

// A demo is a program whose every page has something to show.
type demo struct {
	c       *stint.Client
	mail    *stint.Task[letter, string]
	slow    *stint.Task[int, int]
	flaky   *stint.Task[string, int]
	order   *stint.Task[int, int]
	flow    *stint.Workflow[int]
	alerts  *alert.Alerts
	hold    chan struct{} // slow runs end when it is closed
	runs    map[string]string
	working sync.WaitGroup
}

// errorOf returns the ID of an error of a task.
func (d *demo) errorOf(task string) string {
	page, err := d.c.ListErrors(context.Background(), stint.ErrorFilter{Tasks: []string{task}})
	if err != nil || len(page.Groups) == 0 {
		return fmt.Sprint(err)
	}
	return page.Groups[0].ID
}

func newDemo(t *testing.T) *demo {
	t.Helper()
	c, err := stint.Open(filepath.Join(t.TempDir(), "shop.db"), stint.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	d := &demo{c: c, hold: make(chan struct{}), runs: map[string]string{}}
	d.define()
	w, err := c.NewWorker(stint.WithName("worker-1"), stint.WithSlots(20), stint.WithDrainTimeout(0), stint.WithLabels(map[string]string{"region": "north"}))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	d.working.Go(func() { w.Run(ctx) })
	d.alerts, err = alert.New(c, alert.Config{
		Rules: []alert.Rule{{Name: hostile, Task: "charge-card"}, {Name: "half of all", Rate: 0.5, Count: 100}},
		Sinks: []alert.Sink{alert.Func("pager", func(context.Context, alert.Notice) error { return nil })},
	})
	if err != nil {
		t.Fatal(err)
	}
	d.working.Go(func() { d.alerts.Run(ctx) })
	t.Cleanup(func() { close(d.hold); stop(); d.working.Wait(); c.Close() })
	d.fill(t)
	d.sample(t)
	return d
}

func (d *demo) define() {
	c := d.c
	d.mail = stint.NewTask(c, "send-mail", func(ctx context.Context, l letter) (string, error) {
		stint.Logger(ctx).Info("sending", "to", l.To)
		stint.Stream(ctx, []byte("250 OK "+l.To+"\n"))
		return "sent to " + l.To, nil
	}, stint.WithRetries(3), stint.WithConcurrency(stint.Concurrency[letter]{Key: func(l letter) string { return l.To }, Max: 2}), stint.WithRateLimit("smtp", 1))
	d.slow = stint.NewTask(c, "resize-images", func(ctx context.Context, n int) (int, error) {
		stint.Progress(ctx, int64(n), 100)
		select {
		case <-d.hold:
		case <-ctx.Done():
		}
		return n, ctx.Err()
	}, stint.WithQueue("media"), stint.WithConcurrency(stint.Concurrency[int]{Name: hostile, Key: func(int) string { return hostile }, Max: 1}))
	d.flaky = stint.NewTask(c, "charge-card", func(ctx context.Context, s string) (int, error) {
		stint.Logger(ctx).Error("declined", "card", s)
		return 0, stint.NonRetryable(fmt.Errorf("card declined: %s", s))
	}, stint.WithRetries(2))
	d.order = stint.NewTask(c, "fulfil-order", func(ctx context.Context, n int) (int, error) {
		if _, err := stint.Step(ctx, "reserve", func(context.Context) (string, error) { return "R-17", nil }); err != nil {
			return 0, err
		}
		if err := stint.Sleep(ctx, 20*time.Millisecond); err != nil {
			return 0, err
		}
		if _, err := stint.WaitForEvent[map[string]any](ctx, "order:approved", stint.WithMatch("id", n)); err != nil {
			return 0, err
		}
		return n, nil
	}, stint.WithCron("CRON_TZ=UTC 30 4 * * 1-5"))
	d.flow = stint.NewWorkflow[int](c, "publish-site")
	build := stint.AddTask(d.flow, "build", func(ctx context.Context, n int) (int, error) { return n, nil })
	test := stint.AddTask(d.flow, "test", func(ctx context.Context, n int) (int, error) {
		if n == 0 {
			return 0, stint.NonRetryable(errors.New("2 tests failed"))
		}
		return n, nil
	}, stint.WithParents(build))
	lint := stint.AddTask(d.flow, "lint", func(ctx context.Context, n int) (int, error) { return n, nil }, stint.WithParents(build))
	pack := stint.AddTask(d.flow, "pack", func(ctx context.Context, n int) (int, error) { return n, nil }, stint.WithParents(test, lint))
	stint.AddTask(d.flow, "upload", func(ctx context.Context, n int) (int, error) { return n, nil }, stint.WithParents(pack))
}

// fill has something of everything happen.
func (d *demo) fill(t *testing.T) {
	t.Helper()
	ctx := t.Context()
	must := func(id string, err error) string {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	if err := d.c.SetRateLimit(ctx, "smtp", 1000, 1000); err != nil {
		t.Fatal(err)
	}
	for i := range 60 {
		d.runs["mail"] = must(idOf(d.mail.Enqueue(ctx, letter{To: fmt.Sprintf("reader-%d@example.org", i)}, stint.WithMetadata(map[string]string{"tenant": "acme"}))))
	}
	d.runs["hostile"] = must(idOf(d.mail.Enqueue(ctx, letter{To: hostile}, stint.WithMetadata(map[string]string{hostile: hostile}), stint.WithIdempotencyKey(hostile, time.Hour))))
	for range 4 {
		d.runs["failed"] = must(idOf(d.flaky.Enqueue(ctx, hostile)))
	}
	d.runs["slow"] = must(idOf(d.slow.Enqueue(ctx, 40)))
	d.runs["held up"] = must(idOf(d.slow.Enqueue(ctx, 60)))
	d.runs["order"] = must(idOf(d.order.Enqueue(ctx, 7)))
	d.runs["approved"] = must(idOf(d.order.Enqueue(ctx, 8)))
	d.runs["flow"] = must(idOf(d.flow.Enqueue(ctx, 1)))
	d.runs["broken flow"] = must(idOf(d.flow.Enqueue(ctx, 0)))
	d.runs["later"] = must(idOf(d.mail.Schedule(ctx, time.Now().Add(3*time.Hour), letter{To: "later@example.org"})))
	d.runs["large"] = must(idOf(d.c.EnqueueJSON(ctx, "elsewhere", []byte(`"`+strings.Repeat("x", 1<<20)+`"`), stint.WithQueue("cold"))))
	d.runs["odd task"] = must(idOf(d.c.EnqueueJSON(ctx, `<b>"odd"</b>`, []byte(`{"<i>": "`+"\u202e"+`"}`), stint.WithQueue(`<u>&"q`))))
	if err := d.mail.Cron(ctx, hostile, "0 9 * * *", letter{To: hostile}); err != nil {
		t.Fatal(err)
	}
	if err := d.c.PauseQueue(ctx, "cold"); err != nil {
		t.Fatal(err)
	}
	if _, err := d.c.CreateFilter(ctx, stint.TriggerFilter{Task: "send-mail", Scope: hostile, Expression: `input.by == "<b>"`, Payload: hostile}); err != nil {
		t.Fatal(err)
	}
	hook := d.c.WebhookHandler("shop", webhook.APIKey("X-Key", "secret"), "")
	for _, key := range []string{"secret", "guess"} {
		r := httptest.NewRequest("POST", "/", strings.NewReader(`{"from": "a webhook"}`))
		r.Header.Set("X-Key", key)
		hook.ServeHTTP(httptest.NewRecorder(), r)
	}
	for _, name := range []string{"mail", "hostile", "failed", "flow", "broken flow"} {
		d.wait(t, name)
	}
	// An event that comes before somebody waits for it wakes nobody.
	until(t, d.c, d.runs["approved"], func(r *stint.RunInfo) bool { return strings.Contains(r.Blocked, "order:approved") })
	if _, err := d.c.Publish(ctx, "order:approved", map[string]any{"id": 8, "by": hostile}, stint.WithScope(hostile)); err != nil {
		t.Fatal(err)
	}
	d.wait(t, "approved")
}

// wait waits until a run has ended.
func (d *demo) wait(t *testing.T, name string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := stint.RunByID[any](d.c, d.runs[name]).Wait(ctx); ctx.Err() != nil {
		info, _ := d.c.GetRun(t.Context(), d.runs[name])
		t.Fatalf("%s does not end: %v: %+v", name, err, info)
	}
}

func idOf[Out any](r *stint.Run[Out], err error) (string, error) {
	if err != nil {
		return "", err
	}
	return r.ID(), nil
}
