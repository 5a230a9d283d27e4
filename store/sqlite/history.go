package sqlite

import (
	"context"
	"time"

	"github.com/stint-dev/stint/store"
)

// Read implements store.Lists.
func (s *Store) Read(ctx context.Context, query store.Query) error {
	return s.view(ctx, func(q querier) error { return s.reads().Read(q, time.Now(), query) })
}

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

// Chunks implements store.History.
func (s *Store) Chunks(ctx context.Context, id store.ID, after int64, limit int) (chunks []store.Chunk, ended bool, err error) {
	err = s.view(ctx, func(q querier) error {
		chunks, ended, err = s.reads().Chunks(q, id, after, limit)
		return err
	})
	return chunks, ended, err
}
