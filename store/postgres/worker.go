package postgres

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/cron"
	"github.com/stint-dev/stint/store/internal/lifecycle"
)

// Register implements store.Workers.
func (s *Store) Register(ctx context.Context, i store.WorkerInfo) (id int64, err error) {
	if s.settings.ReadOnly {
		return 0, store.ErrReadOnly
	}
	row := workerRow{name: i.Name, process: s.direct.process.name, pid: int64(i.PID), host: i.Host, slots: int64(i.Slots), build: i.Build}
	if row.queues, err = encode(append([]string{}, i.Queues...)); err != nil {
		return 0, err
	}
	labels, err := encodeLabels(i.Labels)
	if err != nil {
		return 0, err
	}
	tasks, err := encode(i.Tasks)
	if err != nil {
		return 0, err
	}
	err = s.do(ctx, func(u *unit) error {
		if id = i.ID; id != 0 {
			return u.changeWorker(&i, labels, tasks)
		}
		id = u.nextKey(u.now)
		w := row
		w.id, w.labels, w.tasks, w.started = id, labels, tasks, u.now
		u.workers.put(id, w)
		u.newEpoch = true
		if err := cron.Undeclare(cronRows{u}, &i); err != nil {
			return err
		}
		return lifecycle.RetryBlocked(runRows{u})
	})
	if err == nil {
		s.watches.of(id)
	}
	return id, err
}

// changeWorker changes a worker's labels and tasks, each unless it is nil.
func (u *unit) changeWorker(i *store.WorkerInfo, labels, tasks string) error {
	w, err := u.workers.get(i.ID)
	if w == nil || err != nil {
		return err
	}
	if i.Labels != nil {
		w.labels = labels
	}
	if i.Tasks != nil {
		w.tasks = tasks
	}
	u.workers.change(i.ID)
	u.newEpoch = true
	return nil
}

func encode(v any) (string, error) {
	b, err := json.Marshal(v)
	return string(b), err
}

func encodeLabels(m map[string]string) (string, error) {
	if m == nil {
		m = map[string]string{}
	}
	return encode(m)
}

// Unregister implements store.Workers.
func (s *Store) Unregister(ctx context.Context, worker int64) error {
	err := s.do(ctx, func(u *unit) error {
		if err := u.releaseWorker(worker, false); err != nil {
			return err
		}
		return lifecycle.RetryBlocked(runRows{u})
	})
	s.watches.close(worker)
	return err
}

// releaseWorker removes a worker, and queues the runs that it executes.
func (u *unit) releaseWorker(worker int64, crashed bool) error {
	u.workers.ask(worker) // and its runs, at once
	_, err := lifecycle.ReleaseWorker(runRows{u}, worker, u.now, crashed)
	return err
}

// WorkersOf implements lifecycle.WorkerRows.
func (u runRows) WorkersOf(process string) ([]int64, error) {
	ids, err := u.workersOf.get(process)
	for _, id := range ids {
		u.runsOf.ask(id) // of all at once
	}
	return ids, err
}

// EndWorker implements lifecycle.WorkerRows.
func (u runRows) EndWorker(worker, now int64) error {
	w, err := u.workers.get(worker)
	if w == nil || err != nil {
		return err
	}
	w.ended = now
	u.workers.change(worker)
	u.newEpoch = true
	return nil
}

// A buildOf is the build of a living worker.
type buildOf struct {
	worker int64
	build  string
}

const (
	blockedSQL = `SELECT r.id, r.lease <> 0, r.crashes, coalesce((SELECT w.build FROM stint.workers w WHERE w.id = r.worker), '')
FROM stint.runs r WHERE r.state = 6 AND r.state > 4 AND r.state < 7 ORDER BY r.id`

	buildsSQL = "SELECT id, build FROM stint.workers WHERE ended_at IS NULL ORDER BY id"
)

// Blocked implements lifecycle.Rows.
func (u runRows) Blocked() ([]lifecycle.Blocked, error) {
	known, err := u.blocked.get(0)
	if err != nil {
		return nil, err
	}
	var missed error
	for _, b := range known {
		if _, err := u.run(b.Key); err != nil {
			missed = err
		}
	}
	if missed != nil {
		return nil, missed
	}
	return slices.DeleteFunc(slices.Clone(known), func(b lifecycle.Blocked) bool {
		r, _ := u.run(b.Key)
		return r == nil || r.State != store.Blocked
	}), nil
}

