// Command dbos benchmarks dbos-transact-golang on SQLite and PostgreSQL.
package main

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dbos-inc/dbos-transact-golang/dbos"
	_ "github.com/dbos-inc/dbos-transact-golang/dbos/driver/sqlite"
	_ "modernc.org/sqlite"

	"github.com/stint-dev/stint/bench/hb"
	"github.com/stint-dev/stint/bench/pg"
)

type peer struct {
	poll time.Duration // 0: the default, 1 s
	pg   bool          // durable steps alone: no queue
	url  string
	full bool    // SQLite only: synchronous=FULL, by handing dbos our own pool of 8 connections
	dsn  string  // of that pool
	db   *sql.DB // own handle, for counting and bulk
	cl   dbos.Client
	ctx  dbos.Context
	work func(int64)
}

var logger = slog.New(slog.NewTextHandler(io.Discard, nil))

func (p *peer) config() dbos.Config {
	return dbos.Config{AppName: "bench", DatabaseURL: p.url, DatabaseSchema: p.schema(), SQLiteSystemDB: p.sys(), Logger: logger,
		ApplicationVersion: "1", ExecutorID: "e1"}
}

func (p *peer) schema() string {
	if p.pg {
		return "bench_dbos"
	}
	return ""
}

func (p *peer) Open(ctx context.Context, dir string) (err error) {
	if p.pg {
		p.url = pg.URL()
		return pg.Reset(ctx, p.schema())
	}
	p.url = "sqlite:" + filepath.Join(dir, "q.db")
	if p.full {
		// A synchronous pragma in the URL is not enough: dbos sets NORMAL again on the pool's first connection.
		p.dsn = "file:" + filepath.Join(dir, "q.db") +
			"?_pragma=busy_timeout(5000)&_pragma=foreign_keys(ON)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_txlock=immediate"
		p.url = ""
	}
	// The migrations run in NewContext/Launch, so a context is launched and shut down once.
	c, err := dbos.NewContext(ctx, p.config())
	if err != nil {
		return err
	}
	p.register(c)
	if err = dbos.Launch(c); err != nil {
		return err
	}
	if err = dbos.Shutdown(c, 5*time.Second); err != nil {
		return err
	}
	dsn := "file:" + filepath.Join(dir, "q.db") + "?_pragma=busy_timeout(10000)&_pragma=synchronous(" + p.syncName() + ")&_txlock=immediate"
	if p.db, err = sql.Open("sqlite", dsn); err != nil {
		return err
	}
	p.db.SetMaxOpenConns(1)
	p.cl, err = dbos.NewClient(ctx, dbos.ClientConfig{DatabaseURL: p.url, SQLiteSystemDB: p.sys(), AppName: "bench", Logger: logger})
	return err
}

// sys opens a pool for dbos; it closes it at Shutdown, so each context gets its own.
func (p *peer) sys() *sql.DB {
	if p.dsn == "" {
		return nil
	}
	db, err := sql.Open("sqlite", p.dsn)
	if err != nil {
		panic(err)
	}
	db.SetMaxOpenConns(8)
	db.SetMaxIdleConns(4)
	return db
}

func (p *peer) syncName() string {
	if p.full {
		return "FULL"
	}
	return "NORMAL"
}

func (p *peer) register(c dbos.Context) {
	dbos.RegisterWorkflow(c, p.noop, dbos.WithWorkflowName("noop"))
	dbos.RegisterWorkflow(c, five, dbos.WithWorkflowName("five"))
	dbos.RegisterWorkflow(c, nap, dbos.WithWorkflowName("nap"))
}

func (p *peer) noop(_ dbos.Context, in hb.Payload) (string, error) {
	p.work(in.T)
	return "", nil
}

func step(context.Context) (int, error) { return 1, nil }

