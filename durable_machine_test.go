package stint_test

import (
	"context"
	"errors"
	"fmt"
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

// A machine interprets programs in tasks, and counts what their steps do.
type machine struct {
	child  *stint.Task[int, int]
	mu     sync.Mutex
	ran    map[int]int
	nows   map[int]time.Time // what Now said after each op, in the first pass that came there
	tries  map[int]int       // of compensations
	undone []int             // compensations that ran to their end
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

// plannedError returns the error of an op that fails. Each pass must find it to be the same error.
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
		} else if cause := context.Cause(ctx); errors.Is(cause, stint.ErrCanceled) && !errors.Is(err, stint.ErrCanceled) {
			err = fmt.Errorf("op %d of a canceled run: %w", o.id, err)
		}
		if err != nil {
			return 0, err
		}
		sum += v
	}
	return sum, nil
}

func (m *machine) op(ctx context.Context, o op) (int, error) {
	body := func(ctx context.Context) (int, error) {
		if err := pauseFor(ctx, o.d); err != nil {
			return 0, err
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		m.ran[o.id]++
		switch {
		case o.kind == "fail":
			return 0, stint.NonRetryable(plannedError(o.id))
		case m.ran[o.id] <= o.times:
			return 0, plannedError(o.id)
		}
		return o.id, nil
	}
	switch o.kind {
	case "step", "slow", "broken":
		return stint.Step(ctx, fmt.Sprint(o.kind, " ", o.id), body)
	case "fail":
		_, err := stint.Step(ctx, "fail", body)
		if context.Cause(ctx) != nil {
			return 0, fmt.Errorf("a failing step: %w, %w", err, context.Cause(ctx))
		}
		return 1000, met(err, o.id)
	case "lost":
		_, err := m.child.Run(ctx, -o.id)
		if context.Cause(ctx) != nil {
			return 0, fmt.Errorf("a failing child: %w, %w", err, context.Cause(ctx))
		}
		return 2000, met(err, o.id)
	case "sleep":
		return 0, stint.Sleep(ctx, o.d)
	case "child":
		return m.child.Run(ctx, o.id)
	case "undo":
		stint.Compensate(ctx, fmt.Sprint("undo ", o.id), func(ctx context.Context) error { return m.undo(ctx, o) })
		return 0, nil
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

// undo is the function of a compensation.
func (m *machine) undo(ctx context.Context, o op) error {
	if err := pauseFor(ctx, o.d); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tries[o.id]++
	if o.times == alwaysFails || m.tries[o.id]%(o.times+1) != 0 {
		return errors.New("cannot undo it")
	}
	m.undone = append(m.undone, o.id)
	return nil
}

// pauseFor takes d, unless ctx is done before.
func pauseFor(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
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

// A story is what a test does with a run of a random program.
type story struct {
	prog     []op
	resident int
	retries  int
	absent   []absence
	chapters []chapter
}

// A chapter is what is done in an episode.
type chapter struct {
	cancel time.Duration // when the run is canceled, from the start of the episode; never: it is not
	pause  time.Duration // until the run is replayed, once it has ended badly
}

func drawStory(rt *rapid.T) (s story) {
	next := 0
	s.prog = drawProgram(rt, 2, &next)
	s.resident = rapid.SampledFrom([]int{0, stint.DefaultMaxResident}).Draw(rt, "resident")
	s.retries = rapid.SampledFrom([]int{0, 0, 2}).Draw(rt, "retries")
	at := time.Duration(0)
	seconds := func(from, to int, what string) time.Duration {
		return time.Duration(rapid.IntRange(from, to).Draw(rt, what)) * time.Second
	}
	for range rapid.IntRange(0, 4).Draw(rt, "absences") {
		a := absence{from: at + seconds(1, 20, "after") + 777*time.Millisecond}
		a.to = a.from + rapid.SampledFrom([]time.Duration{0, 0, 4999, 14321}).Draw(rt, "absent")*time.Millisecond
		s.absent, at = append(s.absent, a), a.to
	}
	for range rapid.IntRange(0, 3).Draw(rt, "cancels") {
		s.chapters = append(s.chapters, chapter{seconds(0, 60, "cancel") + 421*time.Millisecond, seconds(1, 10, "pause") + 111*time.Millisecond})
	}
	s.chapters = append(s.chapters, chapter{cancel: never})
	return s
}

// Random programs return what the model says, when it says, run each step once, and see
// the same times and errors in each pass; they fail, are canceled at random moments, and
// replayed; and their compensations run, each once to its end, last first:
// with handlers that linger in memory, evicted at every wait, and with workers that
// stop and start at random.
func TestDurableModel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told := 0
		rapid.Check(struct{ testing.TB }{t}, func(rt *rapid.T) {
			s := drawStory(rt)
			if s.tell(t, rt, &world{absent: s.absent, memos: map[int]*memo{}}) {
				told++
			}
		})
		t.Logf("%d stories told", told)
	})
}

// tell does what the story says, beside the model. It returns false if the model is not
// sure of the outcome.
func (s *story) tell(t *testing.T, rt *rapid.T, w *world) bool {
	now, episodes := time.Duration(0), []episode{}
	worlds := []*world{}
	for _, c := range s.chapters {
		cancel := never
		if c.cancel != never {
			cancel = now + c.cancel
		}
		e := w.episode(s.prog, now, cancel, s.retries)
		if w.unclear {
			break // of the episodes before the model is sure
		}
		episodes, worlds = append(episodes, e), append(worlds, w.clone())
		if e.how == hasReturned {
			break
		}
		now = e.at + e.jitter + c.pause
	}
	if len(episodes) == 0 {
		return false
	}
	c, err := openAt(t, ":memory:", stint.WithMaxResident(s.resident))
	if err != nil {
		rt.Fatal(err)
	}
	defer c.Close()
	m := &machine{ran: map[int]int{}, nows: map[int]time.Time{}, tries: map[int]int{}}
	m.child = stint.NewTask(c, "child", func(ctx context.Context, n int) (int, error) {
		if err := stint.Sleep(ctx, time.Second); err != nil || n >= 0 {
			return 2 * n, err
		}
		return 0, plannedError(-n)
	})
	program := func(ctx context.Context, _ int) (int, error) { return m.run(ctx, s.prog) }
	task := stint.NewTask(c, "program", program, stint.WithRetries(s.retries))
	began := time.Now()
	defer s.attend(t, c)()
	run := enqueue(t, task, 0)
	waits := map[int]time.Duration{}
	events(s.prog, waits)
	for _, id := range slices.Sorted(maps.Keys(waits)) {
		defer time.AfterFunc(waits[id], func() { c.Publish(t.Context(), fmt.Sprint("event ", id), id) }).Stop()
	}
	for i, e := range episodes {
		cancel := time.AfterFunc(s.chapters[i].cancel, func() { run.Cancel(t.Context()) })
		why := m.episode(t, run, began, &e, worlds[i])
		if cancel.Stop(); why != "" {
			rt.Fatalf("episode %d: %s\n%+v\nabsent %v\nmodel %+v", i, why, s.prog, s.absent, episodes)
		}
		if i == len(episodes)-1 {
			break
		}
		time.Sleep(time.Until(began.Add(e.at + e.jitter + s.chapters[i].pause)))
		if n, err := c.ReplayRuns(t.Context(), stint.RunFilter{IDs: []string{run.ID()}}); n != 1 || err != nil {
			rt.Fatalf("replayed %d, %v", n, err)
		}
	}
	return true
}

// attend has a worker there, but for the absences.
func (s *story) attend(t *testing.T, c *stint.Client) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	began, leave := time.Now(), working(t, c, stint.WithDrainTimeout(0))
	wg.Go(func() {
		for _, a := range s.absent {
			if pauseFor(ctx, time.Until(began.Add(a.from))) != nil {
				break
			}
			leave()
			if pauseFor(ctx, time.Until(began.Add(a.to))) != nil {
				break
			}
			leave = working(t, c, stint.WithDrainTimeout(0))
		}
	})
	return func() { cancel(); wg.Wait(); leave() }
}

