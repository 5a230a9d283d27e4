package count_test

import (
	"errors"
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/count"
	"github.com/stint-dev/stint/store/internal/limits"
	"pgregory.net/rapid"
)

// rows implements count.Rows in memory.
type rows struct {
	now   int64
	set   count.Set
	depth int
	puts  map[count.Span]store.Counters // of the transaction
	has   map[count.Span]store.Counters // committed
	err   error
}

func newRows() *rows {
	return &rows{now: 90 * time.Minute.Milliseconds(), puts: map[count.Span]store.Counters{}, has: map[count.Span]store.Counters{}}
}

func (r *rows) Depth() (int, error) { return r.depth, r.err }

func (r *rows) Put(n count.Span, c *store.Counters) error {
	r.puts[n] = *c
	return r.err
}

// commit stores what is due, and commits that and what was counted.
func (r *rows) commit(t rapid.TB) {
	t.Helper()
	if err := r.set.Store(r, r.now); err != nil {
		t.Fatal(err)
	}
	r.set.Commit(r.now, time.Millisecond)
	maps.Copy(r.has, r.puts)
	clear(r.puts)
}

func (r *rows) rollback() {
	r.set.Rollback()
	clear(r.puts)
}

func (r *rows) enqueue(n int64) { r.set.Of("q", "t").Enqueued += n }

// enqueued compares how many enqueues the row of a span has.
func (r *rows) enqueued(t *testing.T, task string, length, at time.Duration, want int64) {
	t.Helper()
	n := count.Span{Length: length.Milliseconds(), At: at.Milliseconds()}
	if task != "" {
		n.Name = count.Name{Queue: "q", Task: task}
	}
	if got := r.has[n].Enqueued; got != want {
		t.Errorf("%+v has %d, want %d", n, got, want)
	}
}

// A second after they were committed, counts are in the rows of the minute and of the hour, of the
// task and of all.
func TestStore(t *testing.T) {
	r := newRows()
	if r.set.DueAt() != limits.Never {
		t.Error("counts are due, and there are none")
	}
	r.enqueue(2)
	r.set.Calls(3)
	r.commit(t)
	if len(r.has) > 0 || r.set.DueAt() != r.now+500 {
		t.Fatalf("stored %v, due at %d", r.has, r.set.DueAt()-r.now)
	}
	r.now += 500
	r.commit(t)
	if r.set.DueAt() != limits.Never {
		t.Error("counts are due that were stored")
	}
	for _, task := range []string{"", "t"} {
		r.enqueued(t, task, time.Minute, 90*time.Minute, 2)
		r.enqueued(t, task, time.Hour, time.Hour, 2)
	}
	all := r.has[count.Span{Length: count.Lengths[0], At: 90 * time.Minute.Milliseconds()}]
	if all.Commits != 1 || all.Changes != 3 {
		t.Errorf("%d commits of %d calls", all.Commits, all.Changes)
	}
	r.enqueue(1)
	r.commit(t) // less than a second after the last
	r.enqueued(t, "t", time.Minute, 90*time.Minute, 2)
	r.set.Last()
	r.commit(t)
	r.enqueued(t, "t", time.Minute, 90*time.Minute, 3)
}

// What did not change is not stored again, and is dropped once its span is over.
func TestUnchanged(t *testing.T) {
	r := newRows()
	r.enqueue(1)
	r.commit(t)
	for range 3 {
		r.now += 40_000
		clear(r.has)
		r.set.Of("q", "u").Enqueued++
		r.commit(t)
	}
	first := count.Span{Name: count.Name{Queue: "q", Task: "t"}, Length: count.Lengths[0], At: 90 * time.Minute.Milliseconds()}
	if _, again := r.has[first]; again {
		t.Error("a row is stored again that did not change")
	}
}

func TestNextSpan(t *testing.T) {
	r := newRows()
	r.depth = 7
	r.enqueue(1)
	r.commit(t)
	r.now += time.Minute.Milliseconds()
	r.depth = 9
	r.enqueue(2)
	r.commit(t)
	r.set.Last()
	r.commit(t)
	r.enqueued(t, "t", time.Minute, 90*time.Minute, 1)
	r.enqueued(t, "t", time.Minute, 91*time.Minute, 2)
	r.enqueued(t, "t", time.Hour, time.Hour, 3)
	for at, want := range map[time.Duration]int{90 * time.Minute: 0, 91 * time.Minute: 9} { // the first minute was over when it was read
		if got := r.has[count.Span{Length: count.Lengths[0], At: at.Milliseconds()}].Depth; got != want {
			t.Errorf("depth %d at %v, want %d", got, at, want)
		}
	}
}

// A process that is idle for a month, and commits now and then, holds few sums in memory and loses none.
func TestIdle(t *testing.T) {
	r := newRows()
	const commits = 30 * 24 * 60
	for range commits {
		r.commit(t)
		r.now += time.Minute.Milliseconds()
		if n := r.set.Held(); n > 200 {
			t.Fatalf("%d sums are held at %v", n, time.UnixMilli(r.now).UTC())
		}
		if r.set.DueAt() != limits.Never {
			t.Fatal("an idle process is woken to store")
		}
	}
	r.enqueue(1)
	r.commit(t)
	r.set.Last()
	r.commit(t)
	var n int64
	for at, c := range r.has {
		if at.Length == count.Lengths[0] {
			n += c.Commits
		}
	}
	if n != commits+1 {
		t.Errorf("%d commits are stored, want %d", n, commits+1)
	}
}

