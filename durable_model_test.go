package stint_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stint-dev/stint"
	"pgregory.net/rapid"
)

// An op is a durable call of a random program.
type op struct {
	kind string // step, fail, sleep, event, all, any, child, lost: a child that fails
	id   int    // one of its own
	d    time.Duration
	subs [][]op // of all and any: what each branch does
}

// drawProgram makes a program. Times are chosen so that no two things happen at once.
func drawProgram(rt *rapid.T, depth int, next *int) []op {
	kinds := []string{"step", "step", "fail", "sleep", "sleep", "event", "child", "lost"}
	if depth > 0 {
		kinds = append(kinds, "all", "any")
	}
	prog := make([]op, rapid.IntRange(0, 5).Draw(rt, "ops"))
	for i := range prog {
		*next++
		o := &prog[i]
		o.kind, o.id = rapid.SampledFrom(kinds).Draw(rt, "kind"), *next
		jitter := time.Duration(*next) * 10 * time.Millisecond
		switch o.kind {
		case "sleep":
			o.d = time.Duration(rapid.IntRange(0, 30).Draw(rt, "seconds"))*time.Second + jitter
		case "event": // its timeout
			o.d = time.Duration(rapid.IntRange(1, 30).Draw(rt, "timeout"))*time.Second + jitter
		case "all", "any":
			for range rapid.IntRange(1, 3).Draw(rt, "branches") {
				*next++
				first := op{kind: "sleep", id: *next, d: time.Duration(*next) * 100 * time.Millisecond}
				o.subs = append(o.subs, append([]op{first}, drawProgram(rt, depth-1, next)...))
			}
		}
	}
	return prog
}

// published is when the event of an op is, from the start of the run.
func published(id int) time.Duration {
	return time.Duration(id*7%40)*time.Second + 3*time.Millisecond
}

// model is what a program that begins at a time returns, and when; tie says that it
// does not decide which of two was first: branches, or an event and its timeout.
func model(prog []op, now time.Duration, tie *bool) (sum int, end time.Duration) {
	for _, o := range prog {
		switch o.kind {
		case "step":
			sum += o.id
		case "fail":
			sum += 1000
		case "lost":
			sum += 2000
			now += time.Second
		case "sleep":
			now += o.d
		case "child":
			sum += 2 * o.id
			now += time.Second
		case "event":
			at := max(now, published(o.id))
			*tie = *tie || at == now+o.d
			if at < now+o.d {
				sum, now = sum+3*o.id, at
			} else {
				sum, now = sum+7, now+o.d
			}
		case "all", "any":
			first, last, winner := never, now, 0
			for i, sub := range o.subs {
				s, e := model(sub, now, tie)
				*tie = *tie || o.kind == "any" && e == first
				if sum += s; e < first {
					first, winner = e, i
				}
				last = max(last, e)
			}
			if o.kind == "any" {
				sum += 10 * winner
			}
			now = last
		}
	}
	return sum, now
}

// A machine interprets programs in tasks, and counts what their steps do.
type machine struct {
	child *stint.Task[int, int]
	mu    sync.Mutex
	ran   map[int]int
	nows  map[int]time.Time // what Now said after each op, in the first pass that came there
}

// sees checks that Now is what it was in an earlier pass, and has not gone back.
func (m *machine) sees(ctx context.Context, o op, before time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := stint.Now(ctx)
	if had, ok := m.nows[o.id]; ok && !had.Equal(now) {
		return fmt.Errorf("Now after op %d was %v, and is %v", o.id, had, now)
	}
	m.nows[o.id] = now
	if o.kind == "sleep" && now.Before(before.Add(o.d)) || now.Before(before) {
		return fmt.Errorf("Now went from %v to %v over op %+v", before, now, o)
	}
	return nil
}

// plannedError is how ops fail: an error that each pass must know again.
func plannedError(id int) error {
	return fmt.Errorf("planned: %w", errors.Join(&declined{Code: id}, stint.ErrSkipped))
}

// met checks that err is the planned one.
func met(err error, id int) error {
	d, ok := errors.AsType[*declined](err)
	if !ok || d.Code != id || !errors.Is(err, stint.ErrSkipped) || !strings.Contains(err.Error(), plannedError(id).Error()) {
		return fmt.Errorf("op %d failed with %v", id, err)
	}
	return nil
}

func (m *machine) run(ctx context.Context, prog []op) (sum int, err error) {
	for _, o := range prog {
		before := stint.Now(ctx)
		v, err := m.op(ctx, o)
		if err == nil {
			err = m.sees(ctx, o, before)
		}
		if err != nil {
			return 0, err
		}
		sum += v
	}
	return sum, nil
}

