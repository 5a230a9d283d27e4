package stint

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"github.com/stint-dev/stint/internal/check"
	"github.com/stint-dev/stint/store"
)

// A RateLimit says what a run takes from a rate limit: Units units of the limit named Key,
// which admits Limit units a second and at most Burst at once. A limit is created by its first
// use.
//
// The Limit and Burst of the newest enqueue apply, also to runs that wait already and to retries
// of older runs. Those of a run that is enqueued for later apply from when it is due. A run that
// needs more units than Burst, because that was lowered, waits until Burst is raised, and so do
// the runs behind it. Settings of SetRateLimit override those of runs. With a Burst of 0 the run
// brings no settings: SetRateLimit must set them first, or the enqueue returns an error.
type RateLimit struct {
	Key   string
	Units int // 0 means 1
	Limit rate.Limit
	Burst int
}

// WithRateLimit makes each start of an attempt take units from the rate limit of that key,
// which SetRateLimit sets first. In any time t, all tasks and processes on the database
// together take at most burst + limit × t units. A run that lacks units waits, without holding
// up others, and starts when they are available.
func WithRateLimit(key string, units int) TaskOption {
	return taskOption(func(c *taskConfig) error {
		if units < 1 || units > store.MaxUnits {
			return fmt.Errorf("stint: WithRateLimit(%q, %d): want 1 to %d units", key, units, store.MaxUnits)
		}
		if err := check.Name("rate limit key", key); err != nil {
			return errorf("stint: WithRateLimit: %w", err)
		}
		c.rateLimits = append(c.rateLimits, RateLimitSpec{Key: key, Units: units})
		c.limits = append(c.limits, func(string, any) (store.Limit, error) { return store.Limit{Key: key, Units: units}, nil })
		return nil
	})
}

// WithRateLimitFunc is like WithRateLimit, with a limit computed from a run's input when it is
// enqueued.
func WithRateLimitFunc[In any](f func(In) RateLimit) TaskOption {
	return taskOption(func(c *taskConfig) error {
		if f == nil {
			return fmt.Errorf("stint: WithRateLimitFunc: nil function")
		}
		if err := wantInput[In]("WithRateLimitFunc", c); err != nil {
			return err
		}
		c.rateLimits = append(c.rateLimits, RateLimitSpec{KeyExpr: funcExpr, UnitsExpr: funcExpr, LimitExpr: funcExpr})
		c.limits = append(c.limits, func(_ string, in any) (l store.Limit, err error) {
			var r RateLimit
			if _, err = callKey("rate limit", func(in any) string { r = f(inputAs[In](in)); return r.Key }, in); err != nil {
				return l, err
			}
			return r.toStore()
		})
		return nil
	})
}

// A RateLimitSpec takes units from a rate limit at each start of an attempt, as WithRateLimit and
// RateLimit do. It has Key or KeyExpr, and may have Limit or LimitExpr with a Window: then the
// limit is created by its first use, and admits that many units each window and at most as many at
// once. Without them the limit is the one that SetRateLimit set.
type RateLimitSpec struct {
	Key       string   `json:"key,omitempty"`
	KeyExpr   string   `json:"key_expr,omitempty"`   // a string
	Units     int      `json:"units,omitempty"`      // 0 means 1
	UnitsExpr string   `json:"units_expr,omitempty"` // a number, whose fraction is dropped
	Limit     int      `json:"limit,omitempty"`
	LimitExpr string   `json:"limit_expr,omitempty"` // a number, likewise
	Window    Duration `json:"window,omitempty"`
}

// withRateLimitSpecs is WithRateLimitFunc with expressions.
func withRateLimitSpecs(specs []RateLimitSpec) TaskOption {
	return taskOption(func(c *taskConfig) error {
		c.rateLimits = append(c.rateLimits, specs...)
		for i, s := range specs {
			x, err := s.toStore()
			if err != nil {
				return fmt.Errorf("%d: %w", i, err)
			}
			x.Field = fmt.Sprintf("rate_limits: %d", i)
			c.limitExprs = append(c.limitExprs, x)
		}
		return check.Count("limits", len(specs), check.MaxNames)
	})
}

