// The stint command shows what a stint database holds and acts on it, also while programs have it
// open.
//
//	stint runs -state failed app.db
//	stint run app.db 01923b5c-7d3e-7000-8000-3f2a9c1b4d5e
//	stint enqueue app.db send-mail '{"to": "ann@example.org"}'
//	stint doctor app.db
//
// With -json it prints one JSON object a line.
package main

import (
	"context"
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

// A command is a subcommand of stint.
type command struct {
	name  string
	args  string // after the file
	what  string // what it does
	flags func(*flag.FlagSet, *options)
	run   func(context.Context, *session) error
}

// onlyReads reports whether a command changes nothing. The file is then opened read-only: no cron
// fires, nothing is recovered, and no permission to write is needed.
func (c *command) onlyReads(o *options, args []string) bool {
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
	{"cancel", "[ID...]", "cancel runs, by ID or by filter", bulkFlags, cancelRuns},
	{"replay", "[ID...]", "run ended or blocked runs again, by ID or by filter; those that succeeded only by ID or with -state succeeded",
		bulkFlags, replayRuns},
	{"delete", "[ID...]", "delete ended runs, by ID or by filter", bulkFlags, deleteRuns},
	{"enqueue", "TASK [JSON]", "start a task", enqueueFlags, enqueue},
	{"publish", "KEY [JSON]", "publish an event", metadataFlag, publish},
	{"tail", "[ID]", "print runs as they change, or the log of one run, until interrupted", tailFlags, tail},
	{"journal", "ID", "print the journal of a durable function", nil, showJournal},
	{"export", "ID", "print a journal in the format that ReplayJournal reads", nil, exportJournal},
	{"cron", "[pause|resume|trigger|delete NAME]", "list crons, or act on one", nil, cron},
	{"queues", "", "list queues", nil, listQueues},
	{"workers", "", "list living workers", nil, listWorkers},
	{"pause", "QUEUE", "pause a queue: none of its runs start", forceFlag, pauseQueue},
	{"resume", "QUEUE", "resume a queue", forceFlag, resumeQueue},
	{"doctor", "", "look for damage; the exit status is 1 if there is any", nil, doctor},
	{"backup", "PATH", "write a copy to a new file, also while programs use the database", nil, backup},
	{"ui", "", "serve the web page of a file, for this machine only", uiFlags, serveUI},
}

// options holds the values of flags.
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
	if err := runCommand(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, printableLines(err.Error()))
		}
		stop()
		os.Exit(1)
	}
}

func runCommand(ctx context.Context, args []string, out, errs io.Writer) error {
	if len(args) == 0 || args[0] == "help" || args[0] == "-h" || args[0] == "-help" || args[0] == "--help" {
		usage(errs)
		return flag.ErrHelp
	}
	for i := range commands {
		if c := &commands[i]; c.name == args[0] {
			return c.execute(ctx, args[1:], out, errs)
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

func (c *command) execute(ctx context.Context, args []string, out, errs io.Writer) error {
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
	if c.onlyReads(&o, args) {
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

// checkArgs returns an error if there are too many arguments, or a flag among them, which package
// flag would not see.
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

// checkFlags returns an error if a flag has an empty text, such as an unset variable of a script.
// The command would ignore such a flag and do more than what was meant.
func checkFlags(f *flag.FlagSet) (err error) {
	f.Visit(func(given *flag.Flag) {
		if _, pairs := given.Value.(*pairs); !pairs && given.Value.String() == "" {
			err = fmt.Errorf("stint: -%s is empty: give a value, or leave it out", given.Name)
		}
	})
	return err
}

// checkFile returns an error if a file has none of stint's tables. Open would create them: if the
// path is a typo, in another program's database.
func checkFile(path string) error {
	c, err := stint.Open(path, stint.WithReadOnly())
	switch {
	case err == nil:
		return c.Close()
	case errors.Is(err, sqlite.ErrNoTables):
		return err
	}
	return nil // Open returns it again, or succeeds where a reader cannot
}

// arg returns an argument after the file, or an error with its name if it is missing.
func (s *session) arg(i int, name string) (string, error) {
	if i >= len(s.args) {
		return "", fmt.Errorf("stint: %s is missing", name)
	}
	return s.args[i], nil
}

// checkNames returns an error if a name is unknown to the file, which usually means a typo.
func (s *session) checkNames(ctx context.Context, tasks, queues []string) error {
	if s.force || len(tasks)+len(queues) == 0 {
		return nil
	}
	names, err := s.c.Names(ctx)
	if err != nil {
		return err
	}
	if err := names.Unknown(tasks, queues); err != nil {
		return fmt.Errorf("%w (-force insists)", err)
	}
	return nil
}
