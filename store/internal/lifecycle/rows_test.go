package lifecycle_test

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/keys"
	"github.com/stint-dev/stint/store/internal/lifecycle"
	"github.com/stint-dev/stint/store/internal/misstest"
)

const start = int64(1_000_000) // the time at which runs are made

// rows implements lifecycle.Rows in memory. What follows in other tables is noted in log.
type rows struct {
	misstest.Misses
	runs    map[int64]*lifecycle.Run
	now     int64
	last    int64
	done    map[string]bool  // entries
	dueAt   map[string]int64 // entries that are not
	awaited map[int64][]int64
	first   map[int64]lifecycle.Run // as they were made
	woken   map[int64]bool          // the times of WakeAt
	builds  []string                // of living workers; that of worker 1 is b1
	log     []string
	illegal []string
	tries   int                // changes that the fence held off
	workers map[string][]int64 // by process
	left    []int64            // workers

	finished lifecycle.Finished
}

var _ lifecycle.WorkerRows = (*rows)(nil)

func newRows(runs ...lifecycle.Run) *rows {
	r := &rows{runs: map[int64]*lifecycle.Run{}, now: start + 1000, done: map[string]bool{}, awaited: map[int64][]int64{},
		first: map[int64]lifecycle.Run{}, woken: map[int64]bool{}}
	for _, x := range runs {
		r.add(x)
	}
	return r
}

func (r *rows) add(x lifecycle.Run) int64 {
	if x.Key == 0 {
		x.Key = r.NextKey(start)
	}
	if x.Rank == 0 {
		x.Rank = x.DueAt()
	}
	r.runs[x.Key], r.first[x.Key] = &x, x
	return x.Key
}

func (r *rows) note(format string, args ...any) { r.log = append(r.log, fmt.Sprintf(format, args...)) }

// number returns a run's key as tests write it: from 1.
func number(key int64) int64 { return key - start<<keys.SeqBits + 1 }

func keyOf(number int64) int64 { return number - 1 + start<<keys.SeqBits }

func (r *rows) Key(id store.ID) (int64, bool) {
	key := int64(binary.BigEndian.Uint64(id[8:]))
	return key, key > 0
}

func (r *rows) ID(key int64) (id store.ID) {
	binary.BigEndian.PutUint64(id[8:], uint64(key))
	return id
}

func (r *rows) Run(key int64) (_ *lifecycle.Run, err error) {
	defer r.Miss(&err)
	return r.read(key), nil
}

func (r *rows) read(key int64) *lifecycle.Run {
	x := r.runs[key]
	if x == nil {
		return nil
	}
	row := *x
	row.Output = nil
	return &row
}

func (r *rows) sorted() []*lifecycle.Run {
	return slices.SortedFunc(maps.Values(r.runs), func(a, b *lifecycle.Run) int { return int(a.Key - b.Key) })
}

func (r *rows) RunsOf(worker int64) (all []*lifecycle.Run, err error) {
	defer r.Miss(&err)
	for _, x := range r.sorted() {
		if x.State == store.Running && x.Worker == worker && !x.Workflow {
			all = append(all, r.read(x.Key))
		}
	}
	return all, nil
}

func (r *rows) Delete(key int64) (err error) {
	defer r.Miss(&err)
	delete(r.runs, key)
	return nil
}

func (r *rows) WorkersOf(process string) (_ []int64, err error) {
	defer r.Miss(&err)
	return r.workers[process], nil
}

func (r *rows) EndWorker(worker, now int64) (err error) {
	defer r.Miss(&err)
	r.left = append(r.left, worker)
	return nil
}

func (r *rows) Children(key int64) (all []int64, err error) {
	defer r.Miss(&err)
	for _, x := range r.sorted() {
		if x.Parent == key && !x.Detached && !x.State.Terminal() {
			all = append(all, x.Key)
		}
	}
	return all, nil
}

func (r *rows) Open(key int64) (_ bool, err error) {
	defer r.Miss(&err)
	return r.runs[key] != nil && !r.runs[key].State.Terminal(), nil
}

func (r *rows) Try(key int64, lease store.Lease, c lifecycle.Change) (_ bool, err error) {
	defer r.Miss(&err)
	x := r.runs[key]
	if x == nil || !x.HeldBy(lease) || x.CancelAt != 0 {
		r.tries++
		return false, nil
	}
	if c.Keep != 0 {
		r.note("keep %d", x.Attempt)
	}
	row := *x
	row.Apply(&c)
	return true, r.Write(&row)
}

