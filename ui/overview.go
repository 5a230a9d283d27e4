package ui

import (
	"cmp"
	"context"
	"html/template"
	"net/url"
	"slices"
	"time"

	"github.com/stint-dev/stint"
)

// A window is how far back the figures of a page reach, and how finely.
type window struct {
	Name string
	Back time.Duration
	Step time.Duration // of a chart's spans
}

var windows = []window{{"1h", time.Hour, time.Minute}, {"6h", 6 * time.Hour, 5 * time.Minute}, {"24h", 24 * time.Hour, 20 * time.Minute}, {"7d", 7 * 24 * time.Hour, 2 * time.Hour}}

func windowOf(q url.Values) window {
	for _, w := range windows {
		if w.Name == q.Get("window") {
			return w
		}
	}
	return windows[0]
}

// span is how finely its figures are kept.
func (w window) span() time.Duration {
	if w.Back > 24*time.Hour {
		return time.Hour
	}
	return time.Minute
}

// totals adds up what happened to the runs of each task, the one with most failures first.
func (h *handler) totals(ctx context.Context, w window) (all []stint.Stats, err error) {
	span := time.Hour
	if w.Back <= time.Hour {
		span = time.Minute
	}
	spans, err := h.c.Stats(ctx, stint.StatsFilter{Since: time.Now().Add(-w.Back), Span: span, PerTask: true})
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

type overview struct {
	Windows    []window
	Window     window
	Counts     []stateCount
	Sum        stint.Stats
	Throughput template.HTML
	Latency    template.HTML
	Depth      template.HTML
	Running    []stint.RunInfo
	Failures   []failure
	Stuck      []stint.RunInfo
	Crons      []stint.CronInfo
	Workers    []stint.WorkerInfo
	Empty      bool // nothing has ever run
}

type stateCount struct {
	State stint.State
	N     int
}

// A failure is what failed of one task, and how it did last.
type failure struct {
	stint.Stats
	Newest *stint.RunInfo
}

func overviewPage(h *handler, ctx context.Context, arg string, q url.Values) (*view, error) {
	o := overview{Windows: windows, Window: windowOf(q)}
	if err := h.chartsOf(ctx, &o); err != nil {
		return nil, err
	}
	counts, err := h.c.CountRuns(ctx)
	if err != nil {
		return nil, err
	}
	for _, s := range []stint.State{stint.StateRunning, stint.StateQueued, stint.StateScheduled, stint.StateWaiting, stint.StateBlocked} {
		o.Counts = append(o.Counts, stateCount{s, counts[s]})
	}
	for _, list := range []struct {
		into  *[]stint.RunInfo
		state stint.State
	}{{&o.Running, stint.StateRunning}, {&o.Stuck, stint.StateBlocked}} {
		if counts[list.state] == 0 {
			continue
		}
		page, err := h.list(ctx, stint.RunFilter{States: []stint.State{list.state}, Limit: 10})
		if err != nil {
			return nil, err
		}
		*list.into = page.Runs
	}
	if o.Failures, err = h.failures(ctx, o.Window); err != nil {
		return nil, err
	}
	if o.Crons, err = h.c.ListCrons(ctx); err != nil {
		return nil, err
	}
	o.Crons = slices.DeleteFunc(o.Crons, func(c stint.CronInfo) bool { return c.Next.IsZero() })
	slices.SortFunc(o.Crons, func(a, b stint.CronInfo) int { return a.Next.Compare(b.Next) })
	o.Crons = o.Crons[:min(len(o.Crons), 8)]
	if o.Workers, err = h.c.ListWorkers(ctx); err != nil {
		return nil, err
	}
	if o.Sum.Ended() == 0 && counts[stint.StateQueued]+counts[stint.StateRunning]+counts[stint.StateScheduled] == 0 {
		page, err := h.list(ctx, stint.RunFilter{Limit: 1})
		if err != nil {
			return nil, err
		}
		o.Empty = len(page.Runs) == 0
	}
	return &view{Title: "Overview", Name: "overview", Data: &o}, nil
}

// chartsOf draws what happened in the window.
func (h *handler) chartsOf(ctx context.Context, o *overview) error {
	w := o.Window
	end := time.Now().Truncate(w.Step).Add(w.Step)
	begin := end.Add(-w.Back)
	spans, err := h.c.Stats(ctx, stint.StatsFilter{Since: begin, Span: w.span()})
	if err != nil {
		return err
	}
	n := int(w.Back / w.Step)
	steps, times := make([]stint.Stats, n), make([]time.Time, n)
	for i := range times {
		times[i] = begin.Add(time.Duration(i) * w.Step)
	}
	for i := range spans {
		if at := int(spans[i].At.Sub(begin) / w.Step); at >= 0 && at < n && !spans[i].At.Before(begin) {
			steps[at].Add(&spans[i])
			o.Sum.Add(&spans[i])
		}
	}
	of := func(name, class string, f func(*stint.Stats) float64) series {
		s := series{name, class, make([]float64, n)}
		for i := range steps {
			s.Values[i] = f(&steps[i])
		}
		return s
	}
	whole := func(v float64) string { return count(int64(v)) }
	seconds := func(v float64) string { return took(time.Duration(v)) }
	o.Throughput = barChart("Runs that ended", times, []series{
		of("succeeded", "succeeded", func(s *stint.Stats) float64 { return float64(s.Succeeded) }),
		of("failed", "failed", func(s *stint.Stats) float64 { return float64(s.Failed) }),
		of("canceled", "canceled", func(s *stint.Stats) float64 { return float64(s.Canceled + s.Skipped) }),
	}, whole)
	o.Latency = lineChart("Wait from due to start", times, []series{
		of("p50", "p50", func(s *stint.Stats) float64 { return float64(s.Wait(.5)) }),
		of("p99", "p99", func(s *stint.Stats) float64 { return float64(s.Wait(.99)) }),
	}, seconds)
	o.Depth = lineChart("Runs that were ready", times, []series{
		of("most at a time", "p99", func(s *stint.Stats) float64 { return float64(s.Depth) }),
	}, whole)
	return nil
}

// failures lists the tasks of which runs failed, with the newest.
func (h *handler) failures(ctx context.Context, w window) (all []failure, err error) {
	totals, err := h.totals(ctx, w)
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
