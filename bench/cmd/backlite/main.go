// Command backlite benchmarks backlite on modernc.org/sqlite.
package main

import (
	"context"
	"database/sql"
	"time"

	"github.com/mikestefanello/backlite"
	_ "modernc.org/sqlite"

	"github.com/stint-dev/stint/bench/hb"
	"github.com/stint-dev/stint/bench/sq"
)

// Task is the backlite task; no retention, so a finished task is deleted.
type Task struct{ hb.Payload }

func (Task) Config() backlite.QueueConfig {
	return backlite.QueueConfig{Name: "noop", MaxAttempts: 3, Timeout: 10 * time.Second}
}

type peer struct {
	sync   string
	conns  int
	db     *sql.DB
	note   string
	c      *backlite.Client
	cancel context.CancelFunc
}

func (p *peer) Open(ctx context.Context, dir string) (err error) {
	if p.db, p.note, err = sq.Modernc(dir, p.sync, p.conns); err != nil {
		return err
	}
	p.c, err = p.client(1)
	if err != nil {
		return err
	}
	return p.c.Install()
}

func (p *peer) client(n int) (*backlite.Client, error) {
	return backlite.NewClient(backlite.ClientConfig{DB: p.db, NumWorkers: n, ReleaseAfter: 10 * time.Minute})
}

func (p *peer) Enqueue(ctx context.Context, t int64) error {
	_, err := p.c.Add(Task{hb.Payload{T: t, Pad: hb.Pad}}).Ctx(ctx).Save()
	return err
}

func (p *peer) Bulk(ctx context.Context, n int, delay time.Duration) error {
	ts := make([]backlite.Task, n)
	now := time.Now().UnixNano()
	for i := range ts {
		ts[i] = Task{hb.Payload{T: now, Pad: hb.Pad}}
	}
	op := p.c.Add(ts...).Ctx(ctx)
	if delay > 0 {
		op = op.Wait(delay)
	}
	_, err := op.Save()
	return err
}

func (p *peer) Start(ctx context.Context, slots int, work func(int64)) (err error) {
	// The dispatcher is told of new tasks by the client that adds them, so the
	// worker's client takes over as the enqueueing client.
	if p.c, err = p.client(slots); err != nil {
		return err
	}
	p.c.Register(backlite.NewQueue(func(_ context.Context, t Task) error { work(t.T); return nil }))
	cx, cancel := context.WithCancel(ctx)
	p.cancel = cancel
	p.c.Start(cx)
	return nil
}

func (p *peer) Stop(ctx context.Context) {
	cx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	p.c.Stop(cx)
	p.cancel()
}

func (p *peer) Left(ctx context.Context) (n int64, err error) {
	err = p.db.QueryRowContext(ctx, "select count(*) from backlite_tasks").Scan(&n)
	return
}
func (p *peer) Close()        { p.db.Close() }
func (p *peer) Notes() string { return p.note + "[no retention]" }

func main() {
	hb.Main(hb.Variants{
		"backlite":        func() hb.Peer { return &peer{sync: "FULL", conns: 1} },
		"backlite-conns8": func() hb.Peer { return &peer{sync: "FULL", conns: 8} },
		"backlite-normal": func() hb.Peer { return &peer{sync: "NORMAL", conns: 1} },
	})
}
