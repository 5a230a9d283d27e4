package stint

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/stint-dev/stint/internal/check"
	"github.com/stint-dev/stint/internal/failure"
	"github.com/stint-dev/stint/internal/telemetry"
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
	Since time.Time // only spans that end after this time; zero: all that are kept
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
	list := store.CounterList{Span: f.Span, Since: f.Since, Of: of}
	if err := c.store.Read(ctx, &list); err != nil {
		return nil, wrapStoreErr("stats", err)
	}
	stats := make([]Stats, len(list.Counters))
	for i, t := range list.Counters {
		stats[i] = statsOf(t, t.At, t.Queue, t.Task)
	}
	return stats, nil
}

// CountRuns counts the runs that have not ended, by state, up to 10,000 of each.
func (c *Client) CountRuns(ctx context.Context) (map[State]int, error) {
	var count store.StateCount
	err := c.store.Read(ctx, &count)
	return count.Runs, wrapStoreErr("count runs", err)
}

// A RunCount is how many runs match a filter.
type RunCount struct {
	Runs int
	Next string // Cursor of the part that is not counted yet; "": all are counted
}

// CountMatching counts the runs that match, exactly, however many there are.
//
// With f.Scan it counts a part of them in a bounded time, beginning at f.Cursor. A part examines at most f.Scan runs; of
// states that have an index (all but scheduled, queued and succeeded) it examines f.Scan runs of each. The sum of all parts
// leaves out runs that were enqueued after the first call.
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

// WithMeterProvider records metrics, with units of https://ucum.org:
//
//   - of executions by this client's workers, their number (stint.executions), duration
//     (stint.execution.duration) and delay (stint.execution.wait);
//   - of the database, whatever programs use it, the unfinished runs by state (stint.runs) and
//     the ready runs by queue (stint.queue.ready);
//   - of the last whole minute of the database, the commits (stint.commits), the calls that a
//     commit answered (stint.commit.calls) and their duration (stint.commit.duration.p99).
func WithMeterProvider(p metric.MeterProvider) ClientOption {
	return clientOption(func(c *clientConfig) error {
		if p == nil {
			return errors.New("stint: WithMeterProvider(nil): want a provider")
		}
		return guarded(func() error { c.meter = p.Meter(scopeName); return nil })
	})
}

// guardProvider calls a provider of the app. A panic is logged and has no other effect.
func (c *Client) guardProvider(f func()) {
	if err := guarded(func() error { f(); return nil }); err != nil {
		c.logger().Error("stint: an OpenTelemetry provider panicked", "err", err)
	}
}

// startTelemetry creates what makes spans and metrics.
func (c *Client) startTelemetry() (err error) {
	app := telemetry.App{Call: c.guardProvider, Shown: c.spanError, Kind: failureKind}
	c.spans = telemetry.Spans{App: app, Tracer: c.cfg.tracer}
	if c.meters = (&telemetry.Meters{}); c.cfg.meter != nil {
		c.meters, err = telemetry.NewMeters(c.cfg.meter, app, c.readDatabase)
	}
	return err
}

// readDatabase reads what metrics show of the database.
func (c *Client) readDatabase(ctx context.Context) (db telemetry.Database, err error) {
	if db.Runs, err = c.CountRuns(ctx); err != nil {
		return db, err
	}
	queues, err := c.ListQueues(ctx)
	if err != nil {
		return db, err
	}
	db.Ready = make(map[string]int, len(queues))
	for _, q := range queues {
		db.Ready[q.Name] = q.Ready
	}
	minute := c.now().Truncate(time.Minute).Add(-time.Minute)
	stats, err := c.Stats(ctx, StatsFilter{Since: minute})
	if err == nil && len(stats) > 0 && stats[0].At.Equal(minute) {
		s := &stats[0]
		db.Minute = &telemetry.Minute{Commits: s.Commits, Calls: s.Changes, Slow: s.Commit(.99)}
	}
	return db, err
}

// startTrace starts the span of an execution, and its measurement.
func (e *execution) startTrace() (context.Context, func(error)) {
	measured := e.c.meters.Execution(e.ctx, &e.run)
	if e.c.spans.Tracer == nil {
		return e.ctx, measured
	}
	ctx, traced := e.c.spans.Execution(e.ctx, &e.run)
	return ctx, func(err error) {
		measured(err)
		traced(err)
	}
}

