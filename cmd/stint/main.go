// The stint command looks into a file of the library's, and acts on it, also while
// programs have it open.
//
//	stint runs -state failed app.db
//	stint run app.db 01923b5c-7d3e-7000-8000-3f2a9c1b4d5e
//	stint enqueue app.db send-mail '{"to": "ann@example.org"}'
//	stint doctor app.db
//
// With -json it prints an object a line.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"text/tabwriter"

	"github.com/stint-dev/stint"
	_ "github.com/stint-dev/stint/cel" // filters of triggers, for publish
	"github.com/stint-dev/stint/store/sqlite"
)

// A command is what stint can be asked.
type command struct {
	name  string
	args  string // after the file
	what  string
	flags func(*flag.FlagSet, *options)
	run   func(context.Context, *session) error
}

// looks reports whether a command only looks: the file is opened read-only then, which fires
// no cron, recovers nothing, and needs no rights to write.
func (c *command) looks(o *options, args []string) bool {
	switch c.name {
	case "runs", "run", "tail", "journal", "export", "queues", "workers", "doctor", "backup":
		return true
	case "cron":
		return len(args) == 0
	}
	return o.readOnly || o.dryRun
}

var commands = []command{
	{"runs", "", "list runs, newest first", listFlags, listRuns},
	{"run", "ID", "show a run: what it waits for, its tasks, its timeline", nil, showRun},
	{"cancel", "[ID...]", "cancel runs, by ID or by filter", actFlags, cancelRuns},
	{"replay", "[ID...]", "run runs again, by ID or by filter; those that succeeded only by ID or with -state succeeded", actFlags, replayRuns},
	{"delete", "[ID...]", "delete ended runs, by ID or by filter", actFlags, deleteRuns},
	{"enqueue", "TASK [JSON]", "start a task", enqueueFlags, enqueue},
	{"publish", "KEY [JSON]", "publish an event", metadataFlag, publish},
	{"tail", "[ID]", "print runs as they change, or the log of one, until it is interrupted", tailFlags, tail},
	{"journal", "ID", "print what a durable function has recorded", nil, showJournal},
	{"export", "ID", "print a journal in the form that ReplayJournal takes", nil, exportJournal},
	{"cron", "[pause|resume|trigger|delete NAME]", "list crons, or act on one", nil, cron},
	{"queues", "", "list queues", nil, listQueues},
	{"workers", "", "list workers that live", nil, listWorkers},
	{"pause", "QUEUE", "start nothing from a queue", forceFlag, pauseQueue},
	{"resume", "QUEUE", "undo pause", forceFlag, resumeQueue},
	{"doctor", "", "look for damage; exits with 1 if there is any", nil, doctor},
	{"backup", "PATH", "write a copy, while all goes on", nil, backup},
	{"ui", "", "serve the web page of a file, to this machine", uiFlags, serveUI},
}

// options are what flags say.
type options struct {
	json           bool
	tasks, queues  texts
	states         texts
	metadata       pairs
	errorHas       string
	limit          int
	key            string
	queue          string
	delay, refresh duration
	all, dryRun    bool
	force          bool
	http           string
	readOnly       bool
	localAccess    bool
	backupDir      string
}

// A session is one command on one file.
type session struct {
	*options
	c    *stint.Client
	args []string
	out  io.Writer
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := do(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, plain(err.Error()))
		}
		stop()
		os.Exit(1)
	}
}

func do(ctx context.Context, args []string, out, errs io.Writer) error {
	if len(args) == 0 || args[0] == "help" || args[0] == "-h" || args[0] == "-help" || args[0] == "--help" {
		usage(errs)
		return flag.ErrHelp
	}
	for i := range commands {
		if c := &commands[i]; c.name == args[0] {
			return c.do(ctx, args[1:], out, errs)
		}
	}
	usage(errs)
	return fmt.Errorf("stint: there is no command %q", args[0])
}

func usage(w io.Writer) {
	fmt.Fprintln(w, "usage: stint COMMAND [-flags] FILE [arguments]")
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, c := range commands {
		fmt.Fprintf(t, "  %s FILE %s\t%s\n", c.name, c.args, c.what)
	}
	t.Flush()
	fmt.Fprintln(w, "stint COMMAND -h lists the flags of one.")
}

