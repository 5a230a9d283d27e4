package stint_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stint-dev/stint"
)

// The text of an error names the library once, however many calls it has passed, and errors.Is
// finds what it is all the same.
func TestErrorsNameTheLibraryOnce(t *testing.T) {
	c := openedAt(t, ":memory:")
	ctx := t.Context()
	task := stint.NewTask(c, "t", double)
	none := "018f3c5e-0000-7000-8000-000000000000"
	of := func(_ any, err error) error { return err }
	long := strings.Repeat("x", 2000)
	ended, cancel := context.WithCancel(ctx)
	cancel()
	closed, err := stint.Open(":memory:")
	if err != nil || closed.Close() != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		got error
		is  error
	}{
		"open":                    {of(stint.Open("/nowhere/at/all.db")), nil},
		"open with an option":     {of(stint.Open(":memory:", stint.WithMaxResident(-1))), nil},
		"cancel":                  {of(c.CancelRuns(ctx, stint.RunFilter{IDs: []string{"x"}})), stint.ErrNotFound},
		"replay":                  {of(c.ReplayRuns(ctx, stint.RunFilter{IDs: []string{"x"}})), stint.ErrNotFound},
		"delete":                  {of(c.DeleteRuns(ctx, stint.RunFilter{IDs: []string{none}, Tasks: []string{long}})), nil},
		"delete, nothing":         {of(c.DeleteRuns(ctx, stint.RunFilter{})), stint.ErrNoFilter},
		"delete, an empty list":   {of(c.DeleteRuns(ctx, stint.RunFilter{Tasks: []string{}})), stint.ErrNoFilter},
		"list":                    {of(c.ListRuns(ctx, stint.RunFilter{Cursor: "x"})), nil},
		"list, metadata":          {of(c.ListRuns(ctx, stint.RunFilter{Metadata: map[string]string{long: ""}})), nil},
		"info":                    {of(stint.RunByID[int](c, none).Info(ctx)), stint.ErrNotFound},
		"info, no ID":             {of(stint.RunByID[int](c, "x").Info(ctx)), stint.ErrNotFound},
		"wait":                    {of(stint.RunByID[int](c, none).Wait(ctx)), stint.ErrNotFound},
		"cancel one":              {stint.RunByID[int](c, none).Cancel(ctx), stint.ErrNotFound},
		"cancel one, no ID":       {stint.RunByID[int](c, "x").Cancel(ctx), stint.ErrNotFound},
		"reschedule":              {c.Reschedule(ctx, none, time.Now()), stint.ErrNotFound},
		"reschedule, no time":     {c.Reschedule(ctx, none, time.Date(-1, 1, 1, 0, 0, 0, 0, time.UTC)), nil},
		"restart":                 {c.RestartFrom(ctx, none, "step"), stint.ErrNotFound},
		"restart, a name":         {c.RestartFrom(ctx, none, long), nil},
		"fork":                    {of(c.Fork(ctx, "x", "step")), stint.ErrNotFound},
		"enqueue":                 {of(task.Enqueue(ctx, 1, stint.WithDelay(-1))), nil},
		"enqueue, queue":          {of(task.Enqueue(ctx, 1, stint.WithQueue(""))), nil},
		"enqueue, key":            {of(task.Enqueue(ctx, 1, stint.WithIdempotencyKey("", 1))), nil},
		"enqueue, debounce":       {of(task.Enqueue(ctx, 1, stint.WithDebounce("k", 0, 1))), nil},
		"debounce and delay":      {of(task.Enqueue(ctx, 1, stint.WithDebounce("k", 1, 1), stint.WithDelay(1))), nil},
		"delay and time":          {of(task.Enqueue(ctx, 1, stint.WithDelay(1), stint.WithRunAt(time.Now()))), nil},
		"schedule and delay":      {of(task.Schedule(ctx, time.Now(), 1, stint.WithDelay(1))), nil},
		"schedule and time":       {of(task.Schedule(ctx, time.Now(), 1, stint.WithRunAt(time.Now()))), nil},
		"enqueue, metadata":       {of(task.Enqueue(ctx, 1, stint.WithMetadata(map[string]string{long: ""}))), nil},
		"enqueue, time":           {of(task.Enqueue(ctx, 1, stint.WithRunAt(time.Date(-1, 1, 1, 0, 0, 0, 0, time.UTC)))), nil},
		"enqueue many":            {of(task.EnqueueMany(ctx, []int{1}, stint.WithPriority(1000))), nil},
		"enqueue JSON":            {of(c.EnqueueJSON(ctx, "t", []byte(`"x"`))), nil},
		"enqueue JSON, option":    {of(c.EnqueueJSON(ctx, "t", []byte(`1`), stint.WithDelay(-1))), nil},
		"enqueue on a closed":     {of(stint.NewTask(closed, "t", double).Enqueue(ctx, 1)), stint.ErrClosed},
		"enqueue, ctx":            {of(task.Enqueue(ended, 1)), context.Canceled},
		"run":                     {of(task.Run(ctx, 1, stint.WithPriority(1000))), nil},
		"cron, option":            {task.Cron(ctx, "c", "@daily", 1, stint.WithPriority(1000)), nil},
		"cron, spec":              {task.Cron(ctx, "c", "x", 1), nil},
		"cron, no spec":           {panics(func() { stint.NewTask(c, "ticks", double, stint.WithCron()) }), nil},
		"cron, no seconds":        {task.Cron(ctx, "c", "@every 1500ms", 1), nil},
		"cron, Sunday as 7":       {task.Cron(ctx, "c", "0 0 * * 7", 1), nil},
		"cron ticks, none":        {of(stint.CronTicks("@daily", time.Now(), -1)), nil},
		"cron ticks, many":        {of(stint.CronTicks("@daily", time.Now(), 100_000_000)), nil},
		"events, no key":          {panics(func() { stint.NewTask(c, "told", double, stint.WithEvents()) }), nil},
		"healthy, closed":         {closed.Healthy(), stint.ErrClosed},
		"restart at, no run":      {c.RestartAt(ctx, none, "1"), stint.ErrNotFound},
		"trigger a cron":          {of(c.TriggerCron(ctx, "none")), stint.ErrNotFound},
		"delete a cron":           {c.DeleteCron(ctx, "none"), stint.ErrNotFound},
		"pause a queue":           {c.PauseQueue(ctx, ""), nil},
		"pause a worker":          {c.PauseWorker(ctx, "none"), stint.ErrNotFound},
		"pause a limit":           {c.PauseLimit(ctx, stint.LimitKey{Key: "none"}), stint.ErrNotFound},
		"set a rate":              {c.SetRateLimit(ctx, "", 1, 1), nil},
		"publish":                 {of(c.Publish(ctx, "", 1)), nil},
		"publish, option":         {of(c.Publish(ctx, "k", 1, stint.WithScope(""))), nil},
		"publish, payload":        {of(c.Publish(ctx, "k", make(chan int))), nil},
		"worker":                  {of(c.NewWorker(stint.WithSlots(-1))), nil},
		"worker of a closed":      {of(closed.NewWorker()), stint.ErrClosed},
		"filter":                  {of(c.CreateFilter(ctx, stint.TriggerFilter{})), nil},
		"step, outside of a run":  {of(stint.StepTx[int](ctx, "s", nil)), stint.ErrDurable},
		"event, outside of a run": {of(stint.WaitForEvent[int](ctx, "k")), stint.ErrDurable},
	} {
		switch {
		case tt.got == nil:
			t.Errorf("%s: no error", name)
		case strings.Count(tt.got.Error(), "stint: ") > 1:
			t.Errorf("%s: %s", name, tt.got)
		case tt.is != nil && !errors.Is(tt.got, tt.is):
			t.Errorf("%s: %v is not %v", name, tt.got, tt.is)
		}
	}
}
