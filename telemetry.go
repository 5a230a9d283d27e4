package stint

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/stint-dev/stint/internal/apperror"
	"github.com/stint-dev/stint/internal/guard"
	"github.com/stint-dev/stint/internal/jsonx"
	"github.com/stint-dev/stint/internal/text"
	"github.com/stint-dev/stint/store"
)

// Stats counts what happened in a span of time to all runs, or to those of one queue, or of one
// task in one queue. Each process counts what it does and stores its counts about once a second; a process
// that is killed loses the rest.
type Stats struct {
	At          time.Time // start of the span
	Queue, Task string    // both empty: all runs
	Limit       LimitKey  // with StatsFilter.PerLimit: all keys of a concurrency limit, or a rate limit

	Enqueued  int64 // runs created, except tasks of workflows and what WithTx created
	Started   int64 // executions
	Succeeded int64 // runs that ended so; a workflow's run and its tasks count separately
	Failed    int64
	Canceled  int64
	Skipped   int64
	Retried   int64 // attempts that failed and were retried

	// Depth, Active and Max are the most at a time. Those of a queue or a limit are samples: once a minute one of the
	// programs that have the database open looks at the 200 deepest of each kind that are not idle.
	Depth  int // runs that were ready, counted up to 10,000 (of a task); of a limit: runs that waited for it
	Active int // of a queue: running runs; of a limit: runs that occupied it, or units that were used up; else 0
	Max    int // of a limit: the highest Active that it allows, with all keys that were in use, or the burst of a rate

	// Only for all runs.
	Commits int64 // transactions
	Changes int64 // calls that these transactions answered

	tally store.Counters
}

// Wait returns a quantile of the time between when runs were due and when they started: with q
// 0.99, the time within which 99% of them started. q is from 0 to 1. The result is off by at most
// a quarter. It is 0 if no run started.
func (s *Stats) Wait(q float64) time.Duration { return s.tally.Waits.Quantile(q) }

// Duration returns a quantile of the time from the last start of a run to its end, as Wait does.
func (s *Stats) Duration(q float64) time.Duration { return s.tally.Durations.Quantile(q) }

// Commit returns a quantile of the duration of commits, as Wait does.
func (s *Stats) Commit(q float64) time.Duration { return s.tally.Syncs.Quantile(q) }

// Ended returns how many runs ended.
func (s *Stats) Ended() int64 { return s.Succeeded + s.Failed + s.Canceled + s.Skipped }

// Add adds the counts of another span, or of other runs.
func (s *Stats) Add(o *Stats) {
	t := s.tally
	t.Add(&o.tally)
	t.Limit = store.LimitKey(s.Limit)
	*s = statsOf(t, s.At, s.Queue, s.Task)
}

func statsOf(t store.Counters, at time.Time, queue, task string) Stats {
	return Stats{at, queue, task, LimitKey(t.Limit), t.Enqueued, t.Started, t.Succeeded, t.Failed, t.Canceled, t.Skipped, t.Retried,
		t.Depth, t.Active, t.Max, t.Commits, t.Changes, t}
}

// A StatsFilter selects statistics.
type StatsFilter struct {
	Since time.Time // only spans that end later
	// Span is a minute (the default) or an hour. Minutes are kept for a day, hours for a
	// month.
	Span time.Duration
	// One of these, instead of statistics of all runs together:
	PerTask  bool // for each task in each queue
	PerQueue bool // for each queue
	PerLimit bool // for each concurrency and rate limit: Depth, Active and Max
}

// of returns what the statistics are of.
func (f *StatsFilter) of() (of store.Per, err error) {
	for per, is := range map[store.Per]bool{store.PerTask: f.PerTask, store.PerQueue: f.PerQueue, store.PerLimit: f.PerLimit} {
		if is && of != store.PerAll {
			err = errors.New("stint: stats: want one of PerTask, PerQueue and PerLimit")
		} else if is {
			of = per
		}
	}
	return of, err
}

// Stats returns statistics, oldest first. Spans in which nothing happened are left out.
func (c *Client) Stats(ctx context.Context, f StatsFilter) ([]Stats, error) {
	if f.Span == 0 {
		f.Span = time.Minute
	}
	if f.Span != time.Minute && f.Span != time.Hour {
		return nil, fmt.Errorf("stint: stats: span %v: want a minute or an hour", f.Span)
	}
	if err := wantTime("stats: Since", f.Since); err != nil {
		return nil, err
	}
	of, err := f.of()
	if err != nil {
		return nil, err
	}
	all, err := c.store.Counters(ctx, f.Span, f.Since, of)
	if err != nil {
		return nil, wrapStoreErr("stats", err)
	}
	stats := make([]Stats, len(all))
	for i, t := range all {
		stats[i] = statsOf(t, t.At, t.Queue, t.Task)
	}
	return stats, nil
}

