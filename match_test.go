package stint_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/stinttest"
)

// A wait with WithMatch takes the events that have exactly its value, in durable waits and
// in conditions of workflows, whichever comes first, the event or the wait.
func TestMatchExactly(t *testing.T) {
	const large = 9007199254740992 // of its neighbours, doubles know every second
	for _, tc := range []struct {
		value       any
		match, near []string // payloads' fields
	}{
		{10, []string{"10", "10.0", "1e1", "1.0E+1"}, []string{"11", "10.5", `"10"`, "[10]", "null"}},
		{large, []string{"9007199254740992", "9007199254740992.0"}, []string{"9007199254740993", "9007199254740991", "9007199254740992.5"}},
		{large + 1, []string{"9007199254740993", "9.007199254740993e15"}, []string{"9007199254740992", "9007199254740994"}},
		{uint64(math.MaxUint64), []string{"18446744073709551615"}, []string{"18446744073709551616", "18446744073709551614"}},
		{int64(math.MinInt64), []string{"-9223372036854775808"}, []string{"-9223372036854775807", "9223372036854775808"}},
		{json.Number("1e999999999"), []string{"1e999999999", "10e999999998"}, []string{"1e999999998", "1e1000000000"}},
		{0, []string{"0", "-0.0", "0e5"}, []string{"1e-999999999", "false"}},
		{0.1, []string{"0.1", "1e-1"}, []string{"0.10000000000000000001", "0.2"}},
		{[]int{large + 1}, []string{"[9007199254740993]", "[9007199254740993.0]"}, []string{"[9007199254740992]", "9007199254740993"}},
		{map[string]any{"b": large + 1, "a": "<"}, []string{`{"a":"\u003c","b":9007199254740993}`}, []string{`{"a":"<","b":9007199254740992}`}},
		{"10", []string{`"10"`, `"\u0031\u0030"`}, []string{"10"}},
		{nil, []string{"null"}, []string{`"null"`, "0"}},
		{true, []string{"true"}, []string{`"true"`, "1"}},
	} {
		t.Run(fmt.Sprint(tc.value), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { matchExactly(t, tc.value, tc.match, tc.near) })
		})
	}
}

