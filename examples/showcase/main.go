// Command showcase fills the web page with the life of a shop: tasks that succeed, fail, are retried, held up and
// canceled, workflows (one of 60 tasks), durable functions with many steps, crons, events, limits, logs, streams and
// large payloads.
//
//	go run ./examples/showcase
//
// prints the URL of the page. The shop works until Ctrl-C.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"log/slog"
	"maps"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/examples/internal/database"
	"github.com/stint-dev/stint/examples/internal/page"
)

func main() {
	path := flag.String("db", ":memory:", "database file; :memory: keeps nothing")
	httpAddr := flag.String("http", "localhost:0", "show the runs on a web page at this `address`")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := show(ctx, *path, *httpAddr, os.Stdout); err != nil {
		log.Fatal(err)
	}
}

// show opens a shop for a first day, prints what became of it, and keeps it open until ctx is done if there is a page.
func show(ctx context.Context, path, httpAddr string, out io.Writer) error {
	client, err := database.Open("showcase", path, stint.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		return err
	}
	defer client.Close()
	shown, err := page.Serve(httpAddr, client)
	if err != nil {
		return err
	}
	defer shown.Close()
	s := newShop(client)
	working, stop := context.WithCancel(ctx)
	ended := make(chan error, 2)
	for _, labels := range []map[string]string{{"region": "eu"}, {"region": "us"}} {
		w, werr := client.NewWorker(stint.WithSlots(16), stint.WithName("worker-"+labels["region"]), stint.WithLabels(labels))
		if werr != nil {
			stop()
			return werr
		}
		go func() { ended <- w.Run(working) }()
	}
	if err = s.firstDay(ctx); err == nil {
		err = report(ctx, client, out)
	}
	if err == nil && httpAddr != "" {
		err = s.everyDay(ctx)
	}
	stop()
	return errors.Join(err, <-ended, <-ended)
}

// report prints how many runs there are in each state.
func report(ctx context.Context, c *stint.Client, out io.Writer) error {
	counts := map[stint.State]int{}
	for cursor := ""; ; {
		found, err := c.ListRuns(ctx, stint.RunFilter{Limit: 1000, Cursor: cursor})
		if err != nil {
			return err
		}
		for i := range found.Runs {
			counts[found.Runs[i].State]++
		}
		if cursor = found.Next; cursor == "" {
			break
		}
	}
	for _, state := range slices.Sorted(maps.Keys(counts)) {
		fmt.Fprintf(out, "%6d runs %v\n", counts[state], state)
	}
	return nil
}

// everyDay lets customers come, and others do what they do, until ctx is done.
func (s *shop) everyDay(ctx context.Context) error {
	tick := time.NewTicker(700 * time.Millisecond)
	defer tick.Stop()
	for i := firstOrders; ; i++ {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		if err := s.customer(ctx, i); err != nil && ctx.Err() == nil {
			return err
		}
	}
}
