package stint_test

import (
	"context"
	"encoding/json"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stint-dev/stint"
)

// A task of a workflow learns what its wait-for condition was made true by, as the store decided it.
func TestTriggersOfTask(t *testing.T) {
	for name, tt := range map[string]struct {
		cond   func(parent *stint.Node[int]) stint.Condition
		before string // an event before the parent has ended
		after  string
		want   string
	}{
		"an event": {func(*stint.Node[int]) stint.Condition { return stint.UserEvent("a") }, "", "a", `{"a":"after"}`},
		"an event of before": {func(*stint.Node[int]) stint.Condition { return stint.UserEvent("a") }, "a", "a",
			`{"a":"before"}`},
		"only one of after": {func(*stint.Node[int]) stint.Condition { return stint.UserEvent("a", stint.FromNow()) }, "a", "a", `{"a":"after"}`},
		"a time": {func(*stint.Node[int]) stint.Condition {
			return stint.AnyOf(stint.Named("soon", stint.SleepFor(time.Second)), stint.UserEvent("a"))
		}, "", "a", `{"soon":null}`},
		"a parent and a match": {func(n *stint.Node[int]) stint.Condition {
			return stint.AnyOf(stint.SleepFor(time.Hour), stint.Named("both", stint.AllOf(stint.ParentOutput(n, func(v int) bool { return v == 7 }),
				stint.UserEvent("a", stint.WithMatch("n", 1)))))
		}, "a", "match", `{"a":{"n":1},"both":null,"parent":7}`},
		"none": {nil, "", "", `{}`},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := openedAt(t, ":memory:")
				flow := stint.NewWorkflow[int](c, "flow")
				parent := stint.AddTask(flow, "parent", func(ctx context.Context, _ int) (int, error) {
					return 7, stint.Sleep(ctx, time.Minute)
				})
				opts := []stint.TaskOption{stint.WithParents(parent)}
				if tt.cond != nil {
					opts = append(opts, stint.WithWaitFor(tt.cond(parent)))
				}
				node := stint.AddTask(flow, "node", func(ctx context.Context, _ int) (string, error) {
					f, err := stint.Triggers(ctx)
					if err != nil {
						return "", err
					}
					b, err := json.Marshal(f)
					return string(b), err
				}, opts...)
				publish(t, c, "a", "old")
				run := enqueue(t, flow, 0)
				working(t, c)
				time.Sleep(time.Second)
				if tt.before != "" {
					publish(t, c, tt.before, "before")
				}
				time.Sleep(time.Minute + 10*time.Second)
				switch tt.after {
				case "match":
					publish(t, c, "a", map[string]int{"n": 1})
				case "":
				default:
					publish(t, c, tt.after, "after")
				}
				publish(t, c, "a", "late")
				out := output(t, run)
				if got, err := node.From(out); err != nil || got != tt.want {
					t.Errorf("got %s, %v, want %s", got, err, tt.want)
				}
			})
		})
	}
	if _, err := stint.Triggers(t.Context()); err == nil {
		t.Error("outside of a handler it is no error")
	}
}
