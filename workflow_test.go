package stint_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stint-dev/stint"
)

// states lists the tasks of a workflow's run, "name state", in the order of the graph.
func states(t *testing.T, r *stint.Run[stint.Outputs]) (all []string) {
	t.Helper()
	for _, task := range infoOf(t, r).Tasks {
		all = append(all, fmt.Sprint(task.Name, " ", task.State))
	}
	return all
}

func wantStates(t *testing.T, r *stint.Run[stint.Outputs], want ...string) {
	t.Helper()
	if d := cmp.Diff(want, states(t, r)); d != "" {
		t.Errorf("tasks (-want +got):\n%s", d)
	}
}

// ended waits for a run's end, whatever it is.
func ended(t *testing.T, r *stint.Run[stint.Outputs]) *stint.RunInfo {
	t.Helper()
	r.Wait(t.Context())
	return infoOf(t, r)
}

func constant(s string) func(context.Context, int) (string, error) {
	return func(context.Context, int) (string, error) { return s, nil }
}

func failing(context.Context, int) (string, error) { return "", errors.New("no") }

// Roots start together; a task starts when its parents have succeeded; the outputs of
// all ancestors are readable, not only the parents'.
func TestWorkflow(t *testing.T) {
	for _, path := range []string{"file", ":memory:"} {
		t.Run(path, func(t *testing.T) {
			if path == "file" {
				path = t.TempDir() + "/w.db"
			}
			c := openedAt(t, path)
			w := stint.NewWorkflow[int](c, "diamond")
			top := stint.AddTask(w, "top", func(_ context.Context, n int) (int, error) { return n + 1, nil })
			left := stint.AddTask(w, "left", func(ctx context.Context, n int) (int, error) {
				v, err := top.Output(ctx)
				return v * 10, err
			}, stint.WithParents(top))
			right := stint.AddTask(w, "right", func(ctx context.Context, n int) (string, error) {
				v, err := top.Output(ctx)
				return fmt.Sprint("r", v), err
			}, stint.WithParents(top))
			bottom := stint.AddTask(w, "bottom", func(ctx context.Context, n int) (string, error) {
				a, err := top.Output(ctx) // not a parent
				if err != nil {
					return "", err
				}
				b, err := left.Output(ctx)
				if err != nil {
					return "", err
				}
				c, err := right.Output(ctx)
				info, _ := stint.Info(ctx)
				return fmt.Sprint(n, a, b, " ", c, " ", info.Task, " ", info.Metadata["k"]), err
			}, stint.WithParents(left, right))
			working(t, c)
			run := enqueue(t, w, 1, stint.WithMetadata(map[string]string{"k": "v"}), stint.WithPriority(3))
			out, err := run.Wait(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if got := must[string](t)(bottom.From(out)); got != "1 2 20 r2 diamond:bottom v" {
				t.Errorf("bottom = %q", got)
			}
			wantStates(t, run, "top succeeded", "left succeeded", "right succeeded", "bottom succeeded")
			info := infoOf(t, run)
			if d := cmp.Diff([]string{"left", "right"}, info.Tasks[3].Parents); d != "" {
				t.Error(d)
			}
			if b, _ := out.MarshalJSON(); string(b) != `{"bottom":"1 2 20 r2 diamond:bottom v","left":20,"right":"r2","top":2}` {
				t.Errorf("outputs are %s", b)
			}
			page := listRuns(t, c, stint.RunFilter{Tasks: []string{"diamond:left"}})
			if len(page.Runs) != 1 || page.Runs[0].ParentID != run.ID() || page.Runs[0].Priority != 3 {
				t.Errorf("ListRuns by task: %+v", page.Runs)
			}
			if page = listRuns(t, c, stint.RunFilter{TopLevel: true}); len(page.Runs) != 1 || page.Runs[0].Task != "diamond" {
				t.Errorf("ListRuns of the top level: %+v", page.Runs)
			}
		})
	}
}

// Any parent failed or canceled: the task is canceled (the reason names it), and so are
// its descendants, even beside skipped parents. Unrelated branches go on. The run is
// failed if any task failed.
func TestWorkflowFailure(t *testing.T) {
	c := opened(t)
	w := stint.NewWorkflow[int](c, "w")
	bad := stint.AddTask(w, "bad", failing)
	skipped := stint.AddTask(w, "skipped", constant("s"))
	never := stint.AddTask(w, "skip", constant("x"), stint.WithParents(skipped), stint.WithSkipIf(stint.ParentOutput(skipped, func(string) bool { return true })))
	child := stint.AddTask(w, "child", constant("c"), stint.WithParents(bad, never))
	grand := stint.AddTask(w, "grand", constant("g"), stint.WithParents(child, skipped))
	other := stint.AddTask(w, "other", constant("o"))
	last := stint.AddTask(w, "last", constant("l"), stint.WithParents(other))
	working(t, c)
	run := enqueue(t, w, 1)
	_, err := run.Wait(t.Context())
	var werr *stint.WorkflowError
	if !errors.As(err, &werr) || len(werr.Tasks) != 3 || werr.Tasks["bad"].Error() != "no" || !errors.Is(werr.Tasks["child"], stint.ErrCanceled) {
		t.Errorf("Wait = %v", err)
	}
	if s := ended(t, run).State; s != stint.StateFailed {
		t.Errorf("the run is %v, want failed", s)
	}
	wantStates(t, run, "bad failed", "skipped succeeded", "skip skipped", "child canceled", "grand canceled", "other succeeded", "last succeeded")
	for _, name := range []string{"child", "grand"} {
		if msg := werr.Tasks[name].Error(); !strings.Contains(msg, `"bad"`) {
			t.Errorf("%s: %q does not name the task that failed", name, msg)
		}
	}
	_, _ = grand, last
}

// All parents skipped: the task is skipped too, unless it has a skip condition of its
// own; Output of a skipped task is ErrSkipped, and the children of one still start.
func TestWorkflowSkip(t *testing.T) {
	c := opened(t)
	w := stint.NewWorkflow[int](c, "w")
	root := stint.AddTask(w, "root", func(_ context.Context, n int) (int, error) { return n, nil })
	skipped := stint.AddTask(w, "skipped", constant("s"), stint.WithParents(root), stint.WithSkipIf(stint.ParentOutput(root, func(n int) bool { return n == 1 })))
	stint.AddTask(w, "too", constant("t"), stint.WithParents(skipped))
	own := stint.AddTask(w, "own", func(ctx context.Context, _ int) (bool, error) {
		_, err := skipped.Output(ctx)
		return errors.Is(err, stint.ErrSkipped), nil
	}, stint.WithParents(skipped), stint.WithSkipIf(stint.ParentOutput(skipped, func(string) bool { return true })))
	both := stint.AddTask(w, "both", constant("b"), stint.WithParents(skipped, root))
	working(t, c)
	run := enqueue(t, w, 1)
	out := output(t, run)
	wantStates(t, run, "root succeeded", "skipped skipped", "too skipped", "own succeeded", "both succeeded")
	if saw := must[bool](t)(own.From(out)); !saw {
		t.Error("Output of a skipped task is not ErrSkipped")
	}
	if _, err := skipped.From(out); !errors.Is(err, stint.ErrSkipped) {
		t.Errorf("From of a skipped task: %v", err)
	}
	_ = both
	run = enqueue(t, w, 2)
	output(t, run)
	wantStates(t, run, "root succeeded", "skipped succeeded", "too succeeded", "own skipped", "both succeeded")
}

// Conditions: sleeps begin when the parents are done; cancel beats skip beats wait,
// otherwise the first in time wins; AllOf and AnyOf nest; an event before the wait
// counts, from the run's start on.
func TestWorkflowConditions(t *testing.T) {
	yes := func(string) bool { return true }
	no := func(string) bool { return false }
	type opts = []stint.TaskOption
	for name, tc := range map[string]struct {
		opts  func(root *stint.Node[string]) opts
		want  stint.State
		after time.Duration // from the start, of the task's end
	}{
		"sleep": {func(*stint.Node[string]) opts { return opts{stint.WithWaitFor(stint.SleepFor(time.Hour))} }, stint.StateSucceeded, time.Minute + time.Hour},
		"event at 10 minutes": {func(*stint.Node[string]) opts { return opts{stint.WithWaitFor(stint.UserEvent("late"))} },
			stint.StateSucceeded, 10 * time.Minute},
		"event before the wait": {func(*stint.Node[string]) opts { return opts{stint.WithWaitFor(stint.UserEvent("early"))} },
			stint.StateSucceeded, time.Minute},
		"event that matches": {func(*stint.Node[string]) opts {
			return opts{stint.WithWaitFor(stint.UserEvent("late", stint.WithMatch("n", 2)))}
		}, stint.StateSucceeded, 20 * time.Minute},
		"early event that matches": {func(*stint.Node[string]) opts {
			return opts{stint.WithWaitFor(stint.UserEvent("early", stint.WithMatch("n", 1)))}
		}, stint.StateSucceeded, time.Minute},
		"any": {func(*stint.Node[string]) opts {
			return opts{stint.WithWaitFor(stint.AnyOf(stint.SleepFor(time.Hour), stint.UserEvent("late")))}
		}, stint.StateSucceeded, 10 * time.Minute},
		"all": {func(*stint.Node[string]) opts {
			return opts{stint.WithWaitFor(stint.AllOf(stint.SleepFor(time.Hour), stint.UserEvent("late")))}
		}, stint.StateSucceeded, time.Minute + time.Hour},
		"nested": {func(r *stint.Node[string]) opts {
			return opts{stint.WithWaitFor(stint.AnyOf(stint.AllOf(stint.SleepFor(2*time.Minute), stint.ParentOutput(r, yes)), stint.SleepFor(time.Hour)))}
		}, stint.StateSucceeded, 3 * time.Minute},
		"a predicate that is false": {func(r *stint.Node[string]) opts {
			return opts{stint.WithWaitFor(stint.AnyOf(stint.ParentOutput(r, no), stint.SleepFor(5*time.Minute)))}
		}, stint.StateSucceeded, 6 * time.Minute},
		"skip first": {func(*stint.Node[string]) opts {
			return opts{stint.WithSkipIf(stint.SleepFor(time.Minute)), stint.WithWaitFor(stint.UserEvent("late"))}
		}, stint.StateSkipped, 2 * time.Minute},
		"wait first": {func(*stint.Node[string]) opts {
			return opts{stint.WithSkipIf(stint.SleepFor(time.Hour)), stint.WithWaitFor(stint.UserEvent("late"))}
		}, stint.StateSucceeded, 10 * time.Minute},
		"cancel beats skip beats wait": {func(*stint.Node[string]) opts {
			return opts{stint.WithSkipIf(stint.SleepFor(time.Minute)), stint.WithWaitFor(stint.SleepFor(time.Minute)), stint.WithCancelIf(stint.SleepFor(time.Minute))}
		}, stint.StateCanceled, 2 * time.Minute},
		"skip beats wait": {func(r *stint.Node[string]) opts { return opts{stint.WithSkipIf(stint.ParentOutput(r, yes))} }, stint.StateSkipped, time.Minute},
		"cancel": {func(r *stint.Node[string]) opts {
			return opts{stint.WithCancelIf(stint.UserEvent("late")), stint.WithWaitFor(stint.SleepFor(time.Hour))}
		}, stint.StateCanceled, 10 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := openedAt(t, ":memory:")
				w := stint.NewWorkflow[int](c, "w")
				root := stint.AddTask(w, "root", func(context.Context, int) (string, error) { time.Sleep(time.Minute); return "r", nil })
				stint.AddTask(w, "task", constant("t"), append(tc.opts(root), stint.WithParents(root))...)
				working(t, c)
				publish(t, c, "early", map[string]int{"n": 7}) // before the run: does not count
				time.Sleep(time.Second)
				run := enqueue(t, w, 1)
				began := time.Now()
				time.Sleep(10 * time.Second)
				publish(t, c, "early", map[string]int{"n": 1})
				time.Sleep(10*time.Minute - 10*time.Second)
				publish(t, c, "late", map[string]int{"n": 1})
				time.Sleep(10 * time.Minute)
				publish(t, c, "late", map[string]int{"n": 2})
				info := ended(t, run)
				if got := info.Tasks[1]; got.State != tc.want || got.Finished.Sub(began).Round(time.Second) != tc.after {
					t.Errorf("%v after %v, want %v after %v", got.State, got.Finished.Sub(began), tc.want, tc.after)
				}
			})
		})
	}
}

