package sqlite

import (
	"context"
	"time"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/definition"
)

// Declare implements store.Schedules.
func (s *Store) Declare(ctx context.Context, now time.Time, ds []store.Declaration) error {
	return s.do(ctx, func(u *unit) error { return definition.Declare(u.definitions, u.crons, u.events, now, ds) })
}
