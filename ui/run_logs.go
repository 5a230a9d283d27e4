package ui

import (
	"context"
	"fmt"
	"log/slog"
	"slices"

	"github.com/stint-dev/stint"
)

func showLogs(_ *handler, v *runView) node {
	form := el("form.filters", attr("method", "get"), hidden("tab", v.tab.name), levelField(v.logLevel),
		textField(v.logText), button("", "Filter"))
	if len(v.logs) == 0 {
		if v.logLevel+v.logText != "" {
			return group(form, emptyState("No line matches."))
		}
		return group(form, emptyState("No lines. Handlers write them with ", code("stint.Logger(ctx)"), "."))
	}
	return group(form, when(v.logsMore, el("p.dim", fmt.Sprintf("The last %d lines that match:", len(v.logs)))), logLines(v.logs))
}

func logLines(all []stint.LogLine) node {
	return el("dl.log.mono", each(all, func(l stint.LogLine) node {
		level := el("dd", l.Level)
		if l.Level >= slog.LevelError {
			level = el("dd.error", l.Level)
		}
		attrs := when(len(l.Attrs) > 0, " ", el("bdi.dim", string(l.Attrs)))
		return group(el("dt.dim", timestamp(l.At)), level, el("dd", userText(l.Message), attrs))
	}))
}

// loadLogs reads the run's log lines that match.
func loadLogs(h *handler, ctx context.Context, v *runView) error {
	tail := maxLogLines
	if v.logLevel+v.logText != "" {
		tail = 0
	}
	return h.readLogs(ctx, v, v.ID, v.Task, tail, v.wantedLines())
}

// logsAtOnce is the number of lines that are read at one time.
const logsAtOnce = 1000

// readLogs reads the last lines of a run, of those that are wanted. A tail of more than 0 says that more than so many
// are not needed, and that nearly all are wanted: of a long log only its end is then read.
func (h *handler) readLogs(ctx context.Context, v *runView, id, task string, tail int, wanted func(*stint.LogLine) bool) error {
	for after := int64(0); ; {
		lines, err := h.c.Logs(ctx, id, after, logsAtOnce)
		if err != nil || len(lines) == 0 {
			return err
		}
		after = lines[len(lines)-1].Seq
		if tail > 0 && len(lines) == logsAtOnce {
			last, err := h.lastLine(ctx, id, after)
			if err != nil {
				return err
			}
			if tail, after = 0, max(after, last-int64(tail)); after > lines[len(lines)-1].Seq {
				v.logsMore = true
				continue
			}
		}
		h.redactLines(task, lines) // before the search, so that a search finds nothing hidden
		for i := range lines {
			if wanted(&lines[i]) {
				v.logs = append(v.logs, lines[i])
			}
		}
		v.cutLogs()
	}
}

// lastLine returns the number of a run's last line, which is at least from, by bisection: a run may have a million.
func (h *handler) lastLine(ctx context.Context, id string, from int64) (int64, error) {
	low, high := from, int64(-1) // a line has the number low, and none has one above high
	for step := from; high < 0 || low < high; step *= 2 {
		probe := low + step
		if high >= 0 {
			probe = low + (high-low)/2
		}
		lines, err := h.c.Logs(ctx, id, probe, 1)
		if err != nil {
			return 0, err
		}
		if len(lines) > 0 {
			low = lines[0].Seq
		} else {
			high = probe
		}
	}
	return low, nil
}

// cutLogs drops all but the last lines that the page has room for.
func (v *runView) cutLogs() {
	n, size := 0, 0
	for n < min(len(v.logs), maxLogLines) && size <= maxLogBytes {
		n++
		l := &v.logs[len(v.logs)-n]
		size += len(l.Message) + len(l.Attrs)
	}
	if more := len(v.logs) - n; more > 0 {
		v.logs, v.logsMore = slices.Delete(v.logs, 0, more), true
	}
}
