package sqlite

import (
	"context"
	"time"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/entries"
	"github.com/stint-dev/stint/store/internal/reading"
)

// Append implements store.Runs.
func (s *Store) Append(ctx context.Context, now time.Time, c store.Call) (store.Entry, bool, error) {
	a := &appending{op: op{done: make(chan struct{})}, Call: c, now: now.UnixMilli()}
	if (c.Entry.Kind == store.EntryEvent || c.Entry.Kind == store.EntryWait) && !c.Entry.Done {
		var err error
		if a.from, err = s.lookBack(ctx, &a.Call); err != nil {
			return c.Entry, false, err
		}
	}
	if entries.Plain(&a.Call) {
		a.appends = a
	}
	a.apply = func(u *unit) (err error) {
		a.entry, a.stale, err = u.journals.call(a.now, &a.Call, a.from)
		return err
	}
	err := s.doOp(ctx, &a.op)
	return a.entry, a.stale, err
}

// An appending is one call of Append, and the change that it makes.
type appending struct {
	op
	store.Call
	now   int64
	from  []int64 // of lookBack
	entry store.Entry
	stale bool
}

// lookBack returns the events from which on call has to search. It reads those before, which may be many,
// outside of the writer.
func (s *Store) lookBack(ctx context.Context, c *store.Call) (from []int64, err error) {
	key, ok := s.ids.Key(c.ID)
	if !ok {
		return nil, nil // call finds it stale
	}
	matches, err := entries.LooksFor(&c.Entry)
	if err != nil {
		return nil, err
	}
	from = make([]int64, len(matches))
	err = s.view(ctx, func(q querier) (err error) {
		for i := range matches {
			if from[i], err = reading.LookBack(q, key, &matches[i]); err != nil {
				return err
			}
		}
		return nil
	})
	return from, err
}

// call records a durable call. It searches its events among those that are not before from.
func (js *journals) call(now int64, c *store.Call, from []int64) (e store.Entry, stale bool, err error) {
	key, ok := js.s.ids.Key(c.ID)
	if !ok {
		return e, true, nil
	}
	return entries.Append(js, key, c, from, millis(now))
}

// resumeWaiters resumes the runs that wait for runs which have ended since the last call.
func (js *journals) resumeWaiters() error {
	ended := js.signals.ended[js.signals.resumed:]
	if len(ended) == 0 {
		return nil
	}
	js.signals.resumed = len(js.signals.ended)
	if err := js.counters.countEndings(ended); err != nil {
		return err
	}
	var some bool
	if err := js.one("SELECT EXISTS (SELECT 1 FROM stint_awaited)", nil, &some); err != nil || !some {
		return err
	}
	for _, e := range ended {
		runs, err := column[int64](js, "DELETE FROM stint_awaited WHERE child = ? RETURNING run", e.key)
		if err != nil {
			return err
		}
		for _, run := range runs {
			if err := js.runs.Resume(run, js.now); err != nil {
				return err
			}
		}
	}
	return nil
}

// recordCall records the durable call that enqueued runs or published events.
func (js *journals) recordCall(now int64, c *store.Call, value []byte) error {
	c.Entry.Value = value
	_, stale, err := js.call(now, c, nil)
	if err == nil && stale {
		return store.ErrStale
	}
	return err
}
