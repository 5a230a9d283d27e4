package main

import (
	"errors"
	"flag"
	"strings"
	"time"
)

// texts is a flag that may be given several times, or once with commas.
type texts []string

func (t *texts) String() string { return strings.Join(*t, ",") }

// Set implements flag.Value.
func (t *texts) Set(s string) error { *t = append(*t, strings.Split(s, ",")...); return nil }

// pairs is a flag of the form KEY=VALUE that may be given several times.
type pairs map[string]string

func (p *pairs) String() string { return "" }

// Set implements flag.Value.
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

type duration = time.Duration

var stateNames = []string{"scheduled", "queued", "running", "waiting", "blocked", "succeeded", "failed", "canceled", "skipped"}

func filterFlags(f *flag.FlagSet, o *options) {
	f.Var(&o.tasks, "task", "only runs of these `tasks`")
	f.Var(&o.queues, "queue", "only runs in these `queues`")
	forceFlag(f, o)
	f.Var(&o.states, "state", "only runs in these `states`: "+strings.Join(stateNames, ", "))
	f.Var(&o.metadata, "metadata", "only runs with this metadata, `KEY=VALUE`")
	f.StringVar(&o.event, "event", "", "only runs that the event of this `ID` started")
	f.StringVar(&o.worker, "worker", "", "only runs that the worker of this `name` executes, or has executed last")
	f.StringVar(&o.errorHas, "error", "", "only runs with this `text` in their error, in upper or lower case")
}

func forceFlag(f *flag.FlagSet, o *options) {
	f.BoolVar(&o.force, "force", false, "accept names of tasks and queues that the database does not know")
}

func listFlags(f *flag.FlagSet, o *options) {
	filterFlags(f, o)
	f.IntVar(&o.limit, "limit", 50, "list at most this many")
}

func bulkFlags(f *flag.FlagSet, o *options) {
	filterFlags(f, o)
	f.BoolVar(&o.all, "all", false, "act on all runs, without a filter or an ID")
	f.BoolVar(&o.dryRun, "dry-run", false, "change nothing, only print how many runs would change")
}

func metadataFlag(f *flag.FlagSet, o *options) {
	f.Var(&o.metadata, "metadata", "add this metadata, `KEY=VALUE`")
}

func enqueueFlags(f *flag.FlagSet, o *options) {
	metadataFlag(f, o)
	forceFlag(f, o)
	f.StringVar(&o.queue, "queue", "", "the `queue`, instead of the task's")
	f.StringVar(&o.key, "key", "", "idempotency `key`, valid for a day")
	f.DurationVar(&o.delay, "delay", 0, "start the run after this `duration`")
}

func tailFlags(f *flag.FlagSet, o *options) {
	listFlags(f, o)
	f.DurationVar(&o.refresh, "every", 500*time.Millisecond, "`interval` between two polls")
}

// defaultSchema is that of postgres.Options. Tests change it.
var defaultSchema = "stint"

func migrateFlags(f *flag.FlagSet, o *options) {
	f.BoolVar(&o.dryRun, "n", false, "change nothing, only print what would be done")
}
