package ui

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"reflect"
	"slices"
	"time"

	"github.com/stint-dev/stint"
)

// A taskTotal is the statistics of a task in a queue over a range, and how many of its runs failed in each
// span of a grid.
type taskTotal struct {
	stint.Stats
	failed []float64
}

// taskTotals returns the statistics of each task, the one with the most failures first.
func (h *handler) taskTotals(ctx context.Context, r timeRange) (all []taskTotal, err error) {
	span := resolution(r.Since)
	if r.length() > time.Hour {
		span = time.Hour
	}
	spans, err := h.c.Stats(ctx, stint.StatsFilter{Since: r.Since, Span: span, PerTask: true})
	if err != nil {
		return nil, err
	}
	type name struct{ queue, task string }
	at, grid := map[name]int{}, gridOf(r.Since, r.Until, max(span, r.step()))
	for i := range spans {
		s := &spans[i]
		if s.At.After(r.Until) {
			continue
		}
		n := name{s.Queue, s.Task}
		j, ok := at[n]
		if !ok {
			j, at[n] = len(all), len(all)
			all = append(all, taskTotal{*s, make([]float64, grid.n)})
		} else {
			all[j].Add(s)
		}
		if k := grid.index(s.At); k >= 0 {
			all[j].failed[k] += float64(s.Failed)
		}
	}
	slices.SortStableFunc(all, func(a, b taskTotal) int {
		return cmp.Or(cmp.Compare(b.Failed, a.Failed), cmp.Compare(b.Ended(), a.Ended()), cmp.Compare(a.Task, b.Task))
	})
	return all, nil
}

// overview holds what the overview shows.
type overview struct {
	timeRange
	sum, before stint.Stats // before: of the time before the range, if hasBefore
	hasBefore   bool
	charts      []chart
	counts      map[stint.State]int
	running     []stint.RunInfo // those that run longest
	stuck       []stint.RunInfo // blocked
	failures    []failure
	errors      *errorList
	queues      []stint.QueueInfo
	crons       []stint.CronInfo // that tick next
	badCrons    []stint.CronInfo // that start no runs
	workers     []stint.WorkerInfo
	unused      bool // nothing has ever run
}

// openStates are the states of runs that have not ended, in the order of the overview's figures.
var openStates = []stint.State{stint.StateRunning, stint.StateQueued, stint.StateWaiting, stint.StateScheduled, stint.StateBlocked}

func overviewPage(h *handler, ctx context.Context, arg string, q url.Values) (*view, error) {
	r, err := rangeOf(q, time.Now())
	if err != nil {
		return nil, err
	}
	o := overview{timeRange: r}
	if err := h.loadCharts(ctx, &o); err != nil {
		return nil, err
	}
	if o.counts, err = h.c.CountRuns(ctx); err != nil {
		return nil, err
	}
	if err := h.loadRuns(ctx, &o); err != nil {
		return nil, err
	}
	if o.failures, err = h.loadFailures(ctx, r); err != nil {
		return nil, err
	}
	chosen := r
	chosen.query = url.Values{"since": r.pairs()} // those of the range alone, also if it is the usual one
	if o.errors, err = h.loadErrors(ctx, chosen, stint.ErrorFilter{Limit: maxRows}); err != nil {
		return nil, err
	}
	if err = h.loadCrons(ctx, &o); err != nil {
		return nil, err
	}
	if o.workers, err = h.c.ListWorkers(ctx); err != nil {
		return nil, err
	}
	if o.queues, err = h.c.ListQueues(ctx); err != nil {
		return nil, err
	}
	if o.sum.Ended() == 0 && o.counts[stint.StateQueued]+o.counts[stint.StateRunning]+o.counts[stint.StateScheduled] == 0 {
		page, err := h.list(ctx, stint.RunFilter{Limit: 1})
		if err != nil {
			return nil, err
		}
		o.unused = len(page.Runs) == 0
	}
	main, err := h.showOverview(ctx, &o)
	return &view{Title: "Overview", Main: main, timeRange: &o.timeRange}, err
}

// loadRuns reads the runs that the overview lists.
func (h *handler) loadRuns(ctx context.Context, o *overview) error {
	for _, list := range []struct {
		into  *[]stint.RunInfo
		state stint.State
		limit int
	}{{&o.running, stint.StateRunning, 200}, {&o.stuck, stint.StateBlocked, 10}} {
		if o.counts[list.state] == 0 {
			continue
		}
		page, err := h.list(ctx, stint.RunFilter{States: []stint.State{list.state}, Limit: list.limit})
		if err != nil {
			return err
		}
		*list.into = page.Runs
	}
	slices.SortStableFunc(o.running, func(a, b stint.RunInfo) int { return a.Started.Compare(b.Started) })
	o.running = o.running[:min(len(o.running), 8)]
	return nil
}