func (s *RateLimitSpec) toStore() (x store.LimitExpr, err error) {
	x = store.LimitExpr{Limit: store.Limit{Key: s.Key, Units: max(s.Units, 1)}, Key: s.KeyExpr, Units: s.UnitsExpr, Most: s.LimitExpr,
		Window: time.Duration(s.Window)}
	limited := s.Limit != 0 || s.LimitExpr != ""
	switch {
	case (s.Key == "") == (s.KeyExpr == ""):
		return x, errors.New("key: want either key or key_expr")
	case s.Units != 0 && s.UnitsExpr != "":
		return x, errors.New("units: want units or units_expr, not both")
	case s.Units < 0 || s.Units > store.MaxUnits:
		return x, fmt.Errorf("units: %d: want 1 to %d", s.Units, store.MaxUnits)
	case s.Limit != 0 && s.LimitExpr != "":
		return x, errors.New("limit: want limit or limit_expr, not both")
	case s.Limit < 0 || s.Limit > store.MaxUnits:
		return x, fmt.Errorf("limit: %d: want 1 to %d", s.Limit, store.MaxUnits)
	case limited != (s.Window > 0):
		return x, fmt.Errorf("window: %v: want more than 0 with a limit, and none without", time.Duration(s.Window))
	case s.Limit > 0 && s.Units > s.Limit:
		return x, fmt.Errorf("units: %d of a limit of %d: it could never start", s.Units, s.Limit)
	}
	if s.Limit > 0 {
		x.Burst, x.PerSecond = s.Limit, float64(s.Limit)/time.Duration(s.Window).Seconds()
	}
	for _, e := range []struct {
		field, expr string
		want        store.Kind
	}{
		{"key_expr", s.KeyExpr, store.KindString}, {"units_expr", s.UnitsExpr, store.KindNumber},
		{"limit_expr", s.LimitExpr, store.KindNumber},
	} {
		if e.expr != "" && err == nil {
			err = checkExpr(e.field, e.expr, e.want)
		}
	}
	return x, cmp.Or(check.Text("key", s.Key), err)
}

// validRate reports whether JSON can hold a limit: it is neither NaN nor infinite. rate.Inf is
// finite.
func validRate(l rate.Limit) bool { return l >= 0 && l <= rate.Inf }

func (r RateLimit) toStore() (store.Limit, error) {
	l := store.Limit{Key: r.Key, Units: max(r.Units, 1), PerSecond: float64(r.Limit), Burst: r.Burst}
	switch {
	case r.Key == "":
		return l, errors.New("a rate limit without a key")
	case r.Units < 0 || r.Units > store.MaxUnits:
		return l, fmt.Errorf("rate limit %q: %d units: want 1 to %d", r.Key, r.Units, store.MaxUnits)
	case r.Burst < 0 || r.Burst > store.MaxUnits || !validRate(r.Limit):
		return l, fmt.Errorf("rate limit %q: %v a second, burst %d: want a limit of 0 or more, or rate.Inf, and a burst of 0 to %d",
			r.Key, r.Limit, r.Burst, store.MaxUnits)
	case r.Burst > 0 && l.Units > r.Burst && r.Limit != rate.Inf:
		return l, fmt.Errorf("rate limit %q: %d units, but its burst is %d: it could never start", r.Key, l.Units, r.Burst)
	case r.Burst == 0 && r.Limit != 0:
		return l, fmt.Errorf("rate limit %q: %v a second with a burst of 0 lets nothing start", r.Key, r.Limit)
	}
	return l, nil
}

