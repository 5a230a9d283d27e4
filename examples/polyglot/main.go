// Command polyglot runs one workflow in three languages, on one file: Go measures the files of a folder, Python computes
// the statistics of the sizes, and TypeScript writes the report.
//
//	measure (Go) ──> statistics (Python) ──> report (TypeScript)
//
// The Python and the TypeScript worker are programs of Hatchet's SDKs. The command installs these in the user's cache
// folder, starts the workers, and ends them:
//
//	go run -C examples/polyglot . -http localhost:8080 ../..
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/hatchet"
	"github.com/stint-dev/stint/ui"
)

// options are what the command line says.
type options struct {
	db, http, dir string
	verbose       bool
}

func main() {
	var o options
	flag.StringVar(&o.db, "db", ":memory:", "database `file`; :memory: keeps nothing")
	flag.StringVar(&o.http, "http", "", "listen at this `address`, and keep the web page until Ctrl-C; without it, at a free port")
	flag.BoolVar(&o.verbose, "v", false, "show what the workers print")
	flag.Parse()
	if o.dir = "."; flag.NArg() > 0 {
		o.dir = flag.Arg(0)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o, os.Stdout); err != nil {
		stop()
		log.Fatal(err)
	}
}

// define stores the workflow. Which worker has which task is not part of it.
func define(ctx context.Context, c *stint.Client) error {
	_, err := c.Define(ctx, stint.Definition{Name: "sizes", Tasks: []stint.TaskSpec{
		{Name: "measure"},
		{Name: "statistics", Parents: []string{"measure"}, TaskOptions: stint.TaskOptions{Retries: 3}},
		{Name: "report", Parents: []string{"statistics"}},
	}})
	return err
}

// measure is the task in Go.
func measure(_ context.Context, input []byte) ([]byte, error) {
	var in struct{ Dir string }
	if err := json.Unmarshal(input, &in); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(in.Dir)
	if err != nil {
		return nil, stint.NonRetryable(err)
	}
	sizes := []int64{}
	for _, e := range entries {
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() {
			sizes = append(sizes, info.Size())
		}
	}
	if len(sizes) == 0 {
		return nil, stint.NonRetryable(fmt.Errorf("folder %s has no files", in.Dir))
	}
	return json.Marshal(map[string]any{"sizes": sizes})
}

// run runs the workflow once.
func run(ctx context.Context, o options, out io.Writer) error {
	programs, err := install(ctx, os.Stderr)
	if err != nil {
		return err
	}
	c, err := stint.Open(o.db, stint.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		return err
	}
	err = define(ctx, c)
	if err == nil {
		err = serve(ctx, c, o, programs, out)
	}
	return errors.Join(err, c.Close())
}

// serve has the workflow run by the worker of this program and the others, and ends them. They end before the server.
func serve(ctx context.Context, c *stint.Client, o options, programs []program, out io.Writer) error {
	l, err := net.Listen("tcp", cmp.Or(o.http, "127.0.0.1:0"))
	if err != nil {
		return err
	}
	defer l.Close()
	secret := ui.NewToken()
	s, err := hatchet.NewServer(c, hatchet.Options{Address: l.Addr().String(), Page: ui.Handler(c, ui.WithToken(secret)),
		Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	token, err := s.Token()
	if err != nil {
		return errors.Join(err, s.Close())
	}
	w, err := c.NewWorker(stint.WithTasks("sizes:measure"), stint.WithHandler(measure))
	if err != nil {
		return errors.Join(err, s.Close())
	}
	fmt.Fprintf(os.Stderr, "Watch it at http://%s/?token=%s\n", l.Addr(), secret)

	server, workers := start(context.WithoutCancel(ctx)), start(ctx)
	server.part("the server", func(ctx context.Context) error { return s.Serve(ctx, l) })
	workers.part("the Go worker", w.Run)
	for _, p := range programs {
		workers.part("the "+p.language+" worker", func(ctx context.Context) error { return p.run(ctx, token, o.verbose) })
	}
	err = report(workers.ctx, c, o, out)
	workers.end()
	server.end()
	return err
}

// parts run until they are ended. If one fails, the context of all is done.
type parts struct {
	ctx  context.Context
	stop context.CancelCauseFunc
	wg   sync.WaitGroup
}

func start(ctx context.Context) *parts {
	p := &parts{}
	p.ctx, p.stop = context.WithCancelCause(ctx)
	return p
}

func (p *parts) part(name string, run func(context.Context) error) {
	p.wg.Go(func() {
		if err := run(p.ctx); err != nil && p.ctx.Err() == nil {
			p.stop(fmt.Errorf("%s: %w", name, err))
		}
	})
}

func (p *parts) end() {
	p.stop(nil)
	p.wg.Wait()
}

// report enqueues a run and prints what its tasks return.
func report(ctx context.Context, c *stint.Client, o options, out io.Writer) error {
	dir, err := filepath.Abs(o.dir)
	if err != nil {
		return err
	}
	input, err := json.Marshal(map[string]string{"dir": dir})
	if err != nil {
		return err
	}
	r, err := c.EnqueueJSON(ctx, "sizes", input)
	if err != nil {
		return err
	}
	result, err := r.Wait(ctx)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return err
	}
	var outputs struct{ Measure, Statistics, Report json.RawMessage }
	if err := json.Unmarshal(result, &outputs); err != nil {
		return err
	}
	fmt.Fprintf(out, "Go          %.100s\nPython      %.100s\nTypeScript  %.100s\n", outputs.Measure, outputs.Statistics, outputs.Report)
	if o.http != "" {
		fmt.Fprintln(os.Stderr, "Done. The page stays until Ctrl-C.")
		<-ctx.Done()
	}
	return nil
}
