package stint_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/sqlite"
)

// What the engine takes from a store that is not SQLite's.

// otherLeases gives leases that neither count executions nor rise.
type otherLeases struct{ store.Store }

func (s otherLeases) Claim(ctx context.Context, r store.ClaimRequest) ([]store.Claimed, error) {
	all, err := s.Store.Claim(ctx, r)
	for i := range all {
		all[i].Lease ^= -1
	}
	return all, err
}

func (s otherLeases) Watch(ctx context.Context, worker int64) (store.Signals, error) {
	sig, err := s.Store.Watch(ctx, worker)
	for i := range sig.Cancel {
		sig.Cancel[i].Lease ^= -1
	}
	return sig, err
}

func (s otherLeases) Get(ctx context.Context, id store.ID) (*store.Run, error) {
	r, err := s.Store.Get(ctx, id)
	if err == nil {
		r.Lease ^= -1
	}
	return r, err
}

func (s otherLeases) Enqueue(ctx context.Context, now time.Time, runs []store.NewRun) ([]store.Enqueued, error) {
	if c := runs[0].Call; c != nil {
		call := *c
		call.Lease ^= -1
		runs[0].Call = &call
		defer func() { runs[0].Call = c }()
	}
	return s.Store.Enqueue(ctx, now, runs)
}

func (s otherLeases) Append(ctx context.Context, now time.Time, c store.Call) (store.Entry, bool, error) {
	c.Lease ^= -1
	return s.Store.Append(ctx, now, c)
}

func (s otherLeases) Finish(ctx context.Context, now time.Time, all []store.Outcome) ([]bool, error) {
	own := make([]store.Outcome, len(all))
	for i := range all {
		own[i] = all[i]
		own[i].Lease ^= -1
	}
	return s.Store.Finish(ctx, now, own)
}

// The engine does not care which leases a store gives: retries, durable calls, children, cancels and what
// Info says of the execution are as ever.
func TestLeasesAreOpaque(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		late := &lateClaim{otherLeases{must[*sqlite.Store](t)(sqlite.Open(":memory:", sqlite.Options{}))}, make(chan struct{}, 100)}
		c := must[*stint.Client](t)(stint.New(late))
		defer c.Close()
		child := stint.NewTask(c, "child", double)
		task := stint.NewTask(c, "t", func(ctx context.Context, _ int) (int, error) {
			n, err := child.Run(ctx, 4)
			if info, _ := stint.Info(ctx); err == nil && info.Attempt == 1 {
				return 0, errors.New("again")
			} else if err == nil {
				n += info.Executions
			}
			return n, err
		}, stint.WithRetries(1))
		waits := stint.NewTask(c, "waits", func(ctx context.Context, _ int) (int, error) {
			<-ctx.Done()
			return 0, context.Cause(ctx)
		})
		for range 10 {
			late.goOn <- struct{}{}
		}
		defer working(t, c)()
		run := enqueue(t, task, 1)
		n, err := run.Wait(t.Context())
		if info := infoOf(t, run); err != nil || n != 8+info.Executions {
			t.Errorf("%d, %v after %d executions", n, err, info.Executions)
		}
		synctest.Wait()
		for len(late.goOn) > 0 {
			<-late.goOn
		}
		stuck := enqueue(t, waits, 1)
		synctest.Wait() // it is claimed, and the worker does not know yet
		must[int](t)(c.CancelRuns(t.Context(), stint.RunFilter{IDs: []string{stuck.ID()}}))
		synctest.Wait()
		late.goOn <- struct{}{}
		if _, err := stuck.Wait(t.Context()); !errors.Is(err, stint.ErrCanceled) {
			t.Errorf("canceled before its start: %v", err)
		}
	})
}

// ahead is a store whose clock is an hour ahead of the process's: SQLite, which knows only that, with all
// instants moved.
type ahead struct {
	store.Store
	t *testing.T
}

const hour = time.Hour

func (s ahead) Now() time.Time { return time.Now().Add(hour) }

// local returns a now of this process, of one by the store's clock.
func (s ahead) local(now time.Time) time.Time {
	s.t.Helper()
	if d := s.Now().Sub(now); d < 0 || d > time.Minute {
		s.t.Errorf("the store is given a now that is %v behind its clock", d)
	}
	return now.Add(-hour)
}

// move moves the times that are not zero.
func move(by time.Duration, times ...*time.Time) {
	for _, t := range times {
		if !t.IsZero() {
			*t = t.Add(by)
		}
	}
}

func (s ahead) runs(runs []store.NewRun) []store.NewRun {
	own := slices.Clone(runs)
	for i := range own {
		move(-hour, &own[i].RunAt)
		if own[i].Call != nil {
			call := *own[i].Call
			move(-hour, &call.Entry.Due)
			own[i].Call = &call
		}
	}
	return own
}

func (s ahead) Enqueue(ctx context.Context, now time.Time, runs []store.NewRun) ([]store.Enqueued, error) {
	return s.Store.Enqueue(ctx, s.local(now), s.runs(runs))
}

func (s ahead) Claim(ctx context.Context, r store.ClaimRequest) ([]store.Claimed, error) {
	all, err := s.Store.Claim(ctx, r)
	for i := range all {
		move(hour, &all[i].Due, &all[i].Started, &all[i].CancelAt)
	}
	return all, err
}

func (s ahead) Append(ctx context.Context, now time.Time, c store.Call) (store.Entry, bool, error) {
	move(-hour, &c.Entry.Due)
	e, stale, err := s.Store.Append(ctx, s.local(now), c)
	move(hour, &e.At, &e.Due)
	return e, stale, err
}

