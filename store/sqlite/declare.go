package sqlite

import (
	"context"
	"time"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/cron"
	"github.com/stint-dev/stint/store/internal/definition"
	"github.com/stint-dev/stint/store/internal/event"
)

// Declare implements store.Schedules.
func (s *Store) Declare(ctx context.Context, now time.Time, ds []store.Declaration) error {
	return s.do(ctx, func(u *unit) error {
		for i := range ds {
			if ds[i].Definition != nil {
				if changed, err := definition.Declare(u.definitions, &ds[i]); err != nil {
					return err
				} else if !changed {
					continue
				}
			}
			if err := cron.Declare(u.crons, now, &ds[i]); err != nil {
				return err
			}
			if err := event.Declare(u.events, now.UnixMilli(), &ds[i]); err != nil {
				return err
			}
		}
		return nil
	})
}
