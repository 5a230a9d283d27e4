package ui

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"slices"
	"time"

	"github.com/stint-dev/stint"
)

// A window is the time that a page's statistics cover, up to now.
type window struct {
	Name   string
	Length time.Duration
	Step   time.Duration // of a chart
}

var windows = []window{
	{"1h", time.Hour, time.Minute},
	{"6h", 6 * time.Hour, 5 * time.Minute},
	{"24h", 24 * time.Hour, 20 * time.Minute},
	{"7d", 7 * 24 * time.Hour, 2 * time.Hour},
}

func windowOf(q url.Values) window {
	for _, w := range windows {
		if w.Name == q.Get("window") {
			return w
		}
	}
	return windows[0]
}

// resolution returns the finest span of statistics that the database keeps for the window.
func (w window) resolution() time.Duration {
	if w.Length > 24*time.Hour {
		return time.Hour
	}
	return time.Minute
}

// windowLinks returns links to the page with each window.
func (w window) windowLinks() node {
	return el("ul.chips", attr("aria-label", "Time"), each(windows, func(x window) node {
		return el("li", el("a", attr("href", "?window="+x.Name), x.Name, when(x.Name == w.Name, attr("aria-current", "true"))))
	}))
}

// taskTotals returns the statistics of each task, the one with the most failures first.
func (h *handler) taskTotals(ctx context.Context, w window) (all []stint.Stats, err error) {
	span := time.Hour
	if w.Length <= time.Hour {
		span = time.Minute
	}
	spans, err := h.c.Stats(ctx, stint.StatsFilter{Since: time.Now().Add(-w.Length), Span: span, PerTask: true})
	if err != nil {
		return nil, err
	}
	type name struct{ queue, task string }
	at := map[name]int{}
	for i := range spans {
		s := &spans[i]
		n := name{s.Queue, s.Task}
		if j, ok := at[n]; ok {
			all[j].Add(s)
			continue
		}
		at[n] = len(all)
		all = append(all, *s)
	}
	slices.SortStableFunc(all, func(a, b stint.Stats) int {
		return cmp.Or(cmp.Compare(b.Failed, a.Failed), cmp.Compare(b.Ended(), a.Ended()), cmp.Compare(a.Task, b.Task))
	})
	return all, nil
}

// overview holds what the overview shows.
type overview struct {
	window
	sum                        stint.Stats
	throughput, latency, depth node
	counts                     map[stint.State]int
	running, stuck             []stint.RunInfo
	failures                   []failure
	crons                      []stint.CronInfo
	workers                    []stint.WorkerInfo
	unused                     bool // nothing has ever run
}

// openStates are the states of runs that have not ended, in the order of the overview's cards.
var openStates = []stint.State{stint.StateRunning, stint.StateQueued, stint.StateScheduled, stint.StateWaiting, stint.StateBlocked}

func overviewPage(h *handler, ctx context.Context, arg string, q url.Values) (*view, error) {
	o := overview{window: windowOf(q)}
	if err := h.loadCharts(ctx, &o); err != nil {
		return nil, err
	}
	var err error
	if o.counts, err = h.c.CountRuns(ctx); err != nil {
		return nil, err
	}
	for _, list := range []struct {
		into  *[]stint.RunInfo
		state stint.State
	}{{&o.running, stint.StateRunning}, {&o.stuck, stint.StateBlocked}} {
		if o.counts[list.state] == 0 {
			continue
		}
		page, err := h.list(ctx, stint.RunFilter{States: []stint.State{list.state}, Limit: 10})
		if err != nil {
			return nil, err
		}
		*list.into = page.Runs
	}
	if o.failures, err = h.loadFailures(ctx, o.window); err != nil {
		return nil, err
	}
	if o.crons, err = h.nextCronsToFire(ctx, 8); err != nil {
		return nil, err
	}
	if o.workers, err = h.c.ListWorkers(ctx); err != nil {
		return nil, err
	}
	if o.sum.Ended() == 0 && o.counts[stint.StateQueued]+o.counts[stint.StateRunning]+o.counts[stint.StateScheduled] == 0 {
		page, err := h.list(ctx, stint.RunFilter{Limit: 1})
		if err != nil {
			return nil, err
		}
		o.unused = len(page.Runs) == 0
	}
	return &view{Title: "Overview", Main: h.showOverview(&o)}, nil
}

