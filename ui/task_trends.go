package ui

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/stint-dev/stint"
)

// taskTrends returns charts of a task over a range: how many of its runs ended, and how long they took; nil if none did.
func (h *handler) taskTrends(ctx context.Context, name string, r timeRange) (node, error) {
	g := gridOf(r.Since, r.Until, r.step())
	span := resolution(r.Since)
	if g.step >= time.Hour {
		span = time.Hour
	}
	spans, err := h.c.Stats(ctx, stint.StatsFilter{Since: g.begin, Span: span, PerTask: true})
	if err != nil {
		return nil, err
	}
	steps := g.sums(slices.DeleteFunc(spans, func(s stint.Stats) bool { return s.Task != name }))
	first := slices.IndexFunc(steps, func(s stint.Stats) bool { return s.Ended() > 0 })
	if first < 0 {
		return nil, nil
	}
	g, steps = fromData(g, steps, first)
	ended := endedChart(g, steps)
	quantile := func(name, class string, q float64) series {
		return series{name, class, valuesOf(steps, func(s *stint.Stats) float64 { return float64(s.Duration(q)) })}
	}
	took := chart{title: "Duration", unit: "start to end", grid: g, scale: durationScale, lines: true, gaps: true,
		all: []series{quantile("p50", "l-p50", .5), quantile("p95", "l-p95", .95)}}
	return el("div.grid2.charts", el("section.panel", ended.show()), el("section.panel", took.show())), nil
}

// fromData returns what grid.fromData does, and its steps.
func fromData(g grid, steps []stint.Stats, first int) (grid, []stint.Stats) {
	from := g.fromData(first)
	return from, steps[g.n-from.n:]
}

const (
	slowestOf   = 200 // of so many of a task's newest runs
	slowestRows = 5   // the slowest are listed
)

// slowestRuns returns the runs of a task that took the longest, of the newest of a range.
func (h *handler) slowestRuns(ctx context.Context, name string, r timeRange) ([]stint.RunInfo, error) {
	page, err := h.list(ctx, stint.RunFilter{Tasks: []string{name}, Since: r.Since, Until: r.Until, Limit: slowestOf, Scan: scanLimit})
	if err != nil {
		return nil, err
	}
	runs := slices.DeleteFunc(page.Runs, func(r stint.RunInfo) bool { return r.Started.IsZero() || r.Finished.IsZero() })
	slices.SortStableFunc(runs, func(a, b stint.RunInfo) int { return cmp.Compare(tookLast(&b), tookLast(&a)) })
	return runs[:min(len(runs), slowestRows)], nil
}

// tookLast returns how long a run took from its last start to its end.
func tookLast(r *stint.RunInfo) time.Duration { return r.Finished.Sub(r.Started) }

func (h *handler) showSlowest(runs []stint.RunInfo, in timeRange) node {
	return group(el("p.dim", fmt.Sprintf("From the last start to the end, of the %d newest runs %s at most.", slowestOf, in.words())),
		table(tableHead("State", "Took.figure", "Input.optional", "Created"), each(runs, func(r stint.RunInfo) node {
			return h.linkedRow(runPath(r.ID), el("td", h.link(runPath(r.ID), stateBadge(r.State))),
				el("td.number", formatDuration(tookLast(&r))), el("td.optional.mono", userText(string(cutPayload(r.Input)))),
				el("td", timestamp(r.Created)))
		})))
}
