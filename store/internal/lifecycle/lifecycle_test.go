package lifecycle_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/lifecycle"
	"github.com/stint-dev/stint/store/internal/misstest"
)

type row = lifecycle.Run

// running returns a run in its first attempt.
func running(change func(*row)) row {
	r := row{State: store.Running, Attempt: 1, Lease: 1, Worker: 1}
	if change != nil {
		change(&r)
	}
	return r
}

func at(after int64) time.Time { return time.UnixMilli(start + 1000 + after) }

// What each outcome makes of a run, of one that was asked to cancel, and of such a one that has
// something to clean up: a journal, or compensations.
func TestFinish(t *testing.T) {
	failed := []byte("e")
	for _, c := range []struct {
		name                           string
		o                              store.Outcome
		plain, asked, journal, undoToo string
	}{
		{"success", store.Outcome{To: store.Succeeded, Output: []byte("o")},
			"succeeded, ended +0, output o, ended 1, finished as succeeded",
			"canceled, ended +0, asked -5, output o, error why, ended 1, finished as canceled",
			"canceled, ended +0, asked -5, output o, error why, ended 1, finished as canceled",
			"queued, due +0, asked -5, attempt 0, resumed, error why"},
		{"failure", store.Outcome{To: store.Failed, Error: failed},
			"failed, ended +0, error e, ended 1, finished as failed",
			"canceled, ended +0, asked -5, error why, ended 1, finished as canceled",
			"canceled, ended +0, asked -5, error why, ended 1, finished as canceled",
			"queued, due +0, asked -5, attempt 0, resumed, error why"},
		{"retry", store.Outcome{To: store.Scheduled, At: at(7), Error: failed},
			"scheduled, due +7, error e, keep 1, retried",
			"canceled, ended +0, asked -5, error why, ended 1",
			"queued, due +0, asked -5, attempt 0, resumed, error why, retried",
			"queued, due +0, asked -5, attempt 0, resumed, error why, retried"},
		{"retry at once", store.Outcome{To: store.Scheduled, At: at(-7), Error: failed},
			"queued, due +0, error e, keep 1, retried",
			"canceled, ended +0, asked -5, error why, ended 1",
			"queued, due +0, asked -5, attempt 0, resumed, error why, retried",
			"queued, due +0, asked -5, attempt 0, resumed, error why, retried"},
		{"snooze", store.Outcome{To: store.Scheduled, At: at(7), Uncounted: true},
			"scheduled, due +7, attempt 0",
			"canceled, ended +0, asked -5, error why, ended 1",
			"queued, due +0, asked -5, attempt 0, resumed, error why",
			"queued, due +0, asked -5, attempt 0, resumed, error why"},
		{"shutdown", store.Outcome{To: store.Queued, Uncounted: true},
			"queued, attempt 0",
			"canceled, ended +0, asked -5, error why, ended 1",
			"queued, due +0, asked -5, attempt 0, resumed, error why",
			"queued, due +0, asked -5, attempt 0, resumed, error why"},
		{"blocked", store.Outcome{To: store.Blocked, Uncounted: true, Error: failed},
			"blocked, attempt 0, error e",
			"canceled, ended +0, asked -5, error why, ended 1",
			"canceled, ended +0, asked -5, error why, ended 1",
			"blocked, asked -5, attempt 0, error e"},
		{"wait", store.Outcome{To: store.Waiting, Spent: 3 * time.Millisecond},
			"waiting, attempt 0, spent 3, resumed",
			"canceled, ended +0, asked -5, error why, ended 1",
			"queued, due +0, asked -5, attempt 0, resumed, error why",
			"queued, due +0, asked -5, attempt 0, resumed, error why"},
	} {
		ask := func(r *row) { r.CancelAt, r.Error = start+995, []byte("why") }
		for _, v := range []struct {
			run  row
			want string
		}{
			{running(nil), c.plain},
			{running(ask), c.asked},
			{running(func(r *row) { ask(r); r.Journal = true }), c.journal},
			{running(func(r *row) { ask(r); r.Journal, r.Undo = true, true }), c.undoToo},
		} {
			t.Run(c.name, func(t *testing.T) {
				r := newRows(v.run)
				o := c.o
				o.Lease = 1
				_, err := lifecycle.Finish(r, keyOf(1), &o, r.now)
				ok(t, err)
				r.is(t, keyOf(1), v.want)
			})
		}
	}
}

