package storetest

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/stint-dev/stint/store"
)

// Register implements store.Workers.
func (m *Model) Register(_ context.Context, w store.WorkerInfo) (int64, error) {
	if err := m.lock(); err != nil {
		return 0, err
	}
	defer m.unlock()
	if old := m.workers[w.ID]; old != nil {
		if w.Labels != nil {
			old.Labels = w.Labels
		}
		if w.Tasks != nil {
			old.Tasks = w.Tasks
		}
		return w.ID, nil
	}
	id := int64(len(m.workers)) + 1
	w.Started = time.Now()
	m.workers[id] = &modelWorker{WorkerInfo: w}
	m.dropUndeclared(&w, w.Started)
	m.retryBlocked()
	return id, nil
}

func (m *Model) pauseWorker(name string, paused bool) error {
	if err := m.lock(); err != nil {
		return err
	}
	defer m.unlock()
	err := fmt.Errorf("worker %q: %w", name, store.ErrNotFound)
	for _, w := range m.workers {
		if w.Name == name && !w.gone {
			w.Paused, err = paused, nil
		}
	}
	return err
}

func (m *Model) listLiving() (all []store.WorkerInfo, err error) {
	if err := m.lock(); err != nil {
		return nil, err
	}
	defer m.unlock()
	for id := int64(1); id <= int64(len(m.workers)); id++ {
		if w := m.workers[id]; !w.gone {
			w.ID, w.Running = id, 0
			for _, r := range m.runs {
				if r.State == store.Running && r.worker == id && !r.Workflow {
					w.Running++
				}
			}
			all = append(all, w.WorkerInfo)
		}
	}
	return all, nil
}

// leave ends a worker.
func (m *Model) leave(worker int64) {
	m.workers[worker].gone = true
	m.retryBlocked()
}

// builds returns the builds of the living workers.
func (m *Model) builds() map[string]bool {
	alive := map[string]bool{}
	for _, w := range m.workers {
		if !w.gone {
			alive[w.Build] = true
		}
	}
	return alive
}

func (m *Model) retryBlocked() {
	alive := m.builds()
	for _, r := range m.runs {
		if r.State == store.Blocked && r.Lease != 0 && r.Crashes < store.MaxCrashes && len(alive) > 0 && !alive[m.workers[r.worker].Build] {
			r.State = store.Queued
		}
	}
}

// Unregister implements store.Workers.
func (m *Model) Unregister(_ context.Context, worker int64) error {
	if err := m.lock(); err != nil {
		return err
	}
	defer m.unlock()
	now := time.Now()
	m.advance(now)
	for _, id := range slices.Clone(m.order) {
		switch r := m.runs[id]; {
		case r.State != store.Running || r.worker != worker || r.Workflow:
		case !r.CancelAt.IsZero() && len(r.journal) > 0: // it cleans up at its position
			r.State = store.Queued
			r.Attempt--
		default:
			m.finish(now, r, &store.Outcome{To: store.Queued, Uncounted: true})
		}
	}
	m.leave(worker)
	return nil
}

// endsByCrash reports whether a run of a dead process ends: it was asked to cancel and has nothing to clean
// up.
func (r *modelRun) endsByCrash() bool {
	if r.Crashes >= store.MaxCrashes {
		return !r.CancelAt.IsZero() && !r.hasUndo()
	}
	return !r.CancelAt.IsZero() && len(r.journal) == 0
}

// Crash does what a store does when it notices, at an instant, that the process of a worker has died.
func (m *Model) Crash(worker int64, now time.Time) {
	m.mu.Lock()
	defer m.unlock()
	m.advance(now)
	for _, id := range slices.Clone(m.order) {
		r := m.runs[id]
		if r.State != store.Running || r.worker != worker || r.Workflow {
			continue
		}
		r.Attempts = append(r.Attempts, store.Attempt{Attempt: r.Attempt, Worker: r.Worker, Started: r.Started, Ended: now,
			To: store.Queued, Error: []byte(store.CrashError)})
		r.Crashes++
		ends := r.endsByCrash()
		if !ends {
			r.Attempt--
		}
		switch {
		case ends:
			m.end(r, store.Canceled, now, r.Error)
		case r.Crashes >= store.MaxCrashes:
			r.State, r.Error = store.Blocked, []byte(store.QuarantineError)
		case r.Crashes == 1:
			r.State, r.Due = store.Queued, now
		default:
			r.State, r.Due = store.Scheduled, now.Add(time.Second<<(r.Crashes-2))
		}
	}
	m.leave(worker)
}

// Recover implements store.Workers. No process of a model ever dies by itself.
func (m *Model) Recover(ctx context.Context) (r store.Recovered, err error) {
	return r, m.wait(ctx, func() (bool, time.Time) { return false, time.Time{} })
}

// Watch implements store.Workers.
func (m *Model) Watch(ctx context.Context, worker int64) (sig store.Signals, err error) {
	err = m.wait(ctx, func() (bool, time.Time) {
		for _, r := range m.runs {
			if r.State == store.Running && r.worker == worker && !r.CancelAt.IsZero() && !m.notified[r.ID] {
				m.notified[r.ID] = true
				sig.Cancel = append(sig.Cancel, store.Execution{ID: r.ID, Lease: r.Lease})
			}
		}
		return len(sig.Cancel) > 0, time.Time{}
	})
	return sig, err
}
