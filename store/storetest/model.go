package storetest

import (
	"context"
	"encoding/binary"
	"slices"
	"sync"
	"time"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/workflow"
)

// A Model is a store in maps under one mutex, written from the contract alone. It is the oracle that random
// sequences of verbs are compared with, and shows what a verb means, without how a database does it.
type Model struct {
	mu       sync.Mutex
	closed   bool
	runs     map[store.ID]*modelRun
	order    []store.ID  // as enqueued
	last     uint64      // of the IDs given
	lease    store.Lease // the last one given: they go down, for nobody may count on their order
	keys     map[modelKey]modelHold
	children map[childKey]store.ID
	queues   map[string]bool // paused
	workers  map[int64]*modelWorker
	notified map[store.ID]bool
	events   []modelEvent
	rates    map[string]*modelRate
	paused   map[store.LimitKey]bool
	settings map[string][]byte
	limits   map[store.LimitKey]*modelLimit // with the settings of their newest enqueues
	crons    map[string]*store.Cron
	filters  []store.TaskFilter
	filter   int64 // last number given

	definitions map[string][]store.Definition // by task, oldest first

	triggers map[string][]store.Trigger // by task
	programs map[string]string          // of the tasks that were declared
	gone     map[string]time.Time       // of tasks that are not declared any more
	turns    int
	errors   modelErrors
	changed  chan struct{} // closed at each change
	changes  uint64
}

type modelRun struct {
	store.Run
	ageEvery time.Duration
	startIn  time.Duration // 0: no limit
	spent    time.Duration
	group    int64 // of its last error
	worker   int64
	before   int         // attempts before the last replay
	replayed map[int]int // of a workflow's run: attempts of its tasks before the last replay, by place
	detached bool
	logs     []store.Log
	chunks   []store.Chunk

	graph   *store.Graph // of a workflow's run, and of its tasks'
	place   int
	joins   map[int]workflow.JoinState
	tests   []store.TestResult
	came    map[int]time.Time // events that a waiting task waited for, by leaf
	wake    time.Time         // of a waiting task: when to decide again; zero: only after an event
	waits   store.Waits       // of a handler that waits
	journal []modelEntry
	lane    string // of a task whose worker had no handler

	limits []store.Limit
	route  store.Route
	since  time.Time // when its key's turn came to it
	turn   int       // among those whose turn came at one time
	setBy  store.ID  // the enqueue that its limits came with
	ofTask map[int][]store.Limit
}

type modelWorker struct {
	store.WorkerInfo
	gone bool
}

type modelKey struct{ task, key string }

type modelHold struct {
	run     store.ID
	expires time.Time // zero: when the run ends
}

// NewModel returns an empty model.
func NewModel() *Model {
	return &Model{
		runs: map[store.ID]*modelRun{}, keys: map[modelKey]modelHold{}, children: map[childKey]store.ID{}, queues: map[string]bool{},
		workers: map[int64]*modelWorker{}, notified: map[store.ID]bool{}, rates: map[string]*modelRate{},
		paused: map[store.LimitKey]bool{}, settings: map[string][]byte{}, limits: map[store.LimitKey]*modelLimit{},
		crons: map[string]*store.Cron{}, triggers: map[string][]store.Trigger{}, programs: map[string]string{},
		gone: map[string]time.Time{}, definitions: map[string][]store.Definition{},
		errors:  modelErrors{marks: map[int64]store.ErrorGroup{}},
		changed: make(chan struct{}),
	}
}

var _ store.Store = (*Model)(nil)

// lock takes the mutex; unlock also signals all waiting calls.
func (m *Model) lock() error {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return store.ErrClosed
	}
	return nil
}

func (m *Model) unlock() {
	m.changes++
	close(m.changed)
	m.changed = make(chan struct{})
	m.mu.Unlock()
}