// A run that is put back keeps its place, and what its attempt has used.
func TestPutBack(t *testing.T) {
	r := newRows(running(func(r *row) { r.Due, r.Rank, r.Spent = start+5, 7, 3 }))
	_, err := lifecycle.Finish(r, keyOf(1), &store.Outcome{To: store.Queued, Lease: 1, Uncounted: true}, r.now)
	ok(t, err)
	if r.is(t, keyOf(1), "queued, due -995, attempt 0, spent 3"); r.runs[keyOf(1)].Rank != 7 {
		t.Errorf("%+v", r.runs[keyOf(1)])
	}
}

// An outcome of an earlier execution, or of a run that has ended, changes nothing.
func TestStale(t *testing.T) {
	for _, run := range []row{
		running(func(r *row) { r.Lease = 2 }),
		running(func(r *row) { r.State = store.Queued }),
		running(func(r *row) { r.State, r.Ended = store.Succeeded, start }),
	} {
		r := newRows(run)
		want := r.show(keyOf(1))
		to, err := lifecycle.Finish(r, keyOf(1), &store.Outcome{To: store.Failed, Lease: 1}, r.now)
		ok(t, err)
		if r.is(t, keyOf(1), want); to != 0 {
			t.Errorf("it is %v", to)
		}
	}
}

// A run waits unless one of the things that it waits for is there.
func TestWait(t *testing.T) {
	entry := store.Address{Scope: "1", Seq: 2}
	for _, c := range []struct {
		name  string
		waits func(*rows) store.Waits
		want  string
		child bool // the end of a child would resume it
	}{
		{"for a time", func(*rows) store.Waits { return store.Waits{Until: at(9)} }, "waiting, due +9, attempt 0, resumed", false},
		{"for a time that has come", func(*rows) store.Waits { return store.Waits{Until: at(0)} }, "queued, due +0, attempt 0, resumed", false},
		{"for an event", func(*rows) store.Waits { return store.Waits{Entries: []store.Address{entry}} }, "waiting, attempt 0, resumed", false},
		{"for an event that has come", func(r *rows) store.Waits {
			r.done["12"] = true
			return store.Waits{Until: at(9), Entries: []store.Address{entry}}
		}, "queued, due +0, attempt 0, resumed", false},
		{"for a child", func(r *rows) store.Waits {
			return store.Waits{Children: []store.ID{r.ID(r.add(row{State: store.Queued}))}}
		}, "waiting, attempt 0, resumed", true},
		{"for one child of two", func(r *rows) store.Waits {
			over := r.add(row{State: store.Failed, Ended: start})
			return store.Waits{Children: []store.ID{r.ID(r.add(row{State: store.Queued})), r.ID(over)}}
		}, "queued, due +0, attempt 0, resumed", true},
		{"for a child that was deleted", func(r *rows) store.Waits {
			return store.Waits{Children: []store.ID{r.ID(keyOf(9))}}
		}, "queued, due +0, attempt 0, resumed", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRows(running(nil))
			_, err := lifecycle.Finish(r, keyOf(1), &store.Outcome{To: store.Waiting, Lease: 1, Waits: c.waits(r)}, r.now)
			ok(t, err)
			if r.is(t, keyOf(1), c.want); len(r.awaited) > 0 != c.child {
				t.Errorf("it waits for %v", r.awaited)
			}
		})
	}
}

// What else an outcome brings is done after the change, and only if it is current.
func TestFinishDoesTheRest(t *testing.T) {
	o := store.Outcome{ID: store.ID{15: 9}, To: store.Queued, Lease: 1, Uncounted: true, NoHandler: true, Node: 1<<20 | 2, Follow: make([]store.NewRun, 2),
		Forget: []store.Address{{Seq: 3}, {Seq: 5}}}
	r := newRows(running(nil))
	_, err := lifecycle.Finish(r, keyOf(1), &o, r.now)
	ok(t, err)
	r.is(t, keyOf(1), "queued, attempt 0, forget 3, forget 5, to the lane of 1048578, 2 follow run 9")
}

