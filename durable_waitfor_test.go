package stint_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stint-dev/stint"
	"pgregory.net/rapid"
)

// A leafOf is a leaf of a random condition: a sleep, or an event that is published at times.
type leafOf struct {
	name  string
	sleep time.Duration // 0: an event
	event string
}

// A tree is a random condition, as the model sees it.
type tree struct {
	leaf leafOf
	any  []tree
	all  []tree
	name string // of any and all
}

func drawTree(rt *rapid.T, depth int, next *int) (t tree, c stint.Condition) {
	*next++
	id := *next
	kind := rapid.SampledFrom([]string{"sleep", "event", "event", "any", "all"}).Draw(rt, "kind")
	if depth == 0 && (kind == "any" || kind == "all") {
		kind = "event"
	}
	switch kind {
	case "sleep":
		d := time.Duration(rapid.IntRange(1, 50).Draw(rt, "sleep"))*time.Second + time.Duration(id)*time.Millisecond // never with another
		t.leaf = leafOf{name: fmt.Sprint("sleep ", id), sleep: d}
		return t, stint.Named(t.leaf.name, stint.SleepFor(d))
	case "event":
		key := rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(rt, "key")
		t.leaf = leafOf{name: fmt.Sprint(key, " ", id), event: key}
		return t, stint.Named(t.leaf.name, stint.UserEvent(key))
	}
	var cs []stint.Condition
	var ts []tree
	for range rapid.IntRange(1, 3).Draw(rt, "members") {
		sub, cond := drawTree(rt, depth-1, next)
		ts, cs = append(ts, sub), append(cs, cond)
	}
	join := stint.AnyOf
	if t.any = ts; kind == "all" {
		t.any, t.all, join = nil, ts, stint.AllOf
	}
	c = join(cs...)
	if rapid.Bool().Draw(rt, "named") {
		t.name = fmt.Sprint(kind, " ", id)
		c = stint.Named(t.name, c)
	}
	return t, c
}

const neverTrue = 1_000_000 * time.Hour

// since is when the condition is true, and what makes it so: times count from when the wait began.
func (t *tree) since(published map[string]time.Duration) (at time.Duration, names []string) {
	switch {
	case t.any != nil:
		at = neverTrue
		for i := range t.any {
			if when, n := t.any[i].since(published); when < at {
				at, names = when, n
			}
		}
	case t.all != nil:
		for i := range t.all {
			when, n := t.all[i].since(published)
			at, names = max(at, when), append(names, n...)
		}
	case t.leaf.sleep > 0:
		return t.leaf.sleep, []string{t.leaf.name}
	default:
		at, ok := published[t.leaf.event]
		if !ok {
			at = neverTrue
		}
		return at, []string{t.leaf.name}
	}
	if t.name != "" && at < neverTrue {
		names = append(slices.Clip(names), t.name)
	}
	return at, names
}

// WaitFor ends when a model of its condition says, with what the model says, whatever comes first and whether a worker is there
// or not. It does so too when the handler runs again, in another process.
func TestWaitForAgainstModel(t *testing.T) {
	checkRandom(t, 60, func(rt *rapid.T) {
		next := 0
		model, cond := drawTree(rt, 3, &next)
		published := map[string]time.Duration{}
		for i, key := range []string{"a", "b", "c", "d"} {
			if rapid.IntRange(0, 3).Draw(rt, "published") > 0 { // never with another
				published[key] = time.Duration(rapid.IntRange(0, 60).Draw(rt, "at"))*time.Second + time.Duration(i+1)*100*time.Millisecond
			}
		}
		timeout := time.Duration(rapid.IntRange(5, 60).Draw(rt, "timeout"))*time.Second + 500*time.Millisecond // never with an event
		away := time.Duration(rapid.IntRange(1, 55).Draw(rt, "away")) * time.Second
		back := away + time.Duration(rapid.IntRange(0, 30).Draw(rt, "back"))*time.Second
		resident := rapid.SampledFrom([]int{0, 100}).Draw(rt, "resident")
		at, names := model.since(published)
		want := strings.Join(slices.Sorted(slices.Values(names)), ", ")
		if at > timeout {
			at, want = timeout, "timeout"
		}
		path := filepath.Join(t.TempDir(), "file.db")
		synctest.Test(t, func(t *testing.T) {
			define := func() (*stint.Client, *stint.Task[int, string]) {
				c := openedAt(t, path, stint.WithMaxResident(resident))
				return c, stint.NewTask(c, "wait", func(ctx context.Context, _ int) (string, error) {
					first, err := stint.Step(ctx, "begin", func(context.Context) (time.Time, error) { return time.Now(), nil })
					if err != nil {
						return "", err
					}
					fired, err := stint.WaitFor(ctx, cond, stint.WithWaitTimeout(timeout))
					got := strings.Join(slices.Sorted(maps.Keys(fired)), ", ")
					if errors.Is(err, stint.ErrTimeout) {
						got, err = "timeout", nil
					}
					now := stint.Now(ctx).Sub(first)
					if serr := stint.Sleep(ctx, time.Hour); serr != nil { // and then it runs again
						return "", serr
					}
					return fmt.Sprint(got, " at ", now), err
				})
			}
			c, task := define()
			run := enqueue(t, task, 0)
			stop := working(t, c)
			synctest.Wait()
			instants := append(slices.Collect(maps.Values(published)), away, back)
			slices.Sort(instants)
			was := time.Duration(0)
			for _, now := range slices.Compact(instants) {
				time.Sleep(now - was)
				was = now
				synctest.Wait()
				if now == away {
					stop()
					if err := c.Close(); err != nil {
						t.Fatal(err)
					}
					c, _ = define()
				}
				if now == back {
					working(t, c)
				}
				for _, key := range []string{"a", "b", "c", "d"} {
					if when, ok := published[key]; ok && when == now {
						publish(t, c, key, key)
					}
				}
			}
			if got, want := output(t, stint.RunByID[string](c, run.ID())), fmt.Sprint(want, " at ", at); got != want {
				t.Errorf("%s: got %s, want %s", cond, got, want)
			}
		})
	})
}

