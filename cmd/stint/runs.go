package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/internal/near"
)

// texts is a flag that may be given several times, or with commas.
type texts []string

func (t *texts) String() string { return strings.Join(*t, ",") }

// Set implements flag.Value.
func (t *texts) Set(s string) error { *t = append(*t, strings.Split(s, ",")...); return nil }

// pairs is a flag of the form KEY=VALUE that may be given several times. Both are texts, as
// they stand.
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
	f.Var(&o.tasks, "task", "only of these tasks")
	f.Var(&o.queues, "queue", "only of these queues")
	forceFlag(f, o)
	f.Var(&o.states, "state", "only in these states: "+strings.Join(stateNames, ", "))
	f.Var(&o.metadata, "metadata", "only with this metadata, KEY=VALUE")
	f.StringVar(&o.errorHas, "error", "", "only with this text in the error, in any case")
}

func forceFlag(f *flag.FlagSet, o *options) {
	f.BoolVar(&o.force, "force", false, "take names of tasks and queues that the file does not know")
}

// known returns an error if a name was never heard of, which is then a typo as a rule.
func (s *session) known(ctx context.Context, tasks, queues []string) error {
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

func listFlags(f *flag.FlagSet, o *options) {
	filterFlags(f, o)
	f.IntVar(&o.limit, "limit", 50, "how many are listed")
}

func actFlags(f *flag.FlagSet, o *options) {
	filterFlags(f, o)
	f.BoolVar(&o.all, "all", false, "act on all runs, where no filter and no ID is given")
	f.BoolVar(&o.dryRun, "dry-run", false, "change nothing, and print how many runs would be")
}

func metadataFlag(f *flag.FlagSet, o *options) {
	f.Var(&o.metadata, "metadata", "with this metadata, KEY=VALUE")
}

func enqueueFlags(f *flag.FlagSet, o *options) {
	metadataFlag(f, o)
	forceFlag(f, o)
	f.StringVar(&o.queue, "queue", "", "into this queue")
	f.StringVar(&o.key, "key", "", "idempotency key, for a day")
	f.DurationVar(&o.delay, "delay", 0, "start it that much later")
}

func tailFlags(f *flag.FlagSet, o *options) {
	listFlags(f, o)
	f.DurationVar(&o.refresh, "every", 500*time.Millisecond, "how often to look")
}

// filter is what flags and arguments select.
func (s *session) filter(ctx context.Context) (f stint.RunFilter, err error) {
	f = stint.RunFilter{Tasks: s.tasks, Queues: s.queues, Metadata: s.metadata, Error: s.errorHas, Limit: s.limit, All: s.all, DryRun: s.dryRun}
	if len(s.args) > 0 {
		f.IDs = s.args
	}
	for _, name := range s.states {
		var st stint.State
		if err := st.UnmarshalText([]byte(name)); err != nil {
			return f, fmt.Errorf("stint: %w%s", err, near.Meant(name, stateNames))
		}
		f.States = append(f.States, st)
	}
	return f, s.known(ctx, s.tasks, s.queues)
}

func listRuns(ctx context.Context, s *session) error {
	f, err := s.filter(ctx)
	if err != nil {
		return err
	}
	var rows []stint.RunInfo
	err = s.pages(ctx, f, func(runs []stint.RunInfo) error {
		if s.json { // at once: inputs and outputs may be large
			return print(s, "", runs, func(stint.RunInfo) string { return "" })
		}
		rows = append(rows, runs...)
		return nil
	})
	if err != nil {
		return err
	}
	return print(s, "RUN\tTASK\tSTATE\tATTEMPT\tCREATED\tINPUT\tBLOCKED", rows, func(r stint.RunInfo) string {
		return fmt.Sprintf("%s\t%s\t%v\t%d\t%s\t%s\t%s", r.ID, short(r.Task), r.State, r.Attempt, stamp(r.Created), short(r.Input), short(r.Blocked))
	})
}

// pages lists runs that match, as many as the filter's limit, and calls f with some at a
// time. In a table only the beginning of an input is printed: without -json no more is kept.
func (s *session) pages(ctx context.Context, f stint.RunFilter, do func([]stint.RunInfo) error) error {
	for left := cmp.Or(f.Limit, 100); ; {
		f.Limit = left
		page, err := s.c.ListRuns(ctx, f)
		if err != nil {
			return err
		}
		for i := range page.Runs {
			if r := &page.Runs[i]; !s.json {
				r.Input, r.Output = slices.Clone(r.Input[:min(len(r.Input), 1000)]), nil
			}
		}
		if err := do(page.Runs); err != nil || page.Next == "" {
			return err
		}
		if left, f.Cursor = left-len(page.Runs), page.Next; left <= 0 {
			return nil
		}
	}
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Local().Format("2006-01-02 15:04:05")
}

// short is the beginning of a text, on one line, with nothing in it that a terminal obeys.
func short[T ~[]byte | ~string](text T) string {
	const most = 60
	var b strings.Builder
	for i, r := range string(text) {
		if i > most {
			return b.String() + "…"
		}
		b.WriteRune(printable(r))
	}
	return b.String()
}

// oneLine is a whole text, as short shows its beginning.
func oneLine(text string) string { return strings.Map(printable, text) }

// plain is a text of several lines, with nothing in it that a terminal obeys.
func plain(text string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' {
			return r
		}
		return printable(r)
	}, text)
}

