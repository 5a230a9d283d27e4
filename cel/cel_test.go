package cel_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stint-dev/stint"
	_ "github.com/stint-dev/stint/cel"
	"github.com/stint-dev/stint/internal/selfcheck"
	"github.com/stint-dev/stint/stinttest"
	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/webhook"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	selfcheck.Enable()
	goleak.VerifyTestMain(m, goleak.Cleanup(selfcheck.Exit))
}

// An expression may have 4 KiB and no more.
func TestExpressionBounds(t *testing.T) {
	c, err := stint.Open(":memory:")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for what, give := range map[string]func(expr string) error{
		"MatchFilter": func(expr string) error {
			_, err := stint.MatchFilter(expr, "k", json.RawMessage("1"))
			return err
		},
		"CreateFilter": func(expr string) error {
			_, err := c.CreateFilter(t.Context(), stint.TriggerFilter{Task: "task", Scope: "s", Expression: expr})
			return err
		},
	} {
		of := func(size int) string { return "true" + strings.Repeat(" ", size-4) }
		if err := give(of(4096)); err != nil {
			t.Errorf("%s at the bound: %v", what, err)
		}
		for _, size := range []int{4097, 8192} {
			if err := give(of(size)); err == nil || len(err.Error()) > 1000 {
				t.Errorf("%s of %d bytes: %.300v", what, size, err)
			}
		}
	}
}

// Each expression with an event, and whether the event matches.
func TestExpressions(t *testing.T) {
	for _, tc := range []struct {
		expr, payload, metadata string
		want                    bool
	}{
		{`true`, `1`, ``, true},
		{`input.total > 100`, `{"total":101}`, ``, true},
		{`input.total > 100`, `{"total":100}`, ``, false},
		{`input.total == 100`, `{"total":100.0}`, ``, true},
		{`input.total > 100`, `{"other":1}`, ``, false}, // it lacks the field
		{`input.total > 100`, `{"total":"many"}`, ``, false},
		{`input > 1`, `2`, ``, true},
		{`input == null`, `null`, ``, true},
		{`input.items.exists(i, i.sku == "b")`, `{"items":[{"sku":"a"},{"sku":"b"}]}`, ``, true},
		{`input.country in ["NO","SE"]`, `{"country":"SE"}`, ``, true},
		{`metadata.source == "shop"`, `{}`, `{"source":"shop"}`, true},
		{`metadata.source == "shop"`, `{}`, ``, false},
		{`has(input.a) && key.startsWith("order")`, `{"a":1}`, ``, true},
		{`input.name.lowerAscii() == "ada"`, `{"name":"ADA"}`, ``, true},
		{`input.a`, `{"a":true}`, ``, true},
		{`input.a`, `{"a":1}`, ``, false}, // not true or false
		{`input.l.all(a, input.l.all(b, input.l.all(c, a+b+c < 1e9)))`, `{"l":[` + strings.Repeat("1,", 99) + `1]}`, ``, false}, // costs too much
	} {
		f, err := store.CompileFilter(tc.expr)
		if err != nil {
			t.Errorf("%s: %v", tc.expr, err)
			continue
		}
		e := store.NewEvent{Key: "order.paid", Payload: []byte(tc.payload)}
		if tc.metadata != "" {
			e.Metadata = []byte(tc.metadata)
		}
		if got := f(&e, nil); got != tc.want {
			t.Errorf("%s of %s is %v", tc.expr, tc.payload, got)
		}
	}
}

// An invalid expression is an error where it is set.
func TestBadExpressions(t *testing.T) {
	for _, expr := range []string{"", "input.", "1 + 1", `"text"`, "unknown > 1", `input.a == `, "metadata > 1", strings.Repeat("true || ", 1000) + "true", "[1]" + strings.Repeat(".map(x, [x])", 21) + " == [1]"} {
		if _, err := store.CompileFilter(expr); err == nil {
			t.Errorf("%.20q compiles", expr)
		}
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("UserEvent took %.20q", expr)
				}
			}()
			w := stint.NewWorkflow[int](stinttest.New(t), "w")
			stint.AddTask(w, "a", func(context.Context, int) (int, error) { return 0, nil }, stint.WithWaitFor(stint.UserEvent("e", stint.WithFilter(expr))))
		}()
	}
}