// An ErrorGroup stands for the runs of one task that failed with the same error: the first lines
// of their errors differ only in what varies from run to run, such as numbers, IDs, addresses
// and quoted texts.
//
// A run counts when it ends as StateFailed, and again each time that it fails after a replay. An
// attempt that another follows does not count. A workflow's run does not count either: its tasks
// do. A group is kept for 31 days after its last run failed, and longer while it is muted to a time. At
// most 10,000 groups are kept: those that were seen last.
type ErrorGroup struct {
	ID     string // for RunFilter.ErrorGroup
	Task   string
	Text   string // the first line of the errors, with what varies masked, such as "order <n>"
	Sample string // the error of the last run; its first 1 KiB
	RunID  string // the last run that failed so; it may have been deleted
	First  time.Time
	Last   time.Time // when RunID failed
	Count  int64     // since First
	// Trend has a count for each minute or hour of the filter's time in which a run failed,
	// oldest first. Counts of minutes are kept for 25 hours, those of hours for 31 days.
	Trend []ErrorCount
	// MutedUntil is the end of the mute of MuteErrors; a time in the year 9999: never. Zero: there is no such mute.
	MutedUntil time.Time
	// MutedToCount is the Count at which the mute of MuteErrorsToDouble ends; 0: there is none.
	MutedToCount int64
	Muted        bool // MutedUntil is in the future, or Count is below MutedToCount
	// Resolved reports that ResolveErrors was called and no run has failed with the error since.
	// Regressed reports that ResolveErrors was called and a run has failed with it since.
	Resolved, Regressed bool
}

// InRange returns how often a run failed with the error in the filter's time: the sum of the
// Trend.
func (g *ErrorGroup) InRange() (n int64) {
	for _, c := range g.Trend {
		n += c.Count
	}
	return n
}

// An ErrorCount says how often a run failed with a group's error in a minute or an hour.
type ErrorCount struct {
	At    time.Time // when it begins
	Count int64
}

// An ErrorFilter selects the error groups that match all its fields. A zero field matches every
// group; an empty list that is not nil matches none.
type ErrorFilter struct {
	IDs   []string  // at most 1,000
	Tasks []string  // at most 1,000
	Since time.Time // a run failed at or after
	Until time.Time // the first run failed before
	Text  string    // in Task, Text or Sample; case is ignored
	// Span is a minute or an hour: the length of the spans of ErrorGroup.Trend. 0: a minute if
	// Since is within the last 25 hours, else an hour.
	Span   time.Duration
	Limit  int    // size of the page; default 100, at most 1,000
	Cursor string // ErrorPage.Next of the previous page
}

// An ErrorPage is a page of error groups, the last seen first.
type ErrorPage struct {
	Groups []ErrorGroup
	Next   string // Cursor of the next page; "" on the last
}

// forGood is until when a group is muted that is muted for good.
var forGood = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)

// ListErrors returns a page of error groups, the most recently seen first. A group that is seen
// again while the pages are read may be missing on a later one.
func (c *Client) ListErrors(ctx context.Context, f ErrorFilter) (*ErrorPage, error) {
	const op = "list errors"
	limit, err := pageLimit(f.Limit)
	if err != nil {
		return nil, fmt.Errorf("stint: %s: %w", op, err)
	}
	q, err := c.errorQuery(f)
	if err != nil {
		return nil, errorf("stint: %s: %w", op, err)
	}
	list := store.ErrorGroupList{ErrorQuery: q, Limit: limit}
	if err := c.store.Read(ctx, &list); err != nil {
		return nil, wrapStoreErr(op, err)
	}
	page := &ErrorPage{Groups: make([]ErrorGroup, len(list.Groups))}
	for i := range list.Groups {
		page.Groups[i] = c.errorGroup(&list.Groups[i])
	}
	if list.More {
		last := &list.Groups[len(list.Groups)-1]
		page.Next = fmt.Sprintf("%d-%s", last.Last.UnixMilli(), groupID(last.Group))
	}
	return page, nil
}

func (c *Client) errorGroup(g *store.ErrorGroup) ErrorGroup {
	x := ErrorGroup{groupID(g.Group), g.Task, g.Text, g.Sample, g.Run.String(), g.First, g.Last, g.Count, nil, g.MutedTill,
		g.MutedTo, g.MutedTill.After(c.now()) || g.Count < g.MutedTo, g.Resolved > 0 && g.Count == g.Resolved,
		g.Resolved > 0 && g.Count > g.Resolved}
	for _, n := range g.Counts {
		x.Trend = append(x.Trend, ErrorCount{n.At, n.N})
	}
	return x
}

