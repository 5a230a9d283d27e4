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
