package limits_test

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/limits"
	"pgregory.net/rapid"
)

// A run of the fake rows.
type run struct {
	id     int64
	order  int64 // smaller is first
	state  limits.State
	limits []store.Limit
	why    string // it was canceled or blocked
}

// rows implements limits.Rows in memory.
type rows struct {
	now      time.Time
	runs     map[int64]*run
	limiters map[string]*limits.Limiter
	changed  map[*limits.Limiter]bool
	members  map[*limits.Limiter][]int64
	moved    []*limits.Transition // of runs that were canceled or begun, not applied yet
	last     int64
	wakeAt   int64
}

var _ limits.Rows = (*rows)(nil)

func newRows() *rows {
	return &rows{now: time.UnixMilli(1_000_000), runs: map[int64]*run{}, limiters: map[string]*limits.Limiter{},
		changed: map[*limits.Limiter]bool{}, members: map[*limits.Limiter][]int64{}, wakeAt: limits.Never}
}

func (r *rows) Now() time.Time { return r.now }

func (r *rows) Limiter(l *store.Limit) (*limits.Limiter, error) {
	key := fmt.Sprint(l.Rate(), l.Name, l.Key)
	if x := r.limiters[key]; x != nil {
		return x, nil
	}
	x, err := limits.NewLimiter(l, r.now)
	if err != nil {
		return nil, err
	}
	x.ID = int64(len(r.limiters) + 1)
	r.limiters[key] = &x
	return &x, nil
}

func (r *rows) LimiterByID(id int64) (*limits.Limiter, error) {
	for _, l := range r.limiters {
		if l.ID == id {
			return l, nil
		}
	}
	return nil, nil
}

func (r *rows) Changed(l *limits.Limiter) { r.changed[l] = true }
func (r *rows) WakeAt(at int64)           { r.wakeAt = min(r.wakeAt, at) }

func (r *rows) Place(id int64, at *limits.Limiter) error {
	if r.runs[id].state.Limiter = nil; at != nil {
		r.runs[id].state.Limiter = &at.ID
	}
	return nil
}

func (r *rows) PlaceLast(id int64, at *limits.Limiter) error {
	r.last++
	r.runs[id].order = r.last
	return r.Place(id, at)
}

func (r *rows) PlaceFirst(id int64, at *limits.Limiter) error {
	r.runs[id].order = -r.runs[id].order
	return r.Place(id, at)
}

func (r *rows) waiting(l *limits.Limiter) (all []*run) {
	for _, x := range r.sorted() {
		if x.state.State == store.Queued && x.state.Limiter != nil && *x.state.Limiter == l.ID {
			all = append(all, x)
		}
	}
	return all
}

func (r *rows) sorted() []*run {
	return slices.SortedFunc(maps.Values(r.runs), func(a, b *run) int { return cmp.Compare(a.order, b.order) })
}

func (r *rows) FirstWaiting(l *limits.Limiter) (*limits.Transition, error) {
	all := r.waiting(l)
	if len(all) == 0 {
		return nil, nil
	}
	return &limits.Transition{Run: all[0].id, After: all[0].state, Limits: all[0].limits, SetBy: all[0].id}, nil
}

// AdmitFirst leaves it to FirstWaiting for every second run, as a store may.
func (r *rows) AdmitFirst(l *limits.Limiter) (bool, error) {
	all := r.waiting(l)
	if len(all) == 0 || len(all[0].limits) > 1 || all[0].state.Workflow || all[0].state.Resumed || all[0].id%2 == 0 {
		return false, nil
	}
	if l.InTurns() {
		return true, r.PlaceLast(all[0].id, nil)
	}
	return true, r.Place(all[0].id, nil)
}

func (r *rows) Admitted() (all []*limits.Transition, err error) {
	for _, x := range slices.Backward(r.sorted()) {
		if x.state.Ready() {
			all = append(all, &limits.Transition{Run: x.id, Before: x.state, Limits: x.limits})
		}
	}
	return all, nil
}

func (r *rows) Join(l *limits.Limiter, id int64) error {
	r.members[l] = append(r.members[l], id)
	return nil
}

func (r *rows) Older(l *limits.Limiter) (all []int64, err error) {
	left := slices.DeleteFunc(slices.Clone(r.members[l]), func(id int64) bool { return r.runs[id].state.State.Terminal() })
	slices.Sort(left)
	slices.Reverse(left)
	return left[min(len(left), int(l.Max)):], nil
}