const firstTask = `hello := stint.NewTask(client, "hello", func(ctx context.Context, name string) (string, error) {
	return "hello, " + name, nil
})
worker, err := client.NewWorker()
go worker.Run(ctx)
hello.Enqueue(ctx, "gopher")`

func (h *handler) showOverview(ctx context.Context, o *overview) (node, error) {
	concerns, err := h.concerns(ctx, o)
	if err != nil {
		return nil, err
	}
	needs := "Nothing needs you."
	if n := len(concerns); n == 1 {
		needs = "1 thing needs you."
	} else if n > 1 {
		needs = fmt.Sprintf("%d things need you.", n)
	}
	charts := make([]any, len(o.charts))
	for i := range o.charts {
		charts[i] = el("section.panel", o.charts[i].show())
	}
	return group(
		el("div.page-head", el("h1", "Overview"), el("p", formatCount(o.sum.Ended())+" runs ended "+o.words()+". "+needs)),
		el("div.stack",
			when(o.unused, el("div.empty", el("p", "Nothing has run yet. Define a task and enqueue it:"), pre(firstTask))),
			h.showConcerns(concerns), h.showFigures(o), el("div.grid2", charts...),
			el("div.grid2", h.showFailures(o), h.runningLongest(o), h.nextCrons(o.crons), h.workerLoad(o.workers)))), nil
}

// showFigures returns the counts of runs by state.
func (h *handler) showFigures(o *overview) node {
	slots, busy := 0, 0
	for _, w := range o.workers {
		slots, busy = slots+w.Slots, busy+w.Running
	}
	beside := map[stint.State]string{stint.StateRunning: fmt.Sprintf("%d of %d slots", busy, slots)}
	figure := func(s stint.State, n any, small string, pairs ...string) node {
		return h.link(runsPath(append(pairs, "state", s.String())...), stateBadge(s),
			el("span.v", formatCount(n), when(small != "", el("small", small))))
	}
	share := func(n int64, of stint.Stats) float64 { return 100 * float64(n) / float64(max(of.Ended(), 1)) }
	ok, bad := "", ""
	if o.sum.Ended() > 0 {
		ok, bad = fmt.Sprintf("%.1f %%", share(o.sum.Succeeded, o.sum)), fmt.Sprintf("%.1f %%", share(o.sum.Failed, o.sum))
		if o.hasBefore && o.before.Ended() > 0 {
			bad += fmt.Sprintf(", %+.1f", share(o.sum.Failed, o.sum)-share(o.before.Failed, o.before))
		}
	}
	return el("section.panel.figs", attr("aria-label", "Runs by state"),
		each(openStates, func(s stint.State) node { return figure(s, o.counts[s], beside[s]) }),
		figure(stint.StateSucceeded, o.sum.Succeeded, ok, o.pairs()...), figure(stint.StateFailed, o.sum.Failed, bad, o.pairs()...))
}

// panel returns a titled box. more is a link at the right of its title, or nil.
func panel(title string, more node, contents ...any) node {
	return el("section.panel", el("header", h2(title), when(more != nil, el("span.more", more))), group(contents...))
}

func (h *handler) workerLoad(workers []stint.WorkerInfo) node {
	all := h.link("/workers", "All workers")
	if len(workers) == 0 {
		return panel("Workers", all, emptyState("No worker is running. Start one with ", code("client.NewWorker()"),
			" and its ", code("Run"), "."))
	}
	return panel("Workers", all, lines(tableHead("Worker", "Slots in use", "Busy.num.w-m"), eachShown(workers[:min(len(workers), 8)],
		func(w stint.WorkerInfo) node {
			return el("tr", el("td", h.link("/workers", el("b", userText(w.Name))), pausedBadge(w.Paused)),
				el("td", progressBar("slots in use", int64(w.Running), int64(w.Slots))),
				el("td.num", fmt.Sprintf("%d of %d", w.Running, w.Slots)))
		})))
}

func (h *handler) showFailures(o *overview) node {
	all := h.link("/errors?"+pathQuery(o.pairs()...), "All errors")
	if len(o.failures) == 0 {
		return panel("What failed", all, emptyState("No run failed "+o.words()+"."))
	}
	heads := tableHead("Task", "Failed.num.w-n", "Of.num.w-n.opt", "When.w-m", "Newest error.opt")
	return panel("What failed", all, lines(heads, eachShown(o.failures, func(f failure) node {
		list := h.link(runsPath(append(o.pairs(), "state", "failed", "task", f.Task)...), el("b", userText(f.Task)))
		newest := el("td.opt")
		if f.newest != nil {
			newest = el("td.opt", h.link(runPath(f.newest.ID), attr("class", "fp"), userText(truncate(160, f.newest.Error))))
		}
		return el("tr", el("td", list), el("td.num.bad", formatCount(f.Failed)), el("td.num.dim.opt", formatCount(f.Ended())),
			el("td", sparkline("f-bad", f.failed)), newest)
	})))
}

