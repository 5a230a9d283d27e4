package stint_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stint-dev/stint"
)

type parcel struct {
	ID    int `json:"id"`
	Lines []struct {
		SKU string
		N   uint `json:"n,omitempty"`
	} `json:"lines"`
	At    time.Time         `json:"at"`
	Notes map[string]string `json:"notes,omitempty"`
	Next  *parcel           `json:"next"`
	Raw   json.RawMessage
	inner int
	address
}

type address struct {
	City string `json:"city"`
}

// What is defined is listed, with the schema of its input.
func TestListTasks(t *testing.T) {
	c := opened(t)
	stint.NewTask(c, "ship", func(ctx context.Context, o parcel) (int, error) { return o.inner, nil }, stint.WithQueue("mail"), stint.WithRetries(2), stint.WithOnFailure(func(context.Context, parcel, *stint.TaskError) error { return nil }))
	w := stint.NewWorkflow[int](c, "flow")
	a := stint.AddTask(w, "a", func(ctx context.Context, n int) (int, error) { return n, nil })
	stint.AddTask(w, "b", func(ctx context.Context, n int) (int, error) { return n, nil }, stint.WithParents(a))
	all := c.ListTasks()
	if len(all) != 2 || all[0].Name != "flow" || !all[0].Workflow || !all[0].Handler || len(all[0].Tasks) != 2 || !slices.Equal(all[0].Tasks[1].Parents, []string{"a"}) {
		t.Fatalf("%+v", all)
	}
	ship := all[1]
	if ship.Name != "ship" || ship.Queue != "mail" || ship.Retries != 2 || !ship.Handler || !json.Valid(ship.Example) {
		t.Errorf("%+v", ship)
	}
	var got, want any
	json.Unmarshal(ship.Input, &got)
	json.Unmarshal([]byte(`{"type": "object", "required": ["id", "lines", "at", "Raw", "city"], "properties": {
		"id": {"type": "integer"}, "at": {"type": "string", "format": "date-time"}, "next": {}, "Raw": {}, "city": {"type": "string"},
		"notes": {"type": "object", "additionalProperties": {"type": "string"}},
		"lines": {"type": "array", "items": {"type": "object", "required": ["SKU"], "properties": {"SKU": {"type": "string"}, "n": {"type": "integer", "minimum": 0}}}}}}`), &want)
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("schema (-want +got):\n%s", d)
	}
}

// A batch task is known by its size, also if that is the default, or its handler is elsewhere.
func TestListBatchTasks(t *testing.T) {
	c := opened(t)
	fn := func(_ context.Context, ins []int) ([]int, error) { return ins, nil }
	stint.NewBatchTask(c, "a default", fn)
	stint.NewBatchTask(c, "b given", fn, stint.WithBatchSize(7))
	stint.NewBatchTask[int, int](c, "c elsewhere", nil)
	stint.NewTask(c, "d plain", double)
	for i, want := range []int{stint.DefaultBatchSize, 7, stint.DefaultBatchSize, 0} {
		if got := c.ListTasks()[i]; got.BatchSize != want {
			t.Errorf("%s: BatchSize %d, want %d", got.Name, got.BatchSize, want)
		}
	}
}

// JSON is enqueued as if its task had been called with what it means.
func TestEnqueueJSON(t *testing.T) {
	c := opened(t)
	stint.NewTask(c, "double", func(ctx context.Context, n int) (int, error) { return 2 * n, nil },
		stint.WithIdempotency(func(n int) string { return "only" }, time.Hour))
	w := stint.NewWorkflow[int](c, "flow")
	a := stint.AddTask(w, "a", func(ctx context.Context, n int) (int, error) { return n, nil })
	working(t, c)
	run := enqueueJSON(t, c, "double", []byte("21"))
	if out := output(t, run); string(out) != "42" {
		t.Errorf("returned %s, want 42", out)
	}
	if again := enqueueJSON(t, c, "double", []byte("4")); !again.Existing() || again.ID() != run.ID() {
		t.Error("the task's idempotency key is not used")
	}
	if other := enqueueJSON(t, c, "double", []byte("4"), stint.WithIdempotencyKey("mine", time.Hour)); other.Existing() {
		t.Error("an option's key is not before the task's")
	}
	flow := enqueueJSON(t, c, "flow", []byte("7"))
	if n, err := a.From(output(t, stint.RunByID[stint.Outputs](c, flow.ID()))); n != 7 || err != nil {
		t.Errorf("the workflow's task returned %d, %v", n, err)
	}
	if elsewhere := enqueueJSON(t, c, "elsewhere", []byte(`{"any": 1}`), stint.WithQueue("q")); elsewhere.Existing() {
		t.Error("a task of another program has a key")
	}
	for what, err := range map[string]error{
		"an input of another type": second(c.EnqueueJSON(t.Context(), "double", []byte(`"x"`))),
		"no JSON":                  second(c.EnqueueJSON(t.Context(), "double", []byte(`{`))),
		"no name":                  second(c.EnqueueJSON(t.Context(), "", []byte(`1`))),
		"a workflow's task":        second(c.EnqueueJSON(t.Context(), "flow:a", []byte(`1`))),
	} {
		if err == nil {
			t.Errorf("%s was enqueued", what)
		}
	}
}

func second[T any](_ T, err error) error { return err }

// A cron's spec can be changed, and what it comes to be shown.
func TestUpdateCron(t *testing.T) {
	c := opened(t)
	task := stint.NewTask[int, int](c, "x", nil)
	if err := task.Cron(t.Context(), "nightly", "0 3 * * *", 5); err != nil {
		t.Fatal(err)
	}
	if err := c.UpdateCron(t.Context(), "nightly", "CRON_TZ=UTC 30 4 * * *"); err != nil {
		t.Fatal(err)
	}
	all := must[[]stint.CronInfo](t)(c.ListCrons(t.Context()))
	if len(all) != 1 || all[0].Spec != "CRON_TZ=UTC 30 4 * * *" || string(all[0].Input) != "5" || all[0].Next.UTC().Hour() != 4 {
		t.Errorf("%+v", all)
	}
	stint.NewTask[int, int](c, "declares", nil, stint.WithCron("@daily"))
	if err := c.UpdateCron(t.Context(), "declares:@daily", "@hourly"); !errors.Is(err, stint.ErrTaken) {
		t.Errorf("a cron that is declared: %v", err)
	}
	if err := c.UpdateCron(t.Context(), "none", "@daily"); !errors.Is(err, stint.ErrNotFound) {
		t.Errorf("a cron that is not there: %v", err)
	}
	if err := c.UpdateCron(t.Context(), "nightly", "61 * * * *"); err == nil {
		t.Error("a spec that is none was taken")
	}
	ticks := must[[]time.Time](t)(stint.CronTicks("CRON_TZ=UTC 0 9 * * 1", time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), 2))
	if len(ticks) != 2 || !ticks[0].Equal(time.Date(2026, 1, 5, 9, 0, 0, 0, time.UTC)) || ticks[1].Sub(ticks[0]) != 7*24*time.Hour {
		t.Errorf("ticks: %v", ticks)
	}
}