const firstTask = `hello := stint.NewTask(client, "hello", func(ctx context.Context, name string) (string, error) {
	return "hello, " + name, nil
})
worker, err := client.NewWorker()
go worker.Run(ctx)
hello.Enqueue(ctx, "gopher")`

func (h *handler) showOverview(o *overview) node {
	card := func(state stint.State, n any, more ...string) node {
		return h.link(runsPath(append(more, "state", state.String())...), attr("class", "card"),
			el("b", formatCount(n)), stateBadge(state), when(len(more) > 0, " in "+o.Name))
	}
	since := []string{"since", o.Length.String()}
	return group(
		el("h1", "Overview"),
		when(o.unused, el("div.empty", el("p", "Nothing has run yet. Define a task and enqueue it:"), pre(firstTask))),
		el("div.cards", each(openStates, func(s stint.State) node { return card(s, o.counts[s]) }),
			card(stint.StateSucceeded, o.sum.Succeeded, since...), card(stint.StateFailed, o.sum.Failed, since...)),
		o.windowLinks(),
		el("div.grid",
			el("section", h2(h.link(runsPath(since...), "Runs that ended")), o.throughput),
			el("section", h2("Wait from due to start: p50 "+formatDuration(o.sum.Wait(.5))+
				", p99 "+formatDuration(o.sum.Wait(.99))), o.latency),
			el("section", h2(h.link("/queues", "Ready at a time")), o.depth),
			el("section", h2(h.link("/workers", "Workers")), h.workerLoad(o.workers))),
		h.showFailures(o.failures, o.window),
		h.showStuck(o.stuck),
		el("div.grid",
			el("section", h2("Running now"), h.runningNow(o.running)),
			el("section", h2("Next crons"), h.nextCrons(o.crons))))
}

func (h *handler) showStuck(runs []stint.RunInfo) node {
	return when(len(runs) > 0, h2("Blocked: needs your action"), table(tableHead("Task", "Why", "Created"), each(runs,
		func(r stint.RunInfo) node {
			return h.linkedRow(runPath(r.ID), el("td", h.link(runPath(r.ID), userText(r.Task))),
				el("td", userText(truncate(200, r.Blocked))), el("td", timestamp(r.Created)))
		})))
}

func (h *handler) workerLoad(workers []stint.WorkerInfo) node {
	if len(workers) == 0 {
		return emptyState("No worker is running. Start one with ", code("client.NewWorker()"), " and its ", code("Run"), ".")
	}
	return table(tableHead("Worker", "Host", "Runs / slots.figure"), each(workers, func(w stint.WorkerInfo) node {
		return el("tr", el("td", h.link("/workers", userText(w.Name)), pausedBadge(w.Paused)), el("td", userText(w.Host)),
			el("td.number", progressBar("slots in use", int64(w.Running), int64(w.Slots)),
				fmt.Sprintf(" %d / %d", w.Running, w.Slots)))
	}))
}

func (h *handler) showFailures(failures []failure, w window) node {
	heads := tableHead("Task", "Failed.figure", "Succeeded.figure optional", "Newest error")
	return when(len(failures) > 0, h2("What failed in "+w.Name), table(heads, each(failures, func(f failure) node {
		list := h.link(runsPath("state", "failed", "task", f.Task), userText(f.Task))
		figures := group(el("td", list), el("td.number", formatCount(f.Failed)), el("td.number.optional", formatCount(f.Succeeded)))
		if f.Newest == nil {
			return el("tr", figures, el("td"))
		}
		path := runPath(f.Newest.ID)
		newest := h.link(path, attr("class", "error"), userText(truncate(160, f.Newest.Error)))
		return h.linkedRow(path, figures, el("td", newest, " ", timestamp(f.Newest.Finished)))
	})))
}

func (h *handler) runningNow(runs []stint.RunInfo) node {
	if len(runs) == 0 {
		return placeholder("nothing")
	}
	return table(tableHead("Task", "Worker", "Since"), each(runs, func(r stint.RunInfo) node {
		return h.linkedRow(runPath(r.ID), el("td", h.link(runPath(r.ID), userText(r.Task))),
			el("td", userText(r.Worker)), el("td", timestamp(r.Started)))
	}))
}