func (r *rows) Forget(l *limits.Limiter) error { delete(r.members, l); return nil }

func (r *rows) Begin(id int64) error { // its shares are counted by then
	r.runs[id].state.State, r.runs[id].state.Limiter = store.Running, nil
	return nil
}

func (r *rows) Cancel(id int64, why string) error {
	r.runs[id].why = why
	r.move(id, func(s *limits.State) { s.State, s.Limiter = store.Canceled, nil })
	return nil
}

func (r *rows) Block(id int64, why error) error {
	r.runs[id].why = why.Error()
	r.runs[id].state.State, r.runs[id].state.Limiter = store.Blocked, nil
	return nil
}

func (r *rows) ForRun(_ int64, f func() error) error { return f() }

// move changes a run, to be applied.
func (r *rows) move(id int64, change func(*limits.State)) {
	x := r.runs[id]
	m := &limits.Transition{Run: id, Before: x.state, Limits: x.limits, SetBy: id}
	change(&x.state)
	m.After = x.state
	r.moved = append(r.moved, m)
}

// settle applies what has moved, until nothing moves.
func (r *rows) settle(t rapid.TB) {
	t.Helper()
	for first := true; first || len(r.moved) > 0; first = false {
		all := r.moved
		r.moved = nil
		for _, m := range all {
			ok(t, limits.Apply(r, m))
		}
		ok(t, limits.AdmitAll(r, func() (open []*limits.Limiter) {
			for _, l := range r.limiters {
				if l.Recheck {
					open = append(open, l)
				}
			}
			slices.SortFunc(open, func(a, b *limits.Limiter) int { return cmp.Compare(a.ID, b.ID) })
			return open
		}))
	}
}