func (h *handler) runningLongest(o *overview) node {
	all := h.link(runsPath("state", "running"), "All that run")
	if len(o.running) == 0 {
		return panel("Running longest", all, emptyState("No run is executed at present."))
	}
	heads := tableHead("Task", "Worker.opt", "Since.num")
	return panel("Running longest", all, lines(heads, eachShown(o.running, func(r stint.RunInfo) node {
		return h.linkedRow(runPath(r.ID), el("td", stateSign(r.State), " ", h.link(runPath(r.ID), el("b", userText(r.Task)))),
			el("td.opt", userText(r.Worker)), el("td.num", timestamp(r.Started)))
	})))
}

// loadCrons reads the crons that tick next, and those that start no runs, without their inputs.
func (h *handler) loadCrons(ctx context.Context, o *overview) error {
	const shown = 8
	return h.eachCron(ctx, func(c *stint.CronInfo) {
		kept := *c
		kept.Input = nil
		if (c.Error != "" || c.Blocked != "") && !c.Paused && len(o.badCrons) < shown {
			o.badCrons = append(o.badCrons, kept)
		}
		i, _ := slices.BinarySearchFunc(o.crons, c.Next, func(have stint.CronInfo, at time.Time) int {
			return cmp.Or(have.Next.Compare(at), -1) // after those of the same time
		})
		if c.Next.IsZero() || i == shown {
			return
		}
		o.crons = slices.Insert(o.crons, i, kept)
		o.crons = o.crons[:min(len(o.crons), shown)]
	})
}

func (h *handler) nextCrons(crons []stint.CronInfo) node {
	all := h.link("/schedules", "All schedules")
	if len(crons) == 0 {
		return panel("Next crons", all, emptyState("No cron is due. ", code(`stint.WithCron("0 9 * * *")`), " declares one on a task."))
	}
	return panel("Next crons", all, lines(tableHead("Cron", "Runs.opt", "Next.num"), eachShown(crons, func(c stint.CronInfo) node {
		return el("tr", el("td", h.link("/schedules", el("b", userText(c.Name)))), el("td.ink2.opt", cmp.Or(readSpec(c.Spec), c.Spec)),
			el("td.num", timestamp(c.Next)))
	})))
}

// A failure is a task with failed runs, its statistics, and the newest run that failed.
type failure struct {
	taskTotal
	newest *stint.RunInfo
}

// loadFailures lists the tasks with failed runs, at most 8.
func (h *handler) loadFailures(ctx context.Context, r timeRange) (all []failure, err error) {
	totals, err := h.taskTotals(ctx, r)
	if err != nil {
		return nil, err
	}
	for _, t := range totals {
		if t.Failed == 0 || len(all) == 8 {
			break
		}
		f := failure{taskTotal: t}
		page, err := h.list(ctx, stint.RunFilter{Tasks: []string{t.Task}, States: []stint.State{stint.StateFailed}, Limit: 1})
		if err != nil {
			return nil, err
		}
		if len(page.Runs) > 0 {
			f.newest = &page.Runs[0]
		}
		all = append(all, f)
	}
	return all, nil
}

// loadCharts sums up the statistics of the range, and of the time before, and draws their charts.
func (h *handler) loadCharts(ctx context.Context, o *overview) error {
	step := o.step()
	grid := gridOf(o.Since, o.Until, step)
	spans, err := h.c.Stats(ctx, stint.StatsFilter{Since: grid.begin, Span: resolution(o.Since)})
	if err != nil {
		return err
	}
	steps := grid.sums(spans)
	first := len(steps)
	for i := range steps {
		o.sum.Add(&steps[i])
		if busy := steps[i].Enqueued+steps[i].Started+steps[i].Ended() > 0 || steps[i].Depth > 0; busy && first == len(steps) {
			first = i
		}
	}
	earlier, err := h.statsBefore(ctx, grid)
	if err != nil {
		return err
	}
	for i := range earlier {
		o.before.Add(&earlier[i])
	}
	if o.hasBefore = o.before.Ended() > 0; !o.hasBefore { // the axis begins where the data does
		grid, steps = fromData(grid, steps, first)
		earlier = nil
	}
	add := func(title, unit string, sc func(float64) scale, before func(*stint.Stats) float64, all ...series) {
		c := chart{title: title, unit: unit, grid: grid, all: all, scale: sc, lines: len(all) < 3, gaps: len(all) == 2}
		if before != nil && o.hasBefore {
			c.before = valuesOf(earlier, before)
		}
		o.charts = append(o.charts, c)
	}
	of := func(name, class string, f func(*stint.Stats) float64) series {
		return series{name, class, valuesOf(steps, f)}
	}
	ended := endedChart(grid, steps)
	add(ended.title, ended.unit, ended.scale, func(s *stint.Stats) float64 { return float64(s.Ended()) }, ended.all...)
	depth := func(s *stint.Stats) float64 { return float64(s.Depth) }
	add("Backlog", "most runs that were ready at a time", countScale, depth, of("ready", "l-p95", depth))
	quantiles := func(title, unit string, f func(s *stint.Stats, q float64) time.Duration) {
		p50 := func(s *stint.Stats) float64 { return float64(f(s, .5)) }
		p95 := func(s *stint.Stats) float64 { return float64(f(s, .95)) }
		add(title, unit, durationScale, p95, of("p50", "l-p50", p50), of("p95", "l-p95", p95))
	}
	quantiles("Duration", "start to end", (*stint.Stats).Duration)
	quantiles("Wait", "due to start", (*stint.Stats).Wait)
	return nil
}