// WaitFor says what fired and with which data. What it does not need stays for later calls.
func TestWaitFor(t *testing.T) {
	durably(t, func(t *testing.T, c *stint.Client) {
		task := stint.NewTask(c, "wait", func(ctx context.Context, _ int) (string, error) {
			fired, err := stint.WaitFor(ctx, stint.AnyOf(
				stint.AllOf(stint.UserEvent("a"), stint.Named("big", stint.UserEvent("b", stint.WithMatch("size", "L")))),
				stint.AllOf(stint.UserEvent("a"), stint.UserEvent("c"), stint.SleepFor(time.Minute)),
				stint.Named("never", stint.SleepFor(time.Hour))))
			if err != nil {
				return "", err
			}
			var size struct{ Size string }
			if err := fired.Decode("big", &size); err != nil {
				return "", err
			}
			if err := fired.Decode("c", &size); !errors.Is(err, stint.ErrNotFound) {
				return "", fmt.Errorf("what did not fire: %w", err)
			}
			left, err := stint.WaitForEvent[int](ctx, "c")
			return fmt.Sprint(len(fired), string(fired["a"]), size.Size, left), err
		})
		run := enqueue(t, task, 0)
		working(t, c)
		publish(t, c, "c", 3)
		synctest.Wait()
		publish(t, c, "a", 1)
		publish(t, c, "b", map[string]string{"size": "S"})
		time.Sleep(10 * time.Second)
		info := infoOf(t, run)
		if want := `((event "a" and event "b" with size = "L") or (event "a" and event "c" and a sleep of 1m0s) or a sleep of 1h0m0s)`; info.State !=
			stint.StateWaiting || info.Blocked != want {
			t.Errorf("it is %v, %s", info.State, info.Blocked)
		}
		if info.Executions > 1 {
			t.Errorf("events that did not end the wait have woken the run: %d executions", info.Executions)
		}
		publish(t, c, "b", map[string]string{"size": "L"})
		if got, want := output(t, run), "21L3"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		var journal []string
		for _, e := range must[[]stint.JournalEntry](t)(c.Journal(t.Context(), run.ID())) {
			journal = append(journal, fmt.Sprintf("%s %s %s %s", e.Address, e.Kind, e.Name, e.Output))
		}
		want := []string{`1 wait any(all(a, big), all(a, c, sleep), never) {"a":1,"big":{"size":"L"}}`, "2 event c 3", "1/on/1 event a 1",
			`1/on/2 event b {"size":"L"}`}
		if !slices.Equal(journal, want) {
			t.Errorf("journal %q, want %q", journal, want)
		}
	})
}

