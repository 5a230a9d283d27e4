package main

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/internal/wire"
	"github.com/urfave/cli/v3"
)

func logFlags(o *options) []cli.Flag {
	return append(followFlags(o),
		valueFlag("task", "only lines of runs of these `tasks`", &o.tasks),
		textFlag("level", "only lines of this `level` or a higher one: debug, info, warn, error", &o.level),
		textFlag("text", "only lines with this `text` in their message or attributes, in upper or lower case", &o.text),
		valueFlag("since", "only lines logged at this `time` or later, like 2026-01-31T12:00:00Z, 90m or 7d ago", &o.since),
		valueFlag("until", "only lines logged before this `time`", &o.until),
		limitFlag(o, 100))
}

// showLogs prints what a run has logged, or all runs.
func showLogs(ctx context.Context, s *session) error {
	f, err := s.logFilter()
	if err != nil {
		return err
	}
	if len(s.args) == 0 {
		return s.logsOfAll(ctx, f)
	}
	id := s.args[0]
	if r, err := s.c.GetRun(ctx, id); err != nil {
		return err
	} else if r.Workflow {
		return s.logsOfWorkflow(ctx, id, f)
	}
	l := s.logLines()
	next := s.after
	err = s.untilEnd(ctx, id, func() (int, error) {
		lines, err := s.c.Logs(ctx, id, next, 1000)
		n := len(lines)
		if n > 0 {
			next = lines[n-1].Seq
			err = l.print(slices.DeleteFunc(lines, func(l stint.LogLine) bool { return !hasLine(f, &l) }))
		}
		return n, err
	})
	if err != nil {
		return err
	}
	return l.end("next", next)
}

// logsOfWorkflow prints what the tasks of a workflow's run have logged.
func (s *session) logsOfWorkflow(ctx context.Context, id string, f stint.LogFilter) error {
	if s.after != 0 {
		return usagef("stint: -after numbers the lines of one run, and each task of a workflow has its own")
	}
	l := s.runLines()
	after := map[string]int64{}
	err := s.untilEnd(ctx, id, func() (n int, err error) {
		r, err := s.c.GetRun(ctx, id)
		if err != nil {
			return 0, err
		}
		var all []stint.RunLogLine
		for _, t := range r.Tasks {
			if t.RunID == "" {
				continue
			}
			lines, err := s.c.Logs(ctx, t.RunID, after[t.RunID], 1000)
			if err != nil {
				return 0, err
			}
			for _, line := range lines {
				after[t.RunID] = line.Seq
				if n++; hasLine(f, &line) {
					all = append(all, stint.RunLogLine{LogLine: line, RunID: t.RunID, Task: r.Task + ":" + t.Name})
				}
			}
		}
		slices.SortStableFunc(all, func(a, b stint.RunLogLine) int { return a.At.Compare(b.At) })
		return n, l.print(all)
	})
	if err != nil {
		return err
	}
	return l.end("next", "")
}

func (s *session) logFilter() (f stint.LogFilter, err error) {
	f = stint.LogFilter{Tasks: s.tasks, Text: s.text, Since: s.since.Time, Until: s.until.Time}
	if s.level != "" {
		var least slog.Level
		if err := least.UnmarshalText([]byte(s.level)); err != nil {
			return f, usagef("stint: -level %s: want debug, info, warn or error", s.level)
		}
		f.Level = least
	}
	return f, nil
}

// hasLine reports whether a filter, but for its tasks, selects a line.
func hasLine(f stint.LogFilter, l *stint.LogLine) bool {
	return (f.Level == nil || l.Level >= f.Level.Level()) && (f.Text == "" || l.Has(f.Text)) && !l.At.Before(f.Since) &&
		(f.Until.IsZero() || l.At.Before(f.Until))
}

// lateLines is how long -follow waits for lines that are stored after newer ones.
const lateLines = 5 * time.Second

// logsOfAll prints the newest lines of all runs, the oldest of them first, and with -follow those that come.
func (s *session) logsOfAll(ctx context.Context, f stint.LogFilter) error {
	if err := s.checkNames(ctx, s.tasks, nil); err != nil {
		return err
	}
	if s.follow && s.format() == asJSON {
		return usagef("stint: what logs -follow prints has no end: want -o table or ndjson")
	}
	l := s.runLines()
	var newest []stint.RunLogLine
	page := &stint.LogPage{}
	var err error
	for more := true; more; more = page.Next != "" && len(newest) < s.limit {
		f.Limit, f.Cursor = min(s.limit-len(newest), 1000), page.Next
		if page, err = s.c.ListLogs(ctx, f); err != nil {
			return s.interrupted(ctx, err)
		}
		newest = append(newest, page.Lines...)
	}
	slices.Reverse(newest)
	if err := l.print(newest); err != nil {
		return err
	}
	if !s.follow {
		return l.end("next", page.Next)
	}
	return s.followLogs(ctx, f, l, newest)
}

// followLogs prints lines as they come. It reads the last few seconds again, for lines that are stored late.
func (s *session) followLogs(ctx context.Context, f stint.LogFilter, l *list[stint.RunLogLine], printed []stint.RunLogLine) error {
	seen, last := map[string]time.Time{}, time.Now()
	for _, line := range printed {
		seen[line.Cursor()], last = line.At, line.At
	}
	f.Oldest, f.Limit = true, 1000
	for first := f.Since; wait(ctx, s.refresh); {
		if f.Cursor = ""; last.Add(-lateLines).After(first) {
			f.Since = last.Add(-lateLines)
		}
		for more := true; more; more = f.Cursor != "" {
			page, err := s.c.ListLogs(ctx, f)
			if err != nil {
				return s.interrupted(ctx, err)
			}
			f.Cursor = page.Next
			fresh := slices.DeleteFunc(page.Lines, func(l stint.RunLogLine) bool { return !seen[l.Cursor()].IsZero() })
			for _, line := range fresh {
				seen[line.Cursor()] = line.At
				if line.At.After(last) {
					last = line.At
				}
			}
			if err := l.print(fresh); err != nil {
				return err
			}
		}
		for cursor, at := range seen {
			if at.Before(last.Add(-2 * lateLines)) {
				delete(seen, cursor)
			}
		}
	}
	return nil
}

func (s *session) runLines() *list[stint.RunLogLine] {
	return &list[stint.RunLogLine]{s: s, field: "lines",
		row: func(l *stint.RunLogLine) string {
			return strings.TrimRight(fmt.Sprintf("%s  %v  %s  %s  %s  %s", formatTime(l.At), l.Level, l.RunID, oneLine(l.Task),
				truncate(l.Message), truncate(l.Attrs)), " ")
		},
		wire: func(l *stint.RunLogLine) any { return wire.RunLineOf(l) }}
}
