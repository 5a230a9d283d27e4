package count

import (
	"time"

	"github.com/stint-dev/stint/internal/clock"
	"github.com/stint-dev/stint/store"
)

// Counts are store.Counters in little memory: a workflow may have 10,000 tasks, each of which runs once.
type Counts struct {
	Enqueued, Started, Succeeded, Failed, Canceled, Skipped, Retried int64

	Waits, Durations Times
	Depth            int
	Commits, Changes int64
	Syncs            Times
}

// Add adds what else was counted.
func (t *Counts) Add(o *Counts) {
	t.Enqueued += o.Enqueued
	t.Started += o.Started
	t.Succeeded += o.Succeeded
	t.Failed += o.Failed
	t.Canceled += o.Canceled
	t.Skipped += o.Skipped
	t.Retried += o.Retried
	t.Waits.add(&o.Waits)
	t.Durations.add(&o.Durations)
	t.Depth = max(t.Depth, o.Depth)
	t.Commits += o.Commits
	t.Changes += o.Changes
	t.Syncs.add(&o.Syncs)
}

// Start counts a run that started, so long after it was due.
func (t *Counts) Start(waited time.Duration) {
	t.Started++
	t.Waits.Observe(max(waited, 0))
}

// Took returns how long a run took that ended at a time, in milliseconds; negative: it never started.
func Took(started time.Time, ended int64) time.Duration {
	if started.IsZero() {
		return -1
	}
	return max(clock.FromMillis(ended).Sub(started), 0)
}

// End counts a run that ended in a state, d after its last start; d is negative if it never started.
func (t *Counts) End(s store.State, d time.Duration) {
	switch s {
	case store.Succeeded:
		t.Succeeded++
	case store.Failed:
		t.Failed++
	case store.Canceled:
		t.Canceled++
	case store.Skipped:
		t.Skipped++
	}
	if d >= 0 {
		t.Durations.Observe(d)
	}
}

// Clone returns a copy.
func (t *Counts) Clone() *Counts {
	c := &Counts{}
	c.Add(t)
	return c
}

// reset makes all counts 0.
func (t *Counts) reset() {
	waits, durations := t.Waits, t.Durations
	*t = Counts{}
	t.Waits.all, t.Durations.all = waits.all, durations.all
	for _, h := range [...]*store.Histogram{t.Waits.all, t.Durations.all} {
		if h != nil {
			clear(h[:])
		}
	}
}

// counters returns the counts as they are stored.
func (t *Counts) counters() store.Counters {
	return store.Counters{
		Enqueued: t.Enqueued, Started: t.Started, Succeeded: t.Succeeded, Failed: t.Failed, Canceled: t.Canceled, Skipped: t.Skipped,
		Retried: t.Retried, Waits: t.Waits.histogram(), Durations: t.Durations.histogram(), Depth: t.Depth, Commits: t.Commits,
		Changes: t.Changes, Syncs: t.Syncs.histogram(),
	}
}

// Times count durations by size. The first few are kept as they are: most Counts have no more.
type Times struct {
	few [3]time.Duration
	n   int              // of few
	all *store.Histogram // nil: there are only few
}

// Observe counts a duration.
func (t *Times) Observe(d time.Duration) {
	if t.all == nil && t.n < len(t.few) {
		t.few[t.n] = d
		t.n++
		return
	}
	t.full().Observe(d)
}

// full returns the histogram with all that was counted.
func (t *Times) full() *store.Histogram {
	if t.all == nil {
		t.all = &store.Histogram{}
	}
	for _, d := range t.few[:t.n] {
		t.all.Observe(d)
	}
	t.n = 0
	return t.all
}

func (t *Times) add(o *Times) {
	for _, d := range o.few[:o.n] {
		t.Observe(d)
	}
	if o.all == nil {
		return
	}
	all := t.full()
	for i, n := range o.all {
		all[i] += n
	}
}

func (t *Times) histogram() (h store.Histogram) {
	for _, d := range t.few[:t.n] {
		h.Observe(d)
	}
	if t.all != nil {
		for i, n := range t.all {
			h[i] += n
		}
	}
	return h
}
