package sqlite

import (
	"context"
	"encoding/json"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/cron"
	"github.com/stint-dev/stint/store/internal/lifecycle"
)

// Register implements store.Workers.
func (s *Store) Register(ctx context.Context, i store.WorkerInfo) (id int64, err error) {
	if i.ID != 0 {
		return i.ID, s.changeWorker(ctx, i)
	}
	queues, err := json.Marshal(append([]string{}, i.Queues...))
	if err != nil {
		return 0, err
	}
	labels, err := encodeLabels(i.Labels)
	if err != nil {
		return 0, err
	}
	tasks, err := json.Marshal(i.Tasks)
	if err != nil {
		return 0, err
	}
	err = s.do(ctx, func(u *unit) error {
		err := u.one(`INSERT INTO stint_workers (name, lock, pid, host, slots, queues, labels, tasks, build, started_at)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id`,
			[]any{i.Name, s.presence.name, i.PID, i.Host, i.Slots, string(queues), labels, string(tasks), i.Build, u.now}, &id)
		if err != nil {
			return err
		}
		u.workers.forget()
		if err := cron.Undeclare(u.crons, &i); err != nil {
			return err
		}
		return lifecycle.RetryBlocked(u.runs)
	})
	return id, err
}

func encodeLabels(m map[string]string) (string, error) {
	if m == nil {
		m = map[string]string{}
	}
	b, err := json.Marshal(m)
	return string(b), err
}

// changeWorker changes a worker's labels and tasks, each unless it is nil.
func (s *Store) changeWorker(ctx context.Context, i store.WorkerInfo) error {
	return s.do(ctx, func(u *unit) error {
		if i.Labels != nil {
			labels, err := encodeLabels(i.Labels)
			if err != nil {
				return err
			}
			u.claims.recheck = true
			u.workers.forget()
			if err := u.exec("UPDATE stint_workers SET labels = ? WHERE id = ?", labels, i.ID); err != nil {
				return err
			}
		}
		if i.Tasks == nil {
			return nil
		}
		tasks, err := json.Marshal(i.Tasks)
		if err != nil {
			return err
		}
		return u.exec("UPDATE stint_workers SET tasks = ? WHERE id = ?", string(tasks), i.ID)
	})
}

// Unregister implements store.Workers.
func (s *Store) Unregister(ctx context.Context, worker int64) error {
	err := s.do(ctx, func(u *unit) error {
		if _, err := lifecycle.ReleaseWorker(u.runs, worker, u.now, false); err != nil {
			return err
		}
		return lifecycle.RetryBlocked(u.runs)
	})
	s.w.mu.Lock()
	if x := s.w.watch[worker]; x != nil {
		x.close()
	}
	s.w.mu.Unlock()
	return err
}
