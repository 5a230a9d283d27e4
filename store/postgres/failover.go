package postgres

import (
	"context"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stint-dev/stint/internal/pause"
)

// acks are the last groups of a process that have changed something and were committed, of its writer and its finisher.
type acks struct {
	mu             sync.Mutex
	writer, ends   int64
	lost, requeued int // how often the server was found to have lost groups, and how often the process's runs were queued since
}

// acknowledge notes that a group was committed. Nobody was told of it yet.
func (a *acks) acknowledge(last *int64, n int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	*last = n
}

// follow returns the last group of the writer. ok is false while the server has lost groups, and the process's runs are
// not queued yet.
func (a *acks) follow() (writer int64, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.writer, a.lost == a.requeued
}

// checkEnd looks, on a new connection, whether the server still has the process's last groups. A standby that took over
// may not: then what was acknowledged since is gone, runs are as they were before, and this process executes some that
// the server knows nothing of, or has ended runs that the server takes for executing. So all that is remembered of the
// database is forgotten, and the process is as one that was taken for dead; see direct.beat.
func (s *Store) checkEnd(ctx context.Context, c *pgx.Conn) error {
	a := &s.acks
	a.mu.Lock()
	writer, ends := a.writer, a.ends
	a.mu.Unlock()
	if writer == 0 && ends == 0 {
		return nil
	}
	var hasWriter, hasEnds int64
	err := c.QueryRow(ctx, s.sql("SELECT coalesce((SELECT n FROM stint.groups WHERE process = $1 ORDER BY n DESC LIMIT 1), 0), "+
		"coalesce((SELECT n FROM stint.groups WHERE process = $2 ORDER BY n DESC LIMIT 1), 0)"),
		s.direct.process.name, endsName(s.direct.process.name)).Scan(&hasWriter, &hasEnds)
	if err != nil || hasWriter >= writer && hasEnds >= ends {
		return err
	}
	a.mu.Lock()
	a.writer, a.ends = min(a.writer, hasWriter), min(a.ends, hasEnds)
	a.lost++
	a.mu.Unlock()
	s.graphs.Forget()
	s.direct.setBack.Store(true)
	return nil
}

// requeueOwn queues the process's runs, before anything else is committed, on a server that has lost groups: what their
// handlers say follows from what is gone, a child for instance, and is stale.
func (w *writer) requeueOwn(ctx context.Context) error {
	a := &w.s.acks
	a.mu.Lock()
	lost := a.lost
	is := lost != a.requeued && !w.requeues
	a.mu.Unlock()
	if !is {
		return nil
	}
	w.outdated(true)
	w.lanes.reset(nil) // runs that were taken are ready again, before the marks
	w.requeues = true
	c := &change{done: make(chan struct{}), apply: releaseOwn}
	w.commitGroup(ctx, []*change{c}, nil)
	w.requeues = false
	if c.err == nil {
		a.mu.Lock()
		a.requeued = lost
		a.mu.Unlock()
	}
	return c.err
}

// connectAgain connects, and waits for a server that is away.
func (w *writer) connectAgain(ctx context.Context) {
	for w.connect(ctx) != nil && ctx.Err() == nil {
		pause.For(ctx, reconnectMax/10)
	}
}

// startOver queues the runs that this process executes by the account of a server that lost its last commits. Its
// handlers are interrupted: others may execute their runs.
func (s *Store) startOver(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := s.do(ctx, releaseOwn); err != nil {
		return err
	}
	return s.revived(ctx)
}
