package storetest

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/stint-dev/stint/store"
)

// Get implements store.History.
func (m *Model) Get(_ context.Context, id store.ID) (*store.Run, error) {
	if err := m.lock(); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	m.advance(time.Now())
	r := m.runs[id]
	if r == nil {
		return nil, fmt.Errorf("run %s: %w", id, store.ErrNotFound)
	}
	run := r.Run
	return &run, nil
}

// hasMetadata reports whether metadata has each key with its value.
func hasMetadata(metadata []byte, want map[string]string) bool {
	var m map[string]string
	json.Unmarshal(metadata, &m)
	for k, v := range want {
		if got, ok := m[k]; !ok || got != v {
			return false
		}
	}
	return true
}

// matchesRest reports whether a run matches what a filter says of its metadata, its worker and what began it.
func (m *Model) matchesRest(r *modelRun, f *store.Filter) bool {
	any := f.AnyMetadata == nil
	for k, values := range f.AnyMetadata {
		for _, v := range values {
			any = any || hasMetadata(r.Metadata, map[string]string{k: v})
		}
	}
	started := f.Event == store.ID{} || slices.ContainsFunc(m.events, func(e modelEvent) bool {
		return e.id == f.Event && slices.Contains(e.started, r.ID)
	})
	return any && started && (f.Worker == "" || f.Worker == r.Worker) && (!f.NoTasks || !r.isTask())
}

func (r *modelRun) matches(f *store.Filter) bool {
	return hasMetadata(r.Metadata, f.Metadata) && (f.IDs == nil || slices.Contains(f.IDs, r.ID)) &&
		(f.Tasks == nil || slices.Contains(f.Tasks, r.Task)) &&
		(f.Queues == nil || slices.Contains(f.Queues, r.Queue)) && (f.States == nil || slices.Contains(f.States, r.State)) &&
		(f.Limit == nil || slices.ContainsFunc(r.limits, func(l store.Limit) bool { return l.Of() == *f.Limit })) &&
		(f.Parent == store.ID{} || f.Parent == r.Parent) && (!f.TopLevel || r.Parent == store.ID{}) &&
		(f.ErrorGroup == 0 || f.ErrorGroup == r.group) && (f.Error == "" || r.Error != nil && store.ErrorHas(r.Error, f.Error)) &&
		(f.Through == store.ID{} || slices.Compare(r.ID[:], f.Through[:]) <= 0) && (f.Since.IsZero() || !r.Created.Before(f.Since)) &&
		(f.Until.IsZero() || r.Created.Before(f.Until))
}

// List implements store.History.
func (m *Model) List(_ context.Context, f store.Filter, before store.ID, limit int) (all []store.Run, next store.ID, err error) {
	if err := m.lock(); err != nil {
		return nil, next, err
	}
	defer m.mu.Unlock()
	m.advance(time.Now())
	bytes := 0
	order, beyond := slices.Clone(m.order), 1
	if slices.Reverse(order); f.Oldest {
		order, beyond = m.order, -1
	}
	for _, id := range order {
		r := m.runs[id]
		if r == nil || !r.matches(&f) || !m.matchesRest(r, &f) ||
			before != (store.ID{}) && (slices.Compare(r.ID[:], before[:]) == beyond || r.ID == before) {
			continue
		}
		run := r.Run
		if f.Brief {
			run.Input, run.Output, run.Metadata, run.Error, run.Progress = nil, nil, nil, nil, nil
		}
		if bytes += run.Size(); len(all) == limit || bytes > store.MaxPageBytes && len(all) > 0 {
			return all, all[len(all)-1].ID, nil
		}
		run.Attempts = nil
		all = append(all, run)
	}
	return all, next, nil
}

// Count implements store.History. It counts all at once, also with Scan.
func (m *Model) Count(_ context.Context, f store.Filter, before store.ID) (n int, next store.ID, err error) {
	if err := m.lock(); err != nil {
		return 0, next, err
	}
	defer m.mu.Unlock()
	m.advance(time.Now())
	for id, r := range m.runs {
		if r.matches(&f) && m.matchesRest(r, &f) && (before == (store.ID{}) || slices.Compare(id[:], before[:]) < 0) {
			n++
		}
	}
	return n, next, nil
}

// Logs implements store.History.
func (m *Model) Logs(_ context.Context, id store.ID, after int64, limit int) (all []store.Log, err error) {
	if err := m.lock(); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	bytes := 0
	if r := m.runs[id]; r != nil {
		for _, l := range r.logs {
			if l.Seq <= after {
				continue
			}
			if bytes += l.Size(); len(all) == limit || bytes > store.MaxPageBytes && len(all) > 0 {
				break
			}
			all = append(all, l)
		}
	}
	return all, nil
}

