package hatchet

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/hatchet/internal/wire"
)

// How a worker's life is judged. SDKs send a heartbeat every 4 s.
const (
	watchEvery  = 250 * time.Millisecond
	silentAfter = 12 * time.Second // without a sign of life a worker takes no more runs
	deadAfter   = 30 * time.Second // and loses those that it has, though its stream is open
	forgotAfter = 24 * time.Hour   // and may not come back under its ID
	seenEvery   = time.Hour        // how often it is stored that a worker is there
)

// endless is the drain timeout of stint's workers: the server says when a handler ends.
const endless = 100 * 365 * 24 * time.Hour

// Pools of slots, as definitions and workers name them.
const (
	poolDefault = "default"
	poolDurable = "durable"
)

// A record is what the database keeps of a worker: after a restart of the server an SDK goes on with its ID and does
// not register again.
type record struct {
	ID       string            `json:"id"`
	Name     string            `json:"name"`
	Actions  []string          `json:"actions"`
	Pools    map[string]int    `json:"pools"` // slots
	Labels   map[string]string `json:"labels,omitempty"`
	Language string            `json:"language,omitempty"`
	SDK      string            `json:"sdk,omitempty"`
	OS       string            `json:"os,omitempty"`
	Paused   bool              `json:"paused,omitempty"` // as was asked by REST
	Since    time.Time         `json:"since"`
	Seen     time.Time         `json:"seen"` // about
}

// A worker is that of an SDK. While its stream is open, and its heartbeats come, a worker of stint for each pool
// claims runs for it. Runs that it executes outlive the stream by the grace.
type worker struct {
	s *Server

	mu       sync.Mutex
	rec      record
	grace    time.Duration
	session  *session // its stream, or nil
	seen     time.Time
	leaves   bool               // it has unsubscribed
	claiming context.CancelFunc // ends the workers of stint; nil: none
	claimers []*stint.Worker
	runs     map[*execution]bool  // that it executes
	pools    map[string]*slotPool // by name
	groups   map[groupKey]*batchGroup
	durable  *durableStream // on which its durable tasks ask, or nil

	// Members of batches that released their slots: how many, and the bytes of their payloads.
	gathered, gatheredBytes int
}

// A session is a stream of a worker, with the actions that are still to be sent.
type session struct {
	mu     sync.Mutex
	out    []*wire.AssignedAction
	wake   chan struct{} // capacity 1
	ended  chan struct{} // closed when another session has replaced it, or the worker is lost
	closed bool
}

func newSession() *session {
	return &session{wake: make(chan struct{}, 1), ended: make(chan struct{})}
}

// push appends an action, unless the session has ended.
func (q *session) push(a *wire.AssignedAction) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return
	}
	q.out = append(q.out, a)
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// take returns the actions that wait, and removes them.
func (q *session) take() []*wire.AssignedAction {
	q.mu.Lock()
	defer q.mu.Unlock()
	out := q.out
	q.out = nil
	return out
}

func (q *session) end() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.closed {
		q.closed = true
		close(q.ended)
	}
}

func newWorker(s *Server, rec record) *worker {
	w := &worker{s: s, rec: rec, seen: time.Now(), grace: remoteGrace, runs: map[*execution]bool{}, pools: map[string]*slotPool{},
		groups: map[groupKey]*batchGroup{}}
	for name, slots := range rec.Pools {
		w.pools[name] = &slotPool{free: slots, size: slots}
	}
	return w
}

// attach makes q the worker's stream and starts to claim. Runs of which the worker has not said that they have begun
// may not have reached it: they go back to the queue.
func (w *worker) attach(q *session, grace time.Duration) {
	w.mu.Lock()
	former := w.session
	w.session, w.grace, w.seen, w.leaves = q, grace, time.Now(), false
	w.mu.Unlock()
	if former != nil {
		former.end()
	}
	w.release((*execution).unheard)
	w.claim()
}

// detach ends the stream q, if it is the worker's.
func (w *worker) detach(q *session) {
	q.end()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.session == q {
		w.session = nil
		w.stopClaiming()
	}
}