func ok(t rapid.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// enqueue adds a run that wants to start.
func (r *rows) enqueue(t rapid.TB, ls ...store.Limit) int64 {
	t.Helper()
	return r.add(t, false, ls)
}

func (r *rows) add(t rapid.TB, workflow bool, ls []store.Limit) int64 {
	t.Helper()
	r.last++
	x := &run{id: int64(len(r.runs) + 1), order: r.last, limits: ls, state: limits.State{State: store.Queued, Workflow: workflow}}
	at, err := limits.AdmitNew(r, ls, workflow, x.id)
	ok(t, err)
	r.runs[x.id] = x
	if x.state.Limiter = at; at != nil && *at == 0 {
		r.moved = append(r.moved, &limits.Transition{Run: x.id, After: x.state, Limits: ls, SetBy: x.id})
	}
	r.settle(t)
	return x.id
}

func (r *rows) start(t rapid.TB, id int64) {
	t.Helper()
	r.move(id, func(s *limits.State) { s.State, s.Begun, s.Resumed = store.Running, true, false })
	r.settle(t)
}

func (r *rows) end(t rapid.TB, id int64) {
	t.Helper()
	r.move(id, func(s *limits.State) { s.State = store.Succeeded })
	r.settle(t)
}

// states says of each run, in order of their numbers: ready, at and its limiter, or its state.
func (r *rows) states() string {
	var all []string
	for _, id := range slices.Sorted(maps.Keys(r.runs)) {
		s := r.runs[id].state
		switch {
		case s.Ready():
			all = append(all, "ready")
		case s.State == store.Queued:
			all = append(all, fmt.Sprint("at ", *s.Limiter))
		default:
			all = append(all, s.State.String())
		}
	}
	return strings.Join(all, ", ")
}

func (r *rows) are(t rapid.TB, want string) {
	t.Helper()
	if got := r.states(); got != want {
		t.Errorf("%s; want %s", got, want)
	}
}

func share(key string, n int, s store.Strategy) store.Limit {
	return store.Limit{Name: "n", Key: key, Max: n, Strategy: s}
}

func units(n int) store.Limit { return store.Limit{Key: "r", Units: n, PerSecond: 1, Burst: 3} }

func TestQueue(t *testing.T) {
	r := newRows()
	for range 3 {
		r.enqueue(t, share("k", 1, store.StrategyQueue))
	}
	r.enqueue(t, share("other", 1, store.StrategyQueue))
	r.are(t, "ready, at 1, at 1, ready")
	r.start(t, 1)
	r.are(t, "running, at 1, at 1, ready")
	r.end(t, 1)
	r.are(t, "succeeded, ready, at 1, ready")
}

func TestTurns(t *testing.T) {
	r := newRows()
	for range 3 {
		r.enqueue(t, share("k", 2, store.StrategyGroupRoundRobin))
	}
	r.are(t, "ready, at 1, at 1") // one of a key is ready at a time, so that keys take turns
	r.start(t, 1)
	r.are(t, "running, ready, at 1")
	r.start(t, 2)
	r.are(t, "running, running, at 1")
	r.end(t, 1)
	r.are(t, "succeeded, running, ready")
}

func TestCancelNewest(t *testing.T) {
	r := newRows()
	for range 2 {
		r.enqueue(t, share("k", 1, store.StrategyCancelNewest))
	}
	r.are(t, "ready, canceled")
	if want := `concurrency limit "n" (key "k") is used up: 1 at once`; r.runs[2].why != want {
		t.Errorf("%s; want %s", r.runs[2].why, want)
	}
}

func TestCancelInProgress(t *testing.T) {
	r := newRows()
	r.enqueue(t, share("k", 1, store.StrategyCancelInProgress))
	r.start(t, 1)
	r.enqueue(t, share("k", 1, store.StrategyCancelInProgress))
	r.are(t, "canceled, ready")
}

func TestRate(t *testing.T) {
	r := newRows()
	r.enqueue(t, units(2))
	r.enqueue(t, units(2))
	r.are(t, "ready, at 1")
	r.start(t, 1)
	if want := r.now.UnixMilli() + 1000; r.wakeAt != want { // it has 1 of 2, and gains 1 a second
		t.Errorf("admits again at %d, want %d", r.wakeAt, want)
	}
	r.now = r.now.Add(time.Second)
	r.limiters["truer"].Recheck = true
	r.settle(t)
	r.are(t, "running, ready")
	if _, err := limits.AdmitNew(r, []store.Limit{units(4)}, false, 3); !errors.Is(err, limits.ErrUnits) {
		t.Errorf("more units than the burst: %v", err)
	}
}

// A run waits at the first limiter that does not admit it, and has its turn at those before.
func TestTwoLimits(t *testing.T) {
	r := newRows()
	both := []store.Limit{share("a", 2, store.StrategyQueue), {Name: "o", Key: "b", Max: 1, Strategy: store.StrategyQueue}}
	for range 3 {
		r.enqueue(t, both...)
	}
	r.are(t, "ready, at 2, at 2")
	r.start(t, 1)
	r.end(t, 1)
	r.are(t, "succeeded, ready, at 2")
	if a := r.limiters["falsena"]; a.Active != 1 || a.Admitted != 2 {
		t.Errorf("%+v", a)
	}
}

// A workflow that starts gives its turn up at a limit whose keys take turns: the next run has it.
func TestTurnOfAWorkflow(t *testing.T) {
	r := newRows()
	turns, other := share("k", 2, store.StrategyGroupRoundRobin), store.Limit{Name: "o", Key: "k", Max: 1, Strategy: store.StrategyQueue}
	r.enqueue(t, other)
	r.add(t, true, []store.Limit{turns, other})
	r.enqueue(t, turns)
	r.are(t, "ready, at 1, at 2")
	r.start(t, 1)
	r.end(t, 1)
	r.are(t, "succeeded, running, ready")
}

// Settings that are lowered take back what was admitted and has not started; a newer enqueue sets
// them, an older one does not.
func TestLowered(t *testing.T) {
	r := newRows()
	for range 3 {
		r.enqueue(t, share("k", 3, store.StrategyQueue))
	}
	r.are(t, "ready, ready, ready")
	r.enqueue(t, share("k", 1, store.StrategyQueue))
	r.are(t, "ready, at 1, at 1, at 1")
	lowered := share("k", 3, store.StrategyQueue)
	l, err := limits.Use(r, &lowered, 2)
	ok(t, err)
	if l.Max != 1 {
		t.Errorf("an older enqueue has set Max to %d", l.Max)
	}
}

// Whatever runs do, counts are what a recount finds, no limit is exceeded, and nobody waits that
// could start.
func TestRandom(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := newRows()
		var keys []store.Limit
		for _, name := range []string{"a", "b"} {
			s := store.Strategy(rapid.IntRange(1, 4).Draw(t, "strategy"))
			keys = append(keys, store.Limit{Name: name, Key: "k", Max: rapid.IntRange(1, 3).Draw(t, "max"), Strategy: s,
				Release: rapid.Bool().Draw(t, "release")})
		}
		keys = append(keys, units(1))
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			step(t, r, keys)
			r.check(t)
		}
	})
}

