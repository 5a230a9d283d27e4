// Command stint benchmarks this library.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/bench/hb"
	"github.com/stint-dev/stint/bench/pg"
	"github.com/stint-dev/stint/store/postgres"
)

type peer struct {
	five       *stint.Task[hb.Payload, int]
	nap        *stint.Task[hb.Payload, int]
	durability stint.Durability
	c          *stint.Client
	task       *stint.Task[hb.Payload, struct{}]
	work       func(int64)
	stop       context.CancelFunc
	wg         sync.WaitGroup
}

func (p *peer) Open(_ context.Context, dir string) (err error) {
	p.c, err = stint.Open(filepath.Join(dir, "q.db"), stint.WithDurability(p.durability), stint.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		return err
	}
	p.define()
	return nil
}

// define defines the tasks.
func (p *peer) define() {
	p.task = stint.NewTask(p.c, "noop", func(_ context.Context, in hb.Payload) (struct{}, error) {
		p.work(in.T)
		return struct{}{}, nil
	})
	step := func(context.Context) (int, error) { return 1, nil }
	p.five = stint.NewTask(p.c, "five", func(ctx context.Context, _ hb.Payload) (sum int, err error) {
		for range 5 {
			n, err := stint.Step(ctx, "step", step)
			if err != nil {
				return 0, err
			}
			sum += n
		}
		return sum, nil
	})
	p.nap = stint.NewTask(p.c, "nap", func(ctx context.Context, _ hb.Payload) (int, error) { return 1, stint.Sleep(ctx, time.Hour) })
}

// RunFlows implements hb.Flows.
func (p *peer) RunFlows(ctx context.Context, n, inflight int) error {
	return hb.Together(inflight, n, func() error { _, err := p.five.Run(ctx, hb.Payload{Pad: hb.Pad}); return err })
}

// SleepFlows implements hb.Flows.
func (p *peer) SleepFlows(ctx context.Context, n int) error {
	_, err := p.nap.EnqueueMany(ctx, make([]hb.Payload, n))
	return err
}

func nop(context.Context, hb.Payload) (int, error) { return 1, nil }

// graph defines a workflow of one of the shapes that hb asks for.
func (p *peer) graph(shape string) *stint.Workflow[hb.Payload] {
	w := stint.NewWorkflow[hb.Payload](p.c, shape)
	first := stint.AddTask(w, "first", nop)
	chain := func(n int) {
		for i, last := 1, first; i < n; i++ {
			last = stint.AddTask(w, fmt.Sprint("task", i), nop, stint.WithParents(last))
		}
	}
	fan := func(n int) {
		var all []stint.AnyNode
		for i := range n {
			all = append(all, stint.AddTask(w, fmt.Sprint("task", i), nop, stint.WithParents(first)))
		}
		stint.AddTask(w, "last", nop, stint.WithParents(all...))
	}
	switch shape {
	case "chain5":
		chain(5)
	case "diamond10":
		fan(8)
	case "wide10000":
		fan(10_000)
	case "chain1000":
		chain(1000)
	}
	return w
}

// RunGraphs implements hb.Graphs.
func (p *peer) RunGraphs(ctx context.Context, shape string, n int) error {
	runs, err := p.graph(shape).EnqueueMany(ctx, make([]hb.Payload, n))
	if err != nil {
		return err
	}
	for _, r := range runs {
		if _, err := r.Wait(ctx); err != nil {
			return err
		}
	}
	return nil
}

// RunFlowsOf implements hb.Graphs.
func (p *peer) RunFlowsOf(ctx context.Context, n, inflight int) error {
	w := p.graph("chain5")
	return hb.Together(inflight, n, func() error { _, err := w.Run(ctx, hb.Payload{Pad: hb.Pad}); return err })
}

func (p *peer) Enqueue(ctx context.Context, t int64) error {
	_, err := p.task.Enqueue(ctx, hb.Payload{T: t, Pad: hb.Pad})
	return err
}

func (p *peer) Bulk(ctx context.Context, n int, delay time.Duration) error {
	ins := make([]hb.Payload, n)
	now := time.Now().UnixNano()
	for i := range ins {
		ins[i] = hb.Payload{T: now, Pad: hb.Pad}
	}
	_, err := p.task.EnqueueMany(ctx, ins, stint.WithDelay(delay))
	return err
}

func (p *peer) Start(ctx context.Context, slots int, work func(int64)) error {
	p.work = work
	w, err := p.c.NewWorker(stint.WithSlots(slots))
	if err != nil {
		return err
	}
	ctx, p.stop = context.WithCancel(ctx)
	p.wg.Go(func() { w.Run(ctx) })
	return nil
}

func (p *peer) Stop(context.Context) { p.stop(); p.wg.Wait() }

// Left counts the runs that are not durably recorded as done.
func (p *peer) Left(ctx context.Context) (n int64, err error) {
	f := stint.RunFilter{States: []stint.State{stint.StateScheduled, stint.StateQueued, stint.StateRunning}, Limit: 1}
	page, err := p.c.ListRuns(ctx, f)
	if err != nil {
		return 0, err
	}
	return int64(len(page.Runs)), nil
}

func (p *peer) Close() {
	if err := p.c.Close(); err != nil && !errors.Is(err, context.Canceled) {
		fmt.Println("#", err)
	}
}

func (p *peer) Notes() string {
	if p.durability == stint.DurabilityNormal {
		return "[modernc, journal=WAL, synchronous=NORMAL, defaults]"
	}
	return "[modernc, journal=WAL, synchronous=FULL, defaults]"
}

// server is the peer on PostgreSQL.
type server struct {
	peer
	left *pgx.Conn
}

const schema = "bench_stint"

func (p *server) Open(ctx context.Context, _ string) error {
	if err := pg.Reset(ctx, schema); err != nil {
		return err
	}
	return p.Join(ctx)
}

// Join implements hb.Shared.
func (p *server) Join(ctx context.Context) error {
	s, err := postgres.Open(ctx, pg.URL(), postgres.Options{Schema: schema})
	if err != nil {
		return err
	}
	if p.c, err = stint.New(s, stint.WithLogger(slog.New(slog.DiscardHandler))); err != nil {
		return errors.Join(err, s.Close())
	}
	p.define()
	p.left, err = pgx.Connect(ctx, pg.URL())
	return err
}

// left counts the runs that have not ended, as that of River does: by the indexes, and on a connection of its own.
const left = `SELECT (SELECT count(*) FROM ` + schema + `.runs WHERE state = 4) +
	(SELECT count(*) FROM ` + schema + `.runs WHERE state = 2) +
	(SELECT count(*) FROM ` + schema + `.runs WHERE state = 3 AND limiter IS NULL) +
	(SELECT count(*) FROM ` + schema + `.runs WHERE state = 3 AND limiter IS NOT NULL)`

// Left counts the runs that are not durably recorded as done.
func (p *server) Left(ctx context.Context) (n int64, err error) {
	err = p.left.QueryRow(ctx, left).Scan(&n)
	return n, err
}

func (p *server) Close() {
	_ = p.left.Close(context.Background())
	p.peer.Close()
}

func (p *server) Notes() string { return pg.Notes }

func main() {
	hb.Main(hb.Variants{
		"stint-pg":     func() hb.Peer { return &server{} },
		"stint":        func() hb.Peer { return &peer{} },
		"stint-normal": func() hb.Peer { return &peer{durability: stint.DurabilityNormal} },
	})
}
