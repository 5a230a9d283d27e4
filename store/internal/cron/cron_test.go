package cron_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/cron"
)

// rows implements cron.Rows in memory.
type rows struct {
	now      time.Time
	crons    map[string]cron.Cron
	triggers map[string]string // programs, by the task
	retired  []string
	worked   []string // tasks that living workers have
	refuse   error    // of Enqueue
	runs     []store.NewRun
}

var _ cron.Rows = (*rows)(nil)

var start = time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)

func newRows() *rows {
	return &rows{now: start, crons: map[string]cron.Cron{}, triggers: map[string]string{}}
}

func (r *rows) Cron(name string) (*cron.Cron, error) {
	if c, ok := r.crons[name]; ok {
		return &c, nil
	}
	return nil, nil
}

func (r *rows) Due(from int64, now time.Time, n int) (all []cron.Cron, err error) {
	for _, c := range r.crons {
		if !c.Next.IsZero() && !c.Next.After(now) && c.Next.UnixMilli() >= from {
			all = append(all, c)
		}
	}
	slices.SortFunc(all, func(a, b cron.Cron) int { return a.Next.Compare(b.Next) })
	return all[:min(n, len(all))], nil
}

func (r *rows) Put(c *cron.Cron) error {
	r.crons[c.Name] = *c
	return nil
}

func (r *rows) Update(c *cron.Cron) error {
	x := r.crons[c.Name]
	x.Paused, x.Next, x.Last, x.LastRun, x.Error = c.Paused, c.Next, c.Last, c.LastRun, c.Error
	r.crons[c.Name] = x
	return nil
}

func (r *rows) Delete(name string) error {
	delete(r.crons, name)
	return nil
}

func (r *rows) Enqueue(run *store.NewRun) (store.ID, error) {
	if r.refuse != nil {
		return store.ID{}, r.refuse
	}
	r.runs = append(r.runs, *run)
	return store.ID{byte(len(r.runs))}, nil
}

func (r *rows) Declared(task string) (names []string, err error) {
	for _, name := range slices.Sorted(maps.Keys(r.crons)) {
		if c := r.crons[name]; c.Declared && c.Template.Run.Task == task {
			names = append(names, name)
		}
	}
	return names, nil
}

func (r *rows) SetGraph(task string, g *store.Graph) error {
	for name, c := range r.crons {
		if c.Template.Run.Task == task {
			c.Template.Run.Graph = g
			r.crons[name] = c
		}
	}
	return nil
}

func (r *rows) DeclaredBy(program string) (tasks []string, err error) {
	for _, name := range slices.Sorted(maps.Keys(r.crons)) {
		if c := r.crons[name]; c.Program == program && c.Gone.IsZero() {
			tasks = append(tasks, c.Template.Run.Task)
		}
	}
	for _, task := range slices.Sorted(maps.Keys(r.triggers)) {
		if r.triggers[task] == program {
			tasks = append(tasks, task)
		}
	}
	return tasks, nil
}

func (r *rows) Retire(task string) error {
	r.retired = append(r.retired, task)
	delete(r.triggers, task)
	for name, c := range r.crons {
		if c.Template.Run.Task == task && c.Declared {
			c.Gone, c.Next = r.now, time.Time{}
			r.crons[name] = c
		}
	}
	return nil
}

func (r *rows) HasWorker(task string) (bool, error) { return slices.Contains(r.worked, task), nil }

