package main

import (
	"cmp"
	"context"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/internal/near"
	"github.com/stint-dev/stint/internal/wire"
	"github.com/urfave/cli/v3"
)

// errorFlags are those of errors.
func errorFlags(o *options) []cli.Flag {
	return append([]cli.Flag{
		valueFlag("task", "only errors of these `tasks`", &o.tasks),
		valueFlag("id", "only the errors with these `IDs`", &o.ids),
		valueFlag("since", "only errors of runs that failed at this `time` or later, like 2026-01-31T12:00:00Z, 90m or 7d ago", &o.since),
		valueFlag("until", "only errors of runs that failed before this `time`", &o.until),
		boolFlag("muted", "list errors that are muted or resolved too", &o.muted),
		&cli.DurationFlag{Name: "for", Usage: "mute the error for this `duration`, instead of for good", Destination: &o.delay},
		boolFlag("to-double", "mute the error until twice as many runs have failed so, instead of for good", &o.toDouble),
		limitFlag(o, 50),
	}, forceFlags(o)...)
}

// listErrors lists errors, the last seen first, or acts on one.
func listErrors(ctx context.Context, s *session) error {
	if len(s.args) > 0 {
		return s.errorAction(ctx)
	}
	if err := s.checkNames(ctx, s.tasks, nil); err != nil {
		return err
	}
	l := &list[stint.ErrorGroup]{s: s, field: "errors", header: "ERROR\tTASK\tRUNS\tFIRST\tLAST\tSTATUS\tTEXT",
		row: func(e *stint.ErrorGroup) string {
			n := e.Count
			if !s.since.IsZero() || !s.until.IsZero() {
				n = e.InRange()
			}
			return columns(e.ID, truncate(e.Task), n, formatTime(e.First), formatTime(e.Last), statusOf(e), oneLine(e.Text))
		},
		wire: func(e *stint.ErrorGroup) any { return wire.ErrorOf(e) }}
	f := stint.ErrorFilter{IDs: s.ids, Tasks: s.tasks, Since: s.since.Time, Until: s.until.Time}
	for left := cmp.Or(s.limit, 100); ; {
		f.Limit = min(left, 1000)
		page, err := s.c.ListErrors(ctx, f)
		if err != nil {
			return err
		}
		var rows []stint.ErrorGroup
		for _, e := range page.Groups {
			if s.muted || !e.Muted && !e.Resolved || s.format() != asTable {
				rows = append(rows, e)
			}
		}
		if err := l.print(rows); err != nil {
			return err
		}
		if left -= len(page.Groups); left <= 0 || page.Next == "" {
			return l.end("next", page.Next)
		}
		f.Cursor = page.Next
	}
}

// statusOf returns what the page says of an error.
func statusOf(e *stint.ErrorGroup) string {
	switch {
	case e.Resolved:
		return "resolved"
	case e.Muted:
		return "muted"
	case e.Regressed:
		return "regressed"
	}
	return "open"
}

// errorAction mutes an error, marks it as resolved, or undoes that.
func (s *session) errorAction(ctx context.Context) error {
	verb := s.args[0]
	id, err := s.arg(1, "the error's ID")
	if err != nil {
		return err
	}
	switch verb {
	case "mute":
		var until time.Time
		switch {
		case s.delay < 0:
			return usagef("stint: -for %v: want more than 0", s.delay)
		case s.delay > 0 && s.toDouble:
			return usagef("stint: want -for or -to-double, not both")
		case s.toDouble:
			return s.printDone(s.c.MuteErrorsToDouble(ctx, id))
		}
		if s.delay > 0 {
			until = time.Now().Add(s.delay)
		}
		return s.printDone(s.c.MuteErrors(ctx, id, until))
	case "resolve":
		return s.printDone(s.c.ResolveErrors(ctx, id))
	case "unmute":
		return s.printDone(s.c.UnmuteErrors(ctx, id))
	}
	return usagef("stint: errors %s: want mute, resolve or unmute%s", verb, near.Meant(verb, []string{"mute", "resolve", "unmute"}))
}
