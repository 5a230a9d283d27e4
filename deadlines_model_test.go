package stint_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stint-dev/stint"
	"pgregory.net/rapid"
)

// A debounced run as the model has it: the time of its first edit, the last, and when it is due.
type debounced struct {
	run        *stint.Run[int]
	first, due time.Time
	last       int
}

// TestDeadlinesModel makes debounced edits at random times beside a worker that comes and goes. By
// the rules of WithDebounce and WithScheduleTimeout each run is known beforehand: which edits it
// gathers, when it is due, and whether it starts (when it is due, or when a worker comes) or is
// canceled (when none has come in time).
func TestDeadlinesModel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rapid.Check(struct{ testing.TB }{t}, func(rt *rapid.T) { deadlinesOnce(t, rt) })
	})
}

func deadlinesOnce(t *testing.T, rt *rapid.T) {
	// Edits come at whole seconds, runs are due 300 or 700 ms later, workers come at 500: no two at once.
	seconds := func(what string, low, high int) time.Duration {
		return time.Duration(rapid.IntRange(low, high).Draw(rt, what)) * time.Second
	}
	limit := seconds("limit", 1, 20)
	wait, most := seconds("wait", 1, 10)+300*time.Millisecond, seconds("max", 10, 30)+700*time.Millisecond
	c, err := openAt(t, ":memory:")
	if err != nil {
		rt.Fatal(err)
	}
	defer c.Close()
	task := stint.NewTask(c, "t", double, stint.WithScheduleTimeout(limit))
	ctx := t.Context()
	began := time.Now()
	var present [][2]time.Time // when a worker was there
	var workers sync.WaitGroup
	defer workers.Wait()
	end := began
	for end.Sub(began) < 90*time.Second {
		from := end.Add(seconds("away", 1, 25) + 500*time.Millisecond)
		to := from.Add(seconds("there", 1, 25))
		present = append(present, [2]time.Time{from, to})
		workers.Go(func() { workBetween(rt, c, from, to) })
		end = to.Add(500 * time.Millisecond)
	}
	open := map[string]*debounced{}
	var all []*debounced
	for i := range rapid.IntRange(1, 40).Draw(rt, "edits") {
		time.Sleep(seconds("pause", 0, 5))
		now := time.Now()
		key := fmt.Sprint(rapid.IntRange(0, 1).Draw(rt, "key"))
		run, err := task.Enqueue(ctx, i, stint.WithDebounce(key, wait, most))
		if err != nil {
			rt.Fatal(err)
		}
		d := open[key]
		if gathers := d != nil && now.Before(d.due); run.Existing() != gathers {
			rt.Fatalf("edit %d at %v: existing %v, want %v", i, now.Sub(began), run.Existing(), gathers)
		} else if !gathers {
			d = &debounced{run: run, first: now}
			open[key], all = d, append(all, d)
		}
		d.last, d.due = i, now.Add(wait)
		if latest := d.first.Add(most); latest.Before(d.due) {
			d.due = latest
		}
	}
	time.Sleep(most + limit + time.Minute)
	for _, d := range all {
		if wrong := d.check(ctx, present, limit); wrong != nil {
			rt.Errorf("first at %v, due at %v, limit %v, edit %d: %v", d.first.Sub(began), d.due.Sub(began), limit, d.last, wrong)
		}
	}
}

// workBetween has a worker from one time to another.
func workBetween(rt *rapid.T, c *stint.Client, from, to time.Time) {
	time.Sleep(time.Until(from))
	ctx, cancel := context.WithDeadline(context.Background(), to)
	defer cancel()
	w, err := c.NewWorker()
	if err != nil {
		rt.Error(err)
		return
	}
	if err := w.Run(ctx); err != nil {
		rt.Error(err)
	}
}

// check holds what became of a run against what the rules say.
func (d *debounced) check(ctx context.Context, present [][2]time.Time, limit time.Duration) error {
	starts := time.Time{}
	for _, p := range present {
		if at := later(d.due, p[0]); at.Before(p[1]) && at.Before(d.due.Add(limit)) {
			starts = at
			break
		}
	}
	info, err := d.run.Info(ctx)
	if err != nil {
		return err
	}
	near := func(at, want time.Time) bool { return !at.Before(want) && at.Before(want.Add(100*time.Millisecond)) }
	out, err := d.run.Wait(ctx)
	if starts.IsZero() {
		if !errors.Is(err, stint.ErrCanceled) || !near(info.Finished, d.due.Add(limit)) {
			return fmt.Errorf("nobody was there in time: %v, %v at %v", err, info.State, info.Finished.Sub(d.due))
		}
		return nil
	}
	if err != nil || out != 2*d.last || !near(info.Started, starts) {
		return fmt.Errorf("%d, %v, started %v after it was due: want edit %d, %v after", out, err, info.Started.Sub(d.due), d.last, starts.Sub(d.due))
	}
	return nil
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
