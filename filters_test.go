package stint_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/stinttest"
)

func listed(t *testing.T, c *stint.Client, f stint.RunFilter) string {
	t.Helper()
	var names []string
	for _, r := range listRuns(t, c, f).Runs {
		names = append(names, r.Task+string(r.Input))
	}
	return strings.Join(names, " ")
}

func TestRunFilters(t *testing.T) {
	c := opened(t)
	stint.NewTask(c, "a", double, stint.WithEvents("e"))
	flow := stint.NewWorkflow[int](c, "w")
	stint.AddTask(flow, "one", double)
	stop := working(t, c, stint.WithName("here"))
	meta := func(k, v string) stint.RunOption { return stint.WithMetadata(map[string]string{k: v}) }
	for i, o := range []stint.RunOption{meta("k", "1"), meta("k", "2"), meta("l", "1"), meta("l", "2")} {
		enqueueJSON(t, c, "b", json.RawMessage(fmt.Sprint(i)), o)
	}
	must[stint.Outputs](t)(flow.Run(t.Context(), 5))
	event := publish(t, c, "e", 6)
	publish(t, c, "e", 7)
	for _, r := range listRuns(t, c, stint.RunFilter{Tasks: []string{"a"}}).Runs {
		output(t, stint.RunByID[int](c, r.ID))
	}
	stop()
	for _, tt := range []struct {
		f    stint.RunFilter
		want string
	}{
		{stint.RunFilter{AnyMetadata: map[string][]string{"k": {"1", "2"}, "l": {"2", "3"}}}, "b3 b1 b0"},
		{stint.RunFilter{AnyMetadata: map[string][]string{"k": {"1", "2"}}, Metadata: map[string]string{"k": "2"}}, "b1"},
		{stint.RunFilter{AnyMetadata: map[string][]string{}}, ""},
		{stint.RunFilter{Event: event}, "a6"},
		{stint.RunFilter{Event: event, Tasks: []string{"b"}}, ""},
		{stint.RunFilter{Flat: true, Tasks: []string{"w", "w:one"}}, "w5"},
		{stint.RunFilter{Worker: "elsewhere"}, ""},
	} {
		if got := listed(t, c, tt.f); got != tt.want {
			t.Errorf("%+v: %q, want %q", tt.f, got, tt.want)
		}
	}
	if got := listed(t, c, stint.RunFilter{Worker: "here", Tasks: []string{"w:one", "b"}}); got != "w:one5" {
		t.Errorf("by worker: %q", got)
	}
	if _, err := c.ListRuns(t.Context(), stint.RunFilter{Event: "x"}); !errors.Is(err, stint.ErrNotFound) {
		t.Errorf("an event's ID that is none: %v", err)
	}
	many := map[string][]string{"k": repeat(101, "v")}
	if _, err := c.ListRuns(t.Context(), stint.RunFilter{AnyMetadata: many}); err == nil || !strings.Contains(err.Error(), "100") {
		t.Errorf("too many values: %v", err)
	}
	if n, err := c.CancelRuns(t.Context(), stint.RunFilter{AnyMetadata: map[string][]string{"k": {"1"}}}); n != 1 || err != nil {
		t.Errorf("canceled %d, %v", n, err)
	}
	if _, err := c.CancelRuns(t.Context(), stint.RunFilter{AnyMetadata: map[string][]string{}}); !errors.Is(err, stint.ErrNoFilter) {
		t.Errorf("an empty one: %v", err)
	}
}