// TestFinished: what is told, counted and stored of a run that its outcome has ended, also if it was asked to cancel.
func TestFinished(t *testing.T) {
	failure := &store.Failure{Task: "t"}
	for _, c := range []struct {
		name  string
		o     store.Outcome
		asked int64
		want  lifecycle.Finished
	}{
		{"a success", store.Outcome{To: store.Succeeded, Output: []byte("o"), Task: "t", Started: at(-500)}, 0,
			lifecycle.Finished{Result: &store.Result{State: store.Succeeded, Output: []byte("o")}, Counted: true, Took: 500 * time.Millisecond}},
		{"of a task with tests", store.Outcome{To: store.Succeeded, Tests: []store.TestResult{}}, 0,
			lifecycle.Finished{Result: &store.Result{State: store.Succeeded}, Took: -1}},
		{"with their results", store.Outcome{To: store.Succeeded, Tests: make([]store.TestResult, 1)}, 0,
			lifecycle.Finished{Result: &store.Result{State: store.Succeeded}, Took: -1, Tests: []byte("some")}},
		{"a failure", store.Outcome{To: store.Failed, Failure: failure, Started: at(500)}, 0,
			lifecycle.Finished{Result: &store.Result{State: store.Failed}, Failure: failure}},
		{"a success that was asked to cancel", store.Outcome{To: store.Succeeded, Output: []byte("o"), Tests: make([]store.TestResult, 1)}, start,
			lifecycle.Finished{Result: &store.Result{State: store.Canceled}, Took: -1}},
		{"a failure that was asked to cancel", store.Outcome{To: store.Failed, Failure: failure}, start,
			lifecycle.Finished{Result: &store.Result{State: store.Canceled}, Took: -1}},
	} {
		r := newRows(running(func(r *row) { r.CancelAt = c.asked }))
		c.o.Lease = 1
		_, err := lifecycle.Finish(r, keyOf(1), &c.o, r.now)
		ok(t, err)
		got := r.finished
		if got.Run != keyOf(1) || got.Ended != r.now || got.Result.State != c.want.Result.State ||
			string(got.Result.Output) != string(c.want.Result.Output) || got.Counted != c.want.Counted || got.Took != c.want.Took ||
			got.Failure != c.want.Failure || (got.Tests != nil) != (c.want.Tests != nil) {
			t.Errorf("%s: %+v, %+v; want %+v, %+v", c.name, got, got.Result, c.want, c.want.Result)
		}
	}
}

func TestFinishTask(t *testing.T) {
	flow, task := row{State: store.Running, Workflow: true, Node: 1<<20 | 3}, running(func(r *row) { r.Parent, r.Node = keyOf(1), 1<<20|2 })
	r := newRows(flow, task)
	o := store.Outcome{To: store.Failed, Lease: 1, Parent: r.ID(keyOf(1)), Node: task.Node}
	_, err := lifecycle.Finish(r, keyOf(2), &o, r.now)
	ok(t, err)
	r.is(t, keyOf(2), "failed, ended +0, ended 2, finished as failed, advance 1 from 1048578: failed")
	o.Parent = store.ID{}
	if _, err := lifecycle.Finish(newRows(flow, task), keyOf(2), &o, start); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("of no workflow: %v", err)
	}
}

func TestCancel(t *testing.T) {
	for _, c := range []struct {
		name string
		run  row
		want string // "": nothing changes
	}{
		{"scheduled", row{State: store.Scheduled, Due: start + 5000, StartBy: start + 6000, Attempt: 1},
			"canceled, due +4000, ended +0, error why, ended 1"},
		{"queued", row{State: store.Queued, Attempt: 1}, "canceled, ended +0, error why, ended 1"},
		{"running", running(nil), "running, asked +0, error why, interrupt 1"},
		{"running, asked", running(func(r *row) { r.CancelAt = start }), ""},
		{"ended", row{State: store.Failed, Ended: start}, ""},
		{"its handler waits", row{State: store.Waiting, Lease: 1, Attempt: 1, Journal: true, Resumed: true},
			"queued, due +0, asked +0, resumed, error why"},
		{"between attempts, with a journal", row{State: store.Scheduled, Due: start + 5000, Lease: 1, Attempt: 1, Journal: true},
			"queued, due +0, asked +0, error why"},
		{"cleaning up", row{State: store.Queued, Lease: 1, Journal: true, CancelAt: start}, ""},
		{"between attempts", row{State: store.Scheduled, Due: start + 5000, Lease: 1, Attempt: 1},
			"canceled, due +4000, ended +0, error why, ended 1"},
		{"forked, not begun", row{State: store.Queued, Attempt: 1, Journal: true}, "canceled, ended +0, error why, ended 1"},
		{"blocked, with a journal", row{State: store.Blocked, Lease: 1, Attempt: 1, Journal: true}, "canceled, ended +0, error why, ended 1"},
		{"blocked, with compensations", row{State: store.Blocked, Lease: 1, Attempt: 1, Journal: true, Undo: true},
			"queued, due +0, asked +0, error why"},
		{"blocked while it cleaned up", row{State: store.Blocked, Lease: 1, Attempt: 1, Journal: true, Undo: true, CancelAt: start + 995},
			"canceled, ended +0, asked -5, error why, ended 1"},
		{"a task before its start", row{State: store.Waiting, Attempt: 1, Parent: keyOf(7), Node: 1<<20 | 2},
			"canceled, ended +0, error why, ended 1, drop waits, advance 7 from 1048578: canceled"},
		{"a workflow", row{State: store.Running, Workflow: true, Node: 1<<20 | 3, Attempt: 1, StartBy: start + 1001},
			"running, asked +0, start by +1, error why, interrupt 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRows(c.run)
			want := c.want
			if want == "" {
				want = r.show(keyOf(1))
			}
			some, err := lifecycle.Cancel(r, keyOf(1), r.now, []byte("why"))
			ok(t, err)
			if r.is(t, keyOf(1), want); some != (c.want != "") {
				t.Errorf("Cancel reports %v", some)
			}
		})
	}
}