// SetRateLimit sets a rate limit to limit units a second, and to burst units at once.
// rate.Every(d) is one unit every d, and rate.Inf is no limit. The limit is stored, and applies at
// once to all runs that have not started. It overrides the limits that runs bring with RateLimit.
//
// The error says which argument is invalid: the key has 1 to 255 bytes of UTF-8, the limit is 0 or
// more, the burst is at least 1. With a limit of 0 no units follow those of the burst.
func (c *Client) SetRateLimit(ctx context.Context, key string, limit rate.Limit, burst int) error {
	err := check.Name("rate limit key", key)
	if err == nil && (burst < 1 || burst > store.MaxUnits || !validRate(limit)) {
		err = fmt.Errorf("%v a second, burst %d: want a limit of 0 or more, or rate.Inf, and a burst of 1 to %d",
			limit, burst, store.MaxUnits)
	}
	if err != nil {
		return errorf("stint: SetRateLimit: %w", err)
	}
	return c.change(ctx, "set rate limit", &store.RateChange{Key: key, PerSecond: float64(limit), Burst: burst})
}

// A RateLimitInfo is the state of a rate limit.
type RateLimitInfo struct {
	Key     string
	Limit   rate.Limit
	Burst   int
	Tokens  float64 // units available now
	Waiting int     // runs that wait for units
	Paused  bool
}

// ListRateLimits returns the rate limits by key, up to 10,000. A limit that SetRateLimit set is
// kept. One that came with a run is deleted once it was not used for an hour, which is so long
// that its tokens are full again.
func (c *Client) ListRateLimits(ctx context.Context) ([]RateLimitInfo, error) {
	list := store.LimitList{Rates: true}
	if err := c.store.Read(ctx, &list); err != nil {
		return nil, wrapStoreErr("list rate limits", err)
	}
	infos := make([]RateLimitInfo, len(list.Limits))
	for i, l := range list.Limits {
		infos[i] = RateLimitInfo{Key: l.Key, Limit: rate.Limit(l.PerSecond), Burst: l.Burst, Tokens: l.Tokens, Waiting: l.Waiting,
			Paused: l.Paused}
	}
	return infos, nil
}

// A Strategy says what happens to a run when its concurrency limit is used up.
type Strategy int

// The strategies of a Concurrency.
const (
	// StrategyQueue makes the run wait, first in, first out over all keys. It is the default.
	StrategyQueue Strategy = iota
	// StrategyGroupRoundRobin makes the run wait. Keys take turns; runs of one key are first
	// in, first out.
	StrategyGroupRoundRobin
	// StrategyCancelInProgress cancels other runs of the key so that this one can start. The
	// Max runs with the highest priority stay; of equal priority, the newest.
	StrategyCancelInProgress
	// StrategyCancelNewest cancels the new run, unless it has started before.
	StrategyCancelNewest
)

var strategies = map[Strategy]store.Strategy{
	StrategyQueue: store.StrategyQueue, StrategyGroupRoundRobin: store.StrategyGroupRoundRobin,
	StrategyCancelInProgress: store.StrategyCancelInProgress, StrategyCancelNewest: store.StrategyCancelNewest,
}

// String returns the strategy's name, such as "GroupRoundRobin".
func (s Strategy) String() string {
	switch s {
	case StrategyQueue:
		return "Queue"
	case StrategyGroupRoundRobin:
		return "GroupRoundRobin"
	case StrategyCancelInProgress:
		return "CancelInProgress"
	case StrategyCancelNewest:
		return "CancelNewest"
	}
	return fmt.Sprintf("Strategy(%d)", int(s))
}

// MarshalText implements encoding.TextMarshaler: the text is that of String.
func (s Strategy) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *Strategy) UnmarshalText(text []byte) error {
	for known := range strategies {
		if known.String() == string(text) {
			*s = known
			return nil
		}
	}
	return fmt.Errorf("stint: there is no strategy %q", text)
}

// A Concurrency limits how many runs execute at once, over all workers and processes on the
// database. See WithConcurrency.
type Concurrency[In any] struct {
	// Name identifies the limit. Tasks that use the same name share the limit. The default is
	// the name of the task or workflow.
	Name string
	// Key returns the key of a run from its input; Max applies to each key separately. Key is
	// called once, when the run is enqueued. If Key is nil all runs share one key.
	Key func(In) string
	// Max is the maximum number of runs of a key that execute at once; at least 1. While a key is in use, the
	// Max and Strategy of the newest enqueue apply, also to runs that wait already. Lowering
	// Max does not stop runs that execute.
	Max      int
	Strategy Strategy
	// ReleaseWhileWaiting makes a run give up its place in the limit while it waits in a
	// durable call, and queue for it again afterwards.
	ReleaseWhileWaiting bool
}

