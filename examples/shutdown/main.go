// Command shutdown counts slowly, ten counts at a time, until you stop it. On the first Ctrl-C
// running handlers get two seconds to end. Those that do not are interrupted, and start again
// with the program, without using up an attempt.
//
//	go run ./examples/shutdown -http localhost:8080
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/examples/internal/database"
	"github.com/stint-dev/stint/examples/internal/page"
)

func main() {
	path := flag.String("db", "shutdown.db", "database file")
	httpAddr := flag.String("http", "", "show the runs on a web page at this `address`, until Ctrl-C")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := count(ctx, *path, *httpAddr, 10*time.Second, os.Stdout); err != nil {
		log.Fatal(err)
	}
}

// count works until ctx is done or every count is finished.
func count(ctx context.Context, path, httpAddr string, d time.Duration, out io.Writer) error {
	c, err := database.Open("shutdown", path)
	if err != nil {
		return err
	}
	defer c.Close()
	shown, err := page.Serve(httpAddr, c)
	if err != nil {
		return err
	}
	defer shown.Close()
	task := stint.NewTask(c, "count", func(ctx context.Context, name string) (string, error) {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
			return name + " counted", nil
		case <-ctx.Done(): // shutdown: whatever is returned, the run is queued again
			return "", context.Cause(ctx)
		}
	})
	runs := make([]*stint.Run[string], 10)
	for i := range runs { // enqueued once, however often the program starts
		name := fmt.Sprint("count ", i)
		if runs[i], err = task.Enqueue(ctx, name, stint.WithIdempotencyKey(name, stint.UntilDone)); err != nil {
			return err
		}
	}
	w, err := c.NewWorker(stint.WithDrainTimeout(2 * time.Second))
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	worked := make(chan error, 1)
	go func() { worked <- w.Run(ctx) }()
	for _, r := range runs {
		done, err := r.Wait(ctx)
		if ctx.Err() != nil {
			fmt.Fprintln(out, "stopping; start again to go on")
			break
		}
		fmt.Fprintln(out, done, err)
	}
	stop()
	return <-worked
}
