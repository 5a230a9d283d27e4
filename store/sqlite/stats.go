package sqlite

import (
	"context"
	"fmt"
	"os"

	"github.com/stint-dev/stint/store"
)

// Changed implements store.Health.
func (s *Store) Changed(ctx context.Context, after uint64) (uint64, error) {
	if err := s.hasMoved(); err != nil {
		return 0, err
	}
	n, err := s.w.changes.Changed(ctx, after, s.w.isClosed)
	if err == nil {
		err = s.hasMoved()
	}
	return n, err
}

func (w *writer) isClosed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.closed
}

// Facts implements store.Health.
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