// printable is a character, or a space in place of one that moves the cursor, or changes
// colours or the direction of what is read.
func printable(r rune) rune {
	if !unicode.IsPrint(r) {
		return ' '
	}
	return r
}

func showRun(ctx context.Context, s *session) error {
	id, err := s.arg(0, "the run's ID")
	if err != nil {
		return err
	}
	r, err := s.c.GetRun(ctx, id)
	if err != nil {
		return err
	}
	if s.json {
		return json.NewEncoder(s.out).Encode(r)
	}
	t := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
	for _, f := range [][2]string{
		{"run", r.ID}, {"task", oneLine(r.Task)}, {"queue", oneLine(r.Queue)}, {"state", r.State.String()}, {"waits for", short(r.Blocked)},
		{"quarantined", yes(r.Quarantined)}, {"canceling", yes(r.Canceling)},
		{"attempt", fmt.Sprint(r.Attempt)}, {"executions", fmt.Sprint(r.Executions)}, {"priority", fmt.Sprint(r.Priority)}, {"key", short(r.Key)}, {"parent", r.ParentID}, {"worker", short(r.Worker)},
		{"created", stamp(r.Created)}, {"due", stamp(r.Scheduled)}, {"started", stamp(r.Started)}, {"finished", stamp(r.Finished)},
		{"input", short(r.Input)}, {"output", short(r.Output)}, {"error", short(r.Error)},
	} {
		if f[1] != "" && f[1] != "-" {
			fmt.Fprintf(t, "%s\t%s\n", f[0], f[1])
		}
	}
	for _, n := range r.Tasks {
		fmt.Fprintf(t, "task %s\t%v\t%s\n", oneLine(n.Name), n.State, short(n.Blocked))
	}
	for _, e := range r.Timeline {
		fmt.Fprintf(t, "%s\t%v\t%s\n", stamp(e.At), e.State, short(e.Error))
	}
	return t.Flush()
}

// act does something to the runs that are selected, and says to how many.
func (s *session) act(ctx context.Context, done string, do func(stint.RunFilter) (int, error)) error {
	f, err := s.filter(ctx)
	if err != nil {
		return err
	}
	if errors.Is(f.Selects(), stint.ErrNoFilter) {
		return errors.New("stint: nothing is selected: give IDs or a filter, or -all")
	}
	n, err := do(f)
	if err != nil {
		return err
	}
	if s.dryRun {
		done = "would be " + done
	}
	if s.json {
		return json.NewEncoder(s.out).Encode(map[string]int{strings.ReplaceAll(done, " ", "_"): n})
	}
	_, err = fmt.Fprintf(s.out, "%d %s\n", n, done)
	return err
}

func cancelRuns(ctx context.Context, s *session) error {
	return s.act(ctx, "canceled", func(f stint.RunFilter) (int, error) { return s.c.CancelRuns(ctx, f) })
}

func replayRuns(ctx context.Context, s *session) error {
	return s.act(ctx, "queued", func(f stint.RunFilter) (int, error) { return s.c.ReplayRuns(ctx, f) })
}

func deleteRuns(ctx context.Context, s *session) error {
	return s.act(ctx, "deleted", func(f stint.RunFilter) (int, error) { return s.c.DeleteRuns(ctx, f) })
}

// payload is an argument that is JSON, null if it is not given.
func (s *session) payload(i int) (json.RawMessage, error) {
	if i >= len(s.args) {
		return json.RawMessage("null"), nil
	}
	b := json.RawMessage(s.args[i])
	if !json.Valid(b) {
		return nil, fmt.Errorf("stint: %q is not JSON; a text has quotes of its own: '\"text\"'", short(b))
	}
	return b, nil
}