func TestEventFilters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := stinttest.New(t)
		var ids []string
		began := time.Now()
		for i, key := range []string{"a", "b", "a", "c"} {
			ids = append(ids, publish(t, c, key, i, stint.WithMetadata(map[string]string{"n": fmt.Sprint(i % 2)})))
			time.Sleep(time.Minute)
		}
		for _, tt := range []struct {
			f    stint.EventFilter
			want string
		}{
			{stint.EventFilter{}, "3210"}, {stint.EventFilter{Key: "a"}, "20"}, {stint.EventFilter{Keys: []string{"c", "b"}}, "31"},
			{stint.EventFilter{Key: "b", Keys: []string{"c", "b"}}, "1"}, {stint.EventFilter{Key: "a", Keys: []string{"c", "b"}}, ""},
			{stint.EventFilter{Keys: []string{}}, ""}, {stint.EventFilter{IDs: []string{ids[0], ids[3]}}, "30"}, {stint.EventFilter{IDs: []string{}}, ""},
			{stint.EventFilter{Metadata: map[string]string{"n": "1"}}, "31"}, {stint.EventFilter{Metadata: map[string]string{"n": "1"}, Key: "b"}, "1"},
			{stint.EventFilter{Since: began.Add(time.Minute), Until: began.Add(3 * time.Minute)}, "21"},
		} {
			for _, tt.f.Limit = range []int{0, 1} {
				got := ""
				for more := true; more; {
					page := must[*stint.EventPage](t)(c.ListEvents(t.Context(), tt.f))
					for _, e := range page.Events {
						got += string(e.Payload)
					}
					tt.f.Cursor, more = page.Next, page.Next != ""
				}
				if got != tt.want {
					t.Errorf("%+v: %q, want %q", tt.f, got, tt.want)
				}
			}
		}
		for name, f := range map[string]stint.EventFilter{"ID": {IDs: []string{"x"}}, "key": {Keys: []string{strings.Repeat("k", 256)}},
			"time": {Since: time.Date(20000, 1, 1, 0, 0, 0, 0, time.UTC)}} {
			if _, err := c.ListEvents(t.Context(), f); err == nil {
				t.Errorf("a bad %s: no error", name)
			}
		}
	})
}

// A cron by the task's name starts runs with its options, also of a task of another program.
func TestCronJSON(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := stinttest.New(t)
		ctx := t.Context()
		stint.NewTask(c, "known", double, stint.WithPriority(7), stint.WithQueue("q"))
		opts := []stint.CronOption{stint.WithPriority(3), stint.WithMetadata(map[string]string{"k": "v"})}
		for _, err := range []error{c.CronJSON(ctx, "elsewhere", "one", "@every 1h", json.RawMessage(`{"a":1}`), opts...),
			c.CronJSON(ctx, "known", "two", "@every 1h", json.RawMessage("2"))} {
			if err != nil {
				t.Fatal(err)
			}
		}
		crons := must[[]stint.CronInfo](t)(c.ListCrons(ctx))
		for i, want := range []string{`one elsewhere {"a":1} 3 default map[k:v]`, "two known 2 7 q map[]"} {
			x := &crons[i]
			if got := fmt.Sprint(x.Name, " ", x.Task, " ", string(x.Input), " ", x.Priority, " ", x.Queue, " ", x.Metadata); got != want {
				t.Errorf("%s, want %s", got, want)
			}
		}
		stop := working(t, c)
		time.Sleep(time.Hour + time.Minute)
		synctest.Wait()
		stop()
		r := listRuns(t, c, stint.RunFilter{Tasks: []string{"elsewhere"}}).Runs
		if len(r) != 1 || string(r[0].Input) != `{"a":1}` || r[0].Priority != 3 || r[0].Metadata["k"] != "v" {
			t.Errorf("%+v", r)
		}
		if r := listRuns(t, c, stint.RunFilter{Tasks: []string{"known"}}).Runs; len(r) != 1 || string(r[0].Output) != "4" {
			t.Errorf("%+v", r)
		}
		for name, err := range map[string]error{
			"spec": c.CronJSON(ctx, "known", "three", "never", json.RawMessage("1")), "name": c.CronJSON(ctx, "known", "", "@daily", json.RawMessage("1")),
			"input": c.CronJSON(ctx, "known", "three", "@daily", json.RawMessage("{")), "type": c.CronJSON(ctx, "known", "three", "@daily", json.RawMessage(`"x"`)),
			"task": c.CronJSON(ctx, "", "three", "@daily", json.RawMessage("1")),
		} {
			if err == nil {
				t.Errorf("a bad %s: no error", name)
			}
		}
		if err := c.CronJSON(ctx, "known", "one", "@daily", json.RawMessage("1")); !errors.Is(err, stint.ErrTaken) {
			t.Errorf("the name of another task's: %v", err)
		}
	})
}