func TestCancelChildren(t *testing.T) {
	r := newRows(row{State: store.Queued}, row{State: store.Queued, Parent: keyOf(1)}, row{State: store.Queued, Parent: keyOf(2)},
		row{State: store.Queued, Parent: keyOf(1), Detached: true}, row{State: store.Succeeded, Ended: start, Parent: keyOf(1)})
	_, err := lifecycle.Cancel(r, keyOf(1), r.now, nil)
	ok(t, err)
	for n, want := range []store.State{store.Canceled, store.Canceled, store.Canceled, store.Queued, store.Succeeded} {
		if got := r.runs[keyOf(int64(n+1))].State; got != want {
			t.Errorf("run %d is %v, want %v", n+1, got, want)
		}
	}
	if some, err := lifecycle.Cancel(r, keyOf(9), r.now, nil); some || err != nil {
		t.Errorf("no run: %v, %v", some, err)
	}
}

func TestRelease(t *testing.T) {
	crashed := func(n int64, change func(*row)) row {
		return running(func(r *row) {
			if r.Crashes = n; change != nil {
				change(r)
			}
		})
	}
	ask := func(r *row) { r.CancelAt, r.Error = start, []byte("why") }
	const kept = "keep 1 as queued at +0"
	for _, c := range []struct {
		name    string
		run     row
		crashed bool
		want    string
	}{
		{"shutdown", running(nil), false, "queued, attempt 0"},
		{"shutdown, asked to cancel", running(ask), false, "canceled, ended +0, asked -1000, error why, ended 1"},
		{"shutdown, asked to cancel, with a journal", running(func(r *row) { ask(r); r.Journal = true }), false,
			"queued, asked -1000, attempt 0, error why"},
		{"first crash", crashed(0, nil), true, "queued, due +0, attempt 0, crashes 1, " + kept},
		{"second crash", crashed(1, nil), true, "scheduled, due +1000, attempt 0, crashes 2, " + kept + ", suspect"},
		{"third crash", crashed(2, nil), true, "scheduled, due +2000, attempt 0, crashes 3, " + kept + ", suspect"},
		{"fourth crash", crashed(3, nil), true, "scheduled, due +4000, attempt 0, crashes 4, " + kept + ", suspect"},
		{"fifth crash", crashed(4, nil), true, "blocked, attempt 0, crashes 5, error " + store.QuarantineError + ", " + kept + ", suspect"},
		{"crash, asked to cancel", crashed(0, ask), true, "canceled, ended +0, asked -1000, crashes 1, error why, " + kept + ", ended 1"},
		{"crash, asked to cancel, with a journal", crashed(0, func(r *row) { ask(r); r.Journal = true }), true,
			"queued, due +0, asked -1000, attempt 0, crashes 1, error why, " + kept},
		{"fifth crash, asked to cancel, with a journal", crashed(4, func(r *row) { ask(r); r.Journal = true }), true,
			"canceled, ended +0, asked -1000, crashes 5, error why, " + kept + ", suspect, ended 1"},
		{"fifth crash, asked to cancel, with compensations", crashed(4, func(r *row) { ask(r); r.Journal, r.Undo = true, true }), true,
			"blocked, asked -1000, attempt 0, crashes 5, error " + store.QuarantineError + ", " + kept + ", suspect"},
		{"a task that was asked to cancel", crashed(0, func(r *row) { ask(r); r.Parent, r.Node = keyOf(7), 1<<20|2 }), true,
			"canceled, ended +0, asked -1000, crashes 1, error why, " + kept + ", ended 1, advance 7 from 1048578: canceled"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRows(c.run, running(func(r *row) { r.Worker = 2 }))
			rec, err := lifecycle.ReleaseWorker(r, 1, r.now, c.crashed)
			ok(t, err)
			r.is(t, keyOf(1), c.want)
			state := r.runs[keyOf(1)].State
			if blocked := state == store.Blocked; len(rec.Blocked) != 0 != blocked || rec.Requeued != 0 != (!blocked && !state.Terminal()) {
				t.Errorf("%+v", rec)
			}
			if r.runs[keyOf(2)].State != store.Running || !slices.Equal(r.left, []int64{1}) {
				t.Errorf("it has released the run of another worker, or ended others: %v", r.left)
			}
		})
	}
}