// Builds implements lifecycle.Rows.
func (u runRows) Builds() ([]string, error) {
	known, err := u.builds.get(0)
	if err != nil {
		return nil, err
	}
	var all []string
	for _, b := range known {
		if e := u.workers.entries[b.worker]; e == nil || e.now != nil && e.now.ended == 0 {
			all = append(all, b.build)
		}
	}
	for _, e := range u.workers.entries {
		if e.old == nil && e.now != nil && e.now.ended == 0 {
			all = append(all, e.now.build)
		}
	}
	return all, nil
}

// Recover implements store.Workers.
func (s *Store) Recover(ctx context.Context) (store.Recovered, error) {
	if s.settings.ReadOnly {
		return store.Recovered{}, store.ErrReadOnly
	}
	for pause := recoverEvery; ; pause = s.settings.longer(pause) {
		r, err := s.recover(ctx)
		if err != nil || r.Requeued > 0 || len(r.Blocked) > 0 {
			return r, err
		}
		select {
		case <-time.After(pause):
		case <-s.w.done:
			return r, store.ErrClosed
		case <-ctx.Done():
			return r, ctx.Err()
		}
	}
}

// recover looks once for dead processes.
func (s *Store) recover(ctx context.Context) (total store.Recovered, err error) {
	var names []string
	err = s.view(ctx, func(c *pgx.Conn) (err error) {
		names, err = s.settings.dead(ctx, c, s.direct.process)
		return err
	})
	if err != nil {
		return total, err
	}
	for _, name := range names {
		s.endAppTx(ctx, name)
		var r store.Recovered
		err := s.do(ctx, func(u *unit) (err error) {
			if r, err = u.releaseProcess(name, true); err != nil {
				return err
			}
			return lifecycle.RetryBlocked(runRows{u})
		})
		if err != nil {
			return total, err
		}
		total.Requeued += r.Requeued
		total.Blocked = append(total.Blocked, r.Blocked...)
	}
	return total, nil
}

// releaseOwn queues the runs that this process executes. None counts as a crash.
func releaseOwn(u *unit) error {
	_, err := u.releaseProcess(u.s.direct.process.name, false)
	return err
}

// releaseProcess queues the runs of a process that has died or leaves. A dead one is removed from the table.
func (u *unit) releaseProcess(name string, crashed bool) (store.Recovered, error) {
	total, err := lifecycle.ReleaseProcess(runRows{u}, name, u.now, crashed)
	if err != nil || !crashed {
		return total, err
	}
	u.queued = append(u.queued, func(b *pgx.Batch) { // its last group stays: it may live, and ask for that (wasCommitted)
		b.Queue(u.s.sql("DELETE FROM stint.processes WHERE name = $1"), name)
	})
	return total, nil
}

// revived makes the workers of a process live again that was taken for dead. Their runs have gone to others by
// then, and what they say of them is refused; but what they claim from now on must be recovered if the process
// does die.
func (s *Store) revived(ctx context.Context) error {
	s.keys.setNumber(s.direct.process.number)
	ids := s.watches.living()
	var lost []int64
	err := s.do(ctx, func(u *unit) (missed error) {
		lost = nil
		for _, id := range ids {
			w, err := u.workers.get(id)
			if err != nil {
				missed = err
			} else if w != nil && w.ended != 0 {
				w.ended = 0
				u.workers.change(id)
				u.newEpoch = true
				lost = append(lost, id)
			}
		}
		return missed
	})
	if err == nil && len(lost) > 0 {
		s.watches.lose(lost)
	}
	return err
}

// mayClaim reports whether runs may be given to a worker: it is not paused, and this process, if the worker is
// its own, is not taken for dead. The epoch's lock is held: who ends a worker changes the epoch.
func (w *writer) mayClaim(worker int64) bool {
	return !w.epoch.pausedWorkers[worker] && (w.epoch.living[worker] || !w.s.watches.has(worker)) && !w.s.direct.lost()
}

// watches are the workers of this store, with their calls of Watch.
type watches struct {
	mu     sync.Mutex
	closed bool
	byID   map[int64]*watch
}

