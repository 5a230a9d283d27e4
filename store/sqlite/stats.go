package sqlite

import (
	"context"
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	"github.com/stint-dev/stint/store"
)

// changes counts commits that may have changed something, for Changed.
type changes struct {
	n       atomic.Uint64
	waiting atomic.Bool
	mu      sync.Mutex
	next    chan struct{} // closed by the next change, if waiting
}

// add counts a commit by what it did, so that the number also measures how busy the store is.
func (c *changes) add(did int) {
	c.n.Add(uint64(max(did, 1)))
	if !c.waiting.Load() {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waiting.Swap(false) {
		close(c.next)
	}
}

// wait returns the number of changes, and a channel that the next change closes.
func (c *changes) wait() (uint64, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.waiting.Load() {
		c.next = make(chan struct{})
		c.waiting.Store(true)
	}
	return c.n.Load(), c.next
}

// Changed implements store.Stats. The first number is 1, so that 0 is before all.
func (s *Store) Changed(ctx context.Context, after uint64) (uint64, error) {
	for {
		n, next := s.w.changes.wait()
		if s.w.isClosed() {
			return 0, store.ErrClosed
		}
		if n+1 > after {
			return n + 1, nil
		}
		select {
		case <-next:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

func (w *writer) isClosed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.closed
}

// stateCountsSQL counts by the partial indexes, whose conditions have states as literals.
var stateCountsSQL = map[store.State]string{
	store.Scheduled: stateScheduled,
	store.Queued:    stateQueued,
	store.Running:   stateRunning,
	store.Waiting:   stateWaiting + " AND " + afterRunning + " AND " + notEnded,
	store.Blocked:   stateBlocked + " AND " + afterRunning + " AND " + notEnded,
}

// Counts implements store.Stats.
func (s *Store) Counts(ctx context.Context) (map[store.State]int, error) {
	counts := map[store.State]int{}
	err := s.view(ctx, func(q querier) error {
		for state, cond := range stateCountsSQL {
			var n int
			if err := q.one("SELECT count(*) FROM (SELECT 1 FROM stint_runs WHERE "+cond+" LIMIT ?)", []any{store.MaxCount},
				&n); err != nil {
				return err
			}
			counts[state] = n
		}
		return nil
	})
	return counts, err
}

// Facts implements store.Stats.
func (s *Store) Facts(ctx context.Context) (f store.Facts, err error) {
	f.Durability = "full"
	if s.opts.Normal {
		f.Durability = "normal"
	}
	var engine string
	err = s.view(ctx, func(q querier) error {
		for text, into := range map[string]any{
			"PRAGMA page_count": &f.Pages, "PRAGMA page_size": &f.PageSize, "PRAGMA freelist_count": &f.FreePages,
			"SELECT version FROM stint_schema": &f.Schema, "SELECT sqlite_version()": &engine,
		} {
			if err := q.one(text, nil, into); err != nil {
				return fmt.Errorf("%s: %w", text, err)
			}
		}
		return nil
	})
	f.Engine, f.Size = "SQLite "+engine, f.Pages*f.PageSize
	if s.path == Memory {
		return f, err
	}
	f.Path = s.path
	if info, statErr := os.Stat(s.path); statErr == nil {
		f.Checkpoint = info.ModTime() // with a log, only a checkpoint writes the file
	}
	if info, statErr := os.Stat(s.path + "-wal"); statErr == nil {
		f.LogSize = info.Size()
	}
	return f, err
}
