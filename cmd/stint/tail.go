package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/internal/wire"
)

// tail prints runs whose state has changed since the last poll, oldest first.
func tail(ctx context.Context, s *session) error {
	if len(s.args) > 0 {
		return tailLog(ctx, s, s.args[0])
	}
	f, err := s.filter(ctx)
	if err != nil {
		return err
	}
	if s.format() == asJSON {
		return usagef("stint: what tail prints has no end: want -o table or ndjson")
	}
	l := list[stint.RunInfo]{s: s,
		row: func(r *stint.RunInfo) string {
			return fmt.Sprintf("%s  %s  %v  attempt %d  %s", formatTime(time.Now()), r.ID, r.State, r.Attempt, oneLine(r.Task))
		},
		wire: func(r *stint.RunInfo) any { return wire.RunOf(r) }}
	seen := map[string]string{}
	for {
		var changed []stint.RunInfo
		now := map[string]string{}
		_, err := s.eachPage(ctx, f, func(runs []stint.RunInfo) error {
			for _, r := range runs {
				now[r.ID] = fmt.Sprint(r.State, r.Attempt)
				if seen[r.ID] != now[r.ID] {
					changed = append(changed, r)
				}
			}
			return nil
		})
		if err != nil {
			return ignoreInterrupt(ctx, err)
		}
		seen = now
		slices.Reverse(changed)
		if err = l.print(changed); err != nil || !wait(ctx, s.refresh) {
			return err
		}
	}
}

// tailLog prints the log of a run until it ends.
func tailLog(ctx context.Context, s *session, id string) error {
	l := s.logLines()
	for after := int64(0); ; {
		r, err := s.c.GetRun(ctx, id) // before the logs, so that no line before the end is missed
		if err != nil {
			return ignoreInterrupt(ctx, err)
		}
		lines, err := s.c.Logs(ctx, id, after, 1000)
		if err != nil {
			return ignoreInterrupt(ctx, err)
		}
		if err = l.print(lines); err != nil {
			return err
		}
		if n := len(lines); n > 0 {
			after = lines[n-1].Seq
		} else if r.State.Terminal() || !wait(ctx, s.refresh) {
			return l.end("next", after)
		}
	}
}

// logLines returns a list of lines of a log.
func (s *session) logLines() *list[stint.LogLine] {
	return &list[stint.LogLine]{s: s, field: "lines",
		row: func(l *stint.LogLine) string {
			return fmt.Sprintf("%s  %v  %s  %s", formatTime(l.At), l.Level, truncate(l.Message), truncate(l.Attrs))
		},
		wire: func(l *stint.LogLine) any { return wire.LineOf(l) }}
}

// ignoreInterrupt returns err, or nil if ctx was canceled.
func ignoreInterrupt(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func wait(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(max(d, 10*time.Millisecond)): // so that -every 0 is no busy loop
		return true
	case <-ctx.Done():
		return false
	}
}