// A watch signals the calls of Watch for one worker.
type watch struct {
	signaled chan struct{} // capacity 1
	lost     chan struct{} // capacity 1: others have its runs, or may take them at any moment
	closed   chan struct{}
	once     sync.Once
	stop     context.CancelFunc    // ends the reading that goes on; guarded by watches.mu
	notified map[int64]store.Lease // runs whose cancel was returned, with the lease that it concerned
}

func (x *watch) close() { x.once.Do(func() { close(x.closed) }) }

func (w *watches) of(worker int64) *watch {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return nil
	}
	if w.byID == nil {
		w.byID = map[int64]*watch{}
	}
	x := w.byID[worker]
	if x == nil {
		x = &watch{signaled: make(chan struct{}, 1), lost: make(chan struct{}, 1), closed: make(chan struct{}),
			notified: map[int64]store.Lease{}}
		signal(x.signaled)
		w.byID[worker] = x
	}
	return x
}

func (w *watches) close(worker int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if x := w.byID[worker]; x != nil {
		x.close()
	}
}

func (w *watches) closeAll() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	for _, x := range w.byID {
		x.close()
	}
}

// signal makes the calls for workers read again; nil: for all.
func (w *watches) signal(workers []int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for id, x := range w.byID {
		if workers == nil || slices.Contains(workers, id) {
			signal(x.signaled)
		}
	}
}

// has reports whether a worker is, or was, of this store.
func (w *watches) has(worker int64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.byID[worker] != nil
}

// living returns the workers that were not removed.
func (w *watches) living() (ids []int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for id, x := range w.byID {
		select {
		case <-x.closed:
		default:
			ids = append(ids, id)
		}
	}
	return ids
}

// lose makes the calls for workers return that they were taken for dead; nil: for all.
func (w *watches) lose(workers []int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for id, x := range w.byID {
		if workers == nil || slices.Contains(workers, id) {
			signal(x.lost)
			if x.stop != nil {
				x.stop() // the server may never answer
			}
		}
	}
}

// reading returns a context that lose ends.
func (w *watches) reading(ctx context.Context, x *watch) (context.Context, context.CancelFunc) {
	w.mu.Lock()
	defer w.mu.Unlock()
	ctx, x.stop = context.WithCancel(ctx)
	if len(x.lost) > 0 {
		x.stop()
	}
	return ctx, x.stop
}

// Watch implements store.Workers.
func (s *Store) Watch(ctx context.Context, worker int64) (store.Signals, error) {
	if s.settings.ReadOnly {
		return store.Signals{}, store.ErrReadOnly
	}
	x := s.watches.of(worker)
	if x == nil {
		return store.Signals{}, store.ErrClosed
	}
	for {
		select {
		case <-x.lost:
			return store.Signals{Lost: true}, nil
		case <-x.signaled:
		case <-x.closed:
			return store.Signals{}, store.ErrClosed
		case <-ctx.Done():
			return store.Signals{}, ctx.Err()
		}
		reading, stop := s.watches.reading(ctx, x)
		sig, err := s.signals(reading, worker, x)
		lost := reading.Err() != nil && ctx.Err() == nil
		stop()
		if err != nil && ctx.Err() == nil {
			signal(x.signaled) // nothing was returned yet
		}
		if lost {
			continue
		}
		if err != nil || len(sig.Cancel) > 0 {
			return sig, err
		}
	}
}

func (s *Store) signals(ctx context.Context, worker int64, x *watch) (sig store.Signals, err error) {
	told := map[int64]store.Lease{}
	err = s.view(ctx, func(c *pgx.Conn) error {
		rows, err := c.Query(ctx,
			s.sql("SELECT id, lease FROM stint.runs WHERE worker = $1 AND state = 4 AND cancel_at IS NOT NULL"), worker)
		if err != nil {
			return err
		}
		var key, lease int64
		_, err = pgx.ForEachRow(rows, []any{&key, &lease}, func() error {
			if x.notified[key] != store.Lease(lease) { // a replayed run is returned again
				sig.Cancel = append(sig.Cancel, store.Execution{ID: s.ids.ID(key), Lease: store.Lease(lease)})
			}
			told[key] = store.Lease(lease)
			return nil
		})
		return err
	})
	if err == nil {
		x.notified = told
	}
	return sig, err
}