func of(name, task, spec string) *store.Cron {
	return &store.Cron{Name: name, Spec: spec, Template: store.Template{Run: store.NewRun{Task: task, Queue: "q"}}}
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (r *rows) try(kind store.CronChangeKind, name string) error {
	return cron.Change(r, r.now, &store.CronChange{Kind: kind, Name: name})
}

func (r *rows) trySet(c *store.Cron) error {
	return cron.Change(r, r.now, &store.CronChange{Kind: store.CronSet, Cron: *c})
}

func (r *rows) set(t *testing.T, c *store.Cron) {
	t.Helper()
	ok(t, r.trySet(c))
}

func (r *rows) declare(t *testing.T, task string, cs ...*store.Cron) {
	t.Helper()
	d := &store.Declaration{Task: task, Program: "p"}
	for _, c := range cs {
		d.Crons = append(d.Crons, *c)
	}
	ok(t, cron.Declare(r, r.now, d))
}

func (r *rows) change(t *testing.T, name string, kind store.CronChangeKind) {
	t.Helper()
	ok(t, r.try(kind, name))
}

func (r *rows) tick(t *testing.T, after time.Duration) {
	t.Helper()
	r.now = r.now.Add(after)
	ok(t, cron.Tick(r, &cron.Missed{}, r.now, 100))
}

// has compares when a cron ticks next, and ticked last, after the start.
func (r *rows) has(t *testing.T, name string, next, last time.Duration) {
	t.Helper()
	since := func(at time.Time) time.Duration {
		if at.IsZero() {
			return 0
		}
		return at.Sub(start)
	}
	c := r.crons[name]
	if since(c.Next) != next || since(c.Last) != last {
		t.Errorf("next %v, last %v; want %v and %v", since(c.Next), since(c.Last), next, last)
	}
}

func TestTick(t *testing.T) {
	r := newRows()
	r.set(t, of("c", "t", "* * * * *"))
	r.has(t, "c", time.Minute, 0)
	r.tick(t, 59*time.Second)
	if len(r.runs) > 0 {
		t.Fatal("it ticks early")
	}
	r.tick(t, time.Second)
	r.has(t, "c", 2*time.Minute, time.Minute)
	if want := `{"stint.cron":"c","stint.tick":"2030-01-01T12:01:00Z"}`; len(r.runs) != 1 || string(r.runs[0].Metadata) != want {
		t.Fatalf("%+v", r.runs)
	}
	if r.crons["c"].LastRun != (store.ID{1}) {
		t.Error("its last run is not known")
	}
}

func TestMissedTicks(t *testing.T) {
	for catchUp, want := range map[store.CatchUp]int{store.CatchUpGrace: 1, store.CatchUpNone: 0, store.CatchUpLatest: 1, store.CatchUpAll: 3} {
		r := newRows()
		c := of("c", "t", "* * * * *")
		c.CatchUp = catchUp
		r.set(t, c)
		r.tick(t, 3*time.Minute+30*time.Second)
		if len(r.runs) != want {
			t.Errorf("catch-up %d starts %d runs, want %d", catchUp, len(r.runs), want)
		}
		if next := r.crons["c"].Next.Sub(start); next != 4*time.Minute {
			t.Errorf("catch-up %d ticks next after %v", catchUp, next)
		}
	}
}

// Ticks that were missed start runs a hundred at a time, and others are not held up.
func TestManyMissedTicks(t *testing.T) {
	r := newRows()
	c := of("c", "t", "* * * * *")
	c.CatchUp = store.CatchUpAll
	r.set(t, c)
	r.set(t, of("d", "t", "@hourly"))
	r.tick(t, 3*time.Hour)
	if len(r.runs) != 101 {
		t.Fatalf("%d runs", len(r.runs))
	}
	r.has(t, "c", 101*time.Minute, 100*time.Minute)
	r.tick(t, 0)
	r.has(t, "c", 3*time.Hour+time.Minute, 3*time.Hour)
}

func TestTickErrors(t *testing.T) {
	r := newRows()
	r.set(t, of("c", "t", "* * * * *"))
	r.refuse = fmt.Errorf("rate limit: %w", store.ErrNotFound)
	r.tick(t, time.Minute)
	r.has(t, "c", 2*time.Minute, 0)
	if r.crons["c"].Error != r.refuse.Error() {
		t.Errorf("its error is %q", r.crons["c"].Error)
	}
	r.refuse = nil
	r.tick(t, time.Minute)
	if r.crons["c"].Error != "" {
		t.Error("the error stays after a tick that started a run")
	}
	r.refuse = errors.New("disk full")
	if err := cron.Tick(r, &cron.Missed{}, r.now.Add(time.Hour), 100); !errors.Is(err, r.refuse) {
		t.Errorf("error %v", err)
	}
	c := r.crons["c"]
	c.Broken = errors.New("no template")
	r.crons["c"] = c
	r.tick(t, time.Hour)
	r.has(t, "c", 0, 2*time.Minute)
	if err := r.try(store.CronTrigger, "c"); !errors.Is(err, c.Broken) {
		t.Errorf("a broken cron: %v", err)
	}
	r.change(t, "c", store.CronDelete)
}

// A cron that is set again keeps its ticks, unless its spec changed, and stays paused.
func TestReplace(t *testing.T) {
	r := newRows()
	r.set(t, of("c", "t", "*/5 * * * *"))
	r.tick(t, 5*time.Minute)
	r.now = r.now.Add(time.Hour) // nothing ticks meanwhile
	r.set(t, of("c", "t", "*/5 * * * *"))
	r.has(t, "c", 10*time.Minute, 5*time.Minute)
	r.set(t, of("c", "t", "*/2 * * * *"))
	r.has(t, "c", 66*time.Minute, 5*time.Minute)
	r.change(t, "c", store.CronPause)
	r.set(t, of("c", "t", "*/3 * * * *"))
	r.has(t, "c", 0, 5*time.Minute)
	r.change(t, "c", store.CronResume)
	r.has(t, "c", 66*time.Minute, 5*time.Minute)
	if r.crons["c"].Paused {
		t.Error("it is resumed, and paused")
	}
	r.change(t, "c", store.CronResume) // no change
	r.has(t, "c", 66*time.Minute, 5*time.Minute)
}

func TestTaken(t *testing.T) {
	r := newRows()
	r.set(t, of("c", "t", "@daily"))
	r.declare(t, "t", of("d", "t", "@daily"))
	r.worked = []string{"t"}
	for want, err := range map[string]error{
		`cron "c" is one of task "t"`:   r.trySet(of("c", "u", "@daily")),
		`cron "d" is declared in code`:  r.trySet(of("d", "t", "@daily")),
		`cron "d" is declared in code:`: r.try(store.CronDelete, "d"),
	} {
		if !errors.Is(err, store.ErrTaken) || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("error %v, want %s", err, want)
		}
	}
	d := &store.Declaration{Task: "u", Crons: []store.Cron{*of("c", "u", "@daily")}}
	if err := cron.Declare(r, r.now, d); !errors.Is(err, store.ErrTaken) {
		t.Errorf("a cron of another task is declared: %v", err)
	}
	r.change(t, "c", store.CronDelete) // a worker has its task, but code does not declare it

	r.declare(t, "u", of("d", "u", "@daily")) // a declared one may move to another task
	r.change(t, "d", store.CronDelete)        // no worker has it
	for _, kind := range []store.CronChangeKind{store.CronPause, store.CronResume, store.CronDelete, store.CronTrigger} {
		if err := r.try(kind, "d"); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("change %d of a deleted cron: %v", kind, err)
		}
	}
}

