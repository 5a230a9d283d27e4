package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v3"
)

// texts is a flag that may be given several times, or once with commas.
type texts []string

func (t *texts) String() string { return strings.Join(*t, ",") }

// Get implements cli.Value.
func (t *texts) Get() any { return t }

// Set implements cli.Value.
func (t *texts) Set(s string) error { *t = append(*t, strings.Split(s, ",")...); return nil }

// pairs is a flag of the form KEY=VALUE that may be given several times.
type pairs map[string]string

func (p *pairs) String() string {
	text := ""
	for k, v := range *p {
		text += k + "=" + v
	}
	return text
}

// Get implements cli.Value.
func (p *pairs) Get() any { return p }

// Set implements cli.Value.
func (p *pairs) Set(s string) error {
	k, v, ok := strings.Cut(s, "=")
	if !ok {
		return errors.New("want KEY=VALUE")
	}
	if *p == nil {
		*p = pairs{}
	}
	(*p)[k] = v
	return nil
}

// A moment is a flag that is a time, or how long ago it was.
type moment struct {
	time.Time
	text string
}

func (m *moment) String() string { return m.text }

// Get implements cli.Value.
func (m *moment) Get() any { return m }

// Set implements cli.Value.
func (m *moment) Set(s string) (err error) {
	if m.text = s; s != "" {
		m.Time, err = parseTime(s, -1)
	}
	return err
}

// parseTime reads a time, or a duration from now: in the past if sign is -1, in the future if it is 1.
func parseTime(s string, sign time.Duration) (time.Time, error) {
	now := time.Now()
	var days int
	if n, err := fmt.Sscanf(s+"\n", "%dd\n", &days); n == 1 && err == nil && days >= 0 {
		return now.AddDate(0, 0, int(sign)*days), nil
	}
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return now.Add(sign * d), nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04", "2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return t, nil
		}
	}
	how := "how long ago, like 90m or 7d"
	if sign > 0 {
		how = "how long from now, like 90m or 7d"
	}
	return time.Time{}, fmt.Errorf("time %q: want one like 2026-01-31T12:00:00Z or 2026-01-31, or %s", s, how)
}

type duration = time.Duration

var stateNames = []string{"scheduled", "queued", "running", "waiting", "blocked", "succeeded", "failed", "canceled", "skipped"}

// defaultSchema is that of postgres.Options. Tests change it.
var defaultSchema = "stint"

// globalFlags are flags of all commands.
func globalFlags(o *options) []cli.Flag {
	return []cli.Flag{
		textFlag("db", "the `database`, instead of an argument", &o.db),
		&cli.StringFlag{Name: "schema", Usage: "the `schema` of stint's tables in a PostgreSQL database", Value: defaultSchema,
			Destination: &o.schema},
		textFlag("o", "print a `format`: table; json, what the page's HTTP API answers; or ndjson, its objects, one a line", &o.output),
		boolFlag("json", "print an object a line, with the names of Go's fields (-o ndjson has those of the HTTP API)", &o.json),
		&cli.BoolFlag{Name: "help", Aliases: []string{"h"}, Usage: "print the help of a command", Destination: &o.help},
		&cli.BoolFlag{Name: "version", Usage: "say how this program was built", Destination: &o.version, Local: true},
	}
}

func textFlag(name, usage string, to *string) cli.Flag {
	return &cli.StringFlag{Name: name, Usage: usage, Destination: to}
}

func boolFlag(name, usage string, to *bool) cli.Flag {
	return &cli.BoolFlag{Name: name, Usage: usage, Destination: to}
}

func valueFlag(name, usage string, to cli.Value) cli.Flag {
	return &cli.GenericFlag{Name: name, Usage: usage, Value: to}
}

func forceFlags(o *options) []cli.Flag {
	return []cli.Flag{boolFlag("force", "accept names of tasks and queues that the database does not know", &o.force)}
}

func filterFlags(o *options) []cli.Flag {
	return append([]cli.Flag{
		valueFlag("task", "only runs of these `tasks`", &o.tasks),
		valueFlag("queue", "only runs in these `queues`", &o.queues),
		valueFlag("state", "only runs in these `states`: "+strings.Join(stateNames, ", "), &o.states),
		valueFlag("metadata", "only runs with this metadata, `KEY=VALUE`", &o.metadata),
		valueFlag("since", "only runs created at this `time` or later, like 2026-01-31T12:00:00Z, 90m or 7d ago", &o.since),
		valueFlag("until", "only runs created before this `time`", &o.until),
		textFlag("event", "only runs that the event of this `ID` started", &o.event),
		textFlag("worker", "only runs that the worker of this `name` executes, or has executed last", &o.worker),
		textFlag("parent", "only children of the run with this `ID`", &o.parent),
		boolFlag("top", "only runs that no other run started", &o.topLevel),
		boolFlag("flat", "no tasks of workflows, only the workflow's own runs", &o.flat),
		textFlag("error", "only runs with this `text` in their error, in upper or lower case", &o.errorHas),
		textFlag("group", "only runs that failed last with the error of this `ID`, as stint errors lists them", &o.group),
	}, forceFlags(o)...)
}

func listFlags(o *options) []cli.Flag { return append(filterFlags(o), limitFlag(o, 50)) }

func runFlags(o *options) []cli.Flag {
	return append(listFlags(o), boolFlag("oldest", "list the oldest first", &o.oldest))
}

func limitFlag(o *options, most int) cli.Flag {
	return &cli.IntFlag{Name: "limit", Usage: "list at most this `number`", Value: most, Destination: &o.limit}
}

func bulkFlags(o *options) []cli.Flag {
	return append(filterFlags(o),
		boolFlag("all", "act on all runs, without a filter or an ID", &o.all),
		boolFlag("dry-run", "change nothing, only print how many runs would change", &o.dryRun))
}

func publishFlags(o *options) []cli.Flag {
	return []cli.Flag{valueFlag("metadata", "add this metadata, `KEY=VALUE`", &o.metadata)}
}

func enqueueFlags(o *options) []cli.Flag {
	return append(forceFlags(o),
		valueFlag("metadata", "add this metadata, `KEY=VALUE`", &o.metadata),
		textFlag("queue", "the `queue`, instead of the task's", &o.queue),
		textFlag("key", "idempotency `key`, valid for a day", &o.key),
		&cli.DurationFlag{Name: "delay", Usage: "start the run after this `duration`", Destination: &o.delay})
}

func tailFlags(o *options) []cli.Flag {
	return append(listFlags(o), everyFlag(o))
}

func everyFlag(o *options) cli.Flag {
	return &cli.DurationFlag{Name: "every", Usage: "`interval` between two polls", Value: 500 * time.Millisecond, Destination: &o.refresh}
}

func migrateFlags(o *options) []cli.Flag {
	return []cli.Flag{boolFlag("n", "change nothing, only print what would be done", &o.dryRun)}
}

func moveFlags(o *options) []cli.Flag {
	return []cli.Flag{boolFlag("cancel", "forget a move that has begun and not ended: programs work on as before", &o.cancel)}
}

func importFlags(o *options) []cli.Flag {
	return []cli.Flag{boolFlag("dry-run", "change nothing: read all of FILE, check it, and print what it has", &o.dryRun)}
}

func uiFlags(o *options) []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "http", Usage: "`address` to serve at; requests from other machines are refused", Value: "localhost:8080",
			Destination: &o.http},
		boolFlag("read-only", "change nothing", &o.readOnly),
		boolFlag("local-access", "give every user and program of this machine access, without a token", &o.localAccess),
		textFlag("backup-dir", "let the page write backups to this `directory`", &o.backupDir),
	}
}
