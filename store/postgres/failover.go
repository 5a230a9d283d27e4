package postgres

import (
	"context"
	"time"
)

// checkEnd looks, on a new connection, whether the server still has the process's last group. A standby that took over
// may not: then what was acknowledged since is gone, runs are as they were before, and this process executes some that
// the server knows nothing of, or has ended runs that the server takes for executing. So all that is remembered of the
// database is forgotten, and the process is as one that was taken for dead; see direct.beat.
func (w *writer) checkEnd(ctx context.Context) error {
	if w.acknowledged == 0 {
		return nil
	}
	var last int64
	err := w.conn.QueryRow(ctx, w.s.sql("SELECT coalesce(max(n), 0) FROM stint.groups WHERE process = $1"), w.s.direct.process.name).
		Scan(&last)
	if err != nil || last >= w.acknowledged {
		return err
	}
	w.acknowledged = last
	w.outdated(true)
	w.s.graphs.Forget()
	w.s.direct.setBack.Store(true)
	w.setBack = true
	return nil
}

// requeueOwn queues the process's runs, before anything else is committed, on a server that has lost groups: what their
// handlers say follows from what is gone, a child for instance, and is stale.
func (w *writer) requeueOwn(ctx context.Context) error {
	if !w.setBack {
		return nil
	}
	w.setBack = false
	c := &change{done: make(chan struct{}), apply: releaseOwn}
	w.commitGroup(ctx, []*change{c}, nil)
	w.setBack = c.err != nil
	return c.err
}

// connectAgain connects, and waits for a server that is away.
func (w *writer) connectAgain(ctx context.Context) {
	for w.connect(ctx) != nil && ctx.Err() == nil {
		pause(ctx, reconnectMax/10)
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
