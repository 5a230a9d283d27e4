package storetest

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/stint-dev/stint/store"
)

// ahead orders runs as they start: by effective priority, then due time, then as enqueued. Suspects come after
// all others, and a run after those whose keys had their turn before.
func ahead(a, b *modelRun) int {
	return cmp.Or(cmp.Compare(min(a.Crashes, 2)/2, min(b.Crashes, 2)/2), cmp.Compare(a.rank(a.since), b.rank(b.since)),
		cmp.Compare(a.turn, b.turn), cameBefore(a, b))
}

// cameBefore orders the runs of one key.
func cameBefore(a, b *modelRun) int {
	return cmp.Or(cmp.Compare(a.rank(a.Due), b.rank(b.Due)), slices.Compare(a.ID[:], b.ID[:]))
}

func (r *modelRun) rank(since time.Time) int64 {
	return store.Rank(max(r.Due.UnixMilli(), since.UnixMilli()), r.Priority, r.ageEvery)
}

// Claim implements store.Runs.
func (m *Model) Claim(ctx context.Context, req store.ClaimRequest) (got []store.Claimed, err error) {
	err = m.wait(ctx, func() (bool, time.Time) {
		var ready []*modelRun
		var next time.Time
		if c := m.nextCron(); c != nil {
			next = c.Next
		}
		suspects := 0
		for _, r := range m.runs {
			if r.State == store.Scheduled && (next.IsZero() || r.Due.Before(next)) {
				next = r.Due
			}
			if r.State == store.Running && r.Crashes >= 2 {
				suspects++
			}
			if r.State == store.Waiting && !r.wake.IsZero() && (next.IsZero() || r.wake.Before(next)) {
				next = r.wake
			}
			if r.State == store.Queued && !m.queues[r.Queue] && (req.Queues == nil || slices.Contains(req.Queues, r.Queue)) &&
				req.Tasks(r.claimName()) {
				ready = append(ready, r)
			}
		}
		if w := m.workers[req.Worker]; w != nil && w.Paused {
			ready = nil
		}
		slices.SortFunc(ready, ahead)
		used := 0
		for _, r := range ready {
			if used == req.Free() {
				break
			}
			if ok, at := m.mayStart(req.Worker, r); !ok {
				if !at.IsZero() && (next.IsZero() || at.Before(next)) {
					next = at
				}
				continue
			}
			if n := cost(&req, r); n == 0 || used+n > req.Free() {
				break
			} else {
				used += n
			}
			if r.Crashes >= 2 {
				if suspects++; suspects > 1 {
					continue
				}
			}
			got = append(got, m.start(req.Worker, r))
		}
		return len(got) > 0, next
	})
	return got, err
}

func (m *Model) start(worker int64, r *modelRun) store.Claimed {
	r.State, r.worker, r.Worker, r.Started, r.StartBy = store.Running, worker, m.workers[worker].Name, time.Now(), time.Time{}
	r.Attempt++
	m.lease--
	r.Lease = m.lease
	r.Executions++
	m.take(r)
	var tests []string
	if r.isTask() {
		tests = r.graph.Tests(r.place)
	}
	return store.Claimed{
		Spent: r.spent, Node: r.node(), Tests: tests, Journal: len(r.journal) > 0, CancelAt: r.CancelAt, Replayed: r.before,
		ID: r.ID, Lease: r.Lease, Executions: r.Executions, Task: r.Task, Queue: r.Queue, Priority: r.Priority,
		Attempt: r.Attempt, Crashes: r.Crashes,
		Due: r.Due, Started: r.Started, Input: r.Input, Metadata: r.Metadata, Parent: r.Parent, Root: r.Root,
	}
}

// held returns the run if the lease is current.
func (m *Model) held(id store.ID, lease store.Lease) *modelRun {
	if r := m.runs[id]; r != nil && r.State == store.Running && r.Lease == lease {
		return r
	}
	return nil
}

