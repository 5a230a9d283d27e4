package ui

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/stint-dev/stint"
)

// sampledCharts is the number of queues, or of limits, whose figures over time a page draws: the deepest.
const sampledCharts = 6

// queuePath returns the path of a queue's page.
func queuePath(name string) string { return "/queues/" + escapeSegment(name) }

// A trend is the statistics of a queue or a limit over the spans of a grid.
type trend struct {
	of    stint.Stats // all of them together, with the highest samples
	steps []stint.Stats
}

// trends returns the statistics of each queue, or of each limit, over a range, the deepest first.
func (h *handler) trends(ctx context.Context, r timeRange, perLimit bool) (grid, []trend, error) {
	g := gridOf(r.Since, r.Until, r.step())
	f := stint.StatsFilter{Since: g.begin, Span: resolution(r.Since), PerQueue: !perLimit, PerLimit: perLimit}
	if g.step >= time.Hour {
		f.Span = time.Hour
	}
	spans, err := h.c.Stats(ctx, f)
	if err != nil {
		return g, nil, err
	}
	type name struct {
		queue string
		limit stint.LimitKey
	}
	var all []trend
	at := map[name]int{}
	for i := range spans {
		s := &spans[i]
		k := g.index(s.At)
		if k < 0 {
			continue
		}
		n := name{s.Queue, s.Limit}
		j, ok := at[n]
		if !ok {
			j, at[n] = len(all), len(all)
			all = append(all, trend{stint.Stats{Queue: s.Queue, Limit: s.Limit}, make([]stint.Stats, g.n)})
		}
		all[j].of.Add(s)
		all[j].steps[k].Add(s)
	}
	if g.index(time.Now()) == g.n-1 {
		holdLast(all)
	}
	slices.SortStableFunc(all, func(a, b trend) int {
		return cmp.Or(cmp.Compare(b.of.Depth, a.of.Depth), cmp.Compare(b.of.Active, a.of.Active), cmp.Compare(a.of.Queue, b.of.Queue))
	})
	return g, all, nil
}

// holdLast gives the last span the samples of the one before, if it has none of its own yet: a minute is sampled once.
func holdLast(all []trend) {
	for i := range all {
		if n := len(all[i].steps); n < 2 || all[i].steps[n-1].Depth+all[i].steps[n-1].Active > 0 {
			return
		}
	}
	for i := range all {
		n := len(all[i].steps)
		last, before := &all[i].steps[n-1], &all[i].steps[n-2]
		last.Depth, last.Active, last.Max = before.Depth, before.Active, before.Max
	}
}

// sampled reports whether there is a sample of it.
func (t *trend) sampled() bool { return t.of.Depth+t.of.Active > 0 }

// sampleChart returns lines of the samples of a queue or a limit, from where they begin.
func (t *trend) sampleChart(g grid, c chart, lines ...series) chart {
	first := slices.IndexFunc(t.steps, func(s stint.Stats) bool { return s.Depth+s.Active > 0 })
	c.grid, c.scale, c.lines = g.fromData(max(first, 0)), countScale, true
	for _, l := range lines {
		l.Values = l.Values[len(l.Values)-c.n:]
		c.all = append(c.all, l)
	}
	return c
}

func (t *trend) line(name, class string, f func(s *stint.Stats) int) series {
	return series{name, class, valuesOf(t.steps, func(s *stint.Stats) float64 { return float64(f(s)) })}
}

func (t *trend) ready(name string) series {
	return t.line(name, "l-p95", func(s *stint.Stats) int { return s.Depth })
}

func (t *trend) active(name string) series {
	return t.line(name, "l-p50", func(s *stint.Stats) int { return s.Active })
}

// queueChart returns how many runs of a queue were ready, and how many were running.
func (t *trend) queueChart(g grid, title string) chart {
	return t.sampleChart(g, chart{title: title, unit: "runs, sampled once a minute"}, t.ready("ready"), t.active("running"))
}