func TestTrigger(t *testing.T) {
	r := newRows()
	r.set(t, of("c", "t", "@daily"))
	c := store.CronChange{Kind: store.CronTrigger, Name: "c"}
	err := cron.Change(r, r.now, &c)
	id := c.Started
	ok(t, err)
	if id != (store.ID{1}) || len(r.runs) != 1 {
		t.Errorf("run %v of %d", id, len(r.runs))
	}
	r.has(t, "c", 12*time.Hour, 0)
}

func TestDeclare(t *testing.T) {
	r := newRows()
	d := &store.Declaration{Task: "t", Program: "p"}
	for _, name := range []string{"t 1", "t 2", "t 3"} {
		d.Crons = append(d.Crons, *of(name, "t", "@hourly"))
	}
	ok(t, cron.Declare(r, r.now, d))
	r.set(t, of("mine", "t", "@hourly"))
	r.tick(t, time.Hour)
	d.Crons, d.Graph = d.Crons[1:2], &store.Graph{}
	ok(t, cron.Declare(r, r.now, d))
	if names := slices.Sorted(maps.Keys(r.crons)); !slices.Equal(names, []string{"mine", "t 2"}) {
		t.Errorf("crons %v", names)
	}
	r.has(t, "t 2", 2*time.Hour, time.Hour)
	if r.crons["mine"].Template.Run.Graph != d.Graph {
		t.Error("a cron of the workflow has the graph that is not declared any more")
	}
}

// A declaration that ends and comes again catches up; one of SetCron takes its name.
func TestUndeclare(t *testing.T) {
	r := newRows()
	for _, task := range []string{"stays", "worked", "gone"} {
		d := &store.Declaration{Task: task, Program: "p", Crons: []store.Cron{*of(task, task, "@hourly")}}
		d.Crons[0].CatchUp = store.CatchUpAll
		ok(t, cron.Declare(r, r.now, d))
	}
	ok(t, cron.Declare(r, r.now, &store.Declaration{Task: "other", Program: "another", Crons: []store.Cron{*of("other", "other", "@hourly")}}))
	r.triggers["triggered"], r.worked = "p", []string{"worked"}
	ok(t, cron.Undeclare(r, &store.WorkerInfo{Program: "p", Defines: []string{"stays"}}))
	if want := []string{"gone", "triggered"}; !slices.Equal(r.retired, want) {
		t.Fatalf("retires %v, want %v", r.retired, want)
	}
	ok(t, cron.Undeclare(r, &store.WorkerInfo{}))
	if err := r.try(store.CronPause, "gone"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a declaration that is gone is paused: %v", err)
	}
	if err := r.try(store.CronTrigger, "gone"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a declaration that is gone is triggered: %v", err)
	}
	gone := r.crons["gone"]
	r.worked = append(r.worked, "gone")
	r.change(t, "gone", store.CronDelete)
	r.crons["gone"] = gone
	r.tick(t, 3*time.Hour)
	r.runs = nil
	again := of("gone", "gone", "@hourly")
	again.CatchUp = store.CatchUpAll
	r.declare(t, "gone", again)
	r.has(t, "gone", time.Hour, 0)
	r.tick(t, 0)
	if len(r.runs) != 3 {
		t.Errorf("%d runs of 3 ticks", len(r.runs))
	}
	gone.Last = start
	r.crons["gone"] = gone
	r.set(t, of("gone", "another", "@hourly"))
	r.has(t, "gone", 4*time.Hour, 0)
}