func (r *rows) Write(x *lifecycle.Run) (err error) {
	defer r.Miss(&err)
	was := r.runs[x.Key]
	if was.State != x.State && !store.Legal(was.State, x.State) {
		r.illegal = append(r.illegal, fmt.Sprintf("%v to %v", was.State, x.State))
	}
	row := *x
	r.runs[x.Key] = &row
	return nil
}

func (r *rows) Resume(key, now int64) (err error) {
	defer r.Miss(&err)
	if x := r.runs[key]; x.State == store.Waiting && x.Lease > 0 {
		x.State = store.Queued
		x.SetDue(now)
	}
	return nil
}

func (r *rows) Queue(keys []int64) (err error) {
	defer r.Miss(&err)
	for _, k := range keys {
		r.runs[k].State = store.Queued
	}
	return nil
}

func (r *rows) KeepAttempt(x *lifecycle.Run, to store.State, ended int64, _ []byte) (err error) {
	defer r.Miss(&err)
	r.note("keep %d as %v at %+d", x.Attempt, to, ended-r.now)
	return nil
}

func (r *rows) MoveLane(x *lifecycle.Run, suspect bool) (err error) {
	defer r.Miss(&err)
	if suspect {
		r.note("suspect")
	}
	return nil
}

func (r *rows) MoveQueue(x *lifecycle.Run, queue string) (_ bool, err error) {
	defer r.Miss(&err)
	r.note("move to %s", queue)
	return true, nil
}

func (r *rows) Blocked() (all []lifecycle.Blocked, err error) {
	defer r.Miss(&err)
	for _, x := range r.sorted() {
		if x.State == store.Blocked {
			all = append(all, lifecycle.Blocked{Key: x.Key, Begun: x.Lease != 0, Crashes: x.Crashes, Build: fmt.Sprint("b", x.Worker)})
		}
	}
	return all, nil
}

func (r *rows) Builds() (_ []string, err error) {
	defer r.Miss(&err)
	return r.builds, nil
}

func (r *rows) Due(now int64) (all []lifecycle.Due, err error) {
	defer r.Miss(&err)
	for _, x := range r.sorted() {
		if x.State == store.Scheduled && x.Due <= now {
			all = append(all, lifecycle.Due{Key: x.Key, Node: x.Node, Workflow: x.Workflow, Limited: x.Limited})
		}
	}
	return all, nil
}

func (r *rows) Overdue(now int64) (all []int64, err error) {
	defer r.Miss(&err)
	for _, x := range r.sorted() {
		if x.StartBy != 0 && x.StartBy <= now {
			all = append(all, x.Key)
		}
	}
	return all, nil
}

func (r *rows) Waiters(now int64) (all []lifecycle.Waiter, err error) {
	defer r.Miss(&err)
	for _, x := range r.sorted() {
		if x.State == store.Waiting && x.Due != 0 && x.Due <= now {
			all = append(all, lifecycle.Waiter{Key: x.Key, Begun: x.Lease > 0})
		}
	}
	return all, nil
}

func (r *rows) WakeAt(at int64) { r.woken[at] = true }

// unannounced returns a time of a run's row that no WakeAt has announced; 0: there is none. When a
// run is due, all times are read again.
func (r *rows) unannounced(x *lifecycle.Run) int64 {
	first := r.first[x.Key]
	if at := x.StartBy; at != 0 && at != first.StartBy && !r.woken[at] && x.State != store.Scheduled {
		return at
	}
	if at := x.Due; (x.State == store.Scheduled || x.State == store.Waiting) && at != 0 && at != first.Due && !r.woken[at] {
		return at
	}
	return 0
}

func (r *rows) Interrupt(x *lifecycle.Run) { r.note("interrupt %d", number(x.Key)) }

func (r *rows) Ended(key int64) {
	for _, run := range r.awaited[key] {
		r.Resume(run, r.now)
	}
	delete(r.awaited, key)
	r.note("ended %d", number(key))
}

func (r *rows) Finished(_ *store.Outcome, f lifecycle.Finished) (err error) {
	defer r.Miss(&err)
	r.Ended(f.Run)
	r.finished = f
	r.note("finished as %v", f.Result.State)
	return nil
}

