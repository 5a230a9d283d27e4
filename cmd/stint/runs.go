package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/internal/near"
	"github.com/stint-dev/stint/internal/wire"
)

// filter returns the filter of the flags and arguments.
func (s *session) filter(ctx context.Context) (f stint.RunFilter, err error) {
	f = stint.RunFilter{Tasks: s.tasks, Queues: s.queues, Metadata: s.metadata, Error: s.errorHas, ErrorGroup: s.group,
		Event: s.event, Worker: s.worker, ParentID: s.parent, TopLevel: s.topLevel, Flat: s.flat,
		Since: s.since.Time, Until: s.until.Time, Limit: s.limit, OldestFirst: s.oldest,
		All: s.all, DryRun: s.dryRun}
	if len(s.args) > 0 {
		f.IDs = s.args
	}
	for _, name := range s.states {
		var st stint.State
		if err := st.UnmarshalText([]byte(name)); err != nil {
			return f, usagef("stint: %w%s", err, cmp.Or(near.Meant(name, stateNames), ": want "+strings.Join(stateNames, ", ")))
		}
		f.States = append(f.States, st)
	}
	return f, s.checkNames(ctx, s.tasks, s.queues)
}

func listRuns(ctx context.Context, s *session) error {
	f, err := s.filter(ctx)
	if err != nil {
		return err
	}
	l := list[stint.RunInfo]{s: s, field: "runs", header: "RUN\tTASK\tSTATE\tATTEMPT\tCREATED\tINPUT\tBLOCKED",
		row: func(r *stint.RunInfo) string {
			return columns(r.ID, truncate(r.Task), r.State, r.Attempt, formatTime(r.Created), truncate(r.Input), truncate(r.Blocked))
		},
		wire: func(r *stint.RunInfo) any { return wire.RunOf(r) }}
	var rows []stint.RunInfo
	next, err := s.eachPage(ctx, f, func(runs []stint.RunInfo) error {
		if s.format() != asTable { // at once: inputs and outputs may be large
			return l.print(runs)
		}
		rows = append(rows, runs...)
		return nil
	})
	if err != nil {
		return err
	}
	if err := l.print(rows); err != nil {
		return err
	}
	return l.end("next", next)
}

// eachPage calls do with the runs that match, a page at a time, up to the filter's limit, and returns the cursor of those
// that follow. Tables show the beginning of an input, so for them no more of it is kept.
func (s *session) eachPage(ctx context.Context, f stint.RunFilter, do func([]stint.RunInfo) error) (next string, err error) {
	for left := cmp.Or(f.Limit, 100); ; {
		f.Limit = min(left, 1000)
		page, err := s.c.ListRuns(ctx, f)
		if err != nil {
			return "", err
		}
		for i := range page.Runs {
			if r := &page.Runs[i]; s.format() == asTable {
				r.Input, r.Output = slices.Clone(r.Input[:min(len(r.Input), 1000)]), nil
			}
		}
		if err := do(page.Runs); err != nil || page.Next == "" {
			return "", err
		}
		if left, f.Cursor = left-len(page.Runs), page.Next; left <= 0 {
			return page.Next, nil
		}
	}
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
	if s.format() != asTable {
		return s.encode(wire.RunOf(r), r)
	}
	t := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
	for _, f := range [][2]string{
		{"run", r.ID}, {"task", oneLine(r.Task)}, {"queue", oneLine(r.Queue)}, {"state", r.State.String()},
		{"waits for", oneLine(r.Blocked)}, {"quarantined", yesOrEmpty(r.Quarantined)}, {"canceling", yesOrEmpty(r.Canceling)},
		{"attempt", fmt.Sprint(r.Attempt)}, {"executions", fmt.Sprint(r.Executions)}, {"priority", fmt.Sprint(r.Priority)},
		{"key", truncate(r.Key)}, {"parent", r.ParentID}, {"worker", truncate(r.Worker)},
		{"created", formatTime(r.Created)}, {"due", formatTime(r.Scheduled)},
		{"started", formatTime(r.Started)}, {"finished", formatTime(r.Finished)},
		{"input", truncate(r.Input)}, {"output", truncate(r.Output)}, {"error", oneLine(r.Error)},
	} {
		if f[1] != "" && f[1] != "-" {
			fmt.Fprintf(t, "%s\t%s\n", f[0], f[1])
		}
	}
	for _, n := range r.Tasks {
		line := fmt.Sprintf("task %s\t%v", oneLine(n.Name), n.State)
		for _, more := range []string{n.RunID, oneLine(n.Blocked), oneLine(n.Error)} {
			if more != "" {
				line += "  " + more
			}
		}
		fmt.Fprintln(t, line)
	}
	for _, e := range r.Timeline {
		fmt.Fprintf(t, "%s\t%v\t%s\n", formatTime(e.At), e.State, truncate(e.Error))
		for _, f := range e.Failed {
			fmt.Fprintf(t, "%s\tstep %s\t%d tries: %s\n", formatTime(f.Began), truncate(f.Name), f.Attempts, truncate(f.Error))
		}
	}
	if err := s.failedCompensations(ctx, t, r); err != nil {
		return err
	}
	return t.Flush()
}