// nextCronsToFire returns the n crons that tick next, without their inputs.
func (h *handler) nextCronsToFire(ctx context.Context, n int) (first []stint.CronInfo, err error) {
	err = h.eachCron(ctx, func(c *stint.CronInfo) {
		i, _ := slices.BinarySearchFunc(first, c.Next, func(have stint.CronInfo, at time.Time) int {
			return cmp.Or(have.Next.Compare(at), -1) // after those of the same time
		})
		if c.Next.IsZero() || i == n {
			return
		}
		kept := *c
		kept.Input = nil
		first = slices.Insert(first, i, kept)
		first = first[:min(len(first), n)]
	})
	return first, err
}

func (h *handler) nextCrons(crons []stint.CronInfo) node {
	if len(crons) == 0 {
		return placeholder("none")
	}
	return table(tableHead("Cron", "Next"), each(crons, func(c stint.CronInfo) node {
		return el("tr", el("td", h.link("/schedules", userText(c.Name))), el("td", timestamp(c.Next)))
	}))
}

// A failure is a task with failed runs, its statistics, and the newest run that failed.
type failure struct {
	stint.Stats
	Newest *stint.RunInfo
}

// loadCharts sums up the statistics of the window and draws its charts.
func (h *handler) loadCharts(ctx context.Context, o *overview) error {
	w := o.window
	end := time.Now().Truncate(w.Step).Add(w.Step)
	begin := end.Add(-w.Length)
	spans, err := h.c.Stats(ctx, stint.StatsFilter{Since: begin, Span: w.resolution()})
	if err != nil {
		return err
	}
	n := int(w.Length / w.Step)
	steps, times := make([]stint.Stats, n), make([]time.Time, n)
	for i := range times {
		times[i] = begin.Add(time.Duration(i) * w.Step)
	}
	for i := range spans {
		if at := int(spans[i].At.Sub(begin) / w.Step); at >= 0 && at < n && !spans[i].At.Before(begin) {
			steps[at].Add(&spans[i])
			o.sum.Add(&spans[i])
		}
	}
	of := func(name, class string, f func(*stint.Stats) float64) series {
		s := series{name, class, make([]float64, n)}
		for i := range steps {
			s.Values[i] = f(&steps[i])
		}
		return s
	}
	whole := func(v float64) string { return formatCount(int64(v)) }
	seconds := func(v float64) string { return formatDuration(time.Duration(v)) }
	o.throughput = barChart("Runs that ended", times, []series{
		of("succeeded", "succeeded", func(s *stint.Stats) float64 { return float64(s.Succeeded) }),
		of("failed", "failed", func(s *stint.Stats) float64 { return float64(s.Failed) }),
		of("canceled", "canceled", func(s *stint.Stats) float64 { return float64(s.Canceled + s.Skipped) }),
	}, whole)
	o.latency = lineChart("Wait from due to start", times, []series{
		of("p50", "p50", func(s *stint.Stats) float64 { return float64(s.Wait(.5)) }),
		of("p99", "p99", func(s *stint.Stats) float64 { return float64(s.Wait(.99)) }),
	}, seconds)
	o.depth = lineChart("Runs that were ready", times, []series{
		of("most at a time", "p99", func(s *stint.Stats) float64 { return float64(s.Depth) }),
	}, whole)
	return nil
}

// loadFailures lists the tasks with failed runs, at most 8.
func (h *handler) loadFailures(ctx context.Context, w window) (all []failure, err error) {
	totals, err := h.taskTotals(ctx, w)
	if err != nil {
		return nil, err
	}
	for _, t := range totals {
		if t.Failed == 0 || len(all) == 8 {
			break
		}
		f := failure{Stats: t}
		page, err := h.list(ctx, stint.RunFilter{Tasks: []string{t.Task}, States: []stint.State{stint.StateFailed}, Limit: 1})
		if err != nil {
			return nil, err
		}
		if len(page.Runs) > 0 {
			f.Newest = &page.Runs[0]
		}
		all = append(all, f)
	}
	return all, nil
}
