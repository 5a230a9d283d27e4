// Command river benchmarks River on its drivers of SQLite and PostgreSQL.
package main

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/riverdriver/riversqlite"
	"github.com/riverqueue/river/rivermigrate"
	_ "modernc.org/sqlite"

	"github.com/stint-dev/stint/bench/hb"
	"github.com/stint-dev/stint/bench/pg"
	"github.com/stint-dev/stint/bench/sq"
)

type worker struct {
	river.WorkerDefaults[hb.Payload]
	work func(int64)
}

func (w *worker) Work(_ context.Context, j *river.Job[hb.Payload]) error {
	w.work(j.Args.T)
	return nil
}

type settings struct {
	sync     string
	cooldown time.Duration // 0: River's default, 100 ms
	poll     time.Duration // 0: River's default, 1 s
}

func (s settings) config(slots int, work func(int64)) *river.Config {
	ws := river.NewWorkers()
	w := &worker{work: work}
	river.AddWorker(ws, w)
	c := &river.Config{Workers: ws, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), FetchCooldown: s.cooldown,
		FetchPollInterval: s.poll}
	if slots > 0 {
		c.Queues = map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: slots}}
	}
	return c
}

func (s settings) note() string {
	if s.cooldown == 0 {
		return "[fetch cooldown 100ms, poll 1s: defaults]"
	}
	return fmt.Sprintf("[fetch cooldown %s, poll %s: tuned]", s.cooldown, s.poll)
}

type lite struct {
	settings
	db   *sql.DB
	note string
	ins  *river.Client[*sql.Tx]
	wk   *river.Client[*sql.Tx]
}

func (p *lite) Open(ctx context.Context, dir string) (err error) {
	if p.db, p.note, err = sq.Modernc(dir, p.sync, 1); err != nil {
		return err
	}
	m, err := rivermigrate.New(riversqlite.New(p.db), nil)
	if err != nil {
		return err
	}
	if _, err = m.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return err
	}
	p.ins, err = river.NewClient(riversqlite.New(p.db), p.config(0, nil))
	return err
}

func (p *lite) Enqueue(ctx context.Context, t int64) error {
	_, err := p.ins.Insert(ctx, hb.Payload{T: t, Pad: hb.Pad}, nil)
	return err
}

func (p *lite) Bulk(ctx context.Context, n int, delay time.Duration) error {
	_, err := p.ins.InsertManyFast(ctx, many(n, delay))
	return err
}

func many(n int, delay time.Duration) []river.InsertManyParams {
	ps := make([]river.InsertManyParams, n)
	var o *river.InsertOpts
	if delay > 0 {
		o = &river.InsertOpts{ScheduledAt: time.Now().Add(delay)}
	}
	now := time.Now().UnixNano()
	for i := range ps {
		ps[i] = river.InsertManyParams{Args: hb.Payload{T: now, Pad: hb.Pad}, InsertOpts: o}
	}
	return ps
}

func (p *lite) Start(ctx context.Context, slots int, work func(int64)) (err error) {
	if p.wk, err = river.NewClient(riversqlite.New(p.db), p.config(slots, work)); err != nil {
		return err
	}
	return p.wk.Start(ctx)
}

func (p *lite) Stop(ctx context.Context) { stop(ctx, p.wk.Stop) }

func stop(ctx context.Context, f func(context.Context) error) {
	cx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	_ = f(cx)
}

const left = `select count(*) from river_job where state in ('available','running','retryable','scheduled','pending')`

func (p *lite) Left(ctx context.Context) (n int64, err error) {
	err = p.db.QueryRowContext(ctx, left).Scan(&n)
	return
}
func (p *lite) Close()        { p.db.Close() }
func (p *lite) Notes() string { return p.note + p.settings.note() }

// server is River on PostgreSQL, in a schema of its own.
type server struct {
	settings
	pool *pgxpool.Pool
	ins  *river.Client[pgx.Tx]
	wk   *river.Client[pgx.Tx]
}

const schema = "bench_river"

func (p *server) Open(ctx context.Context, _ string) error {
	if err := pg.Reset(ctx, schema); err != nil {
		return err
	}
	c, err := pgxpool.ParseConfig(pg.URL())
	if err != nil {
		return err
	}
	c.MaxConns, c.ConnConfig.RuntimeParams["search_path"] = 40, schema
	if p.pool, err = pgxpool.NewWithConfig(ctx, c); err != nil {
		return err
	}
	if _, err := p.pool.Exec(ctx, "create schema "+schema); err != nil {
		return err
	}
	m, err := rivermigrate.New(riverpgxv5.New(p.pool), nil)
	if err != nil {
		return err
	}
	if _, err := m.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return err
	}
	p.ins, err = river.NewClient(riverpgxv5.New(p.pool), p.config(0, nil))
	return err
}

func (p *server) Enqueue(ctx context.Context, t int64) error {
	_, err := p.ins.Insert(ctx, hb.Payload{T: t, Pad: hb.Pad}, nil)
	return err
}

func (p *server) Bulk(ctx context.Context, n int, delay time.Duration) error {
	_, err := p.ins.InsertManyFast(ctx, many(n, delay))
	return err
}

func (p *server) Start(ctx context.Context, slots int, work func(int64)) (err error) {
	if p.wk, err = river.NewClient(riverpgxv5.New(p.pool), p.config(slots, work)); err != nil {
		return err
	}
	return p.wk.Start(ctx)
}

func (p *server) Stop(ctx context.Context) { stop(ctx, p.wk.Stop) }

func (p *server) Left(ctx context.Context) (n int64, err error) {
	err = p.pool.QueryRow(ctx, left).Scan(&n)
	return
}
func (p *server) Close()        { p.pool.Close() }
func (p *server) Notes() string { return pg.Notes + p.note() }

func main() {
	ms := time.Millisecond
	hb.Main(hb.Variants{
		"river-sqlite":              func() hb.Peer { return &lite{settings: settings{sync: "FULL"}} },
		"river-sqlite-tuned":        func() hb.Peer { return &lite{settings: settings{"FULL", ms, 20 * ms}} },
		"river-pg-tuned":            func() hb.Peer { return &server{settings: settings{"", ms, 20 * ms}} },
		"river-sqlite-tuned-normal": func() hb.Peer { return &lite{settings: settings{"NORMAL", ms, 20 * ms}} },
	})
}