// lose ends the worker's stream and gives its runs back to the queue. Those that it has unloaded wait on: they are in
// nobody's memory.
func (w *worker) lose(why string) {
	w.mu.Lock()
	q := w.session
	w.session = nil
	w.stopClaiming()
	n := len(w.runs)
	w.mu.Unlock()
	if q != nil {
		q.end()
	}
	if n > 0 {
		w.s.opts.Logger.Warn("hatchet: a worker is lost; its runs are queued again", "worker", w.rec.Name, "id", w.rec.ID, "runs", n,
			"why", why)
	}
	w.release(func(*execution) bool { return true })
}

// release gives the executions that match back to the queue.
func (w *worker) release(match func(*execution) bool) {
	w.mu.Lock()
	runs := slices.Collect(maps.Keys(w.runs))
	w.mu.Unlock()
	for _, e := range runs {
		if match(e) {
			e.finish(outcome{err: stint.Snooze(0)})
		}
	}
}

// send sends an action, and reports whether the worker has a stream.
func (w *worker) send(a *wire.AssignedAction) bool {
	w.mu.Lock()
	q := w.session
	w.mu.Unlock()
	if q == nil {
		return false
	}
	q.push(a)
	return true
}

// alive notes a sign of life, and takes up claiming again if silence had ended it.
func (w *worker) alive() {
	w.mu.Lock()
	w.seen = time.Now()
	idle := w.session != nil && w.claiming == nil && !w.leaves
	w.mu.Unlock()
	if idle {
		w.claim()
	}
}

// touch notes a sign of life other than a heartbeat.
func (w *worker) touch() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen = time.Now()
}

// leave ends claiming: the worker has unsubscribed. What it executes it may still finish.
func (w *worker) leave() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.leaves = true
	w.stopClaiming()
}

// stopClaiming is called with w.mu held.
func (w *worker) stopClaiming() {
	if w.claiming != nil {
		w.claiming()
		w.claiming, w.claimers = nil, nil
	}
}

// reclaim makes the worker claim the tasks that its actions now have.
func (w *worker) reclaim() {
	w.mu.Lock()
	claims := w.claiming != nil
	w.stopClaiming()
	w.mu.Unlock()
	if claims {
		w.claim()
	}
}

// pause pauses the worker, or ends its pause. One that claims nothing yet, or not any more, claims nothing until the end.
func (w *worker) pause(ctx context.Context, paused bool) error {
	w.mu.Lock()
	w.rec.Paused = paused
	w.mu.Unlock()
	if err := w.save(ctx); err != nil {
		return err
	}
	change := w.s.c.ResumeWorker
	if paused {
		change = w.s.c.PauseWorker
	}
	err := change(ctx, w.rec.ID)
	if err != nil && !errors.Is(err, stint.ErrNotFound) {
		return err
	}
	if !paused {
		w.claim()
		return nil
	}
	if err != nil { // it is about to begin
		w.mu.Lock()
		defer w.mu.Unlock()
		w.stopClaiming()
	}
	return nil
}

// claim starts a worker of stint for each pool. Both have the ID of the worker as their name.
func (w *worker) claim() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.session == nil || w.claiming != nil || w.leaves || w.rec.Paused || w.s.ctx.Err() != nil {
		return
	}
	ctx, cancel := context.WithCancel(w.s.ctx)
	w.claiming = cancel
	labels := maps.Clone(w.rec.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	labels[labelName] = w.rec.Name
	tasks := w.s.catalog.tasksOf(w.rec.Actions)
	for name, pool := range w.pools {
		if len(tasks[name]) == 0 || pool.size == 0 {
			continue
		}
		sw, err := w.s.c.NewWorker(stint.WithName(w.rec.ID), stint.WithSlots(pool.size), stint.WithLabels(labels),
			stint.WithTasks(tasks[name]...), stint.WithHandler(w.execute), stint.WithDrainTimeout(endless))
		if err == nil {
			w.claimers = append(w.claimers, sw)
			w.s.wg.Go(func() {
				if err := sw.Run(ctx); err != nil && !errors.Is(err, stint.ErrClosed) {
					w.s.opts.Logger.Error("hatchet: claiming runs for a worker", "worker", w.rec.Name, "id", w.rec.ID, "err", err)
				}
			})
			continue
		}
		w.s.opts.Logger.Error("hatchet: claiming runs for a worker", "worker", w.rec.Name, "id", w.rec.ID, "err", err)
	}
}

// labelName is the label of a worker with the name that its program gave it.
const labelName = "hatchet.name"