// A root's clocks start at trigger, also when the run was scheduled.
func TestWorkflowScheduled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := openedAt(t, t.TempDir()+"/w.db")
		w := stint.NewWorkflow[int](c, "w")
		stint.AddTask(w, "root", constant("r"), stint.WithWaitFor(stint.SleepFor(time.Minute)))
		working(t, c)
		began := time.Now()
		run := schedule(t, w, began.Add(time.Hour), 1)
		time.Sleep(time.Minute)
		if info := infoOf(t, run); info.State != stint.StateScheduled {
			t.Errorf("the run is %v, want scheduled", info.State)
		}
		output(t, run)
		if d := time.Since(began).Round(time.Second); d != time.Hour+time.Minute {
			t.Errorf("ended after %v, want 1h1m", d)
		}
	})
}

// A condition that errs blocks the task visibly.
func TestWorkflowConditionPanics(t *testing.T) {
	c := opened(t)
	w := stint.NewWorkflow[int](c, "w")
	root := stint.AddTask(w, "root", constant("r"))
	stint.AddTask(w, "task", constant("t"), stint.WithParents(root), stint.WithWaitFor(stint.ParentOutput(root, func(string) bool { panic("boom") })))
	working(t, c)
	run := enqueue(t, w, 1)
	for tick := time.NewTicker(5 * time.Millisecond); ; <-tick.C {
		task := infoOf(t, run).Tasks[1]
		if task.State == stint.StateBlocked && task.RunID != "" {
			if !strings.Contains(task.Blocked, "boom") {
				t.Errorf("blocked by %q, want the panic", task.Blocked)
			}
			break
		}
	}
	if err := run.Cancel(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := ended(t, run).State; s != stint.StateCanceled {
		t.Errorf("canceled while blocked: the run is %v", s)
	}
}

// OnFailure runs once, as soon as one task failed after its retries, sees input, outputs
// and errors, and leaves the run failed.
func TestWorkflowOnFailure(t *testing.T) {
	c := opened(t)
	w := stint.NewWorkflow[int](c, "w")
	good := stint.AddTask(w, "good", constant("g"))
	var tries, calls atomic.Int64
	stint.AddTask(w, "bad", func(context.Context, int) (int, error) { tries.Add(1); return 0, errors.New("no") },
		stint.WithParents(good), stint.WithRetries(2))
	stint.AddTask(w, "worse", failing, stint.WithParents(good))
	called := make(chan string, 10)
	w.OnFailure(func(ctx context.Context, in int, err *stint.WorkflowError) error {
		calls.Add(1)
		out, oerr := good.Output(ctx)
		called <- fmt.Sprint(in, " ", out, " ", oerr, " ", len(err.Tasks) > 0, " ", errors.Is(err, stint.ErrCanceled))
		return nil
	})
	working(t, c)
	run := enqueue(t, w, 5)
	if s := ended(t, run).State; s != stint.StateFailed {
		t.Errorf("the run is %v", s)
	}
	if got := <-called; got != "5 g <nil> true false" {
		t.Errorf("on-failure saw %q", got)
	}
	drained(t, c)
	if calls.Load() != 1 || tries.Load() != 3 {
		t.Errorf("on-failure ran %d times after %d tries, want 1 and 3", calls.Load(), tries.Load())
	}
	// Not for cancellations.
	run = schedule(t, w, time.Now().Add(time.Hour), 5)
	run.Cancel(t.Context())
	drained(t, c)
	if calls.Load() != 1 {
		t.Error("on-failure ran for a cancel")
	}
}

// The on-failure function has limits, a worker and a time to start of its own.
func TestWorkflowOnFailureOptions(t *testing.T) {
	c := opened(t)
	flow := func(name string, opts ...stint.TaskOption) (w *stint.Workflow[int], began chan int, end chan bool) {
		began, end = make(chan int, 10), make(chan bool)
		w = stint.NewWorkflow[int](c, name)
		stint.AddTask(w, "bad", failing)
		w.OnFailure(func(_ context.Context, in int, _ *stint.WorkflowError) error { began <- in; <-end; return nil }, opts...)
		return w, began, end
	}
	limited, began, end := flow("limited", stint.WithConcurrency(stint.Concurrency[int]{Name: "cleanup", Max: 1}))
	lonely, _, _ := flow("lonely", stint.WithAffinity(stint.Affinity{Label: "disk", Value: "large"}), stint.WithScheduleTimeout(50*time.Millisecond))
	working(t, c)
	for i := range 2 {
		ended(t, enqueue(t, limited, i))
	}
	first := <-began
	all, err := c.ListConcurrency(t.Context())
	if err != nil || len(all) != 1 || all[0].Name != "cleanup" || all[0].Active != 1 || all[0].Waiting != 1 {
		t.Errorf("limits are %+v, %v", all, err)
	}
	close(end)
	if second := <-began; second == first {
		t.Errorf("it ran twice for %d", first)
	}
	run := enqueue(t, lonely, 1)
	ended(t, run)
	drained(t, c)
	info, err := c.GetRun(t.Context(), run.ID())
	if err != nil || len(info.Tasks) != 2 || info.Tasks[1].State != stint.StateCanceled {
		t.Errorf("no worker has its label: %+v, %v", info.Tasks, err)
	}
}

// Parents and conditions among the defaults are not for the on-failure task, which has no place in the graph.
func TestWorkflowOnFailureDefaults(t *testing.T) {
	c := opened(t)
	w := stint.NewWorkflow[int](c, "w", stint.WithTaskDefaults(stint.WithWaitFor(stint.SleepFor(time.Millisecond))))
	began := make(chan int, 1)
	stint.AddTask(w, "bad", failing)
	w.OnFailure(func(_ context.Context, in int, _ *stint.WorkflowError) error { began <- in; return nil })
	working(t, c)
	enqueue(t, w, 7)
	if in := <-began; in != 7 {
		t.Errorf("it ran for %d", in)
	}
	drained(t, c)
}

// drained waits until nothing is open.
func drained(t *testing.T, c *stint.Client) {
	t.Helper()
	open := stint.RunFilter{States: []stint.State{stint.StateScheduled, stint.StateQueued, stint.StateRunning, stint.StateWaiting}, Limit: 1}
	for tick := time.NewTicker(2 * time.Millisecond); ; <-tick.C {
		if len(listRuns(t, c, open).Runs) == 0 {
			tick.Stop()
			return
		}
	}
}

// OnSuccess runs after the last task, with the outputs.
func TestWorkflowOnSuccess(t *testing.T) {
	c := opened(t)
	w := stint.NewWorkflow[int](c, "w")
	a := stint.AddTask(w, "a", constant("x"))
	stint.AddTask(w, "b", constant("y"), stint.WithParents(a))
	called := make(chan string, 1)
	w.OnSuccess(func(_ context.Context, in int, out stint.Outputs) error {
		s, err := a.From(out)
		called <- fmt.Sprint(in, s, err)
		return nil
	})
	working(t, c)
	runTask(t, w, 3)
	if got := <-called; got != "3x<nil>" {
		t.Errorf("on-success saw %q", got)
	}
}

// Cancel: what runs is told, what waits ends at once, and the run is canceled.
func TestWorkflowCancel(t *testing.T) {
	c := opened(t)
	w := stint.NewWorkflow[int](c, "w")
	started := make(chan struct{})
	a := stint.AddTask(w, "a", func(ctx context.Context, _ int) (int, error) {
		close(started)
		<-ctx.Done()
		return 0, context.Cause(ctx)
	})
	stint.AddTask(w, "b", constant("b"), stint.WithParents(a))
	stint.AddTask(w, "c", constant("c"), stint.WithWaitFor(stint.UserEvent("never")))
	working(t, c)
	run := enqueue(t, w, 1)
	<-started
	if err := run.Cancel(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := run.Wait(t.Context()); !errors.Is(err, stint.ErrCanceled) {
		t.Errorf("Wait = %v, want ErrCanceled", err)
	}
	wantStates(t, run, "a canceled", "b canceled", "c canceled")
}

// A workflow's timeout is of the whole run.
func TestWorkflowTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := openedAt(t, ":memory:")
		w := stint.NewWorkflow[int](c, "w", stint.WithTimeout(time.Minute))
		stint.AddTask(w, "a", constant("a"), stint.WithWaitFor(stint.SleepFor(time.Hour)))
		working(t, c)
		began := time.Now()
		_, err := w.Run(t.Context(), 1)
		if !errors.Is(err, stint.ErrTimeout) || time.Since(began).Round(time.Second) != time.Minute {
			t.Errorf("Run = %v after %v", err, time.Since(began))
		}
	})
}

