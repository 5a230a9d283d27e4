package postgres

import (
	"context"
	"time"

	"github.com/stint-dev/stint/internal/clock"
	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/entries"
	"github.com/stint-dev/stint/store/internal/lifecycle"
)

// Append implements store.Runs.
func (s *Store) Append(ctx context.Context, now time.Time, c store.Call) (e store.Entry, stale bool, err error) {
	key, ok := s.ids.Key(c.ID)
	if !ok {
		return c.Entry, true, nil
	}
	err = s.do(ctx, func(u *unit) (err error) {
		call := c
		e, stale, err = entries.Append(entryRows{u}, key, &call, nil, clock.FromMillis(now.UnixMilli()))
		return err
	})
	return e, stale, err
}

// perBulk is how many runs one commit of a bulk action changes.
const perBulk = 500

// actOn applies an action to runs, in one commit, and returns how many it has changed.
func (s *Store) actOn(ctx context.Context, now time.Time, a *store.Action, keys []int64) (n int, err error) {
	err = s.do(ctx, func(u *unit) error {
		n = 0
		u.runs.ask(keys...)
		if a.Kind == store.ActCancel {
			u.childrenOf.ask(keys...)
			u.awaited.ask(keys...)
		}
		var missed error
		for _, key := range keys {
			changed, err := lifecycle.Act(runRows{u}, a, key, now.UnixMilli())
			switch {
			case err == errMiss: // the others' misses are asked for with it
				missed = err
			case err != nil:
				return err
			case changed:
				n++
			}
		}
		return missed
	})
	return n, err
}
