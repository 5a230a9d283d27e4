package postgres

import (
	"context"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/stint-dev/stint/internal/pause"
	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/reading"
)

// A reader runs the statements of package reading on a connection.
type reader struct {
	ctx context.Context
	s   *Store
	c   *pgx.Conn
}

// Query implements reading.Querier.
func (r reader) Query(text string, args ...any) (reading.Rows, error) {
	rows, err := r.c.Query(r.ctx, r.s.rewritten(text), asStored(args)...)
	if err != nil {
		return nil, err
	}
	return readerRows{rows}, nil
}

// asStored returns arguments with texts as the database has them: bytes that are not UTF-8, which a server refuses,
// are U+FFFD there, and a NUL, which no text can have, is escaped in JSON. The arguments are not changed.
func asStored(args []any) []any {
	for i, a := range args {
		text, ok := a.(string)
		if !ok || utf8.ValidString(text) && !strings.Contains(text, "\x00") {
			continue
		}
		args = slices.Clone(args)
		args[i] = strings.ReplaceAll(strings.ToValidUTF8(text, "\ufffd"), "\x00", `\u0000`)
	}
	return args
}

// rewritten returns a statement of package reading for the store's schema.
func (s *Store) rewritten(text string) string {
	if t, ok := s.texts.Load(text); ok {
		return t.(string)
	}
	t := reading.Rewrite(text, s.settings.Schema)
	if s.textCount.Add(1) < keptTexts {
		s.texts.Store(text, t)
	}
	return t
}

// keptTexts is the number of rewritten statements that are remembered. Lists have any number of texts.
const keptTexts = 1000

// readerRows are rows of pgx as those of database/sql, which converts between more types.
type readerRows struct {
	pgx.Rows
}

// Close implements reading.Rows.
func (r readerRows) Close() error {
	r.Rows.Close()
	return r.Err()
}

// readWait is how long a call waits that reads from a server which is away, so that neither a restart nor a failover
// fails what handlers read.
const readWait = 10 * time.Second

// reads runs a function that reads, and may run it again.
func (s *Store) reads(ctx context.Context, f func(r *reading.Reader, q reading.Querier) error) error {
	r := s.reader()
	return patiently(ctx, func() error {
		return s.view(ctx, func(c *pgx.Conn) error { return f(r, reader{ctx, s, c}) })
	})
}

func (s *Store) reader() *reading.Reader {
	return &reading.Reader{Dialect: &reading.PostgreSQL, IDs: s.ids, Graphs: &s.graphs}
}

// patiently calls a function that reads again while the server is away.
func patiently(ctx context.Context, read func() error) error {
	for pauses, began := reconnectMin, time.Now(); ; pauses = min(2*pauses, reconnectMax) {
		err := read()
		if !unavailable(err) || time.Since(began) > readWait {
			return err
		}
		pause.For(ctx, pauses)
	}
}

// Get implements store.History.
func (s *Store) Get(ctx context.Context, id store.ID) (run *store.Run, err error) {
	err = s.reads(ctx, func(r *reading.Reader, q reading.Querier) (err error) {
		run, err = r.Get(q, s.clock.Now(), id)
		return err
	})
	return run, err
}

// Read implements store.Lists.
func (s *Store) Read(ctx context.Context, query store.Query) error {
	return s.reads(ctx, func(r *reading.Reader, q reading.Querier) error { return r.Read(q, s.clock.Now(), query) })
}

// List implements store.History.
func (s *Store) List(ctx context.Context, f store.Filter, before store.ID, limit int) (runs []store.Run, next store.ID, err error) {
	err = s.reads(ctx, func(r *reading.Reader, q reading.Querier) (err error) {
		runs, next, err = r.List(q, s.clock.Now(), f, before, limit)
		return err
	})
	return runs, next, err
}

// Count implements store.History.
func (s *Store) Count(ctx context.Context, f store.Filter, before store.ID) (n int, next store.ID, err error) {
	err = s.reads(ctx, func(r *reading.Reader, q reading.Querier) (err error) {
		n, next, err = r.Count(q, f, before)
		return err
	})
	return n, next, err
}

// Workflow implements store.History.
func (s *Store) Workflow(ctx context.Context, id store.ID, names []string) (g *store.Graph, tasks []store.WorkflowTask, err error) {
	if key, ok := s.ids.Key(id); ok && names == nil {
		err = patiently(ctx, func() error {
			f, ok, err := s.gather.flows.get(ctx, key)
			if err == nil && !ok {
				err = reading.NoWorkflow(id)
			}
			g, tasks = f.Graph, f.Tasks
			return err
		})
		return g, tasks, err
	}
	err = s.reads(ctx, func(r *reading.Reader, q reading.Querier) (err error) {
		g, tasks, err = r.Workflow(q, id, names)
		return err
	})
	return g, tasks, err
}

// Entries implements store.History.
func (s *Store) Entries(ctx context.Context, id store.ID, after store.Address, limit int, notes bool) (
	page []store.Entry, more bool, err error) {
	err = s.reads(ctx, func(r *reading.Reader, q reading.Querier) (err error) {
		page, more, err = r.Entries(q, id, after, limit, notes)
		return err
	})
	return page, more, err
}

// Logs implements store.History.
func (s *Store) Logs(ctx context.Context, id store.ID, after int64, limit int) (logs []store.Log, err error) {
	err = s.reads(ctx, func(r *reading.Reader, q reading.Querier) (err error) {
		logs, err = r.Logs(q, id, after, limit)
		return err
	})
	return logs, err
}

// Chunks implements store.History.
func (s *Store) Chunks(ctx context.Context, id store.ID, after int64, limit int) (chunks []store.Chunk, ended bool, err error) {
	err = s.reads(ctx, func(r *reading.Reader, q reading.Querier) (err error) {
		chunks, ended, err = r.Chunks(q, id, after, limit)
		return err
	})
	return chunks, ended, err
}

// Act implements store.Runs.
func (s *Store) Act(ctx context.Context, now time.Time, a store.Action, f store.Filter) (total int, err error) {
	if !a.DryRun && s.settings.ReadOnly {
		return 0, store.ErrReadOnly
	}
	var selected *reading.Selection
	err = s.reads(ctx, func(r *reading.Reader, q reading.Querier) (err error) {
		if selected, err = r.Select(q, &a, f); err == nil && a.DryRun {
			total, err = selected.Count(q)
		}
		return err
	})
	if err != nil || a.DryRun {
		return total, err
	}
	for before := int64(1) << 62; ; {
		var keys []int64
		err := s.reads(ctx, func(_ *reading.Reader, q reading.Querier) (err error) {
			keys, err = selected.Before(q, before, perBulk)
			return err
		})
		if err != nil || len(keys) == 0 {
			return total, err
		}
		n, err := s.actOn(ctx, now, &a, keys)
		if err != nil {
			return total, err
		}
		total, before = total+n, keys[len(keys)-1]
	}
}