// Replay of a workflow: the failed tasks and what depends on them; what succeeded stays.
func TestWorkflowReplay(t *testing.T) {
	c := opened(t)
	w := stint.NewWorkflow[int](c, "w")
	var runs [4]atomic.Int64
	var mended atomic.Bool
	task := func(i int, name string, bad bool, opts ...stint.TaskOption) *stint.Node[string] {
		return stint.AddTask(w, name, func(context.Context, int) (string, error) {
			runs[i].Add(1)
			if bad && !mended.Load() {
				return "", errors.New("no")
			}
			return name, nil
		}, opts...)
	}
	a := task(0, "a", false)
	b := task(1, "b", true, stint.WithParents(a))
	x := task(2, "x", false, stint.WithParents(a))
	task(3, "end", false, stint.WithParents(a, b, x))
	working(t, c)
	run := enqueue(t, w, 1)
	ended(t, run)
	wantStates(t, run, "a succeeded", "b failed", "x succeeded", "end canceled")
	mended.Store(true)
	for name, f := range map[string]stint.RunFilter{
		"by the run":  {IDs: []string{run.ID()}},
		"by its task": {States: []stint.State{stint.StateFailed}, Tasks: []string{"w:b"}},
	} {
		if n, err := c.ReplayRuns(t.Context(), f); err != nil || n != 1 {
			t.Fatalf("ReplayRuns %s = %d, %v", name, n, err)
		}
		break
	}
	output(t, run)
	wantStates(t, run, "a succeeded", "b succeeded", "x succeeded", "end succeeded")
	for i, want := range []int64{1, 2, 1, 1} {
		if n := runs[i].Load(); n != want {
			t.Errorf("task %d ran %d times, want %d", i, n, want)
		}
	}
}