// Mistakes are errors that say what to do, and record nothing.
func TestWaitForMistakes(t *testing.T) {
	durably(t, func(t *testing.T, c *stint.Client) {
		flow := stint.NewWorkflow[int](c, "flow")
		node := stint.AddTask(flow, "n", func(context.Context, int) (int, error) { return 0, nil })
		many := make([]stint.Condition, 2000)
		for i := range many {
			many[i] = stint.UserEvent("e")
		}
		task := stint.NewTask(c, "wait", func(ctx context.Context, _ int) (got []string, err error) {
			for _, w := range []struct {
				cond stint.Condition
				opt  stint.WaitOption
				want string
			}{
				{stint.Condition{}, nil, "an empty condition"},
				{stint.ParentOutput(node, func(int) bool { return true }), nil, "ParentOutput"},
				{stint.AnyOf(stint.SleepFor(time.Hour), stint.AllOf()), nil, "AllOf: no conditions"},
				{stint.SleepFor(-1), nil, "SleepFor(-1ns)"},
				{stint.Named("", stint.SleepFor(1)), nil, "Named"},
				{stint.Named(strings.Repeat("x", 300), stint.SleepFor(1)), nil, "Named"},
				{stint.AnyOf(many...), nil, "2000 conditions"},
				{stint.UserEvent("e"), stint.WithMatch("f", 1), "give them to UserEvent"},
				{stint.UserEvent("e"), stint.WithWaitTimeout(-1), "WithWaitTimeout"},
				{stint.UserEvent("e", stint.WithWaitTimeout(1)), nil, "WithWaitTimeout"},
			} {
				if _, err := stint.WaitFor(ctx, w.cond, w.opt); err == nil || !strings.Contains(err.Error(), w.want) {
					got = append(got, fmt.Sprint(w.want, ": ", err))
				}
			}
			_, err = stint.Step(ctx, "s", func(ctx context.Context) (int, error) {
				_, err := stint.WaitFor(ctx, stint.SleepFor(1))
				return 0, err
			})
			if !errors.Is(err, stint.ErrDurable) {
				got = append(got, fmt.Sprint("in a step: ", err))
			}
			return got, nil
		})
		working(t, c)
		if got := runTask(t, task, 0); len(got) > 0 {
			t.Error(got)
		}
		if _, err := stint.WaitFor(t.Context(), stint.SleepFor(1)); !errors.Is(err, stint.ErrDurable) {
			t.Errorf("outside of a run: %v", err)
		}
	})
}

// Code that waits for something else than was recorded diverges; other times and matches do not matter.
func TestWaitForDiverges(t *testing.T) {
	for name, tt := range map[string]struct {
		second stint.Condition
		opt    stint.WaitOption
		want   string
	}{
		"another name": {stint.AnyOf(stint.UserEvent("other"), stint.SleepFor(time.Minute)), nil, "any(other, sleep)"},
		"another join": {stint.AllOf(stint.UserEvent("e"), stint.SleepFor(time.Minute)), nil, "all(e, sleep)"},
		"another time": {stint.AnyOf(stint.UserEvent("e", stint.FromNow()), stint.SleepFor(time.Second)), stint.WithWaitTimeout(1), ""},
	} {
		t.Run(name, func(t *testing.T) {
			durably(t, func(t *testing.T, c *stint.Client) {
				type call struct {
					cond stint.Condition
					opt  stint.WaitOption
				}
				var code atomic.Pointer[call] // of the handler
				code.Store(&call{stint.AnyOf(stint.UserEvent("e"), stint.SleepFor(time.Minute)), nil})
				task := stint.NewTask(c, "wait", func(ctx context.Context, _ int) (int, error) {
					now := code.Load()
					fired, err := stint.WaitFor(ctx, now.cond, now.opt)
					if err == nil {
						err = stint.Sleep(ctx, time.Hour)
					}
					return len(fired), err
				})
				run := enqueue(t, task, 0)
				working(t, c)
				time.Sleep(10 * time.Second)
				code.Store(&call{tt.second, tt.opt})
				time.Sleep(3 * time.Hour)
				info := infoOf(t, run)
				if tt.want == "" {
					if output(t, run) != 1 {
						t.Errorf("%+v", info)
					}
					return
				}
				if info.State != stint.StateBlocked || !strings.Contains(info.Blocked, tt.want) || !strings.Contains(info.Blocked, "any(e, sleep)") {
					t.Errorf("%v: %s", info.State, info.Blocked)
				}
				if err := run.Cancel(t.Context()); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// An error of a wait that ends the attempt is not kept: the next attempt waits anew, also for what came before.
func TestWaitForAgain(t *testing.T) {
	durably(t, func(t *testing.T, c *stint.Client) {
		task := stint.NewTask(c, "wait", func(ctx context.Context, _ int) (string, error) {
			fired, err := stint.WaitFor(ctx, stint.AllOf(stint.UserEvent("a"), stint.UserEvent("b")), stint.WithWaitTimeout(time.Minute))
			return fmt.Sprint(len(fired)), err
		}, stint.WithRetries(1))
		run := enqueue(t, task, 0)
		working(t, c)
		synctest.Wait()
		publish(t, c, "a", 1)
		time.Sleep(90 * time.Second) // the second attempt has begun
		publish(t, c, "b", 1)
		if got := output(t, run); got != "2" || infoOf(t, run).Attempt != 2 {
			t.Errorf("got %s in attempt %d", got, infoOf(t, run).Attempt)
		}
	})
}
