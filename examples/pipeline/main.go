// Command pipeline indexes the words of a folder of text and source files, as a graph:
//
//	list ──> count (fans out a child for each file) ──> rank ──> report
//	   └───> sizes ──────────────────────────────────────────────┘
//	   └───> images (skipped where there are none) ──────────────┘
//	   └───> publish (fails twice, and is tried again)
//
// It prints the graph's state as it goes. Kill it and run it again with the same -db: no
// task that finished runs again.
//
//	go run ./examples/pipeline -db /tmp/pipeline.db -http localhost:8080 .
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/examples/internal/database"
	"github.com/stint-dev/stint/examples/internal/page"
)

func main() {
	path := flag.String("db", ":memory:", "database file; :memory: keeps nothing")
	httpAddr := flag.String("http", "", "show the runs on a web page at this `address`, until Ctrl-C")
	flag.Parse()
	dir := "."
	if flag.NArg() > 0 {
		dir = flag.Arg(0)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := index(ctx, *path, dir, *httpAddr, os.Stdout); err != nil {
		log.Fatal(err)
	}
}

// index runs the pipeline over dir, or continues a run that has not ended.
func index(ctx context.Context, path, dir, httpAddr string, out io.Writer) error {
	c, err := database.Open("pipeline", path, stint.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		return err
	}
	defer c.Close()
	shown, err := page.Serve(httpAddr, c)
	if err != nil {
		return err
	}
	defer shown.Close()
	p := define(c)
	run, err := p.Enqueue(ctx, dir, stint.WithIdempotencyKey(dir, stint.UntilDone))
	if err != nil {
		return err
	}
	if run.Existing() {
		fmt.Fprintln(out, "going on with run", run.ID())
	}
	w, err := c.NewWorker(stint.WithSlots(8))
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	worked := make(chan error, 1)
	go func() { worked <- w.Run(ctx) }()
	outputs, err := watch(ctx, run, out)
	if err == nil {
		var text string
		if text, err = p.report.From(outputs); err == nil {
			fmt.Fprint(out, text)
			shown.Stay(ctx)
		}
	}
	stop()
	if werr := <-worked; err == nil {
		err = werr
	}
	return err
}

// watch prints the graph after each change, until the run has ended.
func watch(ctx context.Context, run *stint.Run[stint.Outputs], out io.Writer) (stint.Outputs, error) {
	done := make(chan struct{})
	var outputs stint.Outputs
	var err error
	go func() {
		defer close(done)
		outputs, err = run.Wait(ctx)
	}()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for last := ""; ; {
		if info, err := run.Info(ctx); err == nil {
			if now := picture(info); now != last {
				fmt.Fprintln(out, now)
				last = now
			}
		}
		select {
		case <-tick.C:
		case <-done:
			if info, err := run.Info(context.WithoutCancel(ctx)); err == nil {
				fmt.Fprintln(out, picture(info))
			}
			return outputs, err
		}
	}
}

// picture returns the graph's state in one line.
func picture(info *stint.RunInfo) string {
	marks := map[stint.State]string{
		stint.StateBlocked: "·", stint.StateQueued: "…", stint.StateScheduled: "…", stint.StateRunning: "▶",
		stint.StateSucceeded: "✓", stint.StateFailed: "✗", stint.StateCanceled: "⊘", stint.StateSkipped: "↷",
	}
	var parts []string
	for _, t := range info.Tasks {
		part := marks[t.State] + " " + t.Name
		if t.Attempt > 1 {
			part += fmt.Sprintf(" (attempt %d)", t.Attempt)
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, "   ")
}
