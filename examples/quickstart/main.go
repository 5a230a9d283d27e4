// Command quickstart analyses every Go file under GOROOT/src, or under a directory that you
// name, as durable tasks: one run per file. Kill it at any moment and start it again: it
// continues where it stopped, and its report is the same.
//
//	go run ./examples/quickstart [-db FILE] [-slots N] [-fresh] [-http ADDRESS] [DIR]
//
// With -http localhost:8080 it prints the URL, with a token, of a live page of the runs.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"go/build"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/examples/internal/database"
	"github.com/stint-dev/stint/examples/internal/page"
)

func main() {
	db := flag.String("db", filepath.Join(os.TempDir(), "stint-quickstart.db"), "database `file`; created if it does not exist")
	slots := flag.Int("slots", 2*runtime.GOMAXPROCS(0), "files analysed at once")
	fresh := flag.Bool("fresh", false, "delete the database first")
	httpAddr := flag.String("http", "", "show the runs on a web page at this `address`, until Ctrl-C")
	flag.Parse()
	dir := filepath.Join(build.Default.GOROOT, "src")
	if flag.NArg() > 0 {
		dir = flag.Arg(0)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if *fresh {
		err = database.Remove("quickstart", *db)
	}
	if err == nil {
		err = run(ctx, *db, dir, *httpAddr, *slots)
	}
	if errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "Stopped. Run it again to continue.")
		os.Exit(130)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "quickstart:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, db, dir, httpAddr string, slots int) error {
	files, err := goFiles(dir)
	if err != nil {
		return err
	}
	if len(files) == 0 {
		return fmt.Errorf("no Go files under %s", dir)
	}

	// A client on one file, a task that is a plain function, and a worker: that is all.
	client, err := database.Open("quickstart", db, stint.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		return err
	}
	defer client.Close()
	// By its key a second start of the program finds the runs of the first. A file that was
	// changed since has another key and is analysed again.
	analyse := stint.NewTask(client, "analyse", analyseFile, stint.WithIdempotency(source.key, 30*24*time.Hour))
	worker, err := client.NewWorker(stint.WithSlots(slots))
	if err != nil {
		return err
	}
	shown, err := page.Serve(httpAddr, client)
	if err != nil {
		return err
	}
	defer shown.Close()

	began := time.Now()
	runs, err := analyse.EnqueueMany(ctx, files)
	if err != nil {
		return err
	}
	skipped, err := finished(ctx, client, runs)
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "%d Go files under %s; state in %s\n", len(files), dir, database.Name("quickstart", db))
	if slices.ContainsFunc(runs, (*stint.Run[analysis]).Existing) {
		fmt.Fprintf(os.Stderr, "Resuming: %d files were analysed before and are skipped, %d are left.\n", skipped, len(files)-skipped)
	}

	working, stopWorking := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { worker.Run(working) })
	defer wg.Wait()
	defer stopWorking()

	rep, err := gather(ctx, files, runs, newProgress(len(files)))
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "%d files analysed in %.1f s, %d skipped.\n", len(files)-skipped, time.Since(began).Seconds(), skipped)
	var out bytes.Buffer
	rep.write(&out)
	_, err = io.Copy(os.Stdout, &out)
	shown.Stay(ctx)
	return err
}

// finished counts the runs that ended before the program was started.
func finished(ctx context.Context, c *stint.Client, runs []*stint.Run[analysis]) (int, error) {
	existing := map[string]bool{}
	for _, r := range runs {
		if r.Existing() {
			existing[r.ID()] = true
		}
	}
	n := 0
	filter := stint.RunFilter{Tasks: []string{"analyse"}, States: []stint.State{stint.StateSucceeded, stint.StateFailed}, Limit: 1000}
	for {
		page, err := c.ListRuns(ctx, filter)
		if err != nil {
			return 0, err
		}
		for _, r := range page.Runs {
			if existing[r.ID] {
				n++
			}
		}
		if filter.Cursor = page.Next; filter.Cursor == "" {
			return n, nil
		}
	}
}

// gather waits for every run and adds up the results in the order of the files, so the report
// does not depend on which run ended first.
func gather(ctx context.Context, files []source, runs []*stint.Run[analysis], p *progress) (*report, error) {
	rep := newReport()
	for i, r := range runs {
		found, err := r.Wait(ctx)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		var failed *stint.TaskError
		switch {
		case err == nil:
			rep.add(files[i], found)
		case errors.As(err, &failed):
			rep.fail(files[i], failed.Err)
		default:
			return nil, err
		}
		p.step(i + 1)
	}
	p.end()
	return rep, nil
}