// failedCompensations prints the compensations of a run that has ended, or is blocked, that failed: nothing else of the run
// says that something is not undone.
func (s *session) failedCompensations(ctx context.Context, t io.Writer, r *stint.RunInfo) error {
	if r.Workflow || r.State != stint.StateFailed && r.State != stint.StateCanceled && r.State != stint.StateBlocked {
		return nil
	}
	for f := (stint.JournalFilter{}); ; {
		page, err := s.c.JournalPage(ctx, r.ID, f)
		if err != nil {
			return err
		}
		for i := range page.Entries {
			if e := &page.Entries[i]; strings.HasPrefix(e.Address, "undo/") && e.Error != "" {
				fmt.Fprintf(t, "compensation\t%s failed: %s\n", truncate(e.Name), truncate(e.Error))
			}
		}
		if f.Cursor = page.Next; f.Cursor == "" {
			return nil
		}
	}
}

// bulk calls do with the filter and prints the number of runs that it acted on. done is the past
// participle of the action.
func (s *session) bulk(ctx context.Context, done string, do func(stint.RunFilter) (int, error)) error {
	f, err := s.filter(ctx)
	if err != nil {
		return err
	}
	if errors.Is(f.Selects(), stint.ErrNoFilter) {
		return usagef("stint: nothing is selected: give IDs or a filter, or -all")
	}
	n, err := do(f)
	if err != nil {
		return err
	}
	if s.dryRun {
		done = "would be " + done
	}
	if s.format() != asTable {
		return s.encode(map[string]int{"changed": n}, map[string]int{strings.ReplaceAll(done, " ", "_"): n})
	}
	_, err = fmt.Fprintf(s.out, "%d %s\n", n, done)
	return err
}

func cancelRuns(ctx context.Context, s *session) error {
	return s.bulk(ctx, "canceled", func(f stint.RunFilter) (int, error) { return s.c.CancelRuns(ctx, f) })
}

func replayRuns(ctx context.Context, s *session) error {
	return s.bulk(ctx, "queued", func(f stint.RunFilter) (int, error) { return s.c.ReplayRuns(ctx, f) })
}

func deleteRuns(ctx context.Context, s *session) error {
	return s.bulk(ctx, "deleted", func(f stint.RunFilter) (int, error) { return s.c.DeleteRuns(ctx, f) })
}

// moveQueue moves runs that wait to another queue.
func moveQueue(ctx context.Context, s *session) error {
	queue, err := s.arg(0, "the queue to move runs to")
	if err != nil {
		return err
	}
	if err := s.checkNames(ctx, nil, []string{queue}); err != nil {
		return err
	}
	s.args = s.args[1:]
	return s.bulk(ctx, "moved", func(f stint.RunFilter) (int, error) { return s.c.MoveRuns(ctx, f, queue) })
}

// payload returns an argument that must be JSON; null if it is missing.
func (s *session) payload(i int) (json.RawMessage, error) {
	if i >= len(s.args) {
		return json.RawMessage("null"), nil
	}
	b := json.RawMessage(s.args[i])
	if !json.Valid(b) {
		return nil, usagef("stint: %q is not JSON; a text has quotes of its own: '\"text\"'", truncate(b))
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
		return usagef("stint: -delay %v: want 0 or more", s.delay)
	} else if s.delay > 0 {
		opts = append(opts, stint.WithDelay(s.delay))
	}
	if s.metadata != nil {
		opts = append(opts, stint.WithMetadata(s.metadata))
	}
	if err := s.checkNames(ctx, []string{name}, queues); err != nil {
		return err
	}
	run, err := s.c.EnqueueJSON(ctx, name, in, opts...)
	if err != nil {
		return err
	}
	return s.printID("run", run.ID())
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
	return s.printID("event", id)
}
