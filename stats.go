package stint

import (
	"context"
	"fmt"
	"time"

	"github.com/stint-dev/stint/store"
)

// Stats is what happened in a span of time: to all runs, or to those of one task in one
// queue. The process that does it counts it, and stores its counts about once a second:
// what it counted since is lost if it is killed.
type Stats struct {
	At          time.Time // where the span begins
	Queue, Task string    // both empty: of all runs

	Enqueued  int64 // runs that were made, save tasks of workflows and what WithTx made
	Started   int64 // executions
	Succeeded int64 // runs that ended so; those of workflows, and of their tasks, count each
	Failed    int64
	Canceled  int64
	Skipped   int64
	Retried   int64 // attempts that failed and were not the last

	// Of all runs alone.
	Depth   int   // most runs that were ready at a time, counted up to 10,000
	Commits int64 // transactions
	Changes int64 // calls that they answered

	tally store.Counters
}

// Wait is a quantile, 0 to 1, of the time from when a run was due to its start: a value
// that so large a part did not exceed, rounded up by at most half. 0: none started.
func (s *Stats) Wait(q float64) time.Duration { return s.tally.Waits.Quantile(q) }

// Duration is the like of the time from the last start of a run to its end.
func (s *Stats) Duration(q float64) time.Duration { return s.tally.Durations.Quantile(q) }

// Commit is the like of the time that a commit took.
func (s *Stats) Commit(q float64) time.Duration { return s.tally.Syncs.Quantile(q) }

// Ended is how many runs ended.
func (s *Stats) Ended() int64 { return s.Succeeded + s.Failed + s.Canceled + s.Skipped }

// Add adds what happened in another span, or to other runs.
func (s *Stats) Add(o *Stats) {
	t := s.tally
	t.Add(&o.tally)
	*s = statsOf(t, s.At, s.Queue, s.Task)
}

func statsOf(t store.Counters, at time.Time, queue, task string) Stats {
	return Stats{at, queue, task, t.Enqueued, t.Started, t.Succeeded, t.Failed, t.Canceled, t.Skipped, t.Retried, t.Depth, t.Commits, t.Changes, t}
}

// A StatsFilter selects statistics.
type StatsFilter struct {
	Since time.Time // spans that end after
	// Span is a minute, which is the default, or an hour. Minutes are kept for a day, hours
	// for a month.
	Span    time.Duration
	PerTask bool // of each task in each queue, and not of all
}

// Stats returns what happened, oldest first. A span in which nothing did is not there.
func (c *Client) Stats(ctx context.Context, f StatsFilter) ([]Stats, error) {
	if f.Span == 0 {
		f.Span = time.Minute
	}
	if f.Span != time.Minute && f.Span != time.Hour {
		return nil, fmt.Errorf("stint: stats: span %v: want a minute or an hour", f.Span)
	}
	if err := wantTime("stats: Since", f.Since); err != nil {
		return nil, err
	}
	all, err := c.store.Counters(ctx, f.Span, f.Since, f.PerTask)
	if err != nil {
		return nil, wrapStoreErr("stats", err)
	}
	stats := make([]Stats, len(all))
	for i, t := range all {
		stats[i] = statsOf(t, t.At, t.Queue, t.Task)
	}
	return stats, nil
}

// CountRuns counts the runs that have not ended, by state, each up to 10,000.
func (c *Client) CountRuns(ctx context.Context) (map[State]int, error) {
	counts, err := c.store.Counts(ctx)
	return counts, wrapStoreErr("count runs", err)
}

// Changed waits until something in the database has changed, by whatever process, since
// after: a number that an earlier call returned, or 0, with which it returns at once. It
// misses no change, and may return where there was none.
func (c *Client) Changed(ctx context.Context, after uint64) (uint64, error) {
	n, err := c.store.Changed(ctx, after)
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
	return n, wrapStoreErr("changed", err)
}

// DatabaseInfo describes the database.
type DatabaseInfo struct {
	Path       string // "": in memory
	Engine     string // and its version
	Schema     int    // version
	Durability string // "full" or "normal", of this client's commits
	Size       int64  // bytes
	Free       int64  // of them, unused
	LogSize    int64  // bytes of the log of what was committed last
	Retention  time.Duration
	Checkpoint time.Time // when what was committed last went from the log into the file; zero: in memory
}

// Database describes the database.
func (c *Client) Database(ctx context.Context) (*DatabaseInfo, error) {
	f, err := c.store.Facts(ctx)
	if err != nil {
		return nil, wrapStoreErr("describe the database", err)
	}
	return &DatabaseInfo{f.Path, f.Engine, f.Schema, f.Durability, f.Size, f.FreePages * f.PageSize, f.LogSize, c.cfg.retention, f.Checkpoint}, nil
}
