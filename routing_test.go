package stint_test

import (
	"context"
	"fmt"
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
		runs := enqueueMany(t, task, []int{1, 2, 3})
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
		if d := cmp.Diff([]stint.QueueInfo{{Name: "default", Ready: 1, Running: 2, Oldest: time.Now()}}, queues); d != "" {
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
			output(t, r)
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

// Two workers of one process that were given no name have different ones, so each has its own runs, and a pause is of one.
func TestWorkersHaveTheirOwnNames(t *testing.T) {
	in(t, func(t *testing.T, c *stint.Client) {
		task := stint.NewTask(c, "t", workerName)
		working(t, c, stint.WithSlots(1))
		working(t, c, stint.WithSlots(1))
		synctest.Wait()
		all := must[[]stint.WorkerInfo](t)(c.ListWorkers(t.Context()))
		if len(all) != 2 || all[0].Name == all[1].Name {
			t.Fatalf("%+v", all)
		}
		if err := c.PauseWorker(t.Context(), all[0].Name); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if on := runTask(t, task, 0); on != all[1].Name {
				t.Errorf("ran on %s, while only %s works", on, all[1].Name)
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
		never := enqueue(t, huge, "huge")
		var runs []*stint.Run[int]
		for _, name := range []string{"s1", "s2", "B1", "s3", "s4", "waits", "s5"} {
			task := small
			if name[0] == 'B' || name == "waits" {
				task = big
			}
			runs = append(runs, enqueue(t, task, name))
		}
		working(t, c, stint.WithSlots(4))
		for _, r := range runs {
			output(t, r)
		}
		if most > 4 || most < 4 {
			t.Errorf("%d slots in use, want 4", most)
		}
		if i, j := slices.Index(order, "B1"), slices.Index(order, "s4"); i > j {
			t.Errorf("overtaken: %v", order)
		}
		if info := infoOf(t, never); info.State != stint.StateQueued {
			t.Errorf("what does not fit is %v", info.State)
		}
	})
}

// two workers of one client, named a and b, with labels.
func two(t *testing.T, c *stint.Client, a, b map[string]string) {
	working(t, c, stint.WithName("a"), stint.WithSlots(2), stint.WithLabels(a))
	working(t, c, stint.WithName("b"), stint.WithSlots(2), stint.WithLabels(b))
	synctest.Wait()
}

func workerName(ctx context.Context, _ int) (string, error) {
	info, _ := stint.Info(ctx)
	return info.Worker, nil
}

// Required labels are a must, with every comparator; labels changed live count at once.
func TestAffinityRequired(t *testing.T) {
	in(t, func(t *testing.T, c *stint.Client) {
		two(t, c, map[string]string{"gpu": "a100", "mem": "80"}, map[string]string{"mem": "9"})
		for i, tc := range []struct {
			want stint.Affinity
			on   string
		}{
			{stint.Affinity{Label: "gpu", Value: "a100"}, "a"},
			{stint.Affinity{Label: "gpu", Comparator: "!=", Value: "a100"}, "b"},
			{stint.Affinity{Label: "mem", Comparator: ">", Value: 9}, "a"},
			{stint.Affinity{Label: "mem", Comparator: "<=", Value: 9.0}, "b"},
			{stint.Affinity{Label: "mem", Comparator: ">=", Value: "80"}, "a"},
			{stint.Affinity{Label: "mem", Comparator: "<", Value: uint(80)}, "b"},
		} {
			task := stint.NewTask(c, fmt.Sprint("t", i), workerName, stint.WithAffinity(tc.want))
			for range 3 {
				if on := runTask(t, task, 0); on != tc.on {
					t.Errorf("%+v ran on %s, want %s", tc.want, on, tc.on)
				}
			}
		}
		none := stint.NewTask(c, "none", workerName, stint.WithAffinity(stint.Affinity{Label: "zone", Value: "eu"}))
		run := enqueue(t, none, 0)
		synctest.Wait()
		if info := infoOf(t, run); info.Blocked != "a worker with label zone = eu" {
			t.Errorf("%v, blocked by %q", info.State, info.Blocked)
		}
		w := must[*stint.Worker](t)(c.NewWorker(stint.WithName("c")))
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- w.Run(ctx) }()
		synctest.Wait()
		if err := w.SetLabels(t.Context(), map[string]string{"zone": "eu"}); err != nil {
			t.Fatal(err)
		}
		if on := output(t, run); on != "c" {
			t.Errorf("ran on %s", on)
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// Of workers that fit the one with the highest sum of weights is preferred, while it has
// slots free.
func TestAffinityPreferred(t *testing.T) {
	in(t, func(t *testing.T, c *stint.Client) {
		two(t, c, map[string]string{"ssd": "yes"}, map[string]string{"ssd": "no", "near": "yes"})
		hold := make(chan struct{})
		task := stint.NewTask(c, "t", func(ctx context.Context, n int) (string, error) {
			if n > 0 {
				<-hold
			}
			return workerName(ctx, n)
		}, stint.WithAffinity(stint.Affinity{Label: "ssd", Value: "yes", Preferred: true, Weight: 10}, stint.Affinity{Label: "near", Value: "yes", Preferred: true, Weight: 20}))
		for range 5 {
			if on := runTask(t, task, 0); on != "b" {
				t.Errorf("ran on %s, want b", on)
			}
		}
		enqueueMany(t, task, []int{1, 2}) // b is full
		synctest.Wait()
		began := time.Now()
		if on := runTask(t, task, 0); on != "a" || time.Since(began) > 1100*time.Millisecond {
			t.Errorf("ran on %s after %v, want a", on, time.Since(began))
		}
		close(hold)
	})
}

// The tasks of a sticky workflow, and sticky children, run on one worker.
func TestSticky(t *testing.T) {
	in(t, func(t *testing.T, c *stint.Client) {
		for _, sticky := range []stint.Sticky{stint.StickySoft, stint.StickyHard} {
			name := fmt.Sprint("w", sticky)
			w := stint.NewWorkflow[int](c, name, stint.WithSticky(sticky))
			var nodes []*stint.Node[string]
			var last []stint.AnyNode
			for i := range 4 {
				n := stint.AddTask(w, fmt.Sprint("n", i), workerName, stint.WithParents(last...))
				nodes, last = append(nodes, n), []stint.AnyNode{n}
			}
			child := stint.NewTask(c, name+"child", workerName, stint.WithSticky(sticky))
			parent := stint.NewTask(c, name+"parent", func(ctx context.Context, _ int) (string, error) {
				on, err := child.Run(ctx, 0)
				if err != nil {
					return "", err
				}
				mine, err := workerName(ctx, 0)
				return on + mine, err
			})
			if sticky == stint.StickySoft {
				two(t, c, nil, nil)
			}
			for range 5 {
				out := runTask(t, w, 0)
				first := must[string](t)(nodes[0].From(out))
				for _, n := range nodes {
					if on := must[string](t)(n.From(out)); on != first {
						t.Errorf("a task ran on %s, the first on %s", on, first)
					}
				}
				if on := runTask(t, parent, 0); on != "aa" && on != "bb" {
					t.Errorf("child and parent ran on %q", on)
				}
			}
		}
	})
}

// A run of a workflow says where all its tasks run, also a replay, and an affinity of it comes before a task's of that label.
func TestWorkflowRunRoutes(t *testing.T) {
	in(t, func(t *testing.T, c *stint.Client) {
		w := stint.NewWorkflow[int](c, "w")
		eu := stint.WithAffinity(stint.Affinity{Label: "zone", Value: "eu", Preferred: true})
		first := stint.AddTask(w, "first", workerName, eu)
		second := stint.AddTask(w, "second", workerName, stint.WithParents(first))
		two(t, c, map[string]string{"zone": "eu"}, map[string]string{"zone": "us"})
		on := func(want string, opts ...stint.RunOption) {
			t.Helper()
			run := enqueue(t, w, 0, opts...)
			for range 2 {
				out := output(t, run)
				if a, b := must[string](t)(first.From(out)), must[string](t)(second.From(out)); a != want || want == "b" && b != want {
					t.Errorf("ran on %s and %s, want %s", a, b, want)
				}
				if _, err := c.ReplayRuns(t.Context(), stint.RunFilter{IDs: []string{run.ID()}}); err != nil {
					t.Error(err)
				}
			}
		}
		on("a") // control: as the task says
		on("b", stint.WithAffinity(stint.Affinity{Label: "zone", Value: "us"}))
		on("b", stint.WithWorker("b", true))
	})
}

// StickyHard waits for a worker that has gone, until the schedule timeout.
func TestStickyHardGone(t *testing.T) {
	in(t, func(t *testing.T, c *stint.Client) {
		child := stint.NewTask(c, "child", workerName, stint.WithSticky(stint.StickyHard), stint.WithScheduleTimeout(time.Hour))
		parent := stint.NewTask(c, "parent", func(ctx context.Context, _ int) (string, error) {
			r, err := child.Enqueue(ctx, 0, stint.WithDelay(time.Minute), stint.Detached())
			if err != nil {
				return "", err
			}
			return r.ID(), nil
		})
		stop := working(t, c, stint.WithName("gone"))
		id := runTask(t, parent, 0)
		stop()
		working(t, c, stint.WithName("other"))
		time.Sleep(2 * time.Minute)
		info := getRun(t, c, id)
		if info.State != stint.StateQueued || info.Blocked != `a worker with name "gone"` {
			t.Errorf("%v, blocked by %q", info.State, info.Blocked)
		}
		time.Sleep(time.Hour)
		if info := getRun(t, c, id); info.State != stint.StateCanceled {
			t.Errorf("%v after the schedule timeout", info.State)
		}
	})
}

func TestRoutingBadInput(t *testing.T) {
	c := openedAt(t, ":memory:")
	for i, o := range []stint.TaskOption{
		stint.WithAffinity(stint.Affinity{Value: "x"}),
		stint.WithAffinity(stint.Affinity{Label: "l", Comparator: "~", Value: "x"}),
		stint.WithAffinity(stint.Affinity{Label: "l", Value: []int{1}}),
		stint.WithAffinity(stint.Affinity{Label: "l"}),
		stint.WithAffinity(stint.Affinity{Label: "l", Comparator: "<", Value: "x"}),
		stint.WithAffinity(stint.Affinity{Label: "l", Value: "x", Weight: 5}),
		stint.WithSticky(7), stint.WithSlotCost(0),
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("option %d was taken", i)
				}
			}()
			stint.NewTask(c, fmt.Sprint("bad", i), workerName, o)
		}()
	}
}
