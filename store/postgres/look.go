package postgres

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stint-dev/stint/store/internal/limits"
)

// lookEvery is how often a process looks by itself at what others may have changed: a notice may be lost.
// pollEvery is how often it asks whether others have committed, if there are no notices; up to pollMax under
// a fake clock.
const (
	lookEvery = time.Second
	pollEvery = 20 * time.Millisecond
	pollMax   = 10 * time.Minute
)

// longer returns how long to wait for what one has waited for a pause: as long, but under a fake clock, where a
// month would mean millions of looks.
func (s *settings) longer(pause time.Duration) time.Duration {
	if s.bubble {
		return min(2*pause, pollMax)
	}
	return pause
}

func (w *writer) every() time.Duration {
	if w.s.settings.polls() {
		return max(pollEvery, w.pollBackoff)
	}
	return lookEvery
}

// poll looks at the database if others have committed. It is asked if now is true, or it is time to. Under a
// fake clock, where a month would mean millions of polls, it polls ever more rarely until others commit.
func (w *writer) poll(ctx context.Context, now bool) {
	if !now && time.Since(w.looked) < w.every() || w.connect(ctx) != nil {
		return
	}
	query := "SELECT pg_current_snapshot()::text, 0::bigint"
	if w.s.settings.bubble { // others' groups: snapshots also tell of those who use other tables of the server
		query = w.s.sql(`SELECT pg_current_snapshot()::text, coalesce(sum(n), 0)::bigint FROM stint.groups
			WHERE process <> '` + w.s.direct.process.name + "'")
	}
	var text string
	var others int64
	if err := w.conn.QueryRow(ctx, query).Scan(&text, &others); err != nil {
		if broken(w.conn, err) {
			w.drop()
		}
		return
	}
	w.looked = time.Now()
	seen := parseSnapshot(text)
	foreign := seen.foreign(w.seen, w.own)
	w.seen, w.own = seen, nil
	if foreign || w.partial {
		w.look(ctx)
	}
	if foreign {
		w.s.heard(notice{All: true})
	}
	if w.others != others {
		w.pollBackoff = 0
	} else if w.s.settings.bubble {
		// By a sixteenth, so that a commit is seen soon after a short quiet; in whole milliseconds, as instants are stored.
		more := max(w.pollBackoff/16, time.Millisecond).Truncate(time.Millisecond)
		w.pollBackoff = min(max(w.pollBackoff, pollEvery)+more, pollMax)
	}
	w.others = others
}

// found is what a look has found.
type found struct {
	next    int64 // the next time of a row
	pending bool  // there are events that are pending
	epoch   int64
	lanes   []readyLane
}

// queueLook queues the statements that look at the database; if no sweeper does, also at lanes, from marks on.
func (s *Store) queueLook(b *pgx.Batch, marks []mark) *found {
	f := &found{next: limits.Never}
	from, until := s.ticks.From(s.clock.Now().UnixMilli())
	b.Queue(s.sql(nextTimeSQL), from, until).QueryRow(func(r pgx.Row) error {
		var at *int64
		err := r.Scan(&at)
		if at != nil {
			f.next = *at
		}
		return err
	})
	b.Queue(s.sql("SELECT EXISTS (SELECT 1 FROM stint.events WHERE pending)")).QueryRow(func(r pgx.Row) error { return r.Scan(&f.pending) })
	b.Queue(s.sql("SELECT n FROM stint.epoch")).QueryRow(func(r pgx.Row) error { return r.Scan(&f.epoch) })
	if s.settings.polls() {
		s.queueReadyLanes(b, marks, &f.lanes)
	}
	return f
}

// look reads when the next time comes, and which lanes have ready runs if no sweeper does: from their starts, unless that
// takes long, and would be more than a twentieth of the time.
func (w *writer) look(ctx context.Context) {
	w.looked = time.Now()
	if w.connect(ctx) != nil {
		return
	}
	began := time.Now()
	whole := w.lookCost < pollEvery || time.Since(w.whole) >= sweepShare*w.lookCost
	var from []mark
	if !whole {
		from = w.lanes.marks()
	}
	b := &pgx.Batch{}
	f := w.s.queueLook(b, from)
	if err := w.conn.SendBatch(ctx, b).Close(); err != nil {
		if broken(w.conn, err) {
			w.drop()
		}
		return
	}
	if w.partial = !whole; whole {
		w.whole, w.lookCost = time.Now(), time.Since(began)
	}
	if f.pending {
		signal(w.s.pending.signaled)
	}
	w.outdated(f.epoch != w.epoch.n)
	w.sweptLanes(f.lanes)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.next = f.next
}