// WithConcurrency limits how many runs of a task or workflow execute at once. It may be given
// several times: a run starts when all its limits admit it, and holds none of them while it
// waits for another. A run occupies its limits from its start until it ends or waits for its
// next attempt.
func WithConcurrency[In any](l Concurrency[In]) TaskOption {
	return taskOption(func(c *taskConfig) error {
		strategy, ok := strategies[l.Strategy]
		switch {
		case l.Max < 1:
			return fmt.Errorf("stint: WithConcurrency: Max %d: want 1 or more", l.Max)
		case !ok:
			return fmt.Errorf("stint: WithConcurrency: no strategy %v", l.Strategy)
		}
		if err := check.Text("name", l.Name); err != nil {
			return errorf("stint: WithConcurrency: %w", err)
		}
		if err := wantInput[In]("WithConcurrency", c); err != nil {
			return err
		}
		described := ConcurrencySpec{Name: l.Name, Max: l.Max, Strategy: l.Strategy, ReleaseWhileWaiting: l.ReleaseWhileWaiting}
		if l.Key != nil {
			described.Key = funcExpr
		}
		c.concurrency = append(c.concurrency, described)
		c.limits = append(c.limits, func(task string, in any) (store.Limit, error) {
			limit := store.Limit{Name: l.Name, Max: l.Max, Strategy: strategy, Release: l.ReleaseWhileWaiting}
			if limit.Name == "" {
				limit.Name = task
			}
			if l.Key == nil {
				return limit, nil
			}
			var err error
			limit.Key, err = callKey("concurrency", func(in any) string { return l.Key(inputAs[In](in)) }, in)
			return limit, err
		})
		return nil
	})
}

// A ConcurrencySpec is a Concurrency as data.
type ConcurrencySpec struct {
	// Name identifies the limit, as in Concurrency. The default is the name of the task; of the
	// second and later ones, with their number ("task/2").
	Name string `json:"name,omitempty"`
	// Key is an expression for the key, a string: 'all' makes one key for all runs.
	Key                 string   `json:"key"`
	Max                 int      `json:"max"`
	Strategy            Strategy `json:"strategy,omitempty"` // as JSON text: see Strategy.String
	ReleaseWhileWaiting bool     `json:"release_while_waiting,omitempty"`
}

// withConcurrencySpecs is WithConcurrency with expressions for keys.
func withConcurrencySpecs(specs []ConcurrencySpec) TaskOption {
	return taskOption(func(c *taskConfig) error {
		c.concurrency = append(c.concurrency, specs...)
		for i, s := range specs {
			limit := store.Limit{Name: s.Name, Max: s.Max, Strategy: strategies[s.Strategy], Release: s.ReleaseWhileWaiting}
			err := check.Text("name", s.Name)
			switch {
			case err != nil:
			case s.Key == "":
				err = errors.New("key: empty: want an expression; 'all' makes one key for all runs")
			case s.Max < 1:
				err = fmt.Errorf("max: %d: want 1 or more", s.Max)
			case limit.Strategy == 0:
				err = fmt.Errorf("strategy: there is no %v", s.Strategy)
			default:
				err = checkExpr("key", s.Key, store.KindString)
			}
			if err != nil {
				return fmt.Errorf("%d: %w", i, err)
			}
			c.limitExprs = append(c.limitExprs, store.LimitExpr{Limit: limit, Field: fmt.Sprintf("concurrency: %d: key", i), Key: s.Key})
		}
		return check.Count("limits", len(specs), check.MaxNames)
	})
}

