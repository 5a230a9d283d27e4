package stint

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/stint-dev/stint/internal/check"
	"github.com/stint-dev/stint/internal/jsonx"
	"github.com/stint-dev/stint/store"
)

// encode returns a definition as it is stored, and its version: a digest that does not depend on the
// order of lists, nor on how JSON is written.
func (d *Definition) encode() (body []byte, version string, err error) {
	if body, err = json.Marshal(d); err != nil {
		return nil, "", err
	}
	var v any
	if err := json.Unmarshal(body, &v); err != nil {
		return nil, "", err
	}
	var own Definition // not the caller's
	if err := json.Unmarshal(body, &own); err != nil {
		return nil, "", err
	}
	own.sort()
	sorted, err := json.Marshal(&own)
	if err != nil {
		return nil, "", err
	}
	text, _ := jsonx.Canonical(sorted)
	sum := sha256.Sum256([]byte(text))
	return body, hex.EncodeToString(sum[:16]), nil
}

// sort orders the lists whose order does not count.
func (d *Definition) sort() {
	d.TaskOptions.sort()
	for i := range d.Tasks {
		d.Tasks[i].sort()
	}
	slices.SortStableFunc(d.Tasks, func(a, b TaskSpec) int { return cmp.Compare(a.Name, b.Name) })
	if d.OnFailure != nil {
		d.OnFailure.sort()
	}
}

func (o *TaskOptions) sort() {
	slices.Sort(o.Events)
	o.Events = slices.Compact(o.Events)
	sortByText(o.Concurrency)
	sortByText(o.RateLimits)
	sortByText(o.Affinity)
	sortByText(o.Crons)
	sortByText(o.EventFilters)
}

func sortByText[T any](list []T) {
	slices.SortFunc(list, func(a, b T) int {
		x, _ := json.Marshal(a) // both were JSON
		y, _ := json.Marshal(b)
		return cmp.Compare(string(x), string(y))
	})
}

// A fieldOption is an option that a field of a definition stands for.
type fieldOption struct {
	field  string
	is     bool // the field is set
	option func() TaskOption
}

func (o *TaskOptions) fields() []fieldOption {
	return []fieldOption{
		{"queue", o.Queue != "", func() TaskOption { return WithQueue(o.Queue) }},
		{"priority", o.Priority != 0, func() TaskOption { return WithPriority(o.Priority) }},
		{"retries", o.Retries != 0, func() TaskOption { return WithRetries(o.Retries) }},
		{"backoff_factor", o.BackoffFactor != 0 || o.BackoffMax != 0,
			func() TaskOption { return WithRetryBackoff(o.BackoffFactor, time.Duration(o.BackoffMax)) }},
		{"timeout", o.Timeout != 0, func() TaskOption { return WithTimeout(time.Duration(o.Timeout)) }},
		{"schedule_timeout", o.ScheduleTimeout != 0, func() TaskOption { return WithScheduleTimeout(time.Duration(o.ScheduleTimeout)) }},
		{"slot_cost", o.SlotCost != 0, func() TaskOption { return WithSlotCost(o.SlotCost) }},
		{"affinity", len(o.Affinity) > 0, func() TaskOption { return WithAffinity(o.Affinity...) }},
		{"sticky", o.Sticky != "", func() TaskOption { return withSticky(o.Sticky) }},
		{"crons", len(o.Crons) > 0, func() TaskOption { return withCrons(o.Crons) }},
		{"events", len(o.Events) > 0, func() TaskOption { return WithEvents(o.Events...) }},
		{"event_filter", o.EventFilter != "", func() TaskOption { return WithEventFilter(o.EventFilter) }},
		{"event_filters", len(o.EventFilters) > 0, func() TaskOption { return withEventFilters(o.EventFilters) }},
		{"metadata", len(o.Metadata) > 0, func() TaskOption { return WithMetadata(o.Metadata) }},
		{"concurrency", len(o.Concurrency) > 0, func() TaskOption { return withConcurrencySpecs(o.Concurrency) }},
		{"rate_limits", len(o.RateLimits) > 0, func() TaskOption { return withRateLimitSpecs(o.RateLimits) }},
		{"idempotency", o.Idempotency != nil, func() TaskOption { return withIdempotencySpec(o.Idempotency) }},
	}
}

// funcExpr stands for the expression of what a function of the program computes.
const funcExpr = "func"

// options returns the task's options as data.
func (d *taskDef) options() TaskOptions {
	c := &d.cfg
	o := TaskOptions{
		Queue: c.run.queue, Priority: c.run.priority, Retries: c.retries, BackoffFactor: c.backoff.Factor,
		BackoffMax: Duration(c.backoff.Max), Timeout: Duration(c.timeout), ScheduleTimeout: Duration(c.scheduleTimeout),
		SlotCost: c.slotCost, Concurrency: slices.Clone(c.concurrency), RateLimits: slices.Clone(c.rateLimits),
		Events: slices.Clone(c.events), EventFilter: c.eventFilter, Metadata: maps.Clone(c.run.metadata),
		Sticky: map[Sticky]string{StickySoft: "soft", StickyHard: "hard"}[c.sticky],
	}
	for i := range o.Concurrency {
		if l := &o.Concurrency[i]; l.Name == "" {
			if l.Name = d.name; i > 0 && len(c.limitExprs) > 0 {
				l.Name = fmt.Sprintf("%s/%d", d.name, i+1)
			}
		}
	}
	if c.idempotency != nil || c.keyExpr != "" {
		o.Idempotency = &IdempotencySpec{Key: cmp.Or(c.keyExpr, funcExpr)}
		if o.Idempotency.UntilDone = c.keyTTL == UntilDone; !o.Idempotency.UntilDone {
			o.Idempotency.TTL = Duration(c.keyTTL)
		}
	}
	for _, w := range c.run.wants {
		o.Affinity = append(o.Affinity, Affinity{w.Label, w.Op, w.Value, w.Weight > 0, w.Weight})
	}
	for _, spec := range c.crons {
		o.Crons = append(o.Crons, CronSpec{spec, c.cronInputs[spec]})
	}
	return o
}

