package sqlite

import (
	"context"
	"time"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/cron"
)

// The transaction that finds a tick of a cron due enqueues the run and stores the time of the next tick.
// So each tick starts one run, whichever process comes first. Package cron decides.

// ChangeCron implements store.Schedules.
func (s *Store) ChangeCron(ctx context.Context, now time.Time, c store.CronChange) (id store.ID, err error) {
	err = s.do(ctx, func(u *unit) (err error) {
		id, err = cron.Change(u.crons, now, &c)
		return err
	})
	return id, err
}

// Crons implements store.Schedules.
func (s *Store) Crons(ctx context.Context, after string, limit int) (all []store.Cron, more bool, err error) {
	err = s.view(ctx, func(q querier) error {
		all, more, err = s.reads().Crons(q, after, limit)
		return err
	})
	return all, more, err
}