// watch judges the lives of workers until the server ends.
func (s *Server) watch() {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-s.c.Closing():
			s.end()
			return
		case now := <-tick.C:
			for _, w := range s.allWorkers() {
				w.judge(now)
			}
		}
	}
}

// allWorkers returns the workers that the server knows, in no order.
func (s *Server) allWorkers() []*worker {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Values(s.workers))
}

// judge does what follows from how long the worker has been silent.
func (w *worker) judge(now time.Time) {
	w.mu.Lock()
	silence := now.Sub(w.seen)
	lost := w.session == nil && silence > w.grace && len(w.runs) > 0
	dead := w.session != nil && silence > deadAfter
	gone := w.session == nil && len(w.runs) == 0 && (w.leaves || silence > forgotAfter)
	stale := w.session != nil && now.Sub(w.rec.Seen) > seenEvery
	if w.session != nil && silence > silentAfter {
		w.stopClaiming()
	}
	w.mu.Unlock()
	switch {
	case lost:
		w.lose("its connection is gone")
	case dead:
		w.lose("no heartbeat for " + deadAfter.String())
	case gone:
		w.s.forget(w)
	case stale:
		if err := w.save(w.s.ctx); err != nil && w.s.ctx.Err() == nil {
			w.s.opts.Logger.Error("hatchet: storing that a worker is there", "id", w.rec.ID, "err", err)
		}
	}
}

// forget removes a worker: it is unknown from now on.
func (s *Server) forget(w *worker) {
	s.mu.Lock()
	delete(s.workers, w.rec.ID)
	s.mu.Unlock()
	if err := s.c.SetSetting(s.ctx, settingWorker+w.rec.ID, nil); err != nil && s.ctx.Err() == nil {
		s.opts.Logger.Error("hatchet: forgetting a worker", "id", w.rec.ID, "err", err)
	}
}

// worker returns the worker with the ID, also one that another run of the server registered. The error is
// stint.ErrNotFound if there is none.
func (s *Server) worker(ctx context.Context, id string) (*worker, error) {
	s.mu.Lock()
	w := s.workers[id]
	s.mu.Unlock()
	if w != nil {
		return w, nil
	}
	if !isUUID(id) {
		return nil, errNoWorker
	}
	stored, err := s.c.Setting(ctx, settingWorker+id)
	if errors.Is(err, stint.ErrNotFound) {
		return nil, errNoWorker
	}
	if err != nil {
		return nil, err
	}
	var rec record
	if err := json.Unmarshal(stored, &rec); err != nil {
		return nil, errNoWorker
	}
	return s.adopt(newWorker(s, rec))
}

// adopt makes a worker one of the server's, unless another call did.
func (s *Server) adopt(w *worker) (*worker, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if known := s.workers[w.rec.ID]; known != nil {
		return known, nil
	}
	if len(s.workers) >= s.opts.MaxWorkers {
		silent := s.mostSilent()
		if silent == nil {
			return nil, errManyWorkers
		}
		delete(s.workers, silent.rec.ID) // it is adopted again if it comes back
	}
	s.workers[w.rec.ID] = w
	return w, nil
}

// mostSilent returns the worker without a stream and runs from which nothing was heard for the longest time, at least deadAfter,
// or nil. It is called with s.mu held.
func (s *Server) mostSilent() (silent *worker) {
	since := time.Now().Add(-deadAfter)
	for _, w := range s.workers {
		w.mu.Lock()
		if w.session == nil && len(w.runs) == 0 && w.seen.Before(since) {
			silent, since = w, w.seen
		}
		w.mu.Unlock()
	}
	return silent
}

// forgetStored forgets the workers of earlier servers that have not come back.
func (s *Server) forgetStored(ctx context.Context) error {
	stored, err := s.c.Settings(ctx, settingWorker)
	if err != nil {
		return err
	}
	for key, value := range stored {
		var rec record
		if json.Unmarshal(value, &rec) == nil && time.Since(rec.Seen) < forgotAfter+2*seenEvery {
			continue
		}
		if err := s.c.SetSetting(ctx, key, nil); err != nil {
			return err
		}
	}
	return nil
}

// save stores the worker's record.
func (w *worker) save(ctx context.Context) error {
	w.mu.Lock()
	w.rec.Seen = time.Now()
	stored, err := json.Marshal(w.rec)
	w.mu.Unlock()
	if err != nil {
		return err
	}
	return w.s.c.SetSetting(ctx, settingWorker+w.rec.ID, stored)
}