// After a deploy that changed the workflow, a running one goes on with the shape it
// began with; a task that the code has no more waits, and says for what.
func TestWorkflowChanged(t *testing.T) {
	path := t.TempDir() + "/w.db"
	deploy := func(names ...string) (*stint.Client, *stint.Workflow[int]) {
		c := openedAt(t, path)
		w := stint.NewWorkflow[int](c, "w")
		var last *stint.Node[string]
		for _, n := range names {
			opts := []stint.TaskOption{}
			if last != nil {
				opts = append(opts, stint.WithParents(last))
			}
			last = stint.AddTask(w, n, constant(n), opts...)
		}
		return c, w
	}
	c, w := deploy("a", "b", "c")
	id := enqueue(t, w, 1).ID()
	c.Close()

	c, _ = deploy("new", "c", "a") // b is gone, the others have moved
	working(t, c)
	run := stint.RunByID[stint.Outputs](c, id)
	for tick := time.NewTicker(5 * time.Millisecond); ; <-tick.C {
		if tasks := infoOf(t, run).Tasks; strings.Contains(tasks[1].Blocked, `"w:b"`) {
			break
		}
	}
	wantStates(t, run, "a succeeded", "b queued", "c blocked")
	c.Close()

	c, _ = deploy("c", "b")
	working(t, c)
	run = stint.RunByID[stint.Outputs](c, id)
	output(t, run)
	wantStates(t, run, "a succeeded", "b succeeded", "c succeeded")
}

