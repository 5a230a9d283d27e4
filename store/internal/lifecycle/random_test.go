package lifecycle_test

import (
	"testing"
	"time"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/lifecycle"
	"pgregory.net/rapid"
)

// Whatever comes over runs, in any order: states change as store.Legal says, a run that was asked
// to cancel ends canceled, at its end at the latest, and none loses its place to another.
func TestRandom(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := newRows()
		asked := map[int64]bool{} // a cancel came, and no replay since
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			r.now += rapid.Int64Range(0, 1500).Draw(t, "ms")
			ok(t, lifecycle.QueueDue(r, r.now))
			ok(t, lifecycle.CancelOverdue(r, r.now))
			ok(t, lifecycle.WakeWaiters(r, r.now))
			r.step(t, asked)
			r.check(t, asked)
		}
	})
}

// claim starts a run.
func (r *rows) claim(x *lifecycle.Run) {
	x.State, x.Attempt, x.Lease, x.Worker, x.StartBy, x.Resumed = store.Running, x.Attempt+1, x.Lease+1, 1, 0, false
}

func (r *rows) step(t *rapid.T, asked map[int64]bool) {
	all := r.sorted()
	if len(all) == 0 || rapid.IntRange(0, 5).Draw(t, "enqueues") == 0 {
		n := store.NewRun{Priority: rapid.Int8Range(1, 4).Draw(t, "priority"), AgeEvery: time.Minute,
			StartIn: time.Duration(rapid.IntRange(0, 2).Draw(t, "start in")) * time.Second}
		if rapid.Bool().Draw(t, "later") {
			n.RunAt = time.UnixMilli(r.now + 500)
		}
		x := lifecycle.New(&n, r.NextKey(0), r.now)
		x.Detached = rapid.Bool().Draw(t, "detached")
		if len(all) > 0 && !x.Detached {
			x.Parent = rapid.SampledFrom(all).Draw(t, "parent").Key
		}
		r.add(x)
		return
	}
	x := rapid.SampledFrom(all).Draw(t, "run")
	switch rapid.IntRange(0, 7).Draw(t, "does") {
	case 0:
		some, err := lifecycle.Cancel(r, x.Key, r.now, []byte("why"))
		ok(t, err)
		if some {
			asked[x.Key] = true
			r.childrenAsked(t, x.Key)
		}
	case 1:
		some, err := lifecycle.Replay(r, x.Key, r.now, false)
		ok(t, err)
		if some {
			delete(asked, x.Key)
		}
	case 2:
		_, err := lifecycle.ReleaseWorker(r, 1, r.now, rapid.Bool().Draw(t, "crashed"))
		ok(t, err)
	case 3:
		x.Journal = true
		x.Undo = rapid.Bool().Draw(t, "undo")
	default:
		if x.State == store.Queued {
			r.claim(x)
		} else if x.State == store.Running {
			r.finish(t, x)
		}
	}
}

// childrenAsked reports children of a canceled run that go on.
func (r *rows) childrenAsked(t *rapid.T, key int64) {
	open, _ := r.Children(key)
	for _, child := range open {
		if x := r.runs[child]; x.CancelAt == 0 {
			t.Fatalf("its parent was canceled: %+v", x)
		}
	}
}

func (r *rows) finish(t *rapid.T, x *lifecycle.Run) {
	o := store.Outcome{Lease: x.Lease - store.Lease(rapid.IntRange(0, 8).Draw(t, "late")/8),
		Uncounted: rapid.Bool().Draw(t, "uncounted"), At: time.UnixMilli(r.now + int64(rapid.IntRange(-1, 1).Draw(t, "at"))*500)}
	o.To = rapid.SampledFrom([]store.State{store.Scheduled, store.Queued, store.Waiting, store.Blocked, store.Succeeded,
		store.Failed, store.Canceled}).Draw(t, "to")
	if o.To == store.Waiting {
		o.Waits.Until = o.At
	}
	was, stale := *x, o.Lease != x.Lease
	to, err := lifecycle.Finish(r, x.Key, &o, r.now)
	ok(t, err)
	if now := r.runs[x.Key]; stale != (to == 0) || stale && now.State != was.State || !stale && now.State != to {
		t.Fatalf("an outcome of lease %d made it %v: %+v", o.Lease, to, now)
	}
}

func (r *rows) check(t *rapid.T, asked map[int64]bool) {
	if len(r.illegal) > 0 {
		t.Fatalf("not store.Legal: %v", r.illegal)
	}
	for _, x := range r.sorted() {
		switch {
		case x.State.Terminal() != (x.Ended != 0):
			t.Fatalf("ended at %d: %+v", x.Ended, x)
		case asked[x.Key] && x.State.Terminal() && x.State != store.Canceled:
			t.Fatalf("it was asked to cancel: %+v", x)
		case x.Attempt < 0 || x.Attempt > int64(x.Lease) || x.Replayed > x.Attempt:
			t.Fatalf("attempts: %+v", x)
		case (x.Rank-x.DueAt())%time.Minute.Milliseconds() != 0:
			t.Fatalf("its rank is not that of its priority: %+v", x)
		case r.unannounced(x) != 0:
			t.Fatalf("nothing wakes at %d: %+v", r.unannounced(x), x)
		case x.State == store.Scheduled && x.Due <= 0:
			t.Fatalf("scheduled for no time: %+v", x)
		}
	}
}