// episode compares how a run ends with what the model says; it returns what is wrong.
func (m *machine) episode(t *testing.T, run *stint.Run[int], began time.Time, e *episode, w *world) string {
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	got, err := run.Wait(ctx)
	m.mu.Lock()
	defer m.mu.Unlock()
	info := infoOf(t, run)
	if e.how == hasFailed && info.State == stint.StateCanceled && e.undoes { // in the midst of that
		e.how = isCut
	}
	state := map[int]stint.State{hasReturned: stint.StateSucceeded, hasFailed: stint.StateFailed, isCut: stint.StateCanceled}[e.how]
	if info.State != state {
		return fmt.Sprintf("%v: %v (%s), want %v", info.State, err, info.Blocked, state)
	}
	switch e.how {
	case hasReturned:
		if err != nil || got != e.sum {
			return fmt.Sprintf("returned %d, %v, want %d", got, err, e.sum)
		}
	case hasFailed:
		if err := met(err, e.by); err != nil {
			return fmt.Sprintf("%v, want that of op %d", err, e.by)
		}
	case isCut:
		if !errors.Is(err, stint.ErrCanceled) {
			return fmt.Sprintf("canceled, and Wait is %v", err)
		}
	}
	if d := info.Finished.Sub(began); d < e.at-2*time.Millisecond-e.jitter || d > e.at+500*time.Millisecond+e.jitter {
		return fmt.Sprintf("took %v, want %v; undone %v", d, e.at, m.undone)
	}
	if !slices.Equal(m.undone, e.undone) {
		return fmt.Sprintf("undone %v, want %v", m.undone, e.undone)
	}
	m.undone = nil
	for id, n := range m.ran {
		if w.memos[id] == nil {
			return fmt.Sprintf("op %d ran %d times, want never", id, n)
		}
		want := w.memos[id].failed
		if w.memos[id].done {
			want++
		}
		if n != want {
			return fmt.Sprintf("op %d ran %d times, want %d", id, n, want)
		}
	}
	return ""
}