// The runs of all workers of a process are released, and those of no other.
func TestReleaseProcess(t *testing.T) {
	of := func(worker, crashes int64) row {
		return running(func(r *row) { r.Worker, r.Crashes = worker, crashes })
	}
	made := func() *rows {
		r := newRows(of(1, 0), of(2, store.MaxCrashes-1), of(1, 0), of(3, 0))
		r.workers = map[string][]int64{"p": {1, 2}, "q": {3}}
		return r
	}
	r := made()
	rec, err := lifecycle.ReleaseProcess(r, "p", r.now, true)
	ok(t, err)
	if rec.Requeued != 2 || !slices.Equal(rec.Blocked, []store.ID{r.ID(keyOf(2))}) || !slices.Equal(r.left, []int64{1, 2}) {
		t.Errorf("%+v; ended workers %v", rec, r.left)
	}
	for n, want := range []store.State{store.Queued, store.Blocked, store.Queued, store.Running} {
		if got := r.runs[keyOf(int64(n+1))].State; got != want {
			t.Errorf("run %d is %v, want %v", n+1, got, want)
		}
	}
	misstest.Each(t, made, func(r *rows) error {
		_, err := lifecycle.ReleaseProcess(r, "p", r.now, true)
		return err
	})
}

// Which runs are deleted, and what the kinds of actions do.
func TestAct(t *testing.T) {
	ended := row{State: store.Succeeded, Ended: start, Attempt: 1, Lease: 1}
	child := ended
	child.Parent = keyOf(2)
	task := child
	task.Node = 1<<20 | 2
	for _, c := range []struct {
		name    string
		kind    store.ActionKind
		run     row
		parent  store.State
		changed bool
		want    store.State // 0: it is deleted
	}{
		{"delete", store.ActDelete, ended, store.Running, true, 0},
		{"delete what runs", store.ActDelete, running(nil), store.Running, false, store.Running},
		{"delete a child", store.ActDelete, child, store.Succeeded, true, 0},
		{"delete a child that may be read again", store.ActDelete, child, store.Waiting, false, store.Succeeded},
		{"delete a task of a workflow", store.ActDelete, task, store.Succeeded, false, store.Succeeded},
		{"cancel", store.ActCancel, row{State: store.Queued}, store.Running, true, store.Canceled},
		{"cancel what has ended", store.ActCancel, ended, store.Running, false, store.Succeeded},
		{"replay", store.ActReplay, row{State: store.Failed, Ended: start, Attempt: 1, Lease: 1}, store.Running, true, store.Queued},
	} {
		made := func() *rows { return newRows(c.run, row{State: c.parent}) }
		act := func(r *rows) (bool, error) { return lifecycle.Act(r, &store.Action{Kind: c.kind}, keyOf(1), r.now) }
		r := made()
		changed, err := act(r)
		ok(t, err)
		var got store.State
		if x := r.runs[keyOf(1)]; x != nil {
			got = x.State
		}
		if changed != c.changed || got != c.want {
			t.Errorf("%s: %v, %v; want %v, %v", c.name, changed, got, c.changed, c.want)
		}
		misstest.Each(t, made, func(r *rows) error { _, err := act(r); return err })
	}
	if deleted, err := lifecycle.Delete(newRows(), keyOf(1)); deleted || err != nil {
		t.Errorf("a run that is not there: %v, %v", deleted, err)
	}
}