// CountRuns counts the runs that have not ended, by state, up to 10,000 of each.
func (c *Client) CountRuns(ctx context.Context) (map[State]int, error) {
	counts, err := c.store.Counts(ctx)
	return counts, wrapStoreErr("count runs", err)
}

// A RunCount is how many runs match a filter.
type RunCount struct {
	Runs int
	Next string // Cursor of the part that is not counted yet; "": all are counted
}

// CountMatching counts the runs that match, exactly, and however many there are. With f.Scan it counts part of them,
// beginning at f.Cursor, in a bounded time: it examines at most so many runs, or of each state that has an index (all but
// scheduled, queued and succeeded) so many. The sum of all parts counts no run that is enqueued after the first.
func (c *Client) CountMatching(ctx context.Context, f RunFilter) (*RunCount, error) {
	const op = "count matching runs"
	sf, err := f.store()
	if err != nil {
		return nil, err
	}
	var before store.ID
	if f.Cursor != "" {
		if before, err = parseID(f.Cursor); err != nil {
			return nil, errorf("stint: %s: cursor: %w", op, err)
		}
	}
	n, next, err := c.store.Count(ctx, sf, before)
	return &RunCount{n, idString(next)}, wrapStoreErr(op, err)
}

// Changed waits until any process has changed the database since after, a number returned by
// an earlier call, and returns the current number. With 0 it returns at once. It misses no
// change, and may return without one.
func (c *Client) Changed(ctx context.Context, after uint64) (uint64, error) {
	n, err := c.store.Changed(ctx, after)
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
	return n, wrapStoreErr("changed", err)
}

// A DatabaseInfo describes the database.
type DatabaseInfo struct {
	Path       string // of a file; "": in memory, or a server
	Engine     string // name and version
	Schema     int    // version
	Durability string // "full" or "normal", of this client's commits
	Size       int64  // bytes
	Free       int64  // unused bytes of Size
	LogSize    int64  // bytes in the write-ahead log
	Retention  time.Duration
	Checkpoint time.Time // when the log was last copied into the file; zero: in memory, or a server
	Server     *Server   // nil: no server
}

// A Server describes the PostgreSQL server of a database, and this program's place there.
type Server = store.Server

// Database describes the database.
func (c *Client) Database(ctx context.Context) (*DatabaseInfo, error) {
	f, err := c.store.Facts(ctx)
	if err != nil {
		return nil, wrapStoreErr("describe the database", err)
	}
	return &DatabaseInfo{f.Path, f.Engine, f.Schema, f.Durability, f.Size, f.FreePages * f.PageSize, f.LogSize, c.cfg.retention,
		f.Checkpoint, f.Server}, nil
}

// scopeName is the instrumentation scope of spans and metrics.
const scopeName = "github.com/stint-dev/stint"

// WithTracerProvider creates a span for each enqueue and publish, each execution of a run, and
// each executed step. A run's executions are children of the span that enqueued it, also in
// another process or after a restart: the run's metadata carries the trace context, under the
// keys of https://www.w3.org/TR/trace-context/.
func WithTracerProvider(p trace.TracerProvider) ClientOption {
	return clientOption(func(c *clientConfig) error {
		if p == nil {
			return errors.New("stint: WithTracerProvider(nil): want a provider")
		}
		return guarded(func() error { c.tracer = p.Tracer(scopeName); return nil })
	})
}

// WithMeterProvider records metrics, with units of https://ucum.org. Of executions by this
// client's workers: their number (stint.executions), duration (stint.execution.duration) and
// delay (stint.execution.wait). Of the database, whoever uses it: unfinished runs by state
// (stint.runs), ready runs by queue (stint.queue.ready), and of the last whole minute the
// commits (stint.commits), the calls each answered (stint.commit.calls) and their duration
// (stint.commit.duration.p99).
func WithMeterProvider(p metric.MeterProvider) ClientOption {
	return clientOption(func(c *clientConfig) error {
		if p == nil {
			return errors.New("stint: WithMeterProvider(nil): want a provider")
		}
		return guarded(func() error { c.meter = p.Meter(scopeName); return nil })
	})
}

var traceContext propagation.TraceContext

// traceKeys are the metadata keys of traceContext.
var traceKeys = traceContext.Fields()

func noEnd(error) {}

// guardProvider calls a provider of the app. A panic is logged and has no other effect.
func (c *Client) guardProvider(f func()) {
	if err := guarded(func() error { f(); return nil }); err != nil {
		c.logger().Error("stint: an OpenTelemetry provider panicked", "err", err)
	}
}