// showTrends returns small charts of the deepest queues or limits; nil if there is no sample.
func showTrends(all []trend, of func(t *trend) chart) node {
	all = slices.DeleteFunc(slices.Clone(all), func(t trend) bool { return !t.sampled() })
	if len(all) == 0 {
		return nil
	}
	return group(el("div.grid2.charts", each(all[:min(len(all), sampledCharts)], func(t trend) node {
		c := of(&t)
		c.low = true
		return el("section.panel", c.show())
	})), when(len(all) > sampledCharts, el("p.dim", fmt.Sprintf("The deepest %d of %d.", sampledCharts, len(all)))))
}

// queuePage returns the page of a queue: its state, how deep it was over time, and who works it.
func queuePage(h *handler, ctx context.Context, name string, in timeRange) (*view, error) {
	queues, err := h.c.ListQueues(ctx)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(queues, func(q stint.QueueInfo) bool { return q.Name == name })
	if i < 0 {
		return nil, errNoPage
	}
	q := queues[i]
	byPriority, err := h.c.QueuePriorities(ctx, name)
	if err != nil {
		return nil, err
	}
	all, err := h.c.ListWorkers(ctx)
	if err != nil {
		return nil, err
	}
	g, trends, err := h.trends(ctx, in, false)
	if err != nil {
		return nil, err
	}
	var sum stint.Stats
	var charts node
	if j := slices.IndexFunc(trends, func(t trend) bool { return t.of.Queue == name }); j >= 0 {
		sum, charts = trends[j].of, queueCharts(&trends[j], g)
	}
	card := func(figure, what string) node { return el("div.card", el("b", figure), what) }
	state := func(n int, what string, s stint.State) node {
		return h.link(runsPath("queue", name, "state", s.String()), attr("class", "card"), el("b", formatCount(n)), what)
	}
	main := group(el("h1", userText(name), pausedBadge(q.Paused)),
		when(!h.readOnly, row(h.pauseToggle(q.Paused, "queues/"+escapeSegment(name)+"/", queuePath(name)))),
		el("div.cards", state(q.Ready, "ready", stint.StateQueued), state(q.Running, "running", stint.StateRunning),
			card(formatCount(sum.Enqueued), "enqueued"), card(formatCount(sum.Ended()), "ended"),
			card(formatDuration(sum.Wait(.5)), "p50 wait to start"), card(formatDuration(sum.Wait(.99)), "p99 wait to start")),
		el("dl.facts", when(len(byPriority) > 0, fact("Ready by priority", priorities(byPriority))),
			when(!q.Oldest.IsZero(), fact("Oldest ready", timestamp(q.Oldest)))),
		charts, h2("Workers"), h.showQueueWorkers(all, name),
		el("p", h.link(runsPath("queue", name), "All its runs")))
	return &view{Title: name, Main: main, Up: "/queues", timeRange: &in}, nil
}

// queueCharts returns how deep a queue was, and what came and began.
func queueCharts(t *trend, g grid) node {
	var shown []node
	if t.sampled() {
		c := t.queueChart(g, "Ready and running")
		shown = append(shown, el("section.panel", c.show()))
	}
	if first := slices.IndexFunc(t.steps, func(s stint.Stats) bool { return s.Enqueued+s.Started > 0 }); first >= 0 {
		shown = append(shown, flowOf(fromData(g, t.steps, first)))
	}
	return el("div.grid2.charts", each(shown, func(n node) node { return n }))
}

// showQueueWorkers lists those workers that work a queue.
func (h *handler) showQueueWorkers(all []stint.WorkerInfo, queue string) node {
	all = slices.DeleteFunc(slices.Clone(all), func(w stint.WorkerInfo) bool { return !works(&w, queue) })
	if len(all) == 0 {
		return emptyState("No worker works this queue, so none of its runs starts.")
	}
	return table(tableHead("Worker", "Slots in use.figure", "Queues.optional", "Since"), eachShown(all, func(w stint.WorkerInfo) node {
		queues := strings.Join(w.Queues, ", ")
		if len(w.Queues) == 0 {
			queues = "all"
		}
		return el("tr", el("td", h.link("/workers", userText(w.Name)), pausedBadge(w.Paused)),
			el("td.number", fmt.Sprintf("%d of %d", w.Running, w.Slots)), el("td.optional", userText(queues)),
			el("td", timestamp(w.Started)))
	}))
}