// valuesOf returns a figure of each span.
func valuesOf(all []stint.Stats, f func(*stint.Stats) float64) []float64 {
	v := make([]float64, len(all))
	for i := range all {
		v[i] = f(&all[i])
	}
	return v
}

// endedChart shows how many runs ended in each span of a grid, by state.
func endedChart(g grid, steps []stint.Stats) chart {
	of := func(name, class string, f func(*stint.Stats) int64) series {
		return series{name, class, valuesOf(steps, func(s *stint.Stats) float64 { return float64(f(s)) })}
	}
	return chart{title: "Runs that ended", unit: "per " + formatSpan(g.step), grid: g, scale: countScale, all: []series{
		of("succeeded", "f-ok", func(s *stint.Stats) int64 { return s.Succeeded }),
		of("failed", "f-bad", func(s *stint.Stats) int64 { return s.Failed }),
		of("canceled", "f-can", func(s *stint.Stats) int64 { return s.Canceled + s.Skipped })}}
}

// endedByFilter returns the chart of the runs that ended and that a filter selects, or nil if statistics cannot
// tell them: they know tasks, queues and states. Without a range it covers a day.
func (h *handler) endedByFilter(ctx context.Context, f *stint.RunFilter, r timeRange) (node, error) {
	known := stint.RunFilter{Tasks: f.Tasks, Queues: f.Queues, States: f.States, Since: f.Since, Until: f.Until}
	known.Limit, known.Scan = f.Limit, f.Scan
	if !reflect.DeepEqual(*f, known) {
		return nil, nil
	}
	if len(r.query) == 0 {
		r.Since = r.Until.Add(-24 * time.Hour)
	}
	g := gridOf(r.Since, r.Until, r.step())
	of := stint.StatsFilter{Since: g.begin, Span: resolution(r.Since), PerTask: len(f.Tasks)+len(f.Queues) > 0}
	if of.PerTask && g.step >= time.Hour {
		of.Span = time.Hour
	}
	spans, err := h.c.Stats(ctx, of)
	if err != nil {
		return nil, err
	}
	spans = slices.DeleteFunc(spans, func(s stint.Stats) bool {
		return len(f.Tasks) > 0 && !slices.Contains(f.Tasks, s.Task) || len(f.Queues) > 0 && !slices.Contains(f.Queues, s.Queue)
	})
	c := endedChart(g, g.sums(spans))
	state := map[string]stint.State{"succeeded": stint.StateSucceeded, "failed": stint.StateFailed, "canceled": stint.StateCanceled}
	c.all = slices.DeleteFunc(c.all, func(s series) bool { return len(f.States) > 0 && !slices.Contains(f.States, state[s.Name]) })
	if len(c.all) == 0 {
		return nil, nil
	}
	c.low = true
	return el("section.panel.ended", c.show()), nil
}

// statsBefore returns the statistics of the time before a grid, as long and in as many spans, or nil if they
// are not kept that finely.
func (h *handler) statsBefore(ctx context.Context, of grid) ([]stint.Stats, error) {
	before := grid{of.begin.Add(-time.Duration(of.n) * of.step), of.step, of.n}
	finest := resolution(before.begin)
	if oldest := namedRanges[len(namedRanges)-1].length; finest > of.step || time.Since(before.begin) > oldest {
		return nil, nil
	}
	spans, err := h.c.Stats(ctx, stint.StatsFilter{Since: before.begin, Span: finest})
	return before.sums(spans), err
}

// formatSpan returns the length of a chart's span, as after "per".
func formatSpan(d time.Duration) string {
	switch {
	case d == time.Minute:
		return "minute"
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d == time.Hour:
		return "hour"
	case d == 24*time.Hour:
		return "day"
	}
	return fmt.Sprintf("%d h", int(d.Hours()))
}