// startSpan starts a span; end ends it with the result. Without a tracer, or if it panics,
// there is no span.
func (c *Client) startSpan(ctx context.Context, name string, opts ...trace.SpanStartOption) (traced context.Context, end func(error)) {
	traced, end = ctx, noEnd
	if c.cfg.tracer == nil {
		return traced, end
	}
	c.guardProvider(func() {
		in, span := c.cfg.tracer.Start(ctx, name, opts...)
		traced, end = in, func(err error) { c.guardProvider(func() { c.endSpan(span, err) }) }
	})
	return traced, end
}

func (c *Client) endSpan(span trace.Span, err error) {
	if err != nil {
		span.RecordError(c.spanError(err))
		span.SetStatus(codes.Error, failureKind(err))
	}
	span.End()
}

// traceRuns starts the span of an enqueue, and stores its context in the runs' metadata.
func (c *Client) traceRuns(ctx context.Context, runs []store.NewRun) (end func(error)) {
	if c.cfg.tracer == nil || len(runs) == 0 {
		return noEnd
	}
	ctx, end = c.startSpan(ctx, "enqueue "+runs[0].Task, trace.WithSpanKind(trace.SpanKindProducer),
		trace.WithAttributes(attribute.String("stint.task", runs[0].Task), attribute.String("stint.queue", runs[0].Queue),
			attribute.Int("stint.runs", len(runs))))
	var last, with []byte
	for i := range runs {
		if i == 0 || string(runs[i].Metadata) != string(last) {
			last, with = runs[i].Metadata, withTrace(ctx, runs[i].Metadata)
		}
		runs[i].Metadata = with
	}
	return end
}

// traceEvents is like traceRuns, for events, whose metadata the runs they start inherit.
func (c *Client) traceEvents(ctx context.Context, events []store.NewEvent) (end func(error)) {
	if c.cfg.tracer == nil || len(events) == 0 {
		return noEnd
	}
	ctx, end = c.startSpan(ctx, "publish "+events[0].Key, trace.WithSpanKind(trace.SpanKindProducer),
		trace.WithAttributes(attribute.String("stint.event", events[0].Key), attribute.Int("stint.events", len(events))))
	for i := range events {
		events[i].Metadata = withTrace(ctx, events[i].Metadata)
	}
	return end
}

// withTrace returns metadata with the context of the trace.
func withTrace(ctx context.Context, metadata []byte) []byte {
	m := jsonx.Texts(metadata)
	if m == nil {
		m = map[string]string{}
	}
	for _, k := range traceKeys { // of a parent
		delete(m, k)
	}
	traceContext.Inject(ctx, propagation.MapCarrier(m))
	if len(m) == 0 {
		return nil
	}
	b, _ := json.Marshal(m) // strings always encode
	return b
}

// startTrace starts the span of an execution, and its measurement.
func (e *execution) startTrace() (context.Context, func(error)) {
	c := e.c
	end := c.measure(e)
	if c.cfg.tracer == nil {
		return e.ctx, end
	}
	ctx := traceContext.Extract(e.ctx, propagation.MapCarrier(jsonx.Texts(e.run.Metadata)))
	ctx, endSpan := c.startSpan(ctx, e.run.Task, trace.WithSpanKind(trace.SpanKindConsumer), trace.WithAttributes(
		attribute.String("stint.task", e.run.Task), attribute.String("stint.queue", e.run.Queue), attribute.String("stint.run",
			e.run.ID.String()), attribute.Int("stint.attempt", e.run.Attempt)))
	return ctx, func(err error) {
		end(err)
		endSpan(err)
	}
}

// traceStep starts the span of a step that is executed.
func (sc *scope) traceStep(ctx context.Context, name string) (context.Context, func(error)) {
	c := sc.e.c
	if c.cfg.tracer == nil {
		return ctx, noEnd
	}
	return c.startSpan(ctx, "step "+name, trace.WithAttributes(attribute.String("stint.step", name),
		attribute.String("stint.run", sc.e.run.ID.String())))
}

// meters are the instruments that executions use.
type meters struct {
	executions     metric.Int64Counter
	duration, wait metric.Float64Histogram
	observed       metric.Registration
}