// Tasks of a graph fan out children; a workflow inside a workflow is awaited like any task.
func TestWorkflowChildren(t *testing.T) {
	c := opened(t)
	leaf := stint.NewTask(c, "leaf", double)
	inner := stint.NewWorkflow[int](c, "inner")
	only := stint.AddTask(inner, "only", func(ctx context.Context, n int) (int, error) { return leaf.Run(ctx, n) })
	outer := stint.NewWorkflow[int](c, "outer")
	sum := stint.AddTask(outer, "sum", func(ctx context.Context, n int) (total int, err error) {
		for i := range n {
			out, err := inner.Run(ctx, i)
			if err != nil {
				return 0, err
			}
			v, err := only.From(out)
			if err != nil {
				return 0, err
			}
			total += v
		}
		return total, nil
	})
	working(t, c, stint.WithSlots(1)) // who waits gives its slot away
	out := runTask(t, outer, 5)
	if got := must[int](t)(sum.From(out)); got != 20 {
		t.Errorf("sum = %d, want 20", got)
	}
}

// A 10,000-task graph works, wide or as a chain.
func TestWorkflowLarge(t *testing.T) {
	n := 10_000
	if testing.Short() {
		n = 1_000
	}
	for _, shape := range []string{"wide", "chain"} {
		t.Run(shape, func(t *testing.T) {
			c := opened(t, unsynced())
			w := stint.NewWorkflow[int](c, shape)
			nop := func(context.Context, int) (int, error) { return 1, nil }
			first := stint.AddTask(w, "first", nop)
			last, all := first, []stint.AnyNode{}
			for i := range n {
				if shape == "wide" {
					last = first
				}
				last = stint.AddTask(w, fmt.Sprint("task ", i), nop, stint.WithParents(last))
				all = append(all, last)
			}
			if shape == "wide" {
				stint.AddTask(w, "last", nop, stint.WithParents(all...))
			}
			working(t, c)
			began := time.Now()
			out := runTask(t, w, 1)
			t.Logf("%d tasks in %v", n, time.Since(began))
			if v, err := last.From(out); err != nil || v != 1 {
				t.Errorf("the last output is %d, %v", v, err)
			}
		})
	}
}