// A durable wait, and the condition of a workflow's task, take the events that match.
func TestWithFilter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := stinttest.New(t)
		type order struct {
			Total int `json:"total"`
		}
		wait := stint.NewTask(c, "wait", func(ctx context.Context, _ int) (int, error) {
			o, err := stint.WaitForEvent[order](ctx, "order", stint.WithFilter("input.total > 100 && metadata.vip == 'yes'"), stint.WithWaitTimeout(time.Hour))
			return o.Total, err
		})
		w := stint.NewWorkflow[int](c, "flow")
		stint.AddTask(w, "a", func(context.Context, int) (int, error) { return 1, nil },
			stint.WithWaitFor(stint.UserEvent("order", stint.WithFilter("input.total == 120"))))
		publish := func(total int, vip string) {
			t.Helper()
			if _, err := c.Publish(t.Context(), "order", order{total}, stint.WithMetadata(map[string]string{"vip": vip})); err != nil {
				t.Fatal(err)
			}
		}
		run, err := wait.Enqueue(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		flow, err := w.Enqueue(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		late, err := wait.Enqueue(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		publish(101, "no")
		if err := stinttest.Drain(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		publish(99, "yes")
		publish(120, "yes")
		if err := stinttest.Drain(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		if got, err := run.Wait(t.Context()); err != nil || got != 120 {
			t.Errorf("the wait: %d, %v", got, err)
		}
		if got, err := late.Wait(t.Context()); err != nil || got != 120 {
			t.Errorf("the other wait: %d, %v", got, err)
		}
		if _, err := flow.Wait(t.Context()); err != nil {
			t.Errorf("the workflow: %v", err)
		}
		bad := stint.NewTask(c, "bad", func(ctx context.Context, _ int) (int, error) {
			return stint.WaitForEvent[int](ctx, "order", stint.WithFilter("input >"))
		})
		r, err := bad.Enqueue(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := stinttest.Drain(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		var failed *stint.TaskError
		if _, err := r.Wait(t.Context()); !errors.As(err, &failed) || !strings.Contains(err.Error(), "input >") {
			t.Errorf("a bad filter: %v", err)
		}
	})
}

// Filters of triggers: in the definition, and created at run time with a scope and a payload. If a
// task has filters, an event starts one run for each that matches.
func TestTriggerFilters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := stinttest.New(t)
		ctx := t.Context()
		type order struct {
			Total int `json:"total"`
		}
		var mu sync.Mutex
		var got []string
		stint.NewTask(c, "large", func(ctx context.Context, o order) (int, error) {
			var p struct{ Name string }
			err := stint.FilterPayload(ctx, &p)
			if err != nil && !errors.Is(err, stint.ErrNotFound) {
				return 0, err
			}
			mu.Lock()
			defer mu.Unlock()
			got = append(got, p.Name+strings.Repeat("|", o.Total/100))
			return 0, nil
		}, stint.WithEvents("order.*"), stint.WithEventFilter("input.total >= 100 && key != 'order.void'"))
		publish := func(key string, total int, opts ...stint.EventOption) []string {
			t.Helper()
			got = nil
			if _, err := c.Publish(ctx, key, order{total}, opts...); err != nil {
				t.Fatal(err)
			}
			if err := stinttest.Drain(ctx, c); err != nil {
				t.Fatal(err)
			}
			return got
		}
		want := func(what string, got []string, want ...string) {
			t.Helper()
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Errorf("%s: %q, want %q", what, got, want)
			}
		}
		want("small", publish("order.paid", 99))
		want("void", publish("order.void", 100))
		want("large", publish("order.paid", 100), "|")
		var ids []int64
		for _, f := range []stint.TriggerFilter{
			{Scope: "no", Expression: "input.total > 150", Payload: map[string]string{"name": "oslo"}},
			{Scope: "no", Expression: "metadata.vip == 'yes'", Payload: map[string]string{"name": "vip"}},
			{Scope: "se", Expression: "true"},
		} {
			f.Task = "large"
			id, err := c.CreateFilter(ctx, f)
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, id)
		}
		want("no scope", publish("order.paid", 200))
		want("none of the filters", publish("order.paid", 100, stint.WithScope("no")))
		want("another scope", publish("order.paid", 200, stint.WithScope("se")), "||")
		want("both", publish("order.paid", 200, stint.WithScope("no"), stint.WithMetadata(map[string]string{"vip": "yes"})), "oslo||", "vip||")
		list, err := c.ListFilters(ctx, "large")
		if err != nil || len(list) != 3 || list[0].ID != ids[0] || list[1].Expression != "metadata.vip == 'yes'" {
			t.Errorf("filters %+v, %v", list, err)
		}
		if err := c.UpdateFilter(ctx, stint.TriggerFilter{ID: ids[2], Task: "large", Scope: "dk", Expression: "input.total > 150"}); err != nil {
			t.Fatal(err)
		}
		want("the scope it had", publish("order.paid", 200, stint.WithScope("se")))
		want("its new scope", publish("order.paid", 200, stint.WithScope("dk")), "||")
		for what, f := range map[string]stint.TriggerFilter{"none": {ID: 1000, Task: "large", Scope: "x", Expression: "true"},
			"no ID": {Task: "large", Scope: "x", Expression: "true"}} {
			if err := c.UpdateFilter(ctx, f); !errors.Is(err, stint.ErrNotFound) {
				t.Errorf("update of %s: %v", what, err)
			}
		}
		if err := c.UpdateFilter(ctx, stint.TriggerFilter{ID: ids[0], Task: "large", Scope: "x", Expression: "input."}); err == nil {
			t.Error("an update to what does not compile")
		}
		for _, id := range ids {
			if err := c.DeleteFilter(ctx, id); err != nil {
				t.Fatal(err)
			}
		}
		want("no filters any more", publish("order.paid", 100), "|")
		for _, expr := range []string{"", "input.", "1"} {
			if _, err := c.CreateFilter(ctx, stint.TriggerFilter{Task: "large", Scope: "x", Expression: expr}); err == nil {
				t.Errorf("took the filter %q", expr)
			}
		}
	})
}