// What is rolled back is not counted, and what it stored is stored again.
func TestRollback(t *testing.T) {
	r := newRows()
	r.enqueue(1)
	r.commit(t)
	r.now += 1000
	r.enqueue(10)
	r.err = errors.New("disk full")
	if err := r.set.Store(r, r.now); !errors.Is(err, r.err) {
		t.Fatalf("error %v", err)
	}
	r.rollback()
	r.err = nil
	r.commit(t)
	r.enqueued(t, "t", time.Minute, 90*time.Minute, 1)
	r.set.Postpone(r.now + 5000)
	r.enqueue(1)
	r.commit(t)
	if due := r.set.DueAt() - r.now; due != 6000 {
		t.Errorf("due after %d, want 6000", due)
	}
}

func TestKept(t *testing.T) {
	now := time.UnixMilli(0).Add(1000 * time.Hour)
	for length, want := range map[int64]time.Duration{count.Lengths[0]: store.MinutesKept, count.Lengths[1]: store.HoursKept} {
		if got := now.UnixMilli() - count.KeptFrom(length, now); got != want.Milliseconds() {
			t.Errorf("spans of %d are kept for %d", length, got)
		}
		if got := now.UnixMilli() - count.RolledUpTo(length, now.UnixMilli()); got != length+time.Hour.Milliseconds() {
			t.Errorf("spans of %d are rolled up after %d", length, got)
		}
	}
}

// Whatever is committed or rolled back, in the end the rows have what was committed.
func TestRandom(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r, want := newRows(), map[count.Span]int64{}
		for range rapid.IntRange(1, 50).Draw(t, "steps") {
			r.now += rapid.Int64Range(0, 40_000).Draw(t, "passes")
			n := rapid.Int64Range(0, 3).Draw(t, "enqueues")
			task := rapid.SampledFrom([]string{"t", "u"}).Draw(t, "task")
			if n > 0 {
				r.set.Of("q", task).Enqueued += n
			}
			if rapid.IntRange(0, 3).Draw(t, "rolls back") == 0 {
				if err := r.set.Store(r, r.now); err != nil {
					t.Fatal(err)
				}
				r.rollback()
				continue
			}
			r.commit(t)
			for _, length := range count.Lengths {
				for _, name := range []count.Name{{}, {Queue: "q", Task: task}} {
					want[count.Span{Name: name, Length: length, At: r.now - r.now%length}] += n
				}
			}
		}
		r.set.Last()
		r.commit(t)
		for n, x := range want {
			if got := r.has[n].Enqueued; got != x {
				t.Fatalf("%+v has %d enqueues, want %d", n, got, x)
			}
		}
	})
}

// The counts of very many tasks are written over several transactions, those of all runs with the first; the last transaction
// writes all that are left.
func TestManyTasks(t *testing.T) {
	r := newRows()
	const tasks = 1200 // rows for a minute and an hour of each
	for i := range tasks {
		r.set.Of("q", fmt.Sprint(i)).Enqueued++
	}
	r.commit(t)
	total := count.Span{Length: count.Lengths[0], At: r.now}
	r.now += 500
	want := 0
	for range 3 {
		if due := r.set.DueAt(); due != r.now {
			t.Errorf("due in %d ms, with %d rows stored", due-r.now, len(r.has))
		}
		r.commit(t)
		if want += 500; len(r.has) != want+2 {
			t.Fatalf("%d rows are stored, want %d", len(r.has), want+2)
		}
		if got := r.has[total].Enqueued; got != tasks {
			t.Errorf("%d runs are counted in all, want %d", got, tasks)
		}
		r.now += 250
	}
	r.set.Of("q", "0").Enqueued++ // behind the others
	r.set.Last()
	r.commit(t)
	if len(r.has) != 2*tasks+2 {
		t.Errorf("%d rows are stored in the end, want %d", len(r.has), 2*tasks+2)
	}
}

// Counts have of durations what histograms have, however few and in whatever parts.
func TestTimes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r, want := newRows(), store.Histogram{}
		for range rapid.IntRange(1, 5).Draw(t, "transactions") {
			for _, d := range rapid.SliceOfN(rapid.Int64Range(0, int64(30*time.Hour)), 0, 8).Draw(t, "durations") {
				r.set.Of("q", "t").Waits.Observe(time.Duration(d))
				r.set.Of("q", "t").End(store.Succeeded, time.Duration(d))
				want.Observe(time.Duration(d))
			}
			r.commit(t)
		}
		r.set.Last()
		r.commit(t)
		for _, name := range []count.Name{{}, {Queue: "q", Task: "t"}} {
			got := r.has[count.Span{Name: name, Length: count.Lengths[1], At: time.Hour.Milliseconds()}]
			if got.Waits != want || got.Durations != want || got.Succeeded != want.Count() {
				t.Fatalf("%+v: %v and %v, want %v", name, got.Waits, got.Durations, want)
			}
		}
	})
}

func TestStartAndTook(t *testing.T) {
	r, want := newRows(), store.Histogram{}
	r.set.Of("q", "t").Start(-time.Second) // the clock was set back
	r.set.Of("q", "t").Start(time.Second)
	r.commit(t)
	r.set.Last()
	r.commit(t)
	want.Observe(0)
	want.Observe(time.Second)
	got := r.has[count.Span{Name: count.Name{Queue: "q", Task: "t"}, Length: count.Lengths[1], At: time.Hour.Milliseconds()}]
	if got.Started != 2 || got.Waits != want {
		t.Errorf("%+v", got)
	}
	for _, x := range []struct {
		started time.Time
		want    time.Duration
	}{{time.Time{}, -1}, {time.UnixMilli(400), 600 * time.Millisecond}, {time.UnixMilli(1400), 0}} {
		if got := count.Took(x.started, 1000); got != x.want {
			t.Errorf("started at %v: %v, want %v", x.started, got, x.want)
		}
	}
}
