package postgres

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stint-dev/stint/store/internal/limits"
)

// A notifier tells other processes what this one has committed. It does so after the commit, in a
// transaction that has nothing to flush: NOTIFY holds a lock on the whole server until its commit is done,
// which would make the commits of all databases wait for each other's disk writes.
type notifier struct {
	s        *Store
	signaled chan struct{} // capacity 1
	done     chan struct{}
	stop     context.CancelFunc

	mu     sync.Mutex
	lanes  lanesFrom
	cancel map[int64]struct{} // workers
	runs   []int64            // that ended
	chunks []int64            // runs that have new chunks or entries
	ended  bool               // there are more of either
	epoch  bool
	timers int64
}

// notifyEvery is the shortest time between two notices of a process.
const notifyEvery = 5 * time.Millisecond

func newNotifier(s *Store) *notifier {
	ctx, stop := context.WithCancel(context.Background())
	n := &notifier{s: s, signaled: make(chan struct{}, 1), done: make(chan struct{}), stop: stop}
	n.clear()
	go n.run(ctx)
	return n
}

func (n *notifier) clear() {
	n.lanes, n.cancel, n.epoch, n.timers = lanesFrom{}, map[int64]struct{}{}, false, limits.Never
	n.runs, n.chunks, n.ended = nil, nil, false
}

// add adds what a group was told to have changed.
func (n *notifier) add(t *told) {
	if len(t.lanes)+len(t.ended)+len(t.chunks)+len(t.cancels) == 0 && t.wakeAt == limits.Never && !t.epoch {
		return
	}
	if n.s.settings.bubble { // nobody listens
		return
	}
	n.mu.Lock()
	n.lanes.addAll(t.lanes)
	for _, c := range t.cancels {
		n.cancel[c.worker] = struct{}{}
	}
	n.addRuns(t)
	n.epoch = n.epoch || t.epoch
	n.timers = min(n.timers, t.wakeAt)
	n.mu.Unlock()
	signal(n.signaled)
}

// maxNoticedRuns is how many runs a notice names. Their keys are 19 digits.
const maxNoticedRuns = 200

func (n *notifier) addRuns(t *told) {
	if len(n.runs)+len(n.chunks)+len(t.ended)+len(t.chunks) > maxNoticedRuns {
		n.ended = true
		return
	}
	for _, e := range t.ended {
		n.runs = append(n.runs, e.run)
	}
	n.chunks = append(n.chunks, t.chunks...)
}

func (n *notifier) take() notice {
	n.mu.Lock()
	defer n.mu.Unlock()
	x := notice{From: n.s.direct.process.name, Lanes: slices.Sorted(maps.Keys(n.lanes)),
		Workers: slices.Sorted(maps.Keys(n.cancel)), Runs: n.runs, Chunks: n.chunks, Ended: n.ended, Epoch: n.epoch}
	for _, l := range x.Lanes {
		x.Ranks = append(x.Ranks, n.lanes[l])
	}
	if n.timers != limits.Never {
		x.Timers = n.timers
	}
	n.clear()
	return x
}

func (n *notifier) run(ctx context.Context) {
	defer close(n.done)
	for {
		select {
		case <-n.signaled:
		case <-ctx.Done():
			return
		}
		x := n.take()
		n.s.view(ctx, func(c *pgx.Conn) error { // a lost notice costs others a moment
			_, err := c.Exec(ctx, "SELECT pg_notify($1, $2)", n.s.settings.channel(), x.encode())
			return err
		})
		select {
		case <-time.After(notifyEvery):
		case <-ctx.Done():
			return
		}
	}
}

func (n *notifier) close() {
	n.stop()
	<-n.done
}