func (c *command) do(ctx context.Context, args []string, out, errs io.Writer) error {
	var o options
	f := flag.NewFlagSet(c.name, flag.ContinueOnError)
	f.SetOutput(errs)
	f.BoolVar(&o.json, "json", false, "print JSON, an object a line")
	if c.flags != nil {
		c.flags(f, &o)
	}
	f.Usage = func() {
		fmt.Fprintf(errs, "usage: stint %s\n%s\n", c.usage(), c.what)
		f.PrintDefaults()
	}
	if err := f.Parse(args); err != nil {
		return err
	}
	if f.NArg() == 0 {
		f.Usage()
		return errors.New("stint: name a file")
	}
	path, args := f.Arg(0), f.Args()[1:]
	if err := errors.Join(c.checkArgs(f, args), checkFlags(f)); err != nil {
		return err
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("stint: %s does not exist", path) // Open would make it
	}
	opts := []stint.ClientOption{stint.WithLogger(slog.New(slog.NewTextHandler(errs, &slog.HandlerOptions{Level: slog.LevelWarn})))}
	if c.looks(&o, args) {
		opts = append(opts, stint.WithReadOnly())
	} else if err := checkFile(path); err != nil {
		return err
	}
	client, err := stint.Open(path, opts...)
	if err != nil {
		return err
	}
	err = c.run(ctx, &session{&o, client, args, out})
	return errors.Join(err, client.Close())
}

func (c *command) usage() string {
	return strings.TrimSpace(c.name + " [-flags] FILE " + c.args)
}

// checkArgs returns an error if there are more arguments than the command takes, or a flag
// among them, which would be passed by.
func (c *command) checkArgs(f *flag.FlagSet, args []string) error {
	for _, a := range args {
		if name := strings.TrimLeft(a, "-"); name != a {
			name, _, _ = strings.Cut(name, "=")
			if f.Lookup(name) != nil {
				return fmt.Errorf("stint: %s stands after the file: flags go before it", a)
			}
		}
	}
	most := len(strings.Fields(c.args))
	if len(args) > most && !strings.Contains(c.args, "...") {
		return fmt.Errorf("stint: %q is too much: want stint %s", args[most], c.usage())
	}
	return nil
}

// checkFlags returns an error if a flag that takes text was given none: the variable of a
// script that was empty. It would act as if it was not there.
func checkFlags(f *flag.FlagSet) (err error) {
	f.Visit(func(given *flag.Flag) {
		if _, pairs := given.Value.(*pairs); !pairs && given.Value.String() == "" {
			err = fmt.Errorf("stint: -%s is empty: give a value, or leave it out", given.Name)
		}
	})
	return err
}

// checkFile returns an error if a file has none of the library's tables. Open would make
// them, in another program's database if the path has a typo.
func checkFile(path string) error {
	c, err := stint.Open(path, stint.WithReadOnly())
	switch {
	case err == nil:
		return c.Close()
	case errors.Is(err, sqlite.ErrNoTables):
		return err
	}
	return nil // Open says it again, or can do what a reader cannot
}

// arg is an argument after the file, or an error that names it.
func (s *session) arg(i int, name string) (string, error) {
	if i >= len(s.args) {
		return "", fmt.Errorf("stint: %s is missing", name)
	}
	return s.args[i], nil
}

// print writes values as a table, or each as JSON.
func print[T any](s *session, header string, all []T, row func(T) string) error {
	if s.json {
		var failed error
		for _, v := range all {
			line, err := json.Marshal(v)
			if err != nil {
				failed = errors.Join(failed, err) // the others are printed all the same
				continue
			}
			if _, err := s.out.Write(append(line, '\n')); err != nil {
				return err
			}
		}
		return failed
	}
	t := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
	if len(all) > 0 && header != "" {
		fmt.Fprintln(t, header)
	}
	for _, v := range all {
		fmt.Fprintln(t, row(v))
	}
	return t.Flush()
}
