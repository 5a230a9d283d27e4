package ui

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/stint-dev/stint"
)

// A queueRow is a queue with its ready runs by priority and its statistics of the last hour.
type queueRow struct {
	stint.QueueInfo
	priorities map[int]int
	sum        stint.Stats // of the time range
	workers    []string    // the names of those that work it
}

func queuesPage(h *handler, ctx context.Context, arg string, q url.Values) (*view, error) {
	r, err := rangeOf(q, time.Now())
	if err != nil {
		return nil, err
	}
	if arg != "" {
		return queuePage(h, ctx, arg, r)
	}
	queues, err := h.c.ListQueues(ctx)
	if err != nil {
		return nil, err
	}
	g, trends, err := h.trends(ctx, r, false)
	if err != nil {
		return nil, err
	}
	workers, err := h.c.ListWorkers(ctx)
	if err != nil {
		return nil, err
	}
	backlog, err := h.backlogChart(ctx, r)
	if err != nil {
		return nil, err
	}
	rows := make([]queueRow, len(queues))
	for i, info := range queues {
		rows[i].QueueInfo, rows[i].workers = info, workersOf(workers, info.Name)
		if info.Ready > 0 {
			if rows[i].priorities, err = h.c.QueuePriorities(ctx, info.Name); err != nil {
				return nil, err
			}
		}
		for j := range trends {
			if trends[j].of.Queue == info.Name {
				rows[i].sum = trends[j].of
			}
		}
	}
	perQueue := showTrends(trends, func(t *trend) chart { return t.queueChart(g, escapeInvisible(t.of.Queue)) })
	return &view{Title: "Queues", Main: group(el("h1", "Queues"), backlog, h.showQueues(rows),
		when(perQueue != nil, h2("Each queue over time"), perQueue)), timeRange: &r}, nil
}

func (h *handler) showQueues(rows []queueRow) node {
	if len(rows) == 0 {
		return emptyState("No queue has been used yet. The first run of a task creates its queue.")
	}
	heads := tableHead("Queue", "Ready.figure", "By priority.optional", "Running.figure", "Enqueued.figure optional",
		"Ended.figure", "p99 wait.figure optional", "Oldest ready", "Workers.optional", h.actions())
	return table(heads, eachShown(rows, func(r queueRow) node {
		list := func(state stint.State, n int) node {
			return h.link(runsPath("queue", r.Name, "state", state.String()), formatCount(n))
		}
		path := queuePath(r.Name)
		return h.linkedRow(path, el("td", h.link(path, userText(r.Name)), pausedBadge(r.Paused)),
			el("td.number", list(stint.StateQueued, r.Ready)), el("td.optional", priorities(r.priorities)),
			el("td.number", list(stint.StateRunning, r.Running)),
			el("td.number.optional", formatCount(r.sum.Enqueued)), el("td.number", formatCount(r.sum.Ended())),
			el("td.number.optional", formatDuration(r.sum.Wait(.99))), el("td", timestamp(r.Oldest)),
			el("td.optional", h.workerLinks(r.workers)),
			el("td", h.pauseToggle(r.Paused, "queues/"+escapeSegment(r.Name)+"/", "/queues")))
	}))
}

// workersOf returns the names of the workers that work a queue.
func workersOf(all []stint.WorkerInfo, queue string) (names []string) {
	for _, w := range all {
		if works(&w, queue) {
			names = append(names, w.Name)
		}
	}
	return names
}

func works(w *stint.WorkerInfo, queue string) bool {
	return len(w.Queues) == 0 || slices.Contains(w.Queues, queue)
}

// maxQueueWorkers is the number of workers that a queue's row names.
const maxQueueWorkers = 3

func (h *handler) workerLinks(names []string) node {
	if len(names) == 0 {
		return placeholder("none")
	}
	more := len(names) - maxQueueWorkers
	return group(each(names[:min(len(names), maxQueueWorkers)], func(name string) node {
		return group(h.link("/workers", userText(name)), " ")
	}), when(more > 0, el("span.dim", fmt.Sprintf("and %d more", more))))
}

// backlogChart returns the most runs that were ready at a time, over a range, and how many were enqueued and began.
func (h *handler) backlogChart(ctx context.Context, r timeRange) (node, error) {
	g := gridOf(r.Since, r.Until, r.step())
	spans, err := h.c.Stats(ctx, stint.StatsFilter{Since: g.begin, Span: resolution(r.Since)})
	if err != nil {
		return nil, err
	}
	steps := g.sums(spans)
	first := slices.IndexFunc(steps, func(s stint.Stats) bool { return s.Depth > 0 || s.Enqueued+s.Started > 0 })
	if first < 0 {
		return nil, nil
	}
	g, steps = fromData(g, steps, first)
	depth := chart{title: "Backlog", unit: "most runs that were ready at a time, in all queues", grid: g, scale: countScale, lines: true,
		all: []series{{"ready", "l-p95", valuesOf(steps, func(s *stint.Stats) float64 { return float64(s.Depth) })}}}
	return el("div.grid2.charts", el("section.panel", depth.show()), flowOf(g, steps)), nil
}

// flowOf charts how many runs were enqueued, and how many began.
func flowOf(g grid, steps []stint.Stats) node {
	of := func(name, class string, f func(s *stint.Stats) float64) series {
		return series{name, class, valuesOf(steps, f)}
	}
	flow := chart{title: "Enqueued and started", unit: "per " + formatSpan(g.step) + "; tasks of workflows only start", grid: g,
		scale: countScale, lines: true,
		all: []series{of("enqueued", "l-p50", func(s *stint.Stats) float64 { return float64(s.Enqueued) }),
			of("started", "l-p95", func(s *stint.Stats) float64 { return float64(s.Started) })}}
	return el("section.panel", flow.show())
}

// priorities lists the number of runs of each priority, the most urgent first.
func priorities(counts map[int]int) node {
	names := map[int]string{stint.PriorityLow: "low", stint.PriorityDefault: "default", stint.PriorityHigh: "high"}
	var parts []string
	for _, p := range slices.Backward(slices.Sorted(maps.Keys(counts))) {
		name := names[p]
		if name == "" {
			name = fmt.Sprint(p)
		}
		parts = append(parts, name+" "+formatCount(counts[p]))
	}
	return el("span.dim", strings.Join(parts, ", "))
}