// Mistakes in a definition panic, and name what is wrong; an empty workflow is an
// error when it is enqueued.
func TestWorkflowMistakes(t *testing.T) {
	c := opened(t)
	w, v := stint.NewWorkflow[int](c, "w"), stint.NewWorkflow[int](c, "v")
	if _, err := v.Enqueue(t.Context(), 1); err == nil || !strings.Contains(err.Error(), "0 tasks") {
		t.Errorf("an empty workflow: %v", err)
	}
	a := stint.AddTask(w, "a", constant("a"))
	foreign := stint.AddTask(v, "f", constant("f"))
	yes := func(string) bool { return true }
	for want, f := range map[string]func(){
		"workflow \"v\"":        func() { stint.AddTask(w, "x", constant("x"), stint.WithParents(foreign)) },
		"defined already":       func() { stint.AddTask(w, "a", constant("x")) },
		"not one of its parent": func() { stint.AddTask(w, "y", constant("x"), stint.WithSkipIf(stint.ParentOutput(a, yes))) },
		"empty":                 func() { stint.AddTask(w, "", constant("x")) },
		"nil function":          func() { stint.AddTask[int, int](w, "z", nil) },
		"no conditions":         func() { stint.AddTask(w, "q", constant("x"), stint.WithWaitFor(stint.AnyOf())) },
		"want more than 0":      func() { stint.AddTask(w, "r", constant("x"), stint.WithWaitFor(stint.SleepFor(0))) },
		"on-failure":            func() { stint.AddTask(w, "on-failure", constant("x")) },
		"see AddTask":           func() { stint.NewTask(c, "t", constant("x"), stint.WithParents(a)) },
		"colon":                 func() { stint.NewTask(c, "t:u", constant("x")) },
		"its tasks":             func() { stint.NewWorkflow[int](c, "u", stint.WithRetries(1)) },
	} {
		func() {
			defer func() {
				if got := fmt.Sprint(recover()); !strings.Contains(got, want) {
					t.Errorf("panic %q, want %q in it", got, want)
				}
			}()
			f()
		}()
	}
	enqueue(t, w, 1)
	func() {
		defer func() {
			if got := fmt.Sprint(recover()); !strings.Contains(got, "has been enqueued") {
				t.Errorf("panic %q for a task that comes late", got)
			}
		}()
		stint.AddTask(w, "late", constant("x"))
	}()
}

