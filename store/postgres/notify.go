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
//
// A notice wakes all processes that have the database open. So it is sent only if the table of processes names one that it
// concerns: another process; if runs have ended and no more, one that somebody waits in (askForEnds). If there
// is none, the notifier rests. A process that comes, or begins to wait, is entered there first, reads what was
// committed before, and says that it is there, which ends the rest of the others.
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

	restEnds, rest time.Time // until then a notice of ends concerns nobody, and any notice
	came           int       // how often others said that they are there
	sends          bool      // a notice is on its way
}

const (
	// notifyEvery is the shortest time between two notices of a process.
	notifyEvery = 5 * time.Millisecond
	// notifyRest is how long a notifier rests that found nobody whom a notice concerns.
	notifyRest = time.Second
)

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

// What a notifier has to tell.
const (
	tellsNothing = iota
	tellsEnds    // ends, chunks and entries
	tellsMore
)

// tells returns what there is to tell. mu is locked.
func (n *notifier) tells() int {
	switch {
	case len(n.lanes)+len(n.cancel) > 0 || n.epoch || n.timers != limits.Never:
		return tellsMore
	case len(n.runs)+len(n.chunks) > 0 || n.ended:
		return tellsEnds
	}
	return tellsNothing
}

// add adds what a group was told to have changed.
func (n *notifier) add(t *told) {
	if n.s.settings.bubble { // nobody listens
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	had := n.tells()
	n.lanes.addAll(t.lanes)
	for _, c := range t.cancels {
		n.cancel[c.worker] = struct{}{}
	}
	n.addRuns(t)
	n.epoch = n.epoch || t.epoch
	n.timers = min(n.timers, t.wakeAt)
	if n.tells() > had {
		signal(n.signaled)
	}
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

func (n *notifier) take() (x notice, tells, came int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	x = notice{From: n.s.direct.process.name, Lanes: slices.Sorted(maps.Keys(n.lanes)),
		Workers: slices.Sorted(maps.Keys(n.cancel)), Runs: n.runs, Chunks: n.chunks, Ended: n.ended, Epoch: n.epoch}
	for _, l := range x.Lanes {
		x.Ranks = append(x.Ranks, n.lanes[l])
	}
	if n.timers != limits.Never {
		x.Timers = n.timers
	}
	tells = n.tells()
	n.clear()
	n.sends = true
	return x, tells, n.came
}

func (n *notifier) run(ctx context.Context) {
	defer close(n.done)
	for {
		rest, some := n.rests(time.Now())
		if !some || rest > 0 {
			var over <-chan time.Time // of a rest; nil: there is nothing to tell
			if some {
				over = time.After(rest)
			}
			select {
			case <-n.signaled:
			case <-over:
			case <-ctx.Done():
				return
			}
			continue
		}
		n.notify(ctx)
		select {
		case <-time.After(notifyEvery):
		case <-ctx.Done():
			return
		}
	}
}

// rests returns how long the notifier rests that has something to tell.
func (n *notifier) rests(now time.Time) (rest time.Duration, some bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	until := n.rest
	tells := n.tells()
	if tells == tellsEnds && n.restEnds.After(until) {
		until = n.restEnds
	}
	return until.Sub(now), tells != tellsNothing
}

// notifySQL notifies others, if there are any whom that concerns.
const notifySQL = "SELECT pg_notify($1, $2) FROM (SELECT FROM stint.processes WHERE name <> $3 AND ($4 OR awaits) LIMIT 1) p"

// notify sends what there is to tell, or begins a rest.
func (n *notifier) notify(ctx context.Context) {
	x, tells, came := n.take()
	concerns := true
	n.s.view(ctx, func(c *pgx.Conn) error { // a lost notice costs others a moment
		tag, err := c.Exec(ctx, n.s.sql(notifySQL), n.s.settings.channel(), x.encode(), x.From, tells == tellsMore)
		concerns = err != nil || tag.RowsAffected() > 0
		return err
	})
	n.mu.Lock()
	defer n.mu.Unlock()
	n.sends = false
	switch {
	case concerns || n.came != came:
	case tells == tellsMore:
		n.rest = time.Now().Add(notifyRest)
	default:
		n.restEnds = time.Now().Add(notifyRest)
	}
}

// othersCame ends the rest: another process has come, or begins to wait for what runs do.
func (n *notifier) othersCame() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.came++
	n.restEnds, n.rest = time.Time{}, time.Time{}
	signal(n.signaled)
}

// sayThere says that a process is there, which is in the table of processes: it listens, or waits for what runs do.
func (s *settings) sayThere(ctx context.Context, c *pgx.Conn, process string) error {
	x := notice{From: process, There: true}
	_, err := c.Exec(ctx, "SELECT pg_notify($1, $2)", s.channel(), x.encode())
	return err
}

// askForEnds makes other processes tell this one of the ends, chunks and entries of runs, before who waits for such reads
// how things are. It is asked once: most processes only work, and notices of all that they end would cost the others
// more than their own runs.
func (s *Store) askForEnds(ctx context.Context) error {
	if s.settings.ReadOnly || s.settings.polls() {
		return nil
	}
	p := s.direct.process
	if p.awaits.Load() {
		return nil
	}
	select {
	case s.asking <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-s.asking }()
	if p.awaits.Load() {
		return nil
	}
	return s.view(ctx, func(c *pgx.Conn) error {
		_, err := c.Exec(ctx, s.sql("UPDATE stint.processes SET awaits = true WHERE name = $1"), p.name)
		if err == nil {
			err = s.settings.sayThere(ctx, c, p.name)
		}
		if err == nil { // if others have taken it for dead, its next beat asks
			p.awaits.Store(true)
			s.commits.Add(1) // others may have committed before
		}
		return err
	})
}

func (n *notifier) close() {
	n.stop()
	<-n.done
}
