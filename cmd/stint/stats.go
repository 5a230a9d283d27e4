package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/internal/near"
	"github.com/stint-dev/stint/internal/wire"
	"github.com/urfave/cli/v3"
)

var spans = []string{"minute", "hour"}

func statsFlags(o *options) []cli.Flag {
	return []cli.Flag{
		valueFlag("since", "from this `time` on, like 2026-01-31T12:00:00Z, 90m or 7d ago; without, the last hour", &o.since),
		textFlag("span", "a line for each `span`: minute (without the flag), kept for a day, or hour, kept for a month", &o.span),
		boolFlag("per-task", "a line for each task in each queue, instead of all runs", &o.perTask),
		boolFlag("per-queue", "a line for each queue, with the most runs that were ready and running", &o.perQueue),
		boolFlag("per-limit", "a line for each concurrency and rate limit: the most runs that waited, and how far it was used",
			&o.perLimit),
	}
}

// showStats prints statistics, oldest first.
func showStats(ctx context.Context, s *session) error {
	f := stint.StatsFilter{PerTask: s.perTask, PerQueue: s.perQueue, PerLimit: s.perLimit, Since: s.since.Time}
	if f.Since.IsZero() {
		f.Since = time.Now().Add(-time.Hour)
	}
	switch s.span {
	case "", "minute":
	case "hour":
		f.Span = time.Hour
	default:
		return usagef("stint: -span %s: want minute or hour%s", s.span, near.Meant(s.span, spans))
	}
	if s.perTask && s.perQueue || s.perTask && s.perLimit || s.perQueue && s.perLimit {
		return usagef("stint: -per-task, -per-queue and -per-limit: give one of them")
	}
	all, err := s.c.Stats(ctx, f)
	if err != nil {
		return err
	}
	header := "AT\tENQUEUED\tSTARTED\tSUCCEEDED\tFAILED\tRETRIED\tCANCELED\tWAIT P50\tP99\tDURATION P50\tP95\tDEPTH"
	switch {
	case s.perLimit:
		header = "AT\tLIMIT\tWAITING\tACTIVE\tMAX"
	case s.perQueue:
		header = "AT\tQUEUE\tENQUEUED\tSTARTED\tSUCCEEDED\tFAILED\tRETRIED\tCANCELED\tWAIT P50\tP99\tDURATION P50\tP95\tREADY\tRUNNING"
	case s.perTask:
		header = "AT\tQUEUE\tTASK\tENQUEUED\tSTARTED\tSUCCEEDED\tFAILED\tRETRIED\tCANCELED\tWAIT P50\tP99\tDURATION P50\tP95"
	}
	l := list[stint.Stats]{s: s, field: "stats", header: header, row: s.statsRow,
		wire: func(st *stint.Stats) any { return wire.StatOf(st) }}
	return l.printAll(all)
}

func (s *session) statsRow(st *stint.Stats) string {
	counts := columns(st.Enqueued, st.Started, st.Succeeded, st.Failed, st.Retried, st.Canceled,
		short(st.Wait(.5)), short(st.Wait(.99)), short(st.Duration(.5)), short(st.Duration(.95)))
	switch {
	case s.perLimit:
		return columns(formatTime(st.At), truncate(cmp.Or(st.Limit.Name, st.Limit.Key)), st.Depth, st.Active, st.Max)
	case s.perQueue:
		return columns(formatTime(st.At), truncate(st.Queue), counts, st.Depth, st.Active)
	case s.perTask:
		return columns(formatTime(st.At), truncate(st.Queue), truncate(st.Task), counts)
	}
	return columns(formatTime(st.At), counts, st.Depth)
}

// short returns a duration with three digits or so.
func short(d time.Duration) string {
	switch {
	case d >= time.Hour:
		return d.Round(time.Minute).String()
	case d >= time.Minute:
		return d.Round(time.Second).String()
	case d >= time.Second:
		return d.Round(10 * time.Millisecond).String()
	}
	return d.Round(10 * time.Microsecond).String()
}

// listTasks lists the tasks and workflows that are defined as data, and the names of others that the database knows.
func listTasks(ctx context.Context, s *session) error {
	stored, err := s.c.Definitions(ctx)
	if err != nil {
		return err
	}
	names, err := s.c.Names(ctx)
	if err != nil {
		return err
	}
	var all []stint.TaskDefinition
	for i := range stored {
		d := stored[i].Task
		if stored[i].Error != "" {
			d = stint.TaskDefinition{Name: stored[i].Name, Workflow: len(stored[i].Tasks) > 0}
		}
		all = append(all, d)
	}
	defined := len(all)
	for _, name := range names.Tasks {
		of, startsRuns := strings.CutSuffix(name, ":on-event") // it starts runs of another for events
		if slices.ContainsFunc(all[:defined], func(d stint.TaskDefinition) bool { return d.Name == name }) ||
			startsRuns && slices.Contains(names.Tasks, of) {
			continue
		}
		all = append(all, stint.TaskDefinition{Name: name})
	}
	l := list[stint.TaskDefinition]{s: s, field: "tasks", header: "TASK\tKIND\tQUEUE\tRETRIES\tTIMEOUT\tCRONS\tEVENTS",
		row: taskRow, wire: func(d *stint.TaskDefinition) any { return wire.TaskOf(d) }}
	return l.printAll(all)
}

// taskRow returns what the table has of a task; "-" for what only its program knows.
func taskRow(d *stint.TaskDefinition) string {
	kind, retries, timeout := "-", "-", "-"
	if d.Queue != "" {
		kind, retries = "task", fmt.Sprint(d.Retries)
	}
	if d.Workflow {
		kind = "workflow"
	}
	if d.Timeout > 0 {
		timeout = d.Timeout.String()
	}
	return columns(truncate(d.Name), kind, orDash(truncate(d.Queue)), retries, timeout,
		orDash(truncate(strings.Join(d.Crons, " "))), orDash(truncate(strings.Join(d.Events, " "))))
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
