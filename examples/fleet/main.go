// Command fleet shows what becomes of work when a process is killed. It starts two workers, each a process of
// its own, on one PostgreSQL database, and enqueues runs of a durable function with three steps. In the midst
// of the work it kills a worker (SIGKILL): the other one, and a new one in its place, finish what it was
// executing, and repeat no step that was recorded.
//
//	STINT_DATABASE_URL=postgres://user@host/database go run ./examples/fleet
//
// Without STINT_DATABASE_URL the processes share a SQLite file: the same works on one machine. Workers may run
// on other machines; start them with `fleet -worker NAME`.
package main

import (
	"context"
	"crypto/rand"
	"flag"
	"fmt"
	"io"
	"log"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/examples/internal/database"
)

func main() {
	path := flag.String("db", filepath.Join(os.TempDir(), "stint-fleet.db"), "database `file`, without STINT_DATABASE_URL")
	runs := flag.Int("runs", 200, "how many runs to enqueue, 10 to 1,000")
	worker := flag.String("worker", "", "be the worker with this `name`, until Ctrl-C")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if *worker != "" {
		err = work(ctx, *path, *worker)
	} else if *runs < 10 || *runs > 1000 {
		err = fmt.Errorf("-runs %d: want 10 to 1,000", *runs)
	} else {
		err = demo(ctx, *path, *runs, os.Stdout)
	}
	if err != nil {
		log.Fatal(err)
	}
}

// A parcel goes through three steps. Each says which process executed it.
type parcel struct{ Packed, Labeled, Sent string }

// define defines the task, in the program that enqueues and in those that work.
func define(c *stint.Client, worker string) *stint.Task[int, parcel] {
	return stint.NewTask(c, "ship", func(ctx context.Context, n int) (p parcel, err error) {
		for _, step := range []struct {
			name string
			by   *string
		}{{"pack", &p.Packed}, {"label", &p.Labeled}, {"send", &p.Sent}} {
			if *step.by, err = stint.Step(ctx, step.name, func(ctx context.Context) (string, error) {
				return worker, pause(ctx, 20*time.Millisecond)
			}); err != nil {
				return p, err
			}
		}
		return p, nil
	})
}

// pause stands for work.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func open(path string) (*stint.Client, error) {
	return database.Open("fleet", path, stint.WithLogger(slog.New(slog.DiscardHandler)))
}

// work executes runs until ctx is done.
func work(ctx context.Context, path, name string) error {
	c, err := open(path)
	if err != nil {
		return err
	}
	defer c.Close()
	define(c, name)
	w, err := c.NewWorker(stint.WithName(name), stint.WithSlots(8))
	if err != nil {
		return err
	}
	return w.Run(ctx)
}

// demo enqueues n runs, kills a worker when a third of them have ended, and waits for all.
func demo(ctx context.Context, path string, n int, out io.Writer) error {
	c, err := open(path)
	if err != nil {
		return err
	}
	defer c.Close()
	fmt.Fprintf(out, "%d runs on %s\n", n, database.Name("fleet", path))
	ins := make([]int, n)
	for i := range ins {
		ins[i] = i
	}
	all := map[string]string{"demo": rand.Text()} // by this the program knows its runs from those of before
	runs, err := define(c, "").EnqueueMany(ctx, ins, stint.WithMetadata(all))
	if err != nil {
		return err
	}
	var crew crew
	defer crew.stop()
	for _, name := range []string{"alice", "bob"} {
		if err := crew.start(path, name, out); err != nil {
			return err
		}
	}
	held, err := midst(ctx, c, all, n, "bob")
	if err != nil {
		return err
	}
	bob := crew[1]
	bob.Process.Kill()
	bob.Wait()
	began := time.Now()
	fmt.Fprintf(out, "killed bob, which was executing about %d runs\n", len(held))
	if err := crew.start(path, "carol", out); err != nil {
		return err
	}
	for _, id := range held {
		if _, err := stint.RunByID[parcel](c, id).Wait(ctx); err != nil {
			return err
		}
	}
	fmt.Fprintf(out, "they ended within %.1f s of its death\n", time.Since(began).Seconds())
	return report(ctx, runs, out)
}

// midst waits until a third of n runs have ended and the worker executes some, and returns the IDs of these.
func midst(ctx context.Context, c *stint.Client, all map[string]string, n int, worker string) (held []string, err error) {
	for after := uint64(0); ; {
		if after, err = c.Changed(ctx, after); err != nil {
			return nil, err
		}
		page, err := c.ListRuns(ctx, stint.RunFilter{Metadata: all, Limit: 1000,
			States: []stint.State{stint.StateRunning, stint.StateSucceeded}})
		if err != nil {
			return nil, err
		}
		ended := 0
		held = held[:0]
		for _, r := range page.Runs {
			if r.State == stint.StateSucceeded {
				ended++
			} else if r.Worker == worker {
				held = append(held, r.ID)
			}
		}
		if ended >= n/3 && len(held) > 0 {
			return held, nil
		}
		if ended == n {
			return nil, fmt.Errorf("all %d runs ended before %s could be killed: give more by -runs", n, worker)
		}
	}
}

// report waits for all runs and says who did what.
func report(ctx context.Context, runs []*stint.Run[parcel], out io.Writer) error {
	steps, kept, taken := map[string]int{}, 0, 0
	for _, r := range runs {
		p, err := r.Wait(ctx)
		if err != nil {
			return fmt.Errorf("run %s: %w", r.ID(), err)
		}
		for _, by := range []string{p.Packed, p.Labeled, p.Sent} {
			steps[by]++
		}
		if p.Packed == "bob" && p.Sent != "bob" {
			kept++
		}
		info, err := r.Info(ctx)
		if err != nil {
			return err
		}
		if info.Executions > 1 {
			taken++
		}
	}
	fmt.Fprintf(out, "all %d runs succeeded; %d were taken over, of which %d went on after a step that bob had recorded\n",
		len(runs), taken, kept)
	for _, name := range []string{"alice", "bob", "carol"} {
		fmt.Fprintf(out, "%s executed %d steps\n", name, steps[name])
	}
	return nil
}

// A crew is the worker processes.
type crew []*exec.Cmd

// start starts a worker in a process of its own.
func (c *crew) start(path, name string, out io.Writer) error {
	cmd := exec.Command(os.Args[0], "-db", path, "-worker", name)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return err
	}
	*c = append(*c, cmd)
	fmt.Fprintf(out, "started %s, process %d\n", name, cmd.Process.Pid)
	return nil
}

// stop ends the processes that still run, and waits for them.
func (c *crew) stop() {
	for _, cmd := range *c {
		if cmd.ProcessState != nil {
			continue
		}
		if cmd.Process.Signal(os.Interrupt) != nil { // which lets it drain; Windows has none
			cmd.Process.Kill()
		}
		cmd.Wait()
	}
}