func (c *Client) errorQuery(f ErrorFilter) (q store.ErrorQuery, err error) {
	if err := check.Count("IDs", len(f.IDs), check.MaxNames); err != nil {
		return q, err
	}
	if err := check.Names("task name", f.Tasks); err != nil {
		return q, err
	}
	q = store.ErrorQuery{Tasks: f.Tasks, Since: f.Since, Until: f.Until, Span: f.Span, Text: f.Text}
	if err := check.Size("text", len(f.Text), check.MaxSearch); err != nil {
		return q, err
	}
	switch {
	case f.Span != 0 && f.Span != time.Minute && f.Span != time.Hour:
		return q, fmt.Errorf("span %v: want a minute or an hour, or 0", f.Span)
	case f.Span == 0 && f.Since.After(c.now().Add(-store.MinutesKept)):
		q.Span = time.Minute
	case f.Span == 0:
		q.Span = time.Hour
	}
	if f.IDs != nil {
		q.IDs = []int64{}
	}
	for _, id := range f.IDs {
		n, err := parseGroupID(id)
		if err != nil {
			return q, err
		}
		q.IDs = append(q.IDs, n)
	}
	if f.Cursor != "" {
		at, id, _ := strings.Cut(f.Cursor, "-")
		ms, err := strconv.ParseInt(at, 10, 64)
		if err == nil {
			q.After.ID, err = parseGroupID(id)
		}
		if err != nil {
			return q, fmt.Errorf("cursor %.300q: want the Next of a page", f.Cursor)
		}
		q.After.Last = time.UnixMilli(ms)
	}
	return q, errors.Join(wantTime("Since", f.Since), wantTime("Until", f.Until))
}

// MuteErrors mutes an error group until a time, or for good if that is zero: the page leaves the
// group out of what needs attention and of the list of open errors. Its runs are still counted. It
// returns ErrNotFound if there is no such group.
func (c *Client) MuteErrors(ctx context.Context, id string, until time.Time) error {
	if until.IsZero() {
		until = forGood
	}
	if err := wantTime("until", until); err != nil {
		return errorf("stint: mute errors: %w", err)
	}
	return c.markErrors(ctx, "mute errors", id, store.ErrorMark{MutedTill: until})
}

// MuteErrorsToDouble mutes an error group, as MuteErrors does, until its Count is twice what it is
// now.
func (c *Client) MuteErrorsToDouble(ctx context.Context, id string) error {
	return c.markErrors(ctx, "mute errors", id, store.ErrorMark{ToDouble: true})
}

// ResolveErrors marks an error group as resolved, until a run fails with that error again: then
// the group is Regressed. It also ends a mute of the group. It returns ErrNotFound if there is no
// such group.
func (c *Client) ResolveErrors(ctx context.Context, id string) error {
	return c.markErrors(ctx, "resolve errors", id, store.ErrorMark{Resolved: true})
}

// UnmuteErrors ends the effect of MuteErrors, MuteErrorsToDouble and ResolveErrors. It returns
// ErrNotFound if there is no such group.
func (c *Client) UnmuteErrors(ctx context.Context, id string) error {
	return c.markErrors(ctx, "unmute errors", id, store.ErrorMark{})
}

func (c *Client) markErrors(ctx context.Context, op, id string, m store.ErrorMark) error {
	var err error
	if m.Group, err = parseGroupID(id); err != nil {
		return errorf("stint: %s: %w", op, err)
	}
	return c.change(ctx, op, &m)
}

// groupID returns the ID of an error group as users see it.
func groupID(id int64) string { return fmt.Sprintf("%016x", uint64(id)) }

// parseGroupID is the inverse of groupID.
func parseGroupID(id string) (int64, error) {
	n, err := strconv.ParseUint(id, 16, 64)
	if err != nil || len(id) != 16 || n == 0 {
		return 0, fmt.Errorf("error group %.300q: want 16 hexadecimal digits: %w", id, ErrNotFound)
	}
	return int64(n), nil
}

// groupOf returns the ID of the group in which a run counts, or "".
func groupOf(r *store.Run, f *failure.Failure) string {
	if r.State != store.Failed {
		return ""
	}
	g := failure.Group(r.Task, f)
	if g == nil {
		return ""
	}
	return groupID(g.Group)
}
