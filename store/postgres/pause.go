package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stint-dev/stint/store"
)

// SetRate implements store.Limits.
func (s *Store) SetRate(ctx context.Context, now time.Time, key string, perSecond float64, burst int) error {
	return s.do(ctx, func(u *unit) error {
		l, err := limiterRows{u}.Limiter(&store.Limit{Key: key, Units: 1, PerSecond: perSecond, Burst: burst})
		if err != nil {
			return err
		}
		l.Explicit = true
		l.SetRate(now, perSecond, burst)
		limiterRows{u}.Changed(l)
		return nil
	})
}

// Pause implements store.Limits.
func (s *Store) Pause(ctx context.Context, what store.Pausable, paused bool) error {
	switch {
	case what.Queue != "":
		return s.do(ctx, func(u *unit) error { return u.pauseQueue(what.Queue, paused) })
	case what.Worker != "":
		return s.do(ctx, func(u *unit) error { return u.pauseWorkers(what.Worker, paused) })
	}
	return s.do(ctx, func(u *unit) error { return u.pauseLimit(what.Limit, paused) })
}

// pauseQueue pauses or resumes a queue. One that was never used is not created by being resumed.
func (u *unit) pauseQueue(queue string, paused bool) error {
	u.newEpoch = true
	text := "UPDATE stint.queues SET paused = false WHERE name = $1"
	if paused {
		text = "INSERT INTO stint.queues (name, paused) VALUES ($1, true) ON CONFLICT (name) DO UPDATE SET paused = true"
	}
	u.queued = append(u.queued, func(b *pgx.Batch) { b.Queue(u.s.sql(text), queue) })
	return nil
}

func (u *unit) pauseWorkers(name string, paused bool) error {
	ids, err := u.workersNamed.get(name)
	if err != nil {
		return err
	}
	if len(ids) == 0 {
		return fmt.Errorf("worker %q: %w", name, store.ErrNotFound)
	}
	for _, id := range ids {
		w, err := u.workers.get(id)
		if err != nil {
			return err
		}
		w.paused = paused
		u.workers.change(id)
	}
	u.newEpoch = true
	return nil
}

func (u *unit) pauseLimit(k store.LimitKey, paused bool) error {
	n := limiterName{k.Rate(), k.Name, k.Key}
	l, err := u.limiters.get(n)
	if err != nil {
		return err
	}
	if l == nil {
		switch {
		case k.Rate():
			return fmt.Errorf("rate limit %q: %w", k.Key, store.ErrNotFound)
		case !paused:
			return nil
		}
		// its first use sets more
		l, err = u.newLimiter(n, &store.Limit{Name: k.Name, Key: k.Key, Strategy: store.StrategyQueue})
		if err != nil {
			return err
		}
	}
	l.Paused, l.Recheck = paused, true
	u.limiters.change(n)
	return nil
}

// SetFilter implements store.Schedules.
func (s *Store) SetFilter(ctx context.Context, f store.TaskFilter) (id int64, err error) {
	err = s.do(ctx, func(u *unit) error {
		u.newEpoch = true
		if f.Task != "" && f.ID == 0 {
			numbers, err := u.filterNumber.get(u.s.settings.Schema + ".filters")
			if err != nil {
				return err
			}
			id = numbers[0]
			key := id
			u.queued = append(u.queued, func(b *pgx.Batch) {
				b.Queue(u.s.sql("INSERT INTO stint.filters (id, task, scope, expr, payload) VALUES ($1, $2, $3, $4, $5)"),
					key, f.Task, f.Scope, f.Expr, f.Payload)
			})
			return nil
		}
		there, err := u.filterThere.get(f.ID)
		if err != nil {
			return err
		}
		if len(there) == 0 {
			return store.ErrNotFound
		}
		query, args := "DELETE FROM stint.filters WHERE id = $1", []any{f.ID}
		if f.Task != "" {
			id = f.ID
			query = "UPDATE stint.filters SET task = $2, scope = $3, expr = $4, payload = $5 WHERE id = $1"
			args = append(args, f.Task, f.Scope, f.Expr, f.Payload)
		}
		u.queued = append(u.queued, func(b *pgx.Batch) { b.Queue(u.s.sql(query), args...) })
		return nil
	})
	return id, err
}