// measureAll creates the instruments. Those that show the database read it when they are
// collected.
func (c *Client) measureAll() error {
	m := c.cfg.meter
	if m == nil {
		return nil
	}
	var errs [8]error
	c.meters.executions, errs[0] = m.Int64Counter("stint.executions", metric.WithUnit("{execution}"),
		metric.WithDescription("Executions of handlers that ended."))
	c.meters.duration, errs[1] = m.Float64Histogram("stint.execution.duration", metric.WithUnit("s"),
		metric.WithDescription("Time that a handler took."))
	c.meters.wait, errs[2] = m.Float64Histogram("stint.execution.wait", metric.WithUnit("s"),
		metric.WithDescription("Time from when a run was due to its start."))
	runs, err := m.Int64ObservableGauge("stint.runs", metric.WithUnit("{run}"),
		metric.WithDescription("Runs that have not ended, counted up to 10,000."))
	errs[3] = err
	ready, err := m.Int64ObservableGauge("stint.queue.ready", metric.WithUnit("{run}"),
		metric.WithDescription("Runs that may start, counted up to 10,000 a task."))
	errs[4] = err
	commits, err := m.Int64ObservableGauge("stint.commits", metric.WithUnit("{commit}"),
		metric.WithDescription("Commits in the last whole minute."))
	errs[5] = err
	calls, err := m.Float64ObservableGauge("stint.commit.calls", metric.WithUnit("{call}"),
		metric.WithDescription("Calls that a commit answered, in the last whole minute."))
	errs[6] = err
	slow, err := m.Float64ObservableGauge("stint.commit.duration.p99", metric.WithUnit("s"),
		metric.WithDescription("Time that a commit took, in the last whole minute."))
	errs[7] = err
	if err := errors.Join(errs[:]...); err != nil {
		return err
	}
	g := gauges{runs, ready, commits, calls, slow}
	c.meters.observed, err = m.RegisterCallback(func(ctx context.Context, o metric.Observer) error {
		return c.observeDatabase(ctx, o, &g)
	}, runs, ready, commits, calls, slow)
	return err
}

// gauges are the instruments that show the database.
type gauges struct {
	runs, ready, commits metric.Int64ObservableGauge
	calls, slow          metric.Float64ObservableGauge
}

// observeDatabase reports what the gauges show.
func (c *Client) observeDatabase(ctx context.Context, o metric.Observer, g *gauges) error {
	counts, err := c.CountRuns(ctx)
	if err != nil {
		return err
	}
	for state, n := range counts {
		o.ObserveInt64(g.runs, int64(n), metric.WithAttributes(attribute.String("stint.state", state.String())))
	}
	queues, err := c.ListQueues(ctx)
	if err != nil {
		return err
	}
	for _, q := range queues {
		o.ObserveInt64(g.ready, int64(q.Ready), metric.WithAttributes(attribute.String("stint.queue", q.Name)))
	}
	minute := c.now().Truncate(time.Minute).Add(-time.Minute)
	stats, err := c.Stats(ctx, StatsFilter{Since: minute})
	if err != nil || len(stats) == 0 || !stats[0].At.Equal(minute) {
		return err
	}
	s := &stats[0]
	o.ObserveInt64(g.commits, s.Commits)
	o.ObserveFloat64(g.calls, float64(s.Changes)/float64(max(s.Commits, 1)))
	o.ObserveFloat64(g.slow, s.Commit(.99).Seconds())
	return nil
}

// measure starts the measurement of an execution; the result ends it.
func (c *Client) measure(e *execution) func(error) {
	m := &c.meters
	if m.executions == nil {
		return noEnd
	}
	began := time.Now()
	of := attribute.String("stint.task", e.run.Task)
	c.guardProvider(func() {
		m.wait.Record(e.ctx, max(e.run.Started.Sub(e.run.Due), 0).Seconds(), metric.WithAttributes(of))
	})
	return func(err error) {
		came := "ok"
		if err != nil {
			came = failureKind(err)
		}
		c.guardProvider(func() {
			m.executions.Add(e.ctx, 1, metric.WithAttributes(of, attribute.String("stint.outcome", came)))
			m.duration.Record(e.ctx, time.Since(began).Seconds(), metric.WithAttributes(of))
		})
	}
}

// logger returns the app's logger, which may be called where a panic would end the process.
func (c *Client) logger() *slog.Logger {
	l := c.cfg.logger
	if l == nil {
		l = slog.Default()
	}
	return slog.New(guard.LogHandler(l.Handler()))
}

// WithoutErrorText keeps the texts of the app's errors out of the client's logger and out of
// spans. They show only the kind of failure ("error", "panic", "timeout", "canceled"); the
// text is in the database, with the run. Without the option texts are logged, cut at 1 KiB.
func WithoutErrorText() ClientOption {
	return clientOption(func(c *clientConfig) error {
		c.noErrorText = true
		return nil
	})
}

// logText returns what is logged of an error of the app; nil: "".
func (c *Client) logText(err error) string {
	switch {
	case err == nil:
		return ""
	case c.cfg.noErrorText:
		return failureKind(vet(err))
	}
	return text.Cut(vet(err).Error(), text.Listed)
}

// spanError returns an error of the app as spans show it, with its type.
func (c *Client) spanError(err error) error {
	if seen := vet(err); !c.cfg.noErrorText && len(seen.Error()) <= text.Listed {
		return apperror.Original(seen)
	}
	return errors.New(c.logText(err))
}
