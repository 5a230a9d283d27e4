package telemetry

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/stint-dev/stint/store"
)

// Meters records metrics. The zero value records none.
type Meters struct {
	app            App
	executions     metric.Int64Counter
	duration, wait metric.Float64Histogram
	observed       metric.Registration
}

// A Database is what metrics show of a database.
type Database struct {
	Runs  map[store.State]int // those that have not ended
	Ready map[string]int      // runs that may start, by queue
	// Minute is the last whole minute; nil: nothing happened.
	Minute *Minute
}

// A Minute counts commits.
type Minute struct {
	Commits, Calls int64         // calls that the commits answered
	Slow           time.Duration // time within which 99% of the commits were done
}

// NewMeters creates the instruments. Those that show the database read it when they are collected; what read returns
// with an error is shown too.
func NewMeters(m metric.Meter, app App, read func(context.Context) (Database, error)) (*Meters, error) {
	all := &Meters{app: app}
	var errs [8]error
	all.executions, errs[0] = m.Int64Counter("stint.executions", metric.WithUnit("{execution}"),
		metric.WithDescription("Executions of handlers that ended."))
	all.duration, errs[1] = m.Float64Histogram("stint.execution.duration", metric.WithUnit("s"),
		metric.WithDescription("Time that a handler took."))
	all.wait, errs[2] = m.Float64Histogram("stint.execution.wait", metric.WithUnit("s"),
		metric.WithDescription("Time from when a run was due to its start."))
	var g gauges
	g.runs, errs[3] = m.Int64ObservableGauge("stint.runs", metric.WithUnit("{run}"),
		metric.WithDescription("Runs that have not ended, counted up to 10,000."))
	g.ready, errs[4] = m.Int64ObservableGauge("stint.queue.ready", metric.WithUnit("{run}"),
		metric.WithDescription("Runs that may start, counted up to 10,000 a task."))
	g.commits, errs[5] = m.Int64ObservableGauge("stint.commits", metric.WithUnit("{commit}"),
		metric.WithDescription("Commits in the last whole minute."))
	g.calls, errs[6] = m.Float64ObservableGauge("stint.commit.calls", metric.WithUnit("{call}"),
		metric.WithDescription("Calls that a commit answered, in the last whole minute."))
	g.slow, errs[7] = m.Float64ObservableGauge("stint.commit.duration.p99", metric.WithUnit("s"),
		metric.WithDescription("Time that a commit took, in the last whole minute."))
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	var err error
	all.observed, err = m.RegisterCallback(func(ctx context.Context, o metric.Observer) error {
		db, err := read(ctx)
		g.observe(o, &db)
		return err
	}, g.runs, g.ready, g.commits, g.calls, g.slow)
	return all, err
}

// gauges are the instruments that show the database.
type gauges struct {
	runs, ready, commits metric.Int64ObservableGauge
	calls, slow          metric.Float64ObservableGauge
}

func (g *gauges) observe(o metric.Observer, db *Database) {
	for state, n := range db.Runs {
		o.ObserveInt64(g.runs, int64(n), metric.WithAttributes(attribute.String("stint.state", state.String())))
	}
	for queue, n := range db.Ready {
		o.ObserveInt64(g.ready, int64(n), metric.WithAttributes(attribute.String("stint.queue", queue)))
	}
	if m := db.Minute; m != nil {
		o.ObserveInt64(g.commits, m.Commits)
		o.ObserveFloat64(g.calls, float64(m.Calls)/float64(max(m.Commits, 1)))
		o.ObserveFloat64(g.slow, m.Slow.Seconds())
	}
}

// Execution starts to measure an execution; end ends that with the result.
func (m *Meters) Execution(ctx context.Context, r *store.Claimed) (end func(error)) {
	if m.executions == nil {
		return noEnd
	}
	began := time.Now()
	of := attribute.String("stint.task", r.Task)
	m.app.Call(func() { m.wait.Record(ctx, max(r.Started.Sub(r.Due), 0).Seconds(), metric.WithAttributes(of)) })
	return func(err error) {
		came := "ok"
		if err != nil {
			came = m.app.Kind(err)
		}
		m.app.Call(func() {
			m.executions.Add(ctx, 1, metric.WithAttributes(of, attribute.String("stint.outcome", came)))
			m.duration.Record(ctx, time.Since(began).Seconds(), metric.WithAttributes(of))
		})
	}
}

// Close ends the metrics of the database.
func (m *Meters) Close() error {
	if m.observed == nil {
		return nil
	}
	return m.observed.Unregister()
}
