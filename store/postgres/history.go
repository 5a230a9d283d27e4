package postgres

import (
	"context"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
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
	r := &reading.Reader{Dialect: &reading.PostgreSQL, IDs: s.ids, Graphs: &s.graphs}
	for pauses, began := reconnectMin, time.Now(); ; pauses = min(2*pauses, reconnectMax) {
		err := s.view(ctx, func(c *pgx.Conn) error { return f(r, reader{ctx, s, c}) })
		if !unavailable(err) || time.Since(began) > readWait {
			return err
		}
		pause(ctx, pauses)
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

// LogLines implements store.History.
func (s *Store) LogLines(ctx context.Context, f store.LogFilter, after store.LogPlace, limit int) (
	lines []store.RunLog, next store.LogPlace, err error) {
	err = s.reads(ctx, func(r *reading.Reader, q reading.Querier) (err error) {
		lines, next, err = r.LogLines(q, f, after, limit)
		return err
	})
	return lines, next, err
}

// LogCounts implements store.History.
func (s *Store) LogCounts(ctx context.Context, f store.LogFilter, span time.Duration, limit int) (all []store.LogCount, err error) {
	err = s.reads(ctx, func(r *reading.Reader, q reading.Querier) (err error) {
		all, err = r.LogCounts(q, f, span, limit)
		return err
	})
	return all, err
}

// Chunks implements store.History.
func (s *Store) Chunks(ctx context.Context, id store.ID, after int64, limit int) (chunks []store.Chunk, ended bool, err error) {
	err = s.reads(ctx, func(r *reading.Reader, q reading.Querier) (err error) {
		chunks, ended, err = r.Chunks(q, id, after, limit)
		return err
	})
	return chunks, ended, err
}

// Living implements store.Workers.
func (s *Store) Living(ctx context.Context) (all []store.WorkerInfo, err error) {
	err = s.reads(ctx, func(_ *reading.Reader, q reading.Querier) (err error) {
		all, err = reading.Living(q)
		return err
	})
	return all, err
}

// Crons implements store.Schedules.
func (s *Store) Crons(ctx context.Context, after string, limit int) (all []store.Cron, more bool, err error) {
	err = s.reads(ctx, func(r *reading.Reader, q reading.Querier) (err error) {
		all, more, err = r.Crons(q, after, limit)
		return err
	})
	return all, more, err
}

// Events implements store.Schedules.
func (s *Store) Events(
	ctx context.Context, f store.EventFilter, before store.ID, limit int,
) (infos []store.EventInfo, next store.ID, err error) {
	err = s.reads(ctx, func(r *reading.Reader, q reading.Querier) (err error) {
		infos, next, err = r.Events(q, &f, before, limit)
		return err
	})
	return infos, next, err
}

// Filters implements store.Schedules.
func (s *Store) Filters(ctx context.Context, task string, after int64, limit int) (all []store.TaskFilter, more bool, err error) {
	err = s.reads(ctx, func(_ *reading.Reader, q reading.Querier) (err error) {
		all, more, err = reading.Filters(q, task, after, limit)
		return err
	})
	return all, more, err
}

// Queues implements store.Limits.
func (s *Store) Queues(ctx context.Context, name string) (all []store.QueueInfo, err error) {
	err = s.reads(ctx, func(r *reading.Reader, q reading.Querier) (err error) {
		all, err = r.Queues(q, name)
		return err
	})
	return all, err
}

// Limits implements store.Limits.
func (s *Store) Limits(ctx context.Context, rates bool) (all []store.LimitInfo, err error) {
	err = s.reads(ctx, func(_ *reading.Reader, q reading.Querier) (err error) {
		all, err = reading.Limits(q, s.clock.Now(), rates)
		return err
	})
	return all, err
}

// Counters implements store.Stats.
func (s *Store) Counters(ctx context.Context, span time.Duration, since time.Time, of store.Per) (all []store.Counters, err error) {
	err = s.reads(ctx, func(_ *reading.Reader, q reading.Querier) (err error) {
		all, err = reading.Counters(q, span, since, of)
		return err
	})
	return all, err
}

// Counts implements store.Stats.
func (s *Store) Counts(ctx context.Context) (counts map[store.State]int, err error) {
	err = s.reads(ctx, func(_ *reading.Reader, q reading.Querier) (err error) {
		counts, err = reading.Counts(q)
		return err
	})
	return counts, err
}

// Names implements store.Stats.
func (s *Store) Names(ctx context.Context) (n *store.Names, err error) {
	err = s.reads(ctx, func(r *reading.Reader, q reading.Querier) (err error) {
		n, err = r.Names(q)
		return err
	})
	return n, err
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