// wait calls look under the lock until it is done, ctx ends or the store is closed. look also returns when to
// call it again if nothing changes before.
func (m *Model) wait(ctx context.Context, look func() (done bool, next time.Time)) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := m.lock(); err != nil {
			return err
		}
		m.advance(time.Now())
		done, next := look()
		changed := m.changed
		m.mu.Unlock()
		if done {
			return nil
		}
		if err := until(ctx, changed, next); err != nil {
			return err
		}
	}
}

func until(ctx context.Context, changed <-chan struct{}, next time.Time) error {
	var timer <-chan time.Time
	if !next.IsZero() {
		t := time.NewTimer(time.Until(next))
		defer t.Stop()
		timer = t.C
	}
	select {
	case <-changed:
	case <-timer:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// advance does what is due, each at its time: it queues runs, begins workflows, decides waiting tasks, and
// cancels what is late.
func (m *Model) advance(now time.Time) {
	for {
		var first *modelRun
		var at time.Time
		for _, id := range m.order {
			r := m.runs[id]
			if t := r.next(); !t.IsZero() && !t.After(now) && (first == nil || t.Before(at)) {
				first, at = r, t
			}
		}
		if c := m.nextCron(); c != nil && !c.Next.After(now) && (first == nil || c.Next.Before(at)) {
			m.tick(c)
			continue
		}
		if first == nil {
			return
		}
		m.elapse(first, at)
	}
}

// next returns when time alone changes the run; zero: never.
func (r *modelRun) next() (at time.Time) {
	switch r.State {
	case store.Scheduled:
		at = r.Due
	case store.Waiting:
		at = r.wake
	}
	if !r.State.Terminal() && !r.StartBy.IsZero() && (at.IsZero() || r.StartBy.Before(at)) {
		at = r.StartBy
	}
	return at
}

func (m *Model) elapse(r *modelRun, now time.Time) {
	switch {
	case r.State == store.Scheduled && !r.Due.After(now):
		r.State = store.Queued
		if r.Workflow {
			m.begin(r, now)
		}
		m.use(r, now)
		m.admit(r, now)
	case r.State == store.Waiting && !r.wake.IsZero() && !r.wake.After(now) && r.Lease != 0:
		r.resume(now)
	case r.State == store.Waiting && !r.wake.IsZero() && !r.wake.After(now):
		m.reconsider(r, now)
	case r.Workflow:
		r.StartBy = time.Time{}
		m.cancel(r, now, []byte(store.EndByError))
	default:
		m.end(r, store.Canceled, now, []byte(store.StartByError))
	}
}

func (m *Model) end(r *modelRun, to store.State, now time.Time, reason []byte) {
	r.State, r.Ended, r.Error, r.StartBy = to, now, reason, time.Time{}
	m.childEnded(r, now)
	m.follow(r, now)
}

// Enqueue implements store.Runs.
func (m *Model) Enqueue(_ context.Context, now time.Time, runs []store.NewRun) ([]store.Enqueued, error) {
	if err := m.lock(); err != nil {
		return nil, err
	}
	defer m.unlock()
	m.advance(now)
	used := map[childKey]bool{}
	for i := range runs {
		if err := m.refuses(&runs[i], used); err != nil {
			return nil, err
		}
	}
	if c := runs[0].Call; c != nil && m.held(c.ID, c.Lease) == nil {
		return nil, store.ErrStale
	}
	if err := m.checkRates(runs, now); err != nil {
		return nil, err
	}
	out := make([]store.Enqueued, len(runs))
	for i := range runs {
		out[i] = m.enqueue(now, runs[i])
	}
	if c := runs[0].Call; c != nil {
		m.recordCall(now, c, out)
	}
	return out, nil
}

func (m *Model) enqueue(now time.Time, n store.NewRun) store.Enqueued {
	if id, held := m.existing(&n, now); held {
		return store.Enqueued{ID: id, Existing: true}
	}
	id := m.newID(now)
	r := &modelRun{Run: store.Run{
		ID: id, Task: n.Task, Queue: n.Queue, State: store.Queued, Priority: n.Priority, Created: now, Due: now,
		Parent: n.Parent, Key: n.Key, Metadata: n.Metadata, Input: slices.Clone(n.Input),
	}, ageEvery: n.AgeEvery, startIn: n.StartIn, detached: n.Detached, limits: n.Limits, ofTask: n.TaskLimits, route: n.Route}
	if n.RunAt.After(now) {
		r.State, r.Due = store.Scheduled, n.RunAt
	}
	r.limitStart(r.Due)
	if p := m.runs[n.Parent]; p != nil {
		if r.Root = p.Root; r.Root == (store.ID{}) {
			r.Root = p.ID
		}
	}
	if n.Key != "" {
		h := modelHold{run: id}
		if n.KeyTTL != store.UntilDone {
			h.expires = now.Add(n.KeyTTL)
		}
		m.keys[modelKey{n.Task, n.Key}] = h
	}
	if n.ChildKey != "" {
		m.children[childKey{n.Parent, n.ChildKey}] = id
	}
	if _, ok := m.queues[n.Queue]; !ok {
		m.queues[n.Queue] = false
	}
	m.runs[id] = r
	m.order = append(m.order, id)
	if n.Graph != nil {
		r.graph, r.Workflow, r.place, r.joins = n.Graph, true, n.Graph.End(), map[int]workflow.JoinState{}
		if r.State == store.Queued {
			m.begin(r, now)
		}
	}
	if r.setBy = id; r.State == store.Queued {
		m.use(r, now)
	}
	m.admit(r, now)
	return store.Enqueued{ID: id}
}

// holder returns the run that has the idempotency key of a new one, which may replace what that run brings.
func (m *Model) holder(n *store.NewRun, now time.Time) (store.ID, bool) {
	h, held := m.keys[modelKey{n.Task, n.Key}]
	r := m.runs[h.run]
	switch {
	case n.Key == "", !held, !h.expires.IsZero() && !h.expires.After(now), h.expires.IsZero() && (r == nil || r.State.Terminal()):
		return store.ID{}, false
	case n.Debounce == 0:
		return h.run, true
	case r == nil || r.State != store.Scheduled || r.Lease != 0:
		return store.ID{}, false
	}
	r.Input, r.Metadata, r.Due, r.limits, r.ofTask = slices.Clone(n.Input), n.Metadata, n.RunAt, n.Limits, n.TaskLimits
	if latest := r.Created.Add(n.Debounce); latest.Before(n.RunAt) {
		r.Due = latest
	}
	r.startIn, r.setBy = n.StartIn, m.newID(now)
	r.limitStart(r.Due)
	return h.run, true
}

// limitStart sets the time until which a run must have started.
func (r *modelRun) limitStart(due time.Time) {
	if r.StartBy = (time.Time{}); r.startIn > 0 {
		r.StartBy = due.Add(r.startIn)
	}
}

func (m *Model) newID(now time.Time) (id store.ID) {
	m.last = max(m.last+1, uint64(now.UnixMilli())<<20)
	binary.BigEndian.PutUint64(id[:8], m.last>>20<<16|0x7000|m.last>>8&0xfff)
	id[8], id[9] = 0x80|byte(m.last)>>2&0x3f, byte(m.last)<<6
	return id
}

// Await implements store.History.
func (m *Model) Await(ctx context.Context, id store.ID, u store.Until) (res store.Result, err error) {
	err = m.wait(ctx, func() (bool, time.Time) {
		res = store.Result{}
		r := m.runs[id]
		if r == nil {
			return true, time.Time{}
		}
		res.State, res.Workflow = r.State, r.Workflow
		if r.State == store.Succeeded {
			res.Output = r.Output
		}
		if i, there := slices.BinarySearchFunc(r.journal, u.Entry, byAddress); there {
			e := r.journal[i].Entry
			res.Entry = &e
		}
		return r.State.Terminal() || u.Chunk > 0 && int64(len(r.chunks)) >= u.Chunk || u.Met(res.Entry), r.StartBy
	})
	return res, err
}