// step does one thing that a run may do.
func step(t *rapid.T, r *rows, keys []store.Limit) {
	var some []int64
	for _, id := range slices.Sorted(maps.Keys(r.runs)) {
		if s := r.runs[id].state; !s.State.Terminal() && s.State != store.Blocked {
			some = append(some, id)
		}
	}
	if len(some) == 0 || rapid.IntRange(0, 2).Draw(t, "enqueues") == 0 {
		var ls []store.Limit
		for _, l := range keys {
			if rapid.Bool().Draw(t, "has "+l.Name) {
				ls = append(ls, l)
			}
		}
		r.add(t, rapid.IntRange(0, 5).Draw(t, "workflow") == 0, ls)
		return
	}
	id := rapid.SampledFrom(some).Draw(t, "run")
	switch s := r.runs[id].state; {
	case s.Ready():
		r.start(t, id)
	case s.State == store.Running && !s.Workflow && rapid.Bool().Draw(t, "waits"):
		r.move(id, func(s *limits.State) { s.State = store.Waiting })
		r.settle(t)
	case s.State == store.Waiting:
		asked := int64(0)
		r.move(id, func(s *limits.State) { s.State, s.Resumed, s.Limiter = store.Queued, true, &asked })
		r.settle(t)
	default:
		r.end(t, id)
	}
}

// check compares the limiters with the runs.
func (r *rows) check(t rapid.TB) {
	t.Helper()
	var all []*limits.Transition
	for _, x := range r.sorted() {
		if s := x.state.State; s == store.Queued || s == store.Running || s == store.Waiting {
			all = append(all, &limits.Transition{Run: x.id, After: x.state, Limits: x.limits})
		}
	}
	wrong, err := limits.Recount(r, slices.Collect(maps.Values(r.limiters)), all)
	ok(t, err)
	if len(wrong) > 0 {
		t.Fatalf("%s\nruns: %s", strings.Join(wrong, "\n"), r.states())
	}
	for _, l := range r.limiters {
		if !l.Rate && l.Active > l.Max {
			t.Fatalf("%s: %d active, at most %d", l, l.Active, l.Max)
		}
		waiting := r.waiting(l)
		if len(waiting) == 0 || len(waiting[0].limits) > 1 {
			continue
		}
		first := waiting[0]
		if l.Allows(&first.limits[0], r.now) {
			t.Fatalf("run %d waits at %s, which admits it; runs: %s", first.id, l, r.states())
		}
		for _, x := range r.runs {
			if l.Strategy == store.StrategyQueue && !first.state.Begun && x.order > first.order && x.state.Ready() && !x.state.Begun &&
				slices.Equal(x.limits, first.limits) {
				t.Fatalf("run %d is ready before run %d, which came before; runs: %s", x.id, first.id, r.states())
			}
		}
	}
}

// What a limiter is before its first run, and whose settings a run brings.
func TestNewLimiter(t *testing.T) {
	now := time.UnixMilli(5)
	l, err := limits.NewLimiter(&store.Limit{Name: "n", Key: "k", Max: 3, Strategy: store.StrategyGroupRoundRobin}, now)
	ok(t, err)
	if l.Rate || l.String() != `"n" (key "k")` || l.Max != 3 || !l.InTurns() || l.WakeAt != limits.Never || l.Needed() {
		t.Errorf("%+v", l)
	}
	l, err = limits.NewLimiter(&store.Limit{Key: "k", Units: 2, PerSecond: 4, Burst: 8}, now)
	ok(t, err)
	if want := (store.Bucket{PerSecond: 4, Burst: 8, Tokens: 8, At: now}); !l.Rate || l.Max != 8 || l.Bucket != want || !l.Needed() {
		t.Errorf("%+v", l)
	}
	if l.Idle(now.Add(limits.RateIdle-1)) || !l.Idle(now.Add(limits.RateIdle)) {
		t.Error("it is idle too early, or too late")
	}
	if _, err = limits.NewLimiter(&store.Limit{Key: "k", Units: 2}, now); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a rate without figures: %v", err)
	}
}

func TestSetBy(t *testing.T) {
	for _, c := range []struct {
		task, forked bool
		want         int64
	}{{false, false, 1}, {true, false, 2}, {false, true, 0}, {true, true, 0}} {
		if got := limits.SetBy(1, 2, c.task, c.forked); got != c.want {
			t.Errorf("%+v: %d", c, got)
		}
	}
}
