package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/damage"
)

// forRun calls f, which works on one run's rows: its errors are that run's damage, but for a miss.
func forRun(run int64, f func() error) error {
	return damage.ForRun(run, func(err error) bool { return errors.Is(err, errMiss) }, f)
}

// A decisionError is an error of what was decided, not of the server.
type decisionError struct{ err error }

func (e *decisionError) Error() string { return e.err.Error() }
func (e *decisionError) Unwrap() error { return e.err }

// isDamage reports whether an error is that of a damaged run.
func isDamage(err error) bool {
	var d *damage.Damage
	return errors.As(err, &d)
}

// quarantine blocks the run whose damage made a group fail, and reports whether the group may be tried again. known
// are the runs that it has blocked for that group before: to block them has not helped.
func (w *writer) quarantine(ctx context.Context, err error, known map[int64]bool) bool {
	var d *damage.Damage
	if !errors.As(err, &d) || known[d.Run] {
		return false
	}
	known[d.Run] = true
	return damage.Quarantine(err, func(all []*damage.Damage, follow bool) error { return w.blockDamaged(ctx, all, follow) })
}

// quarantineClaimed blocks the runs that were claimed, and whose damage was found after the commit.
func (w *writer) quarantineClaimed(ctx context.Context) {
	all := w.damaged
	w.damaged = nil
	for _, d := range all {
		w.quarantine(ctx, d, map[int64]bool{})
	}
}

const blockSQL = `UPDATE stint.runs SET state = $2::smallint, error = $3, crashes = $4, limiter = NULL, due_at = NULL, start_by = NULL,
  ended_at = NULL WHERE id = $1`

// blockDamaged blocks damaged runs, for damage.Quarantine. Without follow it changes nothing but their rows.
func (w *writer) blockDamaged(ctx context.Context, all []*damage.Damage, follow bool) error {
	c := &change{done: make(chan struct{}), apply: func(u *unit) error {
		for _, d := range all {
			if !follow {
				u.queued = append(u.queued, func(b *pgx.Batch) {
					b.Queue(u.s.sql(blockSQL), d.Run, int16(store.Blocked), string(d.Failure()), store.MaxCrashes)
				})
			} else if err := u.blockRun(d); err != nil {
				return err
			}
		}
		return nil
	}}
	if _, err := w.tryCommit(ctx, []*change{c}, nil, false); err != nil {
		return err
	}
	return c.err
}

func (u *unit) blockRun(d *damage.Damage) error {
	r, err := u.runs.get(d.Run)
	if err != nil || r == nil {
		return err
	}
	r.odd = nil
	r.State, r.Error, r.Crashes = store.Blocked, d.Failure(), store.MaxCrashes
	r.limiter, r.Due, r.StartBy, r.Ended = nil, 0, 0, 0
	u.runs.change(d.Run)
	return nil
}
