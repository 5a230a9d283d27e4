package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/stint-dev/stint/store"
)

// Act implements store.Runs.
func (s *Store) Act(ctx context.Context, now time.Time, a store.Action, f store.Filter) (int, error) {
	if a.DryRun {
		return s.count(ctx, f, a.Kind)
	}
	return s.each(ctx, f, concerns[a.Kind].states, func(u *unit, key int64) (bool, error) {
		switch a.Kind {
		case store.ActCancel:
			return u.runs.cancel(key, now.UnixMilli(), text(a.Reason))
		case store.ActReplay:
			return u.runs.replay(key, now.UnixMilli())
		}
		return u.runs.delete(key)
	})
}

// concerns says which runs each action concerns, and what is counted of them.
var concerns = map[store.ActionKind]struct {
	states []store.State
	what   string
	where  string // besides by their states
}{
	store.ActCancel: {openStates, "r.id", "(r.cancel_at IS NULL OR r." + stateBlocked + ")"},
	store.ActDelete: {endedStates, "r.id", "(r.node IS NULL OR r.flags & 2)"},
	// A task of a workflow is replayed with its workflow's run, if that has ended.
	store.ActReplay: {replayStates, "DISTINCT CASE WHEN " + replaysParent + " THEN r.parent ELSE r.id END",
		"(NOT (" + replaysParent + ") OR EXISTS (SELECT 1 FROM stint_runs f WHERE f.id = r.parent AND f." + hasEnded + "))"},
}

const replaysParent = "r.node IS NOT NULL AND NOT r.flags & 2 AND r." + hasEnded

// count returns how many runs an action would change.
func (s *Store) count(ctx context.Context, f store.Filter, kind store.ActionKind) (n int, err error) {
	c := concerns[kind]
	f.States = intersect(f.States, c.states)
	where, args, err := s.where(ctx, f)
	if err != nil {
		return 0, err
	}
	err = s.view(ctx, func(q querier) error {
		return q.one("SELECT count("+c.what+")"+runTables+where+" AND "+c.where, args, &n)
	})
	return n, err
}

// delete deletes a run that has ended.
func (rs *runs) delete(key int64) (bool, error) {
	err := rs.one("SELECT id FROM stint_runs WHERE id = ? AND "+deletable, []any{key}, &key)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, rs.deleteRun(key)
}

// ChangeRun implements store.Runs.
func (s *Store) ChangeRun(ctx context.Context, now time.Time, id store.ID, c store.RunChange) (store.ID, error) {
	err := s.do(ctx, func(u *unit) (err error) {
		switch c.Kind {
		case store.RunRestart:
			return u.runs.restart(now.UnixMilli(), id, c.At)
		case store.RunFork:
			var fork int64
			fork, err = u.runs.fork(now.UnixMilli(), id, c.At)
			id = s.ids.id(fork)
			return err
		}
		return u.runs.reschedule(id, max(ceilMillis(c.Due), now.UnixMilli()))
	})
	return id, err
}

// reschedule changes the due time of a scheduled run.
func (rs *runs) reschedule(id store.ID, due int64) error {
	key, ok := rs.s.ids.key(id)
	if !ok {
		return store.ErrNotFound
	}
	rs.timers.add(due)
	n, err := rs.execN(`UPDATE stint_runs SET `+setRank+`?2, start_by = ?2 + start_in, due_at = ?2
		WHERE id = ?1 AND `+stateScheduled+` AND lease = 0`, key, due)
	if err != nil || n > 0 {
		return err
	}
	var state store.State
	err = rs.one("SELECT state FROM stint_runs WHERE id = ?", []any{key}, &state)
	if errors.Is(err, sql.ErrNoRows) {
		return store.ErrNotFound
	}
	if err == nil {
		err = fmt.Errorf("it is %v: %w", state, store.ErrStarted)
	}
	return err
}
