package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/lifecycle"
)

// Act implements store.Runs.
func (s *Store) Act(ctx context.Context, now time.Time, a store.Action, f store.Filter) (int, error) {
	if a.DryRun {
		return s.count(ctx, f, a.Kind)
	}
	return s.each(ctx, f, concerns[a.Kind].states, func(u *unit, key int64) (bool, error) {
		switch a.Kind {
		case store.ActCancel:
			return lifecycle.Cancel(u.runs, key, now.UnixMilli(), a.Reason)
		case store.ActReplay:
			return lifecycle.Replay(u.runs, key, now.UnixMilli())
		}
		return u.runs.DeleteEnded(key)
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

// DeleteEnded implements retention.Rows.
func (rs *runs) DeleteEnded(key int64) (bool, error) {
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
	var fork store.ID
	err := s.do(ctx, func(u *unit) (err error) {
		switch c.Kind {
		case store.RunRestart:
			return lifecycle.Restart(u.runs, id, c.At, now.UnixMilli())
		case store.RunFork:
			fork, err = lifecycle.Fork(u.runs, id, c.At, now.UnixMilli())
			return err
		}
		return lifecycle.Reschedule(u.runs, id, max(ceilMillis(c.Due), now.UnixMilli()))
	})
	if c.Kind == store.RunFork {
		id = fork
	}
	return id, err
}