// An output of the wrong type, of a task that does not come before, outside of a
// handler, or over the limit: a clear error, and the run ends in a stated way.
func TestWorkflowOutputErrors(t *testing.T) {
	c := opened(t, stint.WithMaxPayload(100))
	w := stint.NewWorkflow[int](c, "w")
	a := stint.AddTask(w, "a", constant("a"))
	b := stint.AddTask(w, "b", constant("b"))
	asked := stint.AddTask(w, "asked", func(ctx context.Context, _ int) (string, error) {
		_, err := b.Output(ctx)
		return fmt.Sprint(err)[:40], nil
	}, stint.WithParents(a))
	large := stint.AddTask(w, "large", constant(strings.Repeat("x", 200)))
	working(t, c)
	run := enqueue(t, w, 1)
	_, err := run.Wait(t.Context())
	if err == nil || !strings.Contains(err.Error(), "at most 100") {
		t.Errorf("Wait = %v, want the limit named", err)
	}
	if info := ended(t, run); info.Tasks[2].State != stint.StateSucceeded || info.Tasks[3].State != stint.StateFailed {
		t.Errorf("tasks: %v", states(t, run))
	}
	if _, err := a.Output(t.Context()); err == nil || !strings.Contains(err.Error(), "not of a handler") {
		t.Errorf("Output outside of a handler: %v", err)
	}
	if _, err := a.From(stint.Outputs{}); !errors.Is(err, stint.ErrNotFound) {
		t.Errorf("From of no run: %v", err)
	}
	_, _ = asked, large
}
