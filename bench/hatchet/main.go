// Command hatchet measures programs with Hatchet's Go SDK on a server of its protocol, and prints a JSON line a case.
//
//	go run .                          builds stint-hatchet and measures it on a new file
//	go run . -db postgres://...       on a new schema of a PostgreSQL server
//	go run . -env -cases pickup,drain a server that the environment names, such as Hatchet's own
//
// The program is producer and worker in one process. Inputs have about 100 bytes, and tasks do nothing.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
)

type options struct {
	db, binary        string
	env               bool
	cases             string
	reps, runs, slots int
	workers           int
	child             string
}

func main() {
	var o options
	flag.StringVar(&o.db, "db", "", "the `database` of the server: a file or a PostgreSQL URL (default: a new file)")
	flag.StringVar(&o.binary, "server", "", "stint-hatchet's `file` (default: it is built)")
	flag.BoolVar(&o.env, "env", false, "measure the server of $HATCHET_CLIENT_TOKEN; no server is started")
	flag.StringVar(&o.cases, "cases", "size,start,pickup,drain,enqueue,dag,durable,kill,restart,crowd", "what to measure")
	flag.IntVar(&o.reps, "reps", 1, "how often")
	flag.IntVar(&o.runs, "runs", 5000, "runs of drain")
	flag.IntVar(&o.slots, "slots", 100, "slots of the worker")
	flag.IntVar(&o.workers, "workers", 100, "workers of crowd")
	flag.StringVar(&o.child, "child", "", "what a process of the program's own does")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "hatchet:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	switch o.child {
	case "victim":
		return workAsVictim(ctx)
	case "crowd":
		return workAsCrowd(ctx, o.workers)
	}
	b := &bench{options: o}
	if !o.env {
		if err := b.startServer(); err != nil {
			return err
		}
		defer b.stopServer()
	}
	if err := b.connect(); err != nil {
		return err
	}
	defer b.disconnect()
	measures := map[string]func(context.Context) (figures, error){"size": b.size, "start": b.start, "pickup": b.pickup, "drain": b.drain,
		"enqueue": b.enqueue, "dag": b.dags, "durable": b.durables, "kill": b.kill, "restart": b.restart, "crowd": b.crowd}
	for rep := range o.reps {
		for name := range strings.SplitSeq(o.cases, ",") {
			measure := measures[name]
			if measure == nil {
				return fmt.Errorf("no case %q", name)
			}
			f, err := b.withCPU(ctx, measure)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			if f == nil {
				continue
			}
			f["case"], f["rep"] = name, rep
			line, err := json.Marshal(f)
			if err != nil {
				return err
			}
			fmt.Println(string(line))
		}
	}
	return nil
}

// withCPU adds the time that the server's process used.
func (b *bench) withCPU(ctx context.Context, measure func(context.Context) (figures, error)) (figures, error) {
	if b.server == nil {
		return measure(ctx)
	}
	process := b.server.cmd
	before, err := b.server.cpu()
	if err != nil {
		return nil, err
	}
	f, err := measure(ctx)
	if err != nil || f == nil {
		return f, err
	}
	if after, err := b.server.cpu(); err == nil && b.server.cmd == process {
		f["server_cpu_s"] = (after - before).Seconds()
	}
	return f, nil
}

// figures are what a case measured, by name.
type figures map[string]any