func TestRetryBlocked(t *testing.T) {
	blocked := row{State: store.Blocked, Lease: 1, Worker: 1, Rank: 7, Due: 5, Attempt: 1}
	for _, c := range []struct {
		name   string
		change func(*row)
		living []string
		want   store.State
	}{
		{"another build lives", func(*row) {}, []string{"b2"}, store.Queued},
		{"its build lives", func(*row) {}, []string{"b2", "b1"}, store.Blocked},
		{"no worker lives", func(*row) {}, nil, store.Blocked},
		{"a condition blocked it", func(r *row) { r.Lease = 0 }, []string{"b2"}, store.Blocked},
		{"crashes blocked it", func(r *row) { r.Crashes = store.MaxCrashes }, []string{"b2"}, store.Blocked},
		{"its handler blocked it after crashes", func(r *row) { r.Crashes = store.MaxCrashes - 1 }, []string{"b2"}, store.Queued},
	} {
		x := blocked
		c.change(&x)
		r := newRows(x)
		r.builds = c.living
		ok(t, lifecycle.RetryBlocked(r))
		if got := r.runs[keyOf(1)]; got.State != c.want || got.Rank != 7 || got.Due != 5 {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
}

func TestReplay(t *testing.T) {
	task := func(s store.State) row {
		return row{State: s, Ended: start, Attempt: 1, Lease: 1, Parent: keyOf(2), Node: 1<<20 | 2}
	}
	flow := row{State: store.Failed, Ended: start, Workflow: true, Node: 1<<20 | 3}
	open := row{State: store.Running, Workflow: true, Node: 1<<20 | 3}
	for _, c := range []struct {
		name string
		runs []row
		want string // "": nothing changes
	}{
		{"failed", []row{{State: store.Failed, Ended: start + 900, Attempt: 3, Lease: 3, Replayed: 1, Spent: 4, Resumed: true, StartIn: 50,
			Output: []byte("o"), Error: []byte("e")}},
			"queued, due +0, start by +50, attempt 3, replayed 3, keep 3 as failed at -100, reset undo"},
		{"never begun", []row{{State: store.Canceled, Ended: start, CancelAt: start, Error: []byte("e")}},
			"queued, due +0, attempt 0, reset undo"},
		{"blocked", []row{{State: store.Blocked, Attempt: 1, Lease: 1, Crashes: 5}},
			"queued, due +0, replayed 1, keep 1 as blocked at +0, reset undo"},
		{"queued", []row{{State: store.Queued}}, ""},
		{"a workflow", []row{flow}, "failed, ended -1000, attempt 0, replay 1"},
		{"a task", []row{task(store.Failed), flow}, "failed, ended -1000, replay 2"},
		{"a task of an open workflow", []row{task(store.Failed), open}, ""},
		{"a blocked task", []row{{State: store.Blocked, Attempt: 1, Lease: 1, Parent: keyOf(2), Node: 1<<20 | 2}, open},
			"queued, due +0, replayed 1, keep 1 as blocked at +0, reset undo"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRows(c.runs...)
			want := c.want
			if want == "" {
				want = r.show(keyOf(1))
			}
			some, err := lifecycle.Replay(r, keyOf(1), r.now, false)
			ok(t, err)
			if r.is(t, keyOf(1), want); some != (c.want != "") {
				t.Errorf("Replay reports %v", some)
			}
		})
	}
	if _, err := lifecycle.Replay(newRows(task(store.Failed)), keyOf(1), start, false); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a task without a workflow: %v", err)
	}
}

func TestRestartAndFork(t *testing.T) {
	ended := row{State: store.Failed, Ended: start, Attempt: 1, Lease: 1, Due: start + 10, Rank: 7, StartIn: 50, Detached: true}
	r := newRows(ended)
	ok(t, restart(r, r.ID(keyOf(1)), store.Address{Seq: 3}))
	r.is(t, keyOf(1), "queued, due +0, start by +50, replayed 1, forget 3, forget 3, keep 1 as failed at -1000, reset undo")

	r = newRows(ended)
	id, err := fork(r, r.ID(keyOf(1)), store.Address{Seq: 3})
	ok(t, err)
	key, _ := r.Key(id)
	r.is(t, key, "queued, start by -950, attempt 0, copy 1 before 3, reset undo")
	if f := r.runs[key]; f.Rank != 7-10 || !f.Detached || !f.Forked || f.Lease != 0 {
		t.Errorf("%+v", f)
	}
	for _, run := range []row{running(nil), {State: store.Failed, Ended: start, Workflow: true, Node: 1 << 20}} {
		r := newRows(run)
		if err := restart(r, r.ID(keyOf(1)), store.Address{Seq: 1}); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("restart of %v: %v", run.State, err)
		}
	}
	r = newRows(row{State: store.Failed, Ended: start, Parent: keyOf(9), Node: 1<<20 | 1})
	for _, id := range []store.ID{{}, r.ID(keyOf(1)), r.ID(keyOf(2))} {
		if _, err := fork(r, id, store.Address{}); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("fork of a task, or of no run: %v", err)
		}
	}
}

