// The stint command shows what a stint database holds and acts on it, also while programs have it
// open.
//
//	stint runs -state failed app.db
//	stint run app.db 01923b5c-7d3e-7000-8000-3f2a9c1b4d5e
//	stint enqueue app.db send-mail '{"to": "ann@example.org"}'
//	stint doctor app.db
//	stint ui postgres://app@db.example.org/app
//
// A database is a SQLite file, or a PostgreSQL URL as of libpq; without one $STINT_DATABASE_URL names it. To keep
// a password out of the shell's history, use PGPASSWORD or ~/.pgpass.
//
// With -json it prints one JSON object a line.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"

	"github.com/stint-dev/stint"
	_ "github.com/stint-dev/stint/cel" // filters of triggers, for publish
	"github.com/stint-dev/stint/internal/near"
)

// A command is a subcommand of stint.
type command struct {
	name     string
	args     string // after the database
	what     string // what it does
	flags    func(*flag.FlagSet, *options)
	run      func(context.Context, *session) error
	unopened bool // run opens what it needs by itself
}

// onlyReads reports whether a command changes nothing. The database is then opened read-only: no cron
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
	{"runs", "", "list runs, newest first", listFlags, listRuns, false},
	{"run", "ID", "show a run: what it waits for, its tasks, its timeline", nil, showRun, false},
	{"cancel", "[ID...]", "cancel runs, by ID or by filter", bulkFlags, cancelRuns, false},
	{"replay", "[ID...]", "run ended or blocked runs again, by ID or by filter; those that succeeded only by ID or with -state succeeded",
		bulkFlags, replayRuns, false},
	{"delete", "[ID...]", "delete ended runs, by ID or by filter", bulkFlags, deleteRuns, false},
	{"enqueue", "TASK [JSON]", "start a task", enqueueFlags, enqueue, false},
	{"publish", "KEY [JSON]", "publish an event", metadataFlag, publish, false},
	{"tail", "[ID]", "print runs as they change, or the log of one run, until interrupted", tailFlags, tail, false},
	{"journal", "ID", "print the journal of a durable function", nil, showJournal, false},
	{"export", "ID", "print a journal in the format that ReplayJournal reads", nil, exportJournal, false},
	{"cron", "[pause|resume|trigger|delete NAME]", "list crons, or act on one", nil, cron, false},
	{"queues", "", "list queues", nil, listQueues, false},
	{"workers", "", "list living workers", nil, listWorkers, false},
	{"pause", "QUEUE", "pause a queue: none of its runs start", forceFlag, pauseQueue, false},
	{"resume", "QUEUE", "resume a queue", forceFlag, resumeQueue, false},
	{"doctor", "", "look for damage; the exit status is 1 if there is any", nil, doctor, false},
	{"backup", "PATH", "write a copy of a file to a new one, also while programs use it", nil, backup, true},
	{"migrate", "", "make or update the tables of a PostgreSQL database, for programs whose role may not", migrateFlags, migrate, true},
	{"move", "TO", "move a file into a PostgreSQL database, also while programs work, or such a database into a new file", moveFlags, move,
		true},
	{"ui", "", "serve the web page of a database, for this machine only", uiFlags, serveUI, false},
}

// options holds the values of flags.
type options struct {
	json           bool
	schema         string
	tasks, queues  texts
	states         texts
	metadata       pairs
	errorHas       string
	event, worker  string
	limit          int
	key            string
	queue          string
	delay, refresh duration
	all, dryRun    bool
	force          bool
	cancel         bool
	http           string
	readOnly       bool
	localAccess    bool
	backupDir      string
}

// A session is one command on one database.
type session struct {
	*options
	db   database
	c    *stint.Client // nil for a command that opens by itself
	args []string
	out  io.Writer
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := runCommand(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, printableLines(err.Error()))
		stop()
		os.Exit(1)
	}
}

func runCommand(ctx context.Context, args []string, out, errs io.Writer) error {
	if len(args) == 0 {
		usage(errs)
		return errors.New("stint: name a command")
	}
	switch name := args[0]; name {
	case "help", "-h", "-help", "--help":
		if len(args) == 1 {
			usage(out)
			return nil
		}
		return runCommand(ctx, []string{args[1], "-h"}, out, errs)
	case "version", "-version", "--version":
		fmt.Fprintln(out, version())
		return nil
	default:
		var names []string
		for i := range commands {
			if c := &commands[i]; c.name == name {
				return c.execute(ctx, args[1:], out, errs)
			}
			names = append(names, commands[i].name)
		}
		return fmt.Errorf("stint: there is no command %q%s; stint help lists them", name, near.Meant(name, names))
	}
}