// Chunks implements store.History.
func (m *Model) Chunks(_ context.Context, id store.ID, after int64, limit int) ([]store.Chunk, bool, error) {
	if err := m.lock(); err != nil {
		return nil, false, err
	}
	defer m.mu.Unlock()
	r := m.runs[id]
	if r == nil {
		return nil, false, fmt.Errorf("run %s: %w", id, store.ErrNotFound)
	}
	if after < 0 {
		after = max(int64(len(r.chunks))+after, 0)
	}
	rest, n, bytes := r.chunks[min(after, int64(len(r.chunks))):], 0, 0
	for n < min(limit, len(rest)) {
		if bytes += len(rest[n].Data); bytes > store.MaxPageBytes && n > 0 {
			break
		}
		n++
	}
	return slices.Clone(rest[:n]), r.State.Terminal() && n == len(rest) && n < limit, nil
}

// each changes the runs that match.
func (m *Model) each(f store.Filter, change func(*modelRun) bool) (n int, err error) {
	if err := m.lock(); err != nil {
		return 0, err
	}
	defer m.unlock()
	m.advance(time.Now())
	var all []*modelRun
	for i := len(m.order) - 1; i >= 0; i-- {
		if r := m.runs[m.order[i]]; r != nil && r.matches(&f) && m.matchesRest(r, &f) {
			all = append(all, r)
		}
	}
	for _, r := range all {
		if change(r) {
			n++
		}
	}
	return n, nil
}

// Act implements store.Runs.
func (m *Model) Act(_ context.Context, now time.Time, a store.Action, f store.Filter) (int, error) {
	if a.DryRun {
		return m.count(f, &a)
	}
	return m.each(f, func(r *modelRun) bool {
		switch a.Kind {
		case store.ActCancel:
			return m.cancel(r, now, a.Reason)
		case store.ActReplay:
			return m.replay(r, now, a.Whole)
		case store.ActMoveQueue:
			return m.moveQueue(r, a.Queue)
		}
		over := m.runs[r.ID] != nil && m.deletable(r)
		if over {
			m.remove(r)
		}
		return over
	})
}

func (m *Model) moveQueue(r *modelRun, to string) bool {
	if !r.moves(to) {
		return false
	}
	r.Queue = to
	if _, ok := m.queues[to]; !ok {
		m.queues[to] = false
	}
	return true
}

func (r *modelRun) moves(to string) bool {
	return !r.Workflow && !r.State.Terminal() && r.State != store.Running && r.Queue != to
}

func (m *Model) count(f store.Filter, a *store.Action) (int, error) {
	changed := map[store.ID]bool{}
	_, err := m.each(f, func(r *modelRun) bool {
		switch act, open := a.Kind, !r.State.Terminal(); {
		case act == store.ActMoveQueue && r.moves(a.Queue):
			changed[r.ID] = true
		case act == store.ActCancel && open && (r.CancelAt.IsZero() || r.State == store.Blocked),
			act == store.ActDelete && m.deletable(r),
			act == store.ActReplay && (r.State == store.Blocked || !open && !r.isTask()):
			changed[r.ID] = true
		case act == store.ActReplay && !open && m.runs[r.Parent].State.Terminal():
			changed[r.Parent] = true
		}
		return false
	})
	return len(changed), err
}

func (m *Model) cancel(r *modelRun, now time.Time, reason []byte) bool {
	over := false
	switch {
	case r.State.Terminal(), !r.CancelAt.IsZero() && r.State != store.Blocked:
		return false
	case r.Lease != 0 && r.CancelAt.IsZero() && r.State != store.Running && (r.State == store.Blocked && r.hasUndo() ||
		r.State != store.Blocked && len(r.journal) > 0):
		r.State, r.Due, r.CancelAt, r.Error = store.Queued, now, now, reason
	case r.State == store.Running:
		r.CancelAt, r.Error = now, reason
	default:
		over = true
		r.State, r.Ended, r.Error, r.StartBy = store.Canceled, now, reason, time.Time{}
		m.childEnded(r, now)
	}
	for _, id := range slices.Clone(m.order) {
		if c := m.runs[id]; c != nil && c.Parent == r.ID && !c.detached {
			m.cancel(c, now, reason)
		}
	}
	if over {
		m.follow(r, now)
	}
	return true
}

func (m *Model) replay(r *modelRun, now time.Time, whole bool) bool {
	switch {
	case m.runs[r.ID] == nil, !r.State.Terminal() && r.State != store.Blocked:
		return false
	case r.Workflow:
		m.replayWorkflow(r, now, whole)
	case r.isTask() && r.State != store.Blocked:
		return m.runs[r.Parent].State.Terminal() && m.replay(m.runs[r.Parent], now, whole)
	default:
		m.requeue(r, now)
	}
	return true
}