func TestReschedule(t *testing.T) {
	r := newRows(row{State: store.Scheduled, Due: start + 5000, Rank: 7000, StartIn: 50, StartBy: start + 5050, Attempt: 1},
		row{State: store.Scheduled, Due: start + 5000, Lease: 1}, row{State: store.Queued})
	ok(t, reschedule(r, r.ID(keyOf(1)), start+2000))
	if r.is(t, keyOf(1), "scheduled, due +1000, start by +1050"); r.runs[keyOf(1)].Rank != 4000 {
		t.Errorf("%+v", r.runs[keyOf(1)])
	}
	for n, want := range map[int64]error{2: store.ErrStarted, 3: store.ErrStarted, 4: store.ErrNotFound} {
		if err := reschedule(r, r.ID(keyOf(n)), start); !errors.Is(err, want) {
			t.Errorf("run %d: %v", n, err)
		}
	}
}

func TestWake(t *testing.T) {
	r := newRows(row{State: store.Waiting, Lease: 1}, row{State: store.Waiting}, row{State: store.Running, Lease: 1})
	ok(t, wake(r, r.ID(keyOf(1))))
	r.is(t, keyOf(1), "queued, due +0, attempt 0")
	for n := int64(2); n <= 4; n++ {
		if err := wake(r, r.ID(keyOf(n))); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("run %d: %v", n, err)
		}
	}
}

func TestTimers(t *testing.T) {
	for _, c := range []struct {
		name string
		run  row
		want string
	}{
		{"due", row{State: store.Scheduled, Due: start + 1000, Attempt: 1}, "queued, due +0"},
		{"not due", row{State: store.Scheduled, Due: start + 1001, Attempt: 1}, "scheduled, due +1"},
		{"a workflow is due", row{State: store.Scheduled, Due: start, Workflow: true, Node: 1 << 20, Attempt: 1}, "running, due -1000, begin 1"},
		{"a workflow with limits is due", row{State: store.Scheduled, Due: start, Workflow: true, Limited: true, Attempt: 1},
			"queued, due -1000"},
		{"not started in time", row{State: store.Queued, StartBy: start + 1000, Attempt: 1},
			"canceled, ended +0, error " + store.StartByError + ", ended 1"},
		{"a task, not started in time", row{State: store.Queued, StartBy: start, Attempt: 1, Parent: keyOf(7), Node: 1<<20 | 1},
			"canceled, ended +0, error " + store.StartByError + ", ended 1, advance 7 from 1048577: canceled"},
		{"a workflow, not ended in time", row{State: store.Running, Workflow: true, Node: 1 << 20, StartBy: start, Attempt: 1},
			"running, asked +0, error " + store.EndByError + ", interrupt 1"},
		{"a workflow, not begun in time", row{State: store.Queued, Workflow: true, Node: 1 << 20, StartBy: start, Attempt: 1},
			"canceled, ended +0, error " + store.EndByError + ", ended 1"},
		{"its handler has waited", row{State: store.Waiting, Lease: 1, Due: start + 900, Attempt: 1}, "queued, due +0"},
		{"a task has waited", row{State: store.Waiting, Due: start + 900, Attempt: 1, Node: 1<<20 | 1}, "waiting, due -100, reconsider 1"},
		{"it waits for no time", row{State: store.Waiting, Lease: 1, Attempt: 1}, "waiting"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRows(c.run)
			ok(t, lifecycle.QueueDue(r, r.now))
			ok(t, lifecycle.CancelOverdue(r, r.now))
			ok(t, lifecycle.WakeWaiters(r, r.now))
			r.is(t, keyOf(1), c.want)
		})
	}
}