// limitsFor returns the limits of a run of the task with that input.
func (d *taskDef) limitsFor(in any) ([]store.Limit, error) {
	if len(d.cfg.limits) == 0 {
		return nil, nil
	}
	all := make([]store.Limit, 0, len(d.cfg.limits))
	for _, f := range d.cfg.limits {
		l, err := f(d.name, in)
		if err != nil {
			return nil, err
		}
		all = append(all, l)
	}
	slices.SortFunc(all, store.CompareLimits)
	for i := range len(all) - 1 {
		if a, b := &all[i], &all[i+1]; store.CompareLimits(*a, *b) == 0 {
			return nil, fmt.Errorf("two limits of one name and key: %q %q", a.Name, a.Key)
		}
	}
	return all, nil
}

// setLimits sets the limits of a run, and of its tasks if it is a workflow's.
func (d *taskDef) setLimits(r *store.NewRun, in any) (err error) {
	if r.Limits, err = d.limitsFor(in); err != nil || d.workflow == nil {
		return err
	}
	r.TaskLimits, err = d.workflow.taskLimits(in)
	return err
}

// taskLimits returns the limits of the tasks of a workflow's run, by their places.
func (w *workflowDef) taskLimits(in any) (all map[int][]store.Limit, err error) {
	err = w.each(func(place int, def *taskDef) error {
		ls, err := def.limitsFor(in)
		if err != nil {
			return fmt.Errorf("task %q: %w", strings.TrimPrefix(def.name, w.name+":"), err)
		}
		if len(ls) == 0 {
			return nil
		}
		if all == nil {
			all = map[int][]store.Limit{}
		}
		all[place] = ls
		return nil
	})
	return all, err
}

// A ConcurrencyInfo is the state of one key of a concurrency limit.
type ConcurrencyInfo struct {
	Name     string
	Key      string
	Max      int
	Strategy Strategy
	Active   int // runs that occupy the limit
	Waiting  int // runs that wait for it
	Paused   bool
}

// A LimitKey identifies one key of a concurrency limit or, with an empty Name, the rate limit
// with that key.
type LimitKey struct {
	Name string // as in ConcurrencyInfo: by default the task's
	Key  string
}

// PauseLimit admits no run through a limit until ResumeLimit; runs that occupy it go on. While
// the limit is paused, runs wait that StrategyCancelNewest would cancel. The pause is stored
// and applies to all processes. The error is ErrNotFound if the rate limit does not exist.
func (c *Client) PauseLimit(ctx context.Context, k LimitKey) error {
	return c.pauseLimit(ctx, "pause limit", k, true)
}

// ResumeLimit ends the pause of PauseLimit.
func (c *Client) ResumeLimit(ctx context.Context, k LimitKey) error {
	return c.pauseLimit(ctx, "resume limit", k, false)
}

func (c *Client) pauseLimit(ctx context.Context, op string, k LimitKey, paused bool) error {
	if err := checkLimitKey(k); err != nil {
		return wrapStoreErr(op, err)
	}
	return c.change(ctx, op, &store.PauseChange{Limit: store.LimitKey(k), Paused: paused})
}

// ListConcurrency lists the keys of concurrency limits that runs occupy or wait for, and those
// that are paused, by name and key: up to 10,000.
func (c *Client) ListConcurrency(ctx context.Context) ([]ConcurrencyInfo, error) {
	var list store.LimitList
	if err := c.store.Read(ctx, &list); err != nil {
		return nil, wrapStoreErr("list concurrency", err)
	}
	infos := make([]ConcurrencyInfo, len(list.Limits))
	for i, l := range list.Limits {
		infos[i] = ConcurrencyInfo{Name: l.Name, Key: l.Key, Max: l.Max, Active: l.Active, Waiting: l.Waiting, Paused: l.Paused}
		for public, stored := range strategies {
			if stored == l.Strategy {
				infos[i].Strategy = public
			}
		}
	}
	return infos, nil
}

func checkLimitKey(k LimitKey) error {
	if err := check.Text("limit name", k.Name); err != nil {
		return err
	}
	return check.Text("limit key", k.Key)
}
