package sqlite

import (
	"context"
	"time"

	"github.com/stint-dev/stint/store"
)

// Get implements store.History.
func (s *Store) Get(ctx context.Context, id store.ID) (run *store.Run, err error) {
	err = s.view(ctx, func(q querier) error {
		run, err = s.reads().Get(q, time.Now(), id)
		return err
	})
	return run, err
}

// List implements store.History.
func (s *Store) List(ctx context.Context, f store.Filter, before store.ID, limit int) (runs []store.Run, next store.ID, err error) {
	err = s.view(ctx, func(q querier) error {
		runs, next, err = s.reads().List(q, time.Now(), f, before, limit)
		return err
	})
	return runs, next, err
}

// Count implements store.History.
func (s *Store) Count(ctx context.Context, f store.Filter, before store.ID) (n int, next store.ID, err error) {
	err = s.view(ctx, func(q querier) error {
		n, next, err = s.reads().Count(q, f, before)
		return err
	})
	return n, next, err
}

// Workflow implements store.History.
func (s *Store) Workflow(ctx context.Context, id store.ID, names []string) (g *store.Graph, tasks []store.WorkflowTask, err error) {
	err = s.view(ctx, func(q querier) error {
		g, tasks, err = s.reads().Workflow(q, id, names)
		return err
	})
	return g, tasks, err
}

// Entries implements store.History.
func (s *Store) Entries(
	ctx context.Context, id store.ID, after store.Address, limit int, notes bool,
) (page []store.Entry, more bool, err error) {
	err = s.view(ctx, func(q querier) error {
		page, more, err = s.reads().Entries(q, id, after, limit, notes)
		return err
	})
	return page, more, err
}

// Logs implements store.History.
func (s *Store) Logs(ctx context.Context, id store.ID, after int64, limit int) (logs []store.Log, err error) {
	err = s.view(ctx, func(q querier) error {
		logs, err = s.reads().Logs(q, id, after, limit)
		return err
	})
	return logs, err
}

// LogLines implements store.History.
func (s *Store) LogLines(
	ctx context.Context, f store.LogFilter, after store.LogPlace, limit int,
) (lines []store.RunLog, next store.LogPlace, err error) {
	err = s.view(ctx, func(q querier) error {
		lines, next, err = s.reads().LogLines(q, f, after, limit)
		return err
	})
	return lines, next, err
}

// LogCounts implements store.History.
func (s *Store) LogCounts(ctx context.Context, f store.LogFilter, span time.Duration, limit int) (all []store.LogCount, err error) {
	err = s.view(ctx, func(q querier) error {
		all, err = s.reads().LogCounts(q, f, span, limit)
		return err
	})
	return all, err
}

// Chunks implements store.History.
func (s *Store) Chunks(ctx context.Context, id store.ID, after int64, limit int) (chunks []store.Chunk, ended bool, err error) {
	err = s.view(ctx, func(q querier) error {
		chunks, ended, err = s.reads().Chunks(q, id, after, limit)
		return err
	})
	return chunks, ended, err
}

// Queues implements store.Limits.
func (s *Store) Queues(ctx context.Context, name string) (all []store.QueueInfo, err error) {
	err = s.view(ctx, func(q querier) error {
		all, err = s.reads().Queues(q, name)
		return err
	})
	return all, err
}