func matchExactly(t *testing.T, value any, match, near []string) {
	c := stinttest.New(t)
	wait := stint.NewTask(c, "wait", func(ctx context.Context, _ int) (string, error) {
		e, err := stint.WaitForEvent[json.RawMessage](ctx, "e", stint.WithMatch("f", value))
		return string(e), err
	})
	flow := stint.NewWorkflow[int](c, "flow")
	stint.AddTask(flow, "a", func(context.Context, int) (int, error) { return 1, nil }, stint.WithWaitFor(stint.UserEvent("e", stint.WithMatch("f", value))))
	publish := func(field string) {
		t.Helper()
		if _, err := c.Publish(t.Context(), "e", json.RawMessage(`{"f":`+field+`}`)); err != nil {
			t.Fatal(err)
		}
	}
	for _, first := range match {
		run, err := wait.Enqueue(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		graph, err := flow.Enqueue(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		publish(near[0]) // before the wait
		stinttest.Drain(t.Context(), c)
		for _, f := range near {
			publish(f)
		}
		stinttest.Drain(t.Context(), c)
		for _, id := range []string{run.ID(), graph.ID()} {
			if info, err := c.GetRun(t.Context(), id); err != nil || info.State == stint.StateSucceeded {
				t.Fatalf("%s is %v, %v though %q came", info.Task, info.State, err, near)
			}
		}
		publish(first)
		stinttest.Drain(t.Context(), c)
		if got, err := run.Wait(t.Context()); err != nil || got != `{"f":`+first+`}` {
			t.Errorf("after %s: %s, %v", first, got, err)
		}
		if _, err := graph.Wait(t.Context()); err != nil {
			t.Errorf("the workflow, after %s: %v", first, err)
		}
		if run, err = wait.Enqueue(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
		publish(first) // before the wait
		stinttest.Drain(t.Context(), c)
		if _, err := run.Wait(t.Context()); err != nil {
			t.Errorf("%s before the wait: %v", first, err)
		}
	}
}

// What JSON cannot hold is an error of the wait's, not a wait for something else.
func TestMatchOfNoJSON(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := stinttest.New(t)
		for i, value := range []any{math.NaN(), math.Inf(1), "\xff", func() {}} {
			wait := stint.NewTask(c, fmt.Sprint("wait", i), func(ctx context.Context, _ int) (int, error) {
				return stint.WaitForEvent[int](ctx, "e", stint.WithMatch("f", value), stint.WithWaitTimeout(time.Hour))
			})
			run, err := wait.Enqueue(t.Context(), 0)
			if err != nil {
				t.Fatal(err)
			}
			stinttest.Drain(t.Context(), c)
			if _, err := run.Wait(t.Context()); err == nil || !strings.Contains(err.Error(), `WithMatch("f")`) {
				t.Errorf("%v: %v", value, err)
			}
		}
	})
}

// A wait with a scope takes only events that have it, by what WithMatch asks for too; one that looks back also takes
// events from before its run, the first of them, and each once.
func TestScopeAndLookBack(t *testing.T) {
	in(t, func(t *testing.T, c *stint.Client) {
		start := time.Now()
		scoped := stint.WithScope("ann")
		wait := stint.NewTask(c, "wait", func(ctx context.Context, way int) (string, error) {
			switch way {
			case 0:
				return stint.WaitForEvent[string](ctx, "e", scoped)
			case 1:
				v, err := stint.WaitForEvent[map[string]int](ctx, "e", scoped, stint.WithMatch("n", 7))
				return fmt.Sprint(v["n"]), err
			}
			var all string
			for range 2 {
				fired, err := stint.WaitFor(ctx, stint.UserEvent("e", scoped, stint.PublishedSince(start.Add(time.Second))))
				if err != nil {
					return "", err
				}
				all += string(fired["e"])
			}
			return all, nil
		})
		w := stint.NewWorkflow[int](c, "flow")
		a := stint.AddTask(w, "a", func(context.Context, int) (int, error) { return 1, nil },
			stint.WithWaitFor(stint.UserEvent("e", scoped, stint.PublishedSince(start.Add(time.Second)))))
		stint.AddTask(w, "b", func(context.Context, int) (int, error) { return 1, nil }, stint.WithParents(a),
			stint.WithSkipIf(stint.UserEvent("skip", scoped)))
		working(t, c)
		send := func(key string, payload any, scope string) {
			t.Helper()
			var opts []stint.EventOption
			if scope != "" {
				opts = append(opts, stint.WithScope(scope))
			}
			publish(t, c, key, payload, opts...)
			time.Sleep(time.Second)
		}
		send("e", "too old", "ann")
		send("e", "first", "ann")
		send("e", "of bob", "bob")
		both, flow := enqueue(t, wait, 2), enqueue(t, w, 0)
		output(t, flow)
		plain, matched := enqueue(t, wait, 0), enqueue(t, wait, 1)
		for _, scope := range []string{"", "bob"} {
			send("e", map[string]int{"n": 7}, scope)
			send("e", "none", scope)
		}
		synctest.Wait()
		for _, r := range []*stint.Run[string]{both, plain, matched} {
			if info := infoOf(t, r); info.State != stint.StateWaiting {
				t.Errorf("run %s is %v: want it to wait for its scope", r.ID(), info.State)
			}
		}
		if why := infoOf(t, plain).Blocked; !strings.Contains(why, `event "e" of scope "ann"`) {
			t.Errorf("it waits for %q", why)
		}
		send("e", "second", "ann")
		send("e", map[string]int{"n": 7}, "ann")
		if got := output(t, both); got != `"first""second"` {
			t.Errorf("looked back to %s", got)
		}
		if got := output(t, plain); got != "second" {
			t.Errorf("waited for %s", got)
		}
		if got := output(t, matched); got != "7" {
			t.Errorf("matched %s", got)
		}
	})
}

// Options of waits that exclude each other, and those that are for one event.
func TestLookBackRefused(t *testing.T) {
	for what, cond := range map[string]stint.Condition{
		"FromNow and PublishedSince": stint.UserEvent("e", stint.FromNow(), stint.PublishedSince(time.Now())),
		"want a time after 1970":     stint.UserEvent("e", stint.PublishedSince(time.Time{})),
		"empty scope":                stint.UserEvent("e", stint.WithScope("")),
		"cannot begin with U+0001":   stint.UserEvent("e", stint.WithMatch("\x01f", 1)),
	} {
		func() {
			defer func() {
				if p := recover(); p == nil || !strings.Contains(fmt.Sprint(p), what) {
					t.Errorf("want a panic with %q: %v", what, p)
				}
			}()
			stint.AddTask(stint.NewWorkflow[int](stinttest.New(t), "w"), "a", func(context.Context, int) (int, error) { return 0, nil },
				stint.WithWaitFor(cond))
		}()
	}
}