func (m *machine) op(ctx context.Context, o op) (int, error) {
	body := func(context.Context) (int, error) {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.ran[o.id]++
		if o.kind == "fail" {
			return 0, stint.NonRetryable(plannedError(o.id))
		}
		return o.id, nil
	}
	switch o.kind {
	case "step":
		return stint.Step(ctx, fmt.Sprint("step ", o.id), body)
	case "fail":
		_, err := stint.Step(ctx, "fail", body)
		if context.Cause(ctx) != nil {
			return 0, fmt.Errorf("a failing step: %v, %w", err, context.Cause(ctx))
		}
		return 1000, met(err, o.id)
	case "lost":
		_, err := m.child.Run(ctx, -o.id)
		if context.Cause(ctx) != nil {
			return 0, fmt.Errorf("a failing child: %v, %w", err, context.Cause(ctx))
		}
		return 2000, met(err, o.id)
	case "sleep":
		return 0, stint.Sleep(ctx, o.d)
	case "child":
		return m.child.Run(ctx, o.id)
	case "event":
		v, err := stint.WaitForEvent[int](ctx, fmt.Sprint("event ", o.id), stint.WithWaitTimeout(o.d))
		if errors.Is(err, stint.ErrTimeout) {
			return 7, nil
		}
		return 3 * v, err
	}
	return m.branches(ctx, o)
}

func (m *machine) branches(ctx context.Context, o op) (sum int, err error) {
	var fs []*stint.Future[int]
	for _, sub := range o.subs {
		fs = append(fs, stint.Go(ctx, "branch", func(ctx context.Context) (int, error) { return m.run(ctx, sub) }))
	}
	if o.kind == "any" {
		winner, _, err := stint.Any(ctx, fs...)
		if err != nil {
			return 0, err
		}
		sum += 10 * winner
	}
	all, err := stint.All(ctx, fs...)
	for _, v := range all {
		sum += v
	}
	return sum, err
}

// events lists the events that a program waits for.
func events(prog []op, into map[int]time.Duration) {
	for _, o := range prog {
		if o.kind == "event" {
			into[o.id] = published(o.id)
		}
		for _, sub := range o.subs {
			events(sub, into)
		}
	}
}

// Random programs return what the model says, when it says, run each step once, and see
// the same times and errors in each pass:
// with handlers that linger in memory, evicted at every wait, and with workers that
// stop and start at random.
func TestDurableModel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rapid.Check(struct{ testing.TB }{t}, func(rt *rapid.T) {
			next := 0
			prog := drawProgram(rt, 2, &next)
			resident := rapid.SampledFrom([]int{0, stint.DefaultMaxResident}).Draw(rt, "resident")
			c, err := stint.Open(":memory:", stint.WithLogger(slog.New(slog.DiscardHandler)), stint.WithMaxResident(resident))
			if err != nil {
				rt.Fatal(err)
			}
			defer c.Close()
			runProgram(t, rt, c, prog)
		})
	})
}

func runProgram(t *testing.T, rt *rapid.T, c *stint.Client, prog []op) {
	m := &machine{ran: map[int]int{}, nows: map[int]time.Time{}}
	m.child = stint.NewTask(c, "child", func(ctx context.Context, n int) (int, error) {
		if err := stint.Sleep(ctx, time.Second); err != nil || n >= 0 {
			return 2 * n, err
		}
		return 0, plannedError(-n)
	})
	task := stint.NewTask(c, "program", func(ctx context.Context, _ int) (int, error) { return m.run(ctx, prog) })
	tie := false
	want, end := model(prog, 0, &tie)
	if tie {
		return
	}
	stop := working(t, c, stint.WithDrainTimeout(0))
	defer func() { stop() }()
	began := time.Now()
	run := must[*stint.Run[int]](t)(task.Enqueue(t.Context(), 0))
	waits := map[int]time.Duration{}
	events(prog, waits)
	for _, id := range slices.Sorted(maps.Keys(waits)) {
		defer time.AfterFunc(waits[id], func() { c.Publish(t.Context(), fmt.Sprint("event ", id), id) }).Stop()
	}
	for range rapid.IntRange(0, 4).Draw(rt, "restarts") {
		time.Sleep(time.Duration(rapid.IntRange(0, 20).Draw(rt, "after"))*time.Second + 777*time.Millisecond)
		stop()
		stop = working(t, c, stint.WithDrainTimeout(0))
	}
	got, err := run.Wait(t.Context())
	if err != nil || got != want {
		rt.Fatalf("returned %d, %v; want %d, of %+v", got, err, want, prog)
	}
	info := must[*stint.RunInfo](t)(run.Info(t.Context()))
	if d := info.Finished.Sub(began); d < end || d > end+500*time.Millisecond {
		rt.Fatalf("took %v, want %v, of %+v", d, end, prog)
	}
	for id, n := range m.ran {
		if n != 1 {
			rt.Fatalf("step %d ran %d times, of %+v", id, n, prog)
		}
	}
}