// Finish implements store.Runs.
func (m *Model) Finish(_ context.Context, now time.Time, outcomes []store.Outcome) ([]bool, error) {
	if err := m.lock(); err != nil {
		return nil, err
	}
	defer m.unlock()
	m.advance(now)
	stale := make([]bool, len(outcomes))
	for i := range outcomes {
		r := m.held(outcomes[i].ID, outcomes[i].Lease)
		if stale[i] = r == nil; r != nil {
			m.finish(now, r, &outcomes[i])
		}
	}
	return stale, nil
}

func (m *Model) finish(now time.Time, r *modelRun, o *store.Outcome) {
	m.record(r, &o.Record)
	past := store.Attempt{Attempt: r.Attempt, Worker: r.Worker, Started: r.Started, Ended: now, Error: o.Error}
	if o.Uncounted && r.CancelAt.IsZero() && !o.To.Terminal() {
		r.Attempt--
	}
	switch {
	case !r.CancelAt.IsZero() && o.To == store.Blocked && r.hasUndo():
		r.State, r.Error = store.Blocked, o.Error
		if o.Uncounted {
			r.Attempt--
		}
	case !r.CancelAt.IsZero() && o.To != store.Blocked && (r.hasUndo() || !o.To.Terminal() && len(r.journal) > 0):
		r.State, r.Due = store.Queued, now
		r.Attempt--
		if o.NoHandler {
			r.lane = r.Task
		}
	case !r.CancelAt.IsZero():
		if o.To.Terminal() {
			r.Output = o.Output
		}
		m.end(r, store.Canceled, now, r.Error)
	case o.To.Terminal():
		r.Output, r.tests = o.Output, o.Tests
		m.end(r, o.To, now, o.Error)
		if o.To == store.Failed {
			m.errors.fail(r, o.Failure, now)
		}
	case o.To == store.Waiting:
		if o.Uncounted { // suspend subtracts it
			r.Attempt++
		}
		m.suspend(r, now, o)
	case o.To == store.Queued:
		r.State = store.Queued
		if o.NoHandler {
			r.lane = r.Task
		}
	case o.To == store.Blocked:
		r.State, r.Error = store.Blocked, o.Error
	default:
		r.State, r.Due, r.spent = store.Scheduled, o.At, 0
		if !o.At.After(now) {
			r.State, r.Due = store.Queued, now
		}
		if o.Error != nil {
			r.Error = o.Error
		}
		if !o.Uncounted {
			past.To = r.State
			r.Attempts = append(r.Attempts, past)
		}
	}
	r.forget(o.Forget) // after Waits were read
	for _, f := range o.Follow {
		f.Parent = r.ID
		m.enqueue(now, f)
	}
}

// Record implements store.Runs.
func (m *Model) Record(_ context.Context, records []store.Record) ([]bool, error) {
	if err := m.lock(); err != nil {
		return nil, err
	}
	defer m.unlock()
	stale := make([]bool, len(records))
	for i := range records {
		r, rec := m.held(records[i].ID, records[i].Lease), records[i]
		if rec.Lease == 0 {
			r, rec = m.runs[rec.ID], store.Record{Logs: rec.Logs}
		}
		if stale[i] = r == nil; r != nil {
			m.record(r, &rec)
		}
	}
	return stale, nil
}

func (m *Model) record(r *modelRun, rec *store.Record) {
	if rec.Progress != nil {
		p := *rec.Progress
		r.Progress = &p
	}
	for _, l := range rec.Logs {
		l.Seq = 1
		if n := len(r.logs); n > 0 {
			l.Seq = r.logs[n-1].Seq + 1
		}
		r.logs = append(r.logs, l)
	}
	r.logs = r.logs[max(0, len(r.logs)-store.MaxLogs):]
	for _, c := range rec.Chunks {
		c.Seq, c.Data = int64(len(r.chunks))+1, slices.Clone(c.Data)
		r.chunks = append(r.chunks, c)
	}
}