// options returns the options of a task or workflow that fields stand for. Their errors name the field.
func (o *TaskOptions) options() []TaskOption {
	var all []TaskOption
	for _, f := range o.fields() {
		if f.is {
			all = append(all, taskOption(func(c *taskConfig) error {
				if err := f.option().applyTask(c); err != nil {
					return fmt.Errorf("%s: %s", f.field, strings.TrimPrefix(err.Error(), "stint: "))
				}
				return nil
			}))
		}
	}
	return all
}

func withSticky(text string) TaskOption {
	sticky, ok := map[string]Sticky{"soft": StickySoft, "hard": StickyHard}[text]
	if !ok {
		return failing(fmt.Errorf("%q: want soft or hard", text))
	}
	return WithSticky(sticky)
}

func failing(err error) TaskOption { return taskOption(func(*taskConfig) error { return err }) }

// withCrons is WithCron with an input for each spec.
func withCrons(crons []CronSpec) TaskOption {
	return taskOption(func(c *taskConfig) error {
		c.cronInputs = map[string]json.RawMessage{}
		for i, x := range crons {
			if err := WithCron(x.Spec).applyTask(c); err != nil {
				return fmt.Errorf("%d: %w", i, err)
			}
			if len(x.Input) > 0 && !json.Valid(x.Input) {
				return fmt.Errorf("%d: input: it is not JSON", i)
			}
			if _, twice := c.cronInputs[x.Spec]; twice {
				return fmt.Errorf("%d: %q is given twice", i, x.Spec)
			}
			c.cronInputs[x.Spec] = x.Input
			if len(x.Input) == 0 {
				c.cronInputs[x.Spec] = json.RawMessage("null")
			}
		}
		return nil
	})
}

func withEventFilters(filters []EventFilterSpec) TaskOption {
	return taskOption(func(*taskConfig) error {
		for i, f := range filters {
			err := check.Name("scope", f.Scope)
			if err == nil {
				_, err = store.CompileFilter(f.Expression)
			}
			if err == nil && len(f.Payload) > 0 && !json.Valid(f.Payload) {
				err = errors.New("payload: it is not JSON")
			}
			if err != nil {
				return fmt.Errorf("%d: %w", i, err)
			}
		}
		return check.Count("filters", len(filters), check.MaxNames)
	})
}

// checkExpr compiles an expression over a run.
func checkExpr(field, expr string, want store.Kind) error {
	if _, err := store.CompileValue(expr, want, store.RunVars...); err != nil {
		return fmt.Errorf("%s: %w", field, err)
	}
	return nil
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

// withIdempotencySpec is WithIdempotency with an expression.
func withIdempotencySpec(s *IdempotencySpec) TaskOption {
	return taskOption(func(c *taskConfig) error {
		if s.Key == "" {
			return errors.New("key: empty: want an expression")
		}
		if (s.TTL != 0) == s.UntilDone {
			return errors.New("ttl: want either ttl or until_done")
		}
		if c.keyTTL = time.Duration(s.TTL); s.UntilDone {
			c.keyTTL = UntilDone
		} else if s.TTL < 0 {
			return fmt.Errorf("ttl: %v: want more than 0", time.Duration(s.TTL))
		}
		c.keyExpr = s.Key
		return checkExpr("key", s.Key, store.KindString)
	})
}

// ExprVars are the values of an expression's variables. An expression that reads a variable whose
// field is nil or empty fails. Metadata is an exception: if it is nil, the variable is an empty
// map.
type ExprVars struct {
	Input    json.RawMessage   // input
	Metadata map[string]string // metadata, or additional_metadata
	Payload  json.RawMessage   // payload
	Headers  map[string]string // headers
	EventID  string            // event_id
	EventKey string            // key, or event_key
	RunID    string            // workflow_run_id
}

// CompileExpr compiles a CEL expression whose value is a string, or true or false, for programs that are
// built on stint. It may read the named variables, or with none all of ExprVars. It needs import _
// "github.com/stint-dev/stint/cel", which documents the language and its bounds.
func CompileExpr[T string | bool](expr string, vars ...string) (func(ExprVars) (T, error), error) {
	var zero T
	kind := store.KindString
	if _, truth := any(zero).(bool); truth {
		kind = store.KindBool
	}
	if len(vars) == 0 {
		vars = append(slices.Clone(store.RunVars), "payload", "headers", "event_id", "event_key", "key")
	}
	value, err := store.CompileValue(expr, kind, vars...)
	if err != nil {
		return nil, errorf("stint: %w", err)
	}
	return func(v ExprVars) (T, error) {
		var meta []byte
		if v.Metadata != nil {
			meta, _ = json.Marshal(v.Metadata) // strings always encode
		}
		got, err := value(&store.Vars{Input: v.Input, Metadata: meta, Payload: v.Payload, Headers: v.Headers, EventID: v.EventID,
			EventKey: v.EventKey, RunID: v.RunID})
		if err != nil {
			return zero, errorf("stint: %w", err)
		}
		return got.(T), nil
	}, nil
}
