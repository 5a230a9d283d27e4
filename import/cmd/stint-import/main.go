// Command stint-import enqueues the pending jobs of another queue in a stint database: those of River, from PostgreSQL or a
// SQLite file, or of asynq, from Redis. docs/moving-in.md says how to use it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"text/tabwriter"

	"github.com/stint-dev/stint"
	imports "github.com/stint-dev/stint/import"
	"github.com/stint-dev/stint/internal/build"
	"github.com/stint-dev/stint/store/postgres"
)

const usage = `usage: stint-import river|asynq -map FILE [flags] SOURCE [DATABASE]

SOURCE: of river the URL of a PostgreSQL database or the path of a SQLite file, of asynq a URL like redis://localhost:6379/0
DATABASE: stint's, a SQLite file or the URL of a PostgreSQL database; -dry-run needs none

`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	switch err := run(ctx, os.Args[1:], os.Stdout); {
	case errors.Is(err, errUsage):
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "stint-import:", err)
		os.Exit(1)
	}
}

var errUsage = errors.New("used wrongly")

// config holds the flags and arguments of the command line.
type config struct {
	imports.Options
	kind, source, target string
	mapping              string
	schema, stintSchema  string
	dryRun, version      bool
}

func parse(args []string) (*config, error) {
	c := &config{}
	f := flag.NewFlagSet("stint-import", flag.ContinueOnError)
	f.Usage = func() { fmt.Fprint(f.Output(), usage); f.PrintDefaults() }
	f.StringVar(&c.mapping, "map", "", "`file` of JSON that says which task a kind of job becomes")
	f.BoolVar(&c.dryRun, "dry-run", false, "change nothing, only print what would be enqueued")
	f.BoolVar(&c.Running, "running", false, "also import jobs that are being executed: only if no worker of the source lives")
	f.StringVar(&c.schema, "schema", "", "the `schema` of River's tables, if it is not in the search path")
	f.StringVar(&c.stintSchema, "stint-schema", "", "the `schema` of stint's tables in a PostgreSQL database (default stint)")
	f.BoolVar(&c.version, "version", false, "print the version of stint, and end")
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		c.kind, args = args[0], args[1:]
	}
	if err := f.Parse(args); err != nil {
		return nil, errUsage
	}
	if c.version {
		return c, nil
	}
	c.source, c.target = f.Arg(0), f.Arg(1)
	if c.kind != "river" && c.kind != "asynq" || c.mapping == "" || c.source == "" || c.target == "" && !c.dryRun || f.NArg() > 2 {
		f.Usage()
		return nil, errUsage
	}
	return c, nil
}

func run(ctx context.Context, args []string, out io.Writer) (err error) {
	c, err := parse(args)
	if err != nil {
		return err
	}
	if c.version {
		_, err := fmt.Fprintf(out, "stint-import %s, %s\n", build.Version(), runtime.Version())
		return err
	}
	m, err := imports.ReadMapping(c.mapping)
	if err != nil {
		return err
	}
	var s imports.Source
	if c.kind == "river" {
		s, err = imports.OpenRiver(ctx, c.source, c.schema)
	} else {
		s, err = imports.OpenAsynq(c.source)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	plan, err := imports.Look(ctx, s, m, c.Options)
	if err != nil {
		return err
	}
	printPlan(out, plan)
	if err := plan.Problems(); err != nil {
		return fmt.Errorf("nothing was enqueued:\n%w", err)
	}
	if c.dryRun {
		_, err = fmt.Fprintf(out, "%d jobs would be enqueued\n", plan.Jobs)
		return err
	}
	client, err := open(ctx, c)
	if err != nil {
		return err
	}
	report, err := imports.Import(ctx, s, m, c.Options, client)
	fmt.Fprintf(out, "%d jobs were enqueued, %d had been before\n", report.Enqueued, report.Existing)
	return errors.Join(err, client.Close())
}

// open opens stint's database.
func open(ctx context.Context, c *config) (*stint.Client, error) {
	if !strings.Contains(c.target, "://") {
		return stint.Open(c.target)
	}
	s, err := postgres.Open(ctx, c.target, postgres.Options{Schema: c.stintSchema})
	if err != nil {
		return nil, err
	}
	return stint.New(s)
}

func printPlan(out io.Writer, p *imports.Plan) {
	if len(p.Lines) == 0 {
		return
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "KIND\tQUEUE\tSTATE\tJOBS\tTASK")
	for _, l := range p.Lines {
		task := l.Task
		switch {
		case l.Problem != "":
			task = "! " + l.Problem
		case task == "":
			task = "(left out)"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\n", l.Kind, l.Queue, l.State, l.Jobs, task)
	}
	w.Flush()
}