// sweptLanes makes claims look at lanes that have ready runs.
func (w *writer) sweptLanes(lanes []readyLane) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, l := range lanes {
		w.s.lanes.put(l.laneRow)
		if l.some {
			w.ready.add(l.id, l.first.Rank)
			w.recheck = true
		}
	}
}

// A sweeper looks for ready runs from the start of each lane, which claims pass over: they begin where the last one
// ended. It finds what no notice told of, and what another transaction held when claims passed it. While
// somebody holds an old snapshot, that reads all runs which have left a lane since; so it has a connection of its
// own, and is at work a twentieth of the time at most.
type sweeper struct {
	s        *Store
	signaled chan struct{} // capacity 1
	done     chan struct{}
	stop     context.CancelFunc
	depth    atomic.Int64 // how many runs are queued, up to store.MaxCount

	mu      sync.Mutex // held for a sweep
	counted time.Time  // when depth was
}

// depthShare is how many runs the sweeper counts a second, at most: where many are queued, each process reads all of them.
const depthShare = 1000

const sweepShare = 20

func newSweeper(s *Store) *sweeper {
	ctx, stop := context.WithCancel(context.Background())
	x := &sweeper{s: s, signaled: make(chan struct{}, 1), done: make(chan struct{}), stop: stop}
	go x.run(ctx)
	return x
}

func (x *sweeper) run(ctx context.Context) {
	defer close(x.done)
	if x.s.settings.polls() { // the writer's looks do it
		return
	}
	for {
		began := time.Now()
		x.sweep(ctx)
		select {
		case <-time.After(max(lookEvery, sweepShare*time.Since(began))):
		case <-x.signaled:
		case <-ctx.Done():
			return
		}
	}
}

func (x *sweeper) sweep(ctx context.Context) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.s.view(ctx, func(c *pgx.Conn) error { // an error: it looks again
		var lanes []readyLane
		b := &pgx.Batch{}
		b.Queue("BEGIN")
		b.Queue("SET LOCAL enable_seqscan = off") // as on the writer's connection
		x.s.queueReadyLanes(b, nil, &lanes)
		if time.Since(x.counted) >= time.Duration(x.depth.Load())*time.Second/depthShare {
			x.counted = time.Now()
			b.Queue(x.s.sql("SELECT " + depthSQL)).QueryRow(func(r pgx.Row) error {
				var n int64
				err := r.Scan(&n)
				x.depth.Store(n)
				return err
			})
		}
		b.Queue("COMMIT")
		if err := c.SendBatch(ctx, b).Close(); err != nil {
			return err
		}
		if len(lanes) > 0 {
			x.s.w.sweptLanes(lanes)
			signal(x.s.w.signaled)
		}
		return nil
	})
}

func (x *sweeper) close() {
	x.stop()
	<-x.done
}

// lookAt does what a notice asks for.
func (w *writer) lookAt(n notice) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, l := range n.Lanes {
		rank := int64(math.MinInt64) // another release tells none
		if i < len(n.Ranks) {
			rank = n.Ranks[i]
		}
		w.ready.add(l, rank)
		w.recheck = true
	}
	w.oldEpoch = w.oldEpoch || n.Epoch
	w.recheck = w.recheck || n.Epoch // a queue may have been resumed
	if n.Timers != 0 {
		w.next = min(w.next, n.Timers)
	}
	signal(w.signaled)
}

// committedElsewhere does what follows from an app's commit.
func (w *writer) committedElsewhere(t *told) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ready.addAll(t.lanes)
	w.recheck = true
	w.next = 0 // it may have stored times, events, and runs that have not come to their limiters
	signal(w.signaled)
}
