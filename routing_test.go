package stint_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stint-dev/stint"
)

// Workers are listed with their labels, which change while they run, and with what they work.
func TestListWorkers(t *testing.T) {
	in(t, func(t *testing.T, c *stint.Client) {
		hold := make(chan struct{})
		task := stint.NewTask(c, "t", func(context.Context, int) (int, error) { <-hold; return 0, nil })
		runs := must[[]*stint.Run[int]](t)(task.EnqueueMany(t.Context(), []int{1, 2, 3}))
		w := must[*stint.Worker](t)(c.NewWorker(stint.WithName("one"), stint.WithSlots(2), stint.WithQueues("default"), stint.WithLabels(map[string]string{"gpu": "a100"})))
		if err := w.SetLabels(t.Context(), nil); err == nil {
			t.Error("SetLabels of a worker that does not run")
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- w.Run(ctx) }()
		synctest.Wait()
		all := must[[]stint.WorkerInfo](t)(c.ListWorkers(t.Context()))
		if len(all) != 1 || all[0].Name != "one" || all[0].Slots != 2 || all[0].Running != 2 || all[0].PID == 0 || all[0].Started.IsZero() {
			t.Fatalf("%+v", all)
		}
		if d := cmp.Diff(map[string]string{"gpu": "a100"}, all[0].Labels); d != "" {
			t.Error(d)
		}
		queues := must[[]stint.QueueInfo](t)(c.ListQueues(t.Context()))
		if d := cmp.Diff([]stint.QueueInfo{{Name: "default", Ready: 1, Running: 2}}, queues); d != "" {
			t.Error(d)
		}
		if err := w.SetLabels(t.Context(), map[string]string{"gpu": "none"}); err != nil {
			t.Fatal(err)
		}
		all = must[[]stint.WorkerInfo](t)(c.ListWorkers(t.Context()))
		if all[0].Labels["gpu"] != "none" {
			t.Errorf("%+v", all)
		}
		close(hold)
		for _, r := range runs {
			must[int](t)(r.Wait(t.Context()))
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if all := must[[]stint.WorkerInfo](t)(c.ListWorkers(t.Context())); len(all) != 0 {
			t.Errorf("left: %+v", all)
		}
		for _, bad := range []map[string]string{{"": "x"}, {"a": strings.Repeat("x", 300)}} {
			if _, err := c.NewWorker(stint.WithLabels(bad)); err == nil {
				t.Errorf("took labels %.20v", bad)
			}
		}
	})
}

// WithSlotCost: runs take as many slots as they cost, also when they go on after a wait;
// what does not fit is not overtaken, and what never fits holds up nothing.
func TestSlotCost(t *testing.T) {
	in(t, func(t *testing.T, c *stint.Client) {
		var mu sync.Mutex
		used, most := 0, 0
		var order []string
		handler := func(cost int) func(context.Context, string) (int, error) {
			return func(ctx context.Context, name string) (int, error) {
				_, err := stint.Step(ctx, "work", func(ctx context.Context) (int, error) {
					mu.Lock()
					used += cost
					most = max(most, used)
					order = append(order, name)
					mu.Unlock()
					time.Sleep(time.Second)
					mu.Lock()
					used -= cost
					mu.Unlock()
					return 0, nil
				})
				if err == nil && name == "waits" {
					err = stint.Sleep(ctx, 10*time.Second)
				}
				return cost, err
			}
		}
		small := stint.NewTask(c, "small", handler(1))
		big := stint.NewTask(c, "big", handler(3), stint.WithSlotCost(3))
		huge := stint.NewTask(c, "huge", handler(9), stint.WithSlotCost(9))
		never := must[*stint.Run[int]](t)(huge.Enqueue(t.Context(), "huge"))
		var runs []*stint.Run[int]
		for _, name := range []string{"s1", "s2", "B1", "s3", "s4", "waits", "s5"} {
			task := small
			if name[0] == 'B' || name == "waits" {
				task = big
			}
			runs = append(runs, must[*stint.Run[int]](t)(task.Enqueue(t.Context(), name)))
		}
		working(t, c, stint.WithSlots(4))
		for _, r := range runs {
			must[int](t)(r.Wait(t.Context()))
		}
		if most > 4 || most < 4 {
			t.Errorf("%d slots in use, want 4", most)
		}
		if i, j := slices.Index(order, "B1"), slices.Index(order, "s4"); i > j {
			t.Errorf("overtaken: %v", order)
		}
		if info := must[*stint.RunInfo](t)(never.Info(t.Context())); info.State != stint.StateQueued {
			t.Errorf("what does not fit is %v", info.State)
		}
	})
}