func enqueue(ctx context.Context, s *session) error {
	name, err := s.arg(0, "the task's name")
	if err != nil {
		return err
	}
	in, err := s.payload(1)
	if err != nil {
		return err
	}
	var opts []stint.RunOption
	var queues []string
	if s.queue != "" {
		queues = []string{s.queue}
		opts = append(opts, stint.WithQueue(s.queue))
	}
	if s.key != "" {
		opts = append(opts, stint.WithIdempotencyKey(s.key, 24*time.Hour))
	}
	if s.delay < 0 {
		return fmt.Errorf("stint: -delay %v: want 0 or more", s.delay)
	} else if s.delay > 0 {
		opts = append(opts, stint.WithDelay(s.delay))
	}
	if s.metadata != nil {
		opts = append(opts, stint.WithMetadata(s.metadata))
	}
	if err := s.known(ctx, []string{name}, queues); err != nil {
		return err
	}
	run, err := s.c.EnqueueJSON(ctx, name, in, opts...)
	if err != nil {
		return err
	}
	return s.made("run", run.ID())
}

func (s *session) made(what, id string) error {
	if s.json {
		return json.NewEncoder(s.out).Encode(map[string]string{what: id})
	}
	_, err := fmt.Fprintln(s.out, id)
	return err
}

func publish(ctx context.Context, s *session) error {
	key, err := s.arg(0, "the event's key")
	if err != nil {
		return err
	}
	payload, err := s.payload(1)
	if err != nil {
		return err
	}
	var opts []stint.EventOption
	if s.metadata != nil {
		opts = append(opts, stint.WithMetadata(s.metadata))
	}
	id, err := s.c.Publish(ctx, key, payload, opts...)
	if err != nil {
		return err
	}
	return s.made("event", id)
}

// tail prints runs whose state has changed since the last look, oldest first.
func tail(ctx context.Context, s *session) error {
	if len(s.args) > 0 {
		return tailLog(ctx, s, s.args[0])
	}
	f, err := s.filter(ctx)
	if err != nil {
		return err
	}
	seen := map[string]string{}
	for {
		var changed []stint.RunInfo
		now := map[string]string{}
		err := s.pages(ctx, f, func(runs []stint.RunInfo) error {
			for _, r := range runs {
				now[r.ID] = fmt.Sprint(r.State, r.Attempt)
				if seen[r.ID] != now[r.ID] {
					changed = append(changed, r)
				}
			}
			return nil
		})
		if err != nil {
			return quiet(ctx, err)
		}
		seen = now
		slices.Reverse(changed)
		err = print(s, "", changed, func(r stint.RunInfo) string {
			return fmt.Sprintf("%s  %s  %v  attempt %d  %s", stamp(time.Now()), r.ID, r.State, r.Attempt, oneLine(r.Task))
		})
		if err != nil || !wait(ctx, s.refresh) {
			return err
		}
	}
}

// tailLog prints the log of a run until it ends.
func tailLog(ctx context.Context, s *session, id string) error {
	for after := int64(0); ; {
		r, err := s.c.GetRun(ctx, id) // first, so that no line that comes before the end is missed
		if err != nil {
			return quiet(ctx, err)
		}
		lines, err := s.c.Logs(ctx, id, after, 1000)
		if err != nil {
			return quiet(ctx, err)
		}
		err = print(s, "", lines, func(l stint.LogLine) string {
			return fmt.Sprintf("%s  %v  %s  %s", stamp(l.At), l.Level, short(l.Message), short(l.Attrs))
		})
		if err != nil {
			return err
		}
		if n := len(lines); n > 0 {
			after = lines[n-1].Seq
		} else if r.State.Terminal() || !wait(ctx, s.refresh) {
			return nil
		}
	}
}

// quiet has an interrupt be no error.
func quiet(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func wait(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(max(d, 10*time.Millisecond)): // -every 0 is no busy loop
		return true
	case <-ctx.Done():
		return false
	}
}

func showJournal(ctx context.Context, s *session) error {
	id, err := s.arg(0, "the run's ID")
	if err != nil {
		return err
	}
	header := "AT\tWHERE\tKIND\tNAME\tDONE\tOUTPUT\tERROR"
	for cursor := ""; ; { // a table for each page, with one header: a journal may be of any length
		page, err := s.c.JournalPage(ctx, id, stint.JournalFilter{Limit: 1000, Cursor: cursor})
		if err != nil {
			return err
		}
		err = print(s, header, page.Entries, func(e stint.JournalEntry) string {
			return fmt.Sprintf("%s\t%s\t%s\t%s\t%v\t%s\t%s", stamp(e.At), e.Address, e.Kind, short(e.Name), e.Done, short(e.Output), short(e.Error))
		})
		if header, cursor = "", page.Next; err != nil || cursor == "" {
			return err
		}
	}
}

func exportJournal(ctx context.Context, s *session) error {
	id, err := s.arg(0, "the run's ID")
	if err != nil {
		return err
	}
	if err := s.c.WriteJournal(ctx, id, s.out); err != nil {
		return err
	}
	_, err = fmt.Fprintln(s.out)
	return err
}

// yes is what is shown of something that is so, and nothing of what is not.
func yes(is bool) string {
	if is {
		return "yes"
	}
	return ""
}