// The key of a webhook's event is made of its body and headers.
func TestWebhookKey(t *testing.T) {
	c := stinttest.New(t)
	h := c.WebhookHandler("github", webhook.APIKey("X-Key", "k"), `"github." + headers["x-github-event"] + (has(input.action) ? "." + input.action : "")`)
	for _, tc := range []struct{ event, body, want string }{
		{"push", `{"ref":"main"}`, "github.push"},
		{"issues", `{"action":"opened"}`, "github.issues.opened"},
		{"", `{"action":"opened"}`, ""},         // lacks the header
		{"issues", `{"action":7}`, ""},          // of another type
		{"issues", `[{"action":"opened"}]`, ""}, // no object
	} {
		r := httptest.NewRequest("POST", "/", strings.NewReader(tc.body))
		r.Header.Set("X-Key", "k")
		if tc.event != "" {
			r.Header.Set("X-GitHub-Event", tc.event)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		page, err := c.ListEvents(t.Context(), stint.EventFilter{Limit: 1})
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case w.Code != 200:
			t.Errorf("%+v: %d", tc, w.Code)
		case tc.want == "" && !strings.Contains(w.Body.String(), "ignored"):
			t.Errorf("%+v: %s", tc, w.Body)
		case tc.want != "" && (len(page.Events) == 0 || page.Events[0].Key != tc.want):
			t.Errorf("%+v: %+v", tc, page.Events)
		}
	}
	for _, expr := range []string{"input.", "1 + 1", "true", `"a" + nothing`} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("took the key %q", expr)
				}
			}()
			c.WebhookHandler("x", webhook.APIKey("X-Key", "k"), expr)
		}()
	}
}