func five(c dbos.Context, in hb.Payload) (int, error) {
	sum := 0
	for range 5 {
		n, err := dbos.RunAsStep(c, step)
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

func nap(c dbos.Context, _ hb.Payload) (int, error) {
	_, err := dbos.Sleep(c, time.Hour)
	return 0, err
}

func (p *peer) Enqueue(ctx context.Context, t int64) error {
	_, err := dbos.Enqueue[string](p.cl, "q", "noop", hb.Payload{T: t, Pad: hb.Pad})
	return err
}

// Bulk enqueues n workflows in one caller-owned transaction; there is no bulk API.
func (p *peer) Bulk(ctx context.Context, n int, delay time.Duration) error {
	opts := []dbos.EnqueueOption{nil}
	if delay > 0 {
		opts = append(opts, dbos.WithEnqueueDelay(delay))
	}
	in := hb.Payload{T: time.Now().UnixNano(), Pad: hb.Pad}
	tx, err := p.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	opts[0] = dbos.WithEnqueueTransaction(tx)
	for range n {
		if _, err := dbos.Enqueue[string](p.cl, "q", "noop", in, opts...); err != nil {
			return err
		}
	}
	return tx.Commit()
}

func (p *peer) Start(ctx context.Context, slots int, work func(int64)) (err error) {
	p.work = work
	if p.ctx, err = dbos.NewContext(ctx, p.config()); err != nil {
		return err
	}
	p.register(p.ctx)
	if p.pg {
		return dbos.Launch(p.ctx)
	}
	qo := []dbos.QueueOption{dbos.WithWorkerConcurrency(slots), dbos.WithQueueOnConflict(dbos.QueueConflictAlwaysUpdate)}
	if p.poll > 0 {
		qo = append(qo, dbos.WithQueueBasePollingInterval(p.poll))
	}
	if _, err = dbos.RegisterQueue(p.cl, "q", qo...); err != nil {
		return err
	}
	return dbos.Launch(p.ctx)
}

func (p *peer) Stop(context.Context) { dbos.Shutdown(p.ctx, 3*time.Second) }

func (p *peer) Left(ctx context.Context) (n int64, err error) {
	err = p.db.QueryRowContext(ctx, `select count(*) from workflow_status
		where status in ('ENQUEUED','PENDING','DELAYED') and queue_name='q'`).Scan(&n)
	return
}

func (p *peer) RunFlows(ctx context.Context, n, inflight int) error {
	var i atomic.Int64
	var wg sync.WaitGroup
	var ferr atomic.Value
	for range inflight {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i.Add(1) <= int64(n) && ctx.Err() == nil {
				h, err := dbos.RunWorkflow(p.ctx, five, hb.Payload{Pad: hb.Pad})
				if err == nil {
					_, err = h.GetResult()
				}
				if err != nil {
					ferr.Store(err)
					return
				}
			}
		}()
	}
	wg.Wait()
	if e := ferr.Load(); e != nil {
		return e.(error)
	}
	return ctx.Err()
}

func (p *peer) SleepFlows(ctx context.Context, n int) error {
	for range n {
		if _, err := dbos.RunWorkflow(p.ctx, nap, hb.Payload{Pad: hb.Pad}); err != nil {
			return err
		}
	}
	return nil
}

func (p *peer) Close() {
	if p.pg {
		return
	}
	dbos.Shutdown(p.cl, 2*time.Second)
	p.db.Close()
}

func (p *peer) Notes() string {
	if p.pg {
		return pg.Notes
	}
	s := "[modernc, journal=WAL, synchronous=NORMAL, 8 conns, txlock=immediate: dbos's own pool]"
	if p.full {
		s = "[modernc, journal=WAL, synchronous=FULL, 8 conns, txlock=immediate: caller's pool]"
	}
	if p.poll > 0 {
		return s + fmt.Sprintf("[queue poll %s: tuned]", p.poll)
	}
	return s + "[queue poll 1s: default]"
}

func main() {
	ms := time.Millisecond
	hb.Main(hb.Variants{
		"dbos-pg":           func() hb.Peer { return &peer{pg: true} },
		"dbos-sqlite":       func() hb.Peer { return &peer{} },
		"dbos-sqlite-full":  func() hb.Peer { return &peer{full: true} },
		"dbos-sqlite-tuned": func() hb.Peer { return &peer{poll: 5 * ms} },
	})
}