func TestMisses(t *testing.T) {
	task := running(func(r *row) { r.Parent, r.Node, r.CancelAt = keyOf(2), 1<<20|2, start })
	flow := row{State: store.Running, Workflow: true, Node: 1<<20 | 3}
	children := []row{{State: store.Queued, Parent: keyOf(1)}, {State: store.Waiting, Parent: keyOf(2), Node: 1<<20 | 1}}
	ended := row{State: store.Failed, Ended: start, Attempt: 1, Lease: 1}
	due := row{State: store.Scheduled, Due: start}
	for _, c := range []struct {
		name   string
		runs   []row
		decide func(*rows) error
	}{
		{"finish", []row{task, flow}, func(r *rows) error {
			o := store.Outcome{To: store.Succeeded, Lease: 1, Parent: r.ID(keyOf(2)), Node: task.Node, Forget: make([]store.Address, 1),
				Follow: make([]store.NewRun, 1)}
			_, err := lifecycle.Finish(r, keyOf(1), &o, r.now)
			return err
		}},
		{"wait", []row{running(nil), children[0]}, func(r *rows) error {
			o := store.Outcome{To: store.Waiting, Lease: 1, NoHandler: true,
				Waits: store.Waits{Entries: make([]store.Address, 1), Children: []store.ID{r.ID(keyOf(2))}}}
			_, err := lifecycle.Finish(r, keyOf(1), &o, r.now)
			return err
		}},
		{"cancel", append([]row{{State: store.Queued}, flow}, children...), func(r *rows) error {
			if _, err := lifecycle.Cancel(r, keyOf(1), r.now, nil); err != nil {
				return err
			}
			_, err := lifecycle.Cancel(r, keyOf(2), r.now, nil)
			return err
		}},
		{"release", []row{task, running(nil)}, func(r *rows) error { _, err := lifecycle.ReleaseWorker(r, 1, r.now, true); return err }},
		{"retry of blocked runs", []row{{State: store.Blocked, Lease: 1}}, func(r *rows) error {
			r.builds = []string{"b2"}
			return lifecycle.RetryBlocked(r)
		}},
		{"replay", []row{ended}, func(r *rows) error { _, err := lifecycle.Replay(r, keyOf(1), r.now, false); return err }},
		{"replay of a task", []row{{State: store.Failed, Ended: start, Parent: keyOf(2), Node: 1<<20 | 1},
			{State: store.Failed, Ended: start, Workflow: true, Node: 1<<20 | 3}},
			func(r *rows) error { _, err := lifecycle.Replay(r, keyOf(1), r.now, false); return err }},
		{"restart", []row{ended}, func(r *rows) error { return restart(r, r.ID(keyOf(1)), store.Address{Seq: 1}) }},
		{"fork", []row{ended}, func(r *rows) error {
			_, err := fork(r, r.ID(keyOf(1)), store.Address{Seq: 1})
			return err
		}},
		{"reschedule", []row{due}, func(r *rows) error { return reschedule(r, r.ID(keyOf(1)), r.now) }},
		{"timers", []row{due, {State: store.Scheduled, Due: start, Workflow: true, Node: 1 << 20}, {State: store.Queued, StartBy: start,
			Parent: keyOf(2), Node: 1<<20 | 1}, {State: store.Queued, Workflow: true, StartBy: start}, {State: store.Waiting, Lease: 1, Due: start}},
			func(r *rows) error {
				for _, fire := range []func(lifecycle.Rows, int64) error{lifecycle.QueueDue, lifecycle.CancelOverdue, lifecycle.WakeWaiters} {
					if err := fire(r, r.now); err != nil {
						return err
					}
				}
				return nil
			}},
	} {
		t.Run(c.name, func(t *testing.T) { misstest.Each(t, func() *rows { return newRows(c.runs...) }, c.decide) })
	}
}

func restart(r *rows, id store.ID, at store.Address) error {
	return lifecycle.ChangeRun(r, r.now, &store.RunChange{Kind: store.RunRestart, ID: id, At: at})
}

func fork(r *rows, id store.ID, at store.Address) (store.ID, error) {
	c := store.RunChange{Kind: store.RunFork, ID: id, At: at}
	err := lifecycle.ChangeRun(r, r.now, &c)
	return c.Fork, err
}

func reschedule(r *rows, id store.ID, due int64) error {
	return lifecycle.ChangeRun(r, r.now, &store.RunChange{Kind: store.RunReschedule, ID: id, Due: time.UnixMilli(due)})
}

func wake(r *rows, id store.ID) error {
	return lifecycle.ChangeRun(r, r.now, &store.RunChange{Kind: store.RunWake, ID: id})
}
