// Command move measures the move of a file to PostgreSQL while a program enqueues and works: how long it takes, and for
// how long the program stands still.
//
//	STINT_DATABASE_URL=... go run ./cmd/move -runs 1000000
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/bench/hb"
	"github.com/stint-dev/stint/bench/pg"
	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/postgres"
)

var (
	runs  = flag.Int("runs", 1_000_000, "in the file: one of ten is to come, the others have ended")
	mover = flag.String("mover", "", "internal: the file to move")
)

var options = postgres.Options{Schema: "bench_stint"}

func main() {
	flag.Parse()
	f := measure
	if *mover != "" {
		f = move
	}
	if err := f(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "move:", err)
		os.Exit(1)
	}
}

// move moves the file, as the command `stint move` does.
func move(ctx context.Context) error {
	r, err := postgres.Move(ctx, *mover, pg.URL(), postgres.MoveOptions{Options: options})
	fmt.Printf("the file was closed for %.0f ms, %d rows copied in %d rounds", r.Pause.Seconds()*1000, r.Rows, r.Rounds)
	return err
}

func measure(ctx context.Context) error {
	if err := pg.Reset(ctx, options.Schema); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "stint-move-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "q.db")
	if err := fill(ctx, path); err != nil {
		return fmt.Errorf("fill the file: %w", err)
	}
	s, err := postgres.FollowWith(path, pg.URL(), options)
	if err != nil {
		return err
	}
	p, err := begin(ctx, s)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	time.Sleep(time.Second)
	c := exec.Command(self, "-mover", path)
	c.Stderr = os.Stderr
	t := time.Now()
	said, err := c.Output()
	took := time.Since(t)
	if err != nil {
		return err
	}
	time.Sleep(time.Second) // while it works there
	if err := p.end(); err != nil {
		return err
	}
	note := fmt.Sprintf("seconds is the move's time; p50 is the longest call of Enqueue, p99 the longest time without a handler; "+
		"%d runs meanwhile; %s",
		p.enqueued, said)
	hb.Emit(hb.Line{Peer: "stint-pg", Case: "move", N: *runs, Seconds: took.Seconds(), PerS: float64(*runs) / took.Seconds(),
		P50: p.longestCall.Seconds() * 1000, P99: time.Duration(p.longestGap.Load()).Seconds() * 1000, Notes: note})
	return nil
}

type job struct {
	Order int    `json:"order"`
	To    string `json:"to"`
}

// fill makes a file with so many runs.
func fill(ctx context.Context, path string) error {
	c, err := stint.Open(path, stint.WithDurability(stint.DurabilityNormal), stint.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		return err
	}
	defer c.Close()
	var left atomic.Int64
	left.Store(int64(*runs / 10 * 9))
	done := make(chan struct{})
	task := stint.NewTask(c, "send", func(context.Context, job) (string, error) {
		if left.Add(-1) == 0 {
			close(done)
		}
		return "sent", nil
	})
	for part := range 1000 {
		ins := make([]job, *runs/1000)
		for i := range ins {
			ins[i] = job{part**runs/1000 + i, "ann@example.org"}
		}
		var opts []stint.RunOption
		if part%10 == 9 {
			opts = append(opts, stint.WithDelay(24*time.Hour))
		}
		if _, err := task.EnqueueMany(ctx, ins, opts...); err != nil {
			return err
		}
	}
	w, err := c.NewWorker(stint.WithSlots(1000))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { w.Run(ctx) })
	<-done
	cancel()
	wg.Wait()
	return nil
}

// A program enqueues a run each millisecond, and works.
type program struct {
	c           *stint.Client
	stop        context.CancelFunc
	wg          sync.WaitGroup
	err         error
	enqueued    int
	longestCall time.Duration
	longestGap  atomic.Int64 // between the starts of two handlers
	worked      atomic.Int64
}

func begin(ctx context.Context, s store.Store) (*program, error) {
	c, err := stint.New(s, stint.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		return nil, err
	}
	p := &program{c: c}
	var last atomic.Int64
	last.Store(time.Now().UnixNano())
	task := stint.NewTask(c, "work", func(context.Context, job) (string, error) {
		now := time.Now().UnixNano()
		for gap := now - last.Swap(now); ; {
			longest := p.longestGap.Load()
			if gap <= longest || p.longestGap.CompareAndSwap(longest, gap) {
				break
			}
		}
		p.worked.Add(1)
		return "done", nil
	})
	w, err := c.NewWorker(stint.WithSlots(100))
	if err != nil {
		return nil, err
	}
	work, stop := context.WithCancel(ctx)
	enqueue, enough := context.WithCancel(ctx)
	p.stop = enough
	p.wg.Go(func() { w.Run(work) })
	p.wg.Go(func() {
		defer stop()
		p.err = p.enqueue(enqueue, task)
	})
	return p, nil
}

// enqueue enqueues until ctx ends, and waits for the last run.
func (p *program) enqueue(ctx context.Context, task *stint.Task[job, string]) error {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		t := time.Now()
		r, err := task.Enqueue(context.WithoutCancel(ctx), job{p.enqueued, "bob@example.org"})
		if err != nil {
			return err
		}
		p.longestCall = max(p.longestCall, time.Since(t))
		p.enqueued++
		select {
		case <-tick.C:
		case <-ctx.Done():
			_, err := r.Wait(context.WithoutCancel(ctx))
			return err
		}
	}
}

// end stops the program, and reports what went wrong.
func (p *program) end() error {
	p.stop()
	p.wg.Wait()
	if err := errors.Join(p.err, p.c.Close()); err != nil {
		return err
	}
	if n := p.worked.Load(); n != int64(p.enqueued) {
		return fmt.Errorf("%d runs of %d were executed", n, p.enqueued)
	}
	return nil
}