func (r *rows) Record(int64, store.Lease, *store.Record) (err error) {
	defer r.Miss(&err)
	return nil
}

func (r *rows) Retried(*store.Outcome) { r.note("retried") }

func (r *rows) MoveToTaskLane(_, node int64) (err error) {
	defer r.Miss(&err)
	r.note("to the lane of %d", node)
	return nil
}

func (r *rows) Follow(runs []store.NewRun, _ int64) (err error) {
	defer r.Miss(&err)
	r.note("%d follow run %d", len(runs), binary.BigEndian.Uint64(runs[0].Parent[8:]))
	return nil
}

func (r *rows) NextKey(int64) int64 {
	r.last++
	return keyOf(r.last)
}

func (r *rows) Copy(from, to *lifecycle.Run, before store.Address) (err error) {
	defer r.Miss(&err)
	r.note("copy %d before %d", number(from.Key), before.Seq)
	r.runs[to.Key] = to
	return nil
}

func (r *rows) EntryDone(_ int64, at store.Address) (_ bool, _ int64, err error) {
	defer r.Miss(&err)
	return r.done[fmt.Sprint(at.Scope, at.Seq)], r.dueAt[fmt.Sprint(at.Scope, at.Seq)], nil
}

func (r *rows) ResetUndo(int64) (err error) {
	defer r.Miss(&err)
	r.note("reset undo")
	return nil
}

func (r *rows) Forget(_ int64, from store.Address) (err error) {
	defer r.Miss(&err)
	r.note("forget %d", from.Seq)
	return nil
}

func (r *rows) AwaitChild(child, run int64) (err error) {
	defer r.Miss(&err)
	r.awaited[child] = append(r.awaited[child], run)
	return nil
}

func (r *rows) BeginWorkflow(key, _, now int64) (err error) {
	defer r.Miss(&err)
	if r.runs[key].State != store.Scheduled {
		r.illegal = append(r.illegal, "it was queued, and begins")
	}
	r.runs[key].Begin(now)
	r.note("begin %d", number(key))
	return nil
}

func (r *rows) ReplayWorkflow(key, _, _ int64, _ bool) (err error) {
	defer r.Miss(&err)
	r.note("replay %d", number(key))
	return nil
}

func (r *rows) Advance(parent, node int64, to store.State, _ int64) (err error) {
	defer r.Miss(&err)
	r.note("advance %d from %d: %v", number(parent), node, to)
	return nil
}

func (r *rows) Reconsider(key, _ int64) (err error) {
	defer r.Miss(&err)
	r.note("reconsider %d", number(key))
	return nil
}

func (r *rows) DropWaits(key int64) error { r.note("drop waits"); return nil }

func (r *rows) ForRun(_ int64, f func() error) error { return f() }

// show writes what has become of a run: its state, what differs from a run that was just made, and
// what followed.
func (r *rows) show(key int64) string {
	x := r.runs[key]
	s := x.State.String()
	add := func(some bool, format string, args ...any) {
		if some {
			s += fmt.Sprintf(", "+format, args...)
		}
	}
	add(x.Due != 0, "due %+d", x.Due-r.now)
	add(x.Ended != 0, "ended %+d", x.Ended-r.now)
	add(x.CancelAt != 0, "asked %+d", x.CancelAt-r.now)
	add(x.StartBy != 0, "start by %+d", x.StartBy-r.now)
	add(x.Attempt != 1, "attempt %d", x.Attempt)
	add(x.Replayed != 0, "replayed %d", x.Replayed)
	add(x.Crashes != 0, "crashes %d", x.Crashes)
	add(x.Spent != 0, "spent %d", x.Spent)
	add(x.Resumed, "resumed")
	add(x.Output != nil, "output %s", x.Output)
	add(x.Error != nil, "error %s", x.Error)
	add(len(r.log) > 0, "%s", strings.Join(r.log, ", "))
	return s
}

// is compares what has become of a run.
func (r *rows) is(t *testing.T, key int64, want string) {
	t.Helper()
	if got := r.show(key); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if len(r.illegal) > 0 {
		t.Errorf("not store.Legal: %v", r.illegal)
	}
	if at := r.unannounced(r.runs[key]); at != 0 {
		t.Errorf("nothing wakes at %+d", at-r.now)
	}
}

func ok(t interface {
	Helper()
	Fatal(...any)
}, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