func (s ahead) logs(r *store.Record) {
	for _, l := range r.Logs {
		s.local(l.At)
	}
}

func (s ahead) Record(ctx context.Context, all []store.Record) ([]bool, error) {
	for i := range all {
		s.logs(&all[i])
	}
	return s.Store.Record(ctx, all)
}

func (s ahead) Finish(ctx context.Context, now time.Time, all []store.Outcome) ([]bool, error) {
	own := slices.Clone(all)
	for i := range own {
		s.logs(&own[i].Record)
		own[i].Follow = s.runs(own[i].Follow)
		move(-hour, &own[i].At, &own[i].Started, &own[i].Waits.Until)
	}
	return s.Store.Finish(ctx, s.local(now), own)
}

func (s ahead) Act(ctx context.Context, now time.Time, a store.Action, f store.Filter) (int, error) {
	return s.Store.Act(ctx, s.local(now), a, f)
}

func (s ahead) Change(ctx context.Context, now time.Time, c store.Change) error {
	if r, ok := c.(*store.RunChange); ok {
		move(-hour, &r.Due)
	}
	return s.Store.Change(ctx, s.local(now), c)
}

func (s ahead) Publish(ctx context.Context, now time.Time, events []store.NewEvent) ([]store.ID, error) {
	return s.Store.Publish(ctx, s.local(now), events)
}

func (s ahead) Declare(ctx context.Context, now time.Time, ds []store.Declaration) error {
	return s.Store.Declare(ctx, s.local(now), ds)
}

func (s ahead) Get(ctx context.Context, id store.ID) (*store.Run, error) {
	r, err := s.Store.Get(ctx, id)
	if err == nil {
		move(hour, &r.Created, &r.Due, &r.Started, &r.Ended, &r.CancelAt, &r.StartBy)
	}
	return r, err
}

func (s ahead) Entries(ctx context.Context, id store.ID, after store.Address, limit int, notes bool) ([]store.Entry, bool, error) {
	all, more, err := s.Store.Entries(ctx, id, after, limit, notes)
	for i := range all {
		move(hour, &all[i].At, &all[i].Due)
	}
	return all, more, err
}

func (s ahead) Await(ctx context.Context, id store.ID, u store.Until) (store.Result, error) {
	r, err := s.Store.Await(ctx, id, u)
	if r.Entry != nil {
		e := *r.Entry
		move(hour, &e.At, &e.Due)
		r.Entry = &e
	}
	return r, err
}

// All that is due, is due by the store's clock, after the time that was asked for; all that the store is
// given is by its clock.
func TestStoreWithItsOwnClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := ahead{must[*sqlite.Store](t)(sqlite.Open(":memory:", sqlite.Options{})), t}
		c := must[*stint.Client](t)(stint.New(s))
		defer c.Close()
		began := time.Now()
		after := func(what string, want time.Duration) {
			t.Helper()
			if got := time.Since(began); got < want || got > want+time.Second {
				t.Errorf("%s: after %v, want %v", what, got, want)
			}
			began = time.Now()
		}
		child := stint.NewTask(c, "child", double)
		failing := stint.NewTask(c, "failing", func(ctx context.Context, _ int) (int, error) {
			if info, _ := stint.Info(ctx); info.Attempt == 1 {
				return 0, errors.New("again")
			}
			return 1, nil
		}, stint.WithRetries(1), stint.WithRetryPolicy(func(int, error) time.Duration { return 10 * time.Minute }))
		var slept time.Time
		durable := stint.NewTask(c, "durable", func(ctx context.Context, _ int) (int, error) {
			stint.Logger(ctx).Info("begins")
			if err := stint.Sleep(ctx, 20*time.Minute); err != nil {
				return 0, err
			}
			if slept.IsZero() {
				slept = s.Now()
			}
			if now := stint.Now(ctx); slept.Sub(now).Abs() > time.Second {
				t.Errorf("a sleep ended at %v by Now, at %v by the store's clock", now, slept)
			}
			if _, err := stint.WaitForEvent[int](ctx, "none", stint.WithWaitTimeout(30*time.Minute)); !errors.Is(err, stint.ErrTimeout) {
				t.Errorf("the wait for an event: %v", err)
			}
			return child.Run(ctx, 2)
		})
		defer working(t, c)()
		wait := func(r *stint.Run[int]) {
			t.Helper()
			if _, err := r.Wait(t.Context()); err != nil {
				t.Error(err)
			}
		}
		run := enqueue(t, child, 1, stint.WithDelay(40*time.Minute))
		if info := infoOf(t, run); !info.Scheduled.Equal(s.Now().Add(40 * time.Minute)) {
			t.Errorf("scheduled for %v by the store's clock, which is at %v", info.Scheduled, s.Now())
		}
		wait(run)
		after("a delay", 40*time.Minute)
		wait(schedule(t, child, s.Now().Add(15*time.Minute), 1))
		after("a time", 15*time.Minute)
		wait(enqueue(t, failing, 1))
		after("the retry", 10*time.Minute)
		wait(enqueue(t, durable, 1))
		after("a sleep and a timeout", 50*time.Minute)
		moved := schedule(t, child, s.Now().Add(time.Hour), 1)
		if err := moved.Reschedule(t.Context(), s.Now().Add(5*time.Minute)); err != nil {
			t.Error(err)
		}
		wait(moved)
		after("another time", 5*time.Minute)
	})
}