func (m *Model) requeue(r *modelRun, now time.Time) {
	last := store.Attempt{Attempt: r.Attempt, Worker: r.Worker, Started: r.Started, Ended: r.Ended, To: r.State, Error: r.Error}
	if r.Lease != 0 {
		if last.Ended.IsZero() {
			last.Ended = now
		}
		r.Attempts = append(r.Attempts, last)
	}
	r.State, r.Due, r.before, r.Crashes, r.Output, r.Error = store.Queued, now, r.Attempt, 0, nil, nil
	r.resetUndo()
	r.Ended, r.CancelAt, r.spent = time.Time{}, time.Time{}, 0
	r.limitStart(now)
	delete(m.notified, r.ID)
}

// deletable reports whether a run may be deleted. Its parent, if that has not ended, may read its result again.
func (m *Model) deletable(r *modelRun) bool {
	parent := m.runs[r.Parent]
	return r.State.Terminal() && !r.isTask() && (parent == nil || parent.State.Terminal())
}

func (m *Model) remove(r *modelRun) {
	delete(m.runs, r.ID)
	m.order = slices.DeleteFunc(m.order, func(id store.ID) bool { return id == r.ID })
	for _, t := range m.runs {
		if t.isTask() && t.Parent == r.ID {
			m.remove(t)
		}
	}
	maps.DeleteFunc(m.children, func(k childKey, _ store.ID) bool { return k.parent == r.ID })
	for k, h := range m.keys {
		if h.run == r.ID && !h.expires.After(time.Now()) { // zero: when the run ends
			delete(m.keys, k)
		}
	}
}

// Expire implements store.Runs. It looks at the oldest runs first: what a run has started goes after it.
func (m *Model) Expire(_ context.Context, done, failed time.Time) (n int, err error) {
	m.expireRates()
	m.expireEvents(done)
	m.errors.expire(time.Now())
	if err := m.lock(); err != nil {
		return 0, err
	}
	defer m.unlock()
	m.advance(time.Now())
	for _, id := range slices.Clone(m.order) {
		r := m.runs[id]
		if r == nil || !r.State.Terminal() || r.isTask() || m.runs[r.Parent] != nil {
			continue
		}
		if cutoff := map[bool]time.Time{false: done, true: failed}[r.State == store.Failed]; r.Ended.Before(cutoff) {
			m.remove(r)
			n++
		}
	}
	return n, nil
}

func (m *Model) pause(c *store.PauseChange) error {
	switch {
	case c.Queue != "":
		return m.pauseQueue(c.Queue, c.Paused)
	case c.Worker != "":
		return m.pauseWorker(c.Worker, c.Paused)
	}
	return m.pauseLimit(c.Limit, c.Paused)
}

func (m *Model) pauseQueue(queue string, paused bool) error {
	if err := m.lock(); err != nil {
		return err
	}
	defer m.unlock()
	if _, known := m.queues[queue]; known || paused {
		m.queues[queue] = paused
	}
	return nil
}

// names returns the names of runs, queues and workers.
func (m *Model) names() (n store.Names, err error) {
	if err := m.lock(); err != nil {
		return n, err
	}
	defer m.unlock()
	for _, r := range m.runs {
		n.Tasks = append(n.Tasks, r.Task)
	}
	for q := range m.queues {
		n.Queues = append(n.Queues, q)
	}
	for _, w := range m.workers {
		n.Tasks, n.Queues = append(n.Tasks, w.Tasks...), append(n.Queues, w.Queues...)
	}
	slices.Sort(n.Tasks)
	slices.Sort(n.Queues)
	n.Tasks, n.Queues = slices.Compact(n.Tasks), slices.Compact(n.Queues)
	return n, nil
}

func (m *Model) listQueues(one string) ([]store.QueueInfo, error) {
	if err := m.lock(); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	var all []store.QueueInfo
	for name, paused := range m.queues {
		if one != "" && name != one {
			continue
		}
		info := store.QueueInfo{Name: name, Paused: paused}
		for _, r := range m.runs {
			switch {
			case r.Queue != name || r.Workflow:
			case r.State == store.Queued:
				info.Ready++
				if info.Oldest.IsZero() || r.Due.Before(info.Oldest) {
					info.Oldest = r.Due
				}
			case r.State == store.Running:
				info.Running++
			}
		}
		if one != "" {
			info.Priorities = m.priorities(name)
		}
		all = append(all, info)
	}
	slices.SortFunc(all, func(a, b store.QueueInfo) int { return cmp.Compare(a.Name, b.Name) })
	return all, nil
}

func (m *Model) priorities(queue string) map[int8]int {
	counts := map[int8]int{}
	for _, r := range m.runs {
		if l, _ := m.waitsAt(r); r.Queue == queue && !r.Workflow && r.State == store.Queued && l == nil {
			counts[r.Priority]++
		}
	}
	return counts
}

// Check implements store.Health.
func (m *Model) Check(context.Context) ([]string, error) { return nil, nil }

// Healthy implements store.Health.
func (m *Model) Healthy() error { return nil }

// Close implements store.Store.
func (m *Model) Close() error {
	if m.lock() == nil {
		m.closed = true
		m.unlock()
	}
	return nil
}
