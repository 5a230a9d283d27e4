package cel_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stint-dev/stint"
	_ "github.com/stint-dev/stint/cel"
	"github.com/stint-dev/stint/stinttest"
	"github.com/stint-dev/stint/store"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Each expression with an event, and whether that passes.
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
		if got := f(&e); got != tc.want {
			t.Errorf("%s of %s is %v", tc.expr, tc.payload, got)
		}
	}
}

// An expression that cannot be one is an error where it is given.
func TestBadExpressions(t *testing.T) {
	for _, expr := range []string{"", "input.", "1 + 1", `"text"`, "unknown > 1", `input.a == `, "metadata > 1", strings.Repeat("true || ", 1000) + "true"} {
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

// A durable wait, and the condition of a workflow's task, take the events that pass.
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