// version returns the version of the module, the commit if it is known, and the version of Go.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "stint, built without modules"
	}
	text := "stint " + info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			text += ", commit " + s.Value
		}
	}
	return text + ", " + info.GoVersion
}

func usage(w io.Writer) {
	fmt.Fprintln(w, "usage: stint COMMAND [-flags] DATABASE [arguments]   (flags may stand anywhere; -- ends them)")
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, c := range commands {
		fmt.Fprintf(t, "  %s DATABASE %s\t%s\n", c.name, c.args, c.what)
	}
	t.Flush()
	fmt.Fprintln(w, "DATABASE: a SQLite file, or postgres://user@host/database. Leave it out if $"+databaseVariable+" names one.")
	fmt.Fprintln(w, "stint help COMMAND lists the flags of one; stint version says how this program was built.")
}

func (c *command) execute(ctx context.Context, args []string, out, errs io.Writer) error {
	var o options
	f := flag.NewFlagSet(c.name, flag.ContinueOnError)
	f.SetOutput(io.Discard) // main prints errors
	f.BoolVar(&o.json, "json", false, "print JSON, an object a line")
	f.StringVar(&o.schema, "schema", defaultSchema, "the `schema` of stint's tables in a PostgreSQL database")
	if c.flags != nil {
		c.flags(f, &o)
	}
	f.Usage = func() {} // an error says it all
	args, err := parseAnywhere(f, args)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprintf(out, "usage: stint %s\n%s\n", c.usage(), c.what)
		f.SetOutput(out)
		f.PrintDefaults()
		return nil
	}
	if err != nil {
		return fmt.Errorf("stint: %s: %w; stint help %s lists the flags", c.name, err, c.name)
	}
	db, args, err := findDatabase(args, o.schema)
	if err != nil {
		return err
	}
	if err := errors.Join(c.checkArgs(&db, args), checkFlags(f)); err != nil {
		return err
	}
	s := &session{options: &o, db: db, args: args, out: out}
	if c.unopened {
		return c.run(ctx, s)
	}
	log := slog.New(slog.NewTextHandler(errs, &slog.HandlerOptions{Level: slog.LevelWarn}))
	if s.c, err = db.open(ctx, c.onlyReads(&o, args), stint.WithLogger(log)); err != nil {
		return err
	}
	return errors.Join(c.run(ctx, s), s.c.Close())
}

func (c *command) usage() string {
	return strings.TrimSpace(c.name + " [-flags] DATABASE " + c.args)
}

// parseAnywhere parses flags that stand before, between and after arguments, up to "--", and returns the arguments. A
// negative number is an argument.
func parseAnywhere(f *flag.FlagSet, args []string) (rest []string, err error) {
	var last []string
	if i := slices.Index(args, "--"); i >= 0 {
		args, last = args[:i], args[i+1:]
	}
	for len(args) > 0 {
		if _, err := strconv.ParseFloat(args[0], 64); err != nil && strings.HasPrefix(args[0], "-") && args[0] != "-" {
			n := min(flagArgs(f, args[0]), len(args))
			if err := f.Parse(args[:n]); err != nil {
				return nil, err
			}
			args = args[n:]
			continue
		}
		rest, args = append(rest, args[0]), args[1:]
	}
	return append(rest, last...), nil
}

// flagArgs returns how many arguments a flag takes, with its name.
func flagArgs(f *flag.FlagSet, arg string) int {
	name, _, hasValue := strings.Cut(strings.TrimLeft(arg, "-"), "=")
	known := f.Lookup(name)
	if hasValue || known == nil {
		return 1
	}
	if b, ok := known.Value.(interface{ IsBoolFlag() bool }); ok && b.IsBoolFlag() {
		return 1
	}
	return 2
}

// checkArgs returns an error if there are too many arguments.
func (c *command) checkArgs(db *database, args []string) error {
	most := len(strings.Fields(c.args))
	if len(args) > most && !strings.Contains(c.args, "...") {
		where := ""
		if db.env {
			where = "; $" + databaseVariable + " names the database"
		}
		return fmt.Errorf("stint: %q is too much: want stint %s%s", args[most], c.usage(), where)
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

// arg returns an argument after the database, or an error with its name if it is missing.
func (s *session) arg(i int, name string) (string, error) {
	if i >= len(s.args) {
		return "", fmt.Errorf("stint: %s is missing", name)
	}
	return s.args[i], nil
}

// checkNames returns an error if a name is unknown to the database, which usually means a typo.
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
