package hatchet

import (
	"cmp"
	"encoding/json"
	"slices"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/hatchet/internal/wire"
)

// What the protocol takes where a definition says nothing.
const (
	defaultTimeout         = time.Minute
	defaultScheduleTimeout = 5 * time.Minute
	longestBackoff         = 24 * time.Hour
	defaultWeight          = 100
)

// definitionOf returns stint's definition of a workflow.
func definitionOf(r *wire.PutWorkflowRequest) (d stint.Definition, err error) {
	d = stint.Definition{Name: r.Name, Description: r.Description, InputSchema: json.RawMessage(r.InputJsonSchema)}
	if len(r.InputJsonSchema) > 0 && !json.Valid(r.InputJsonSchema) {
		return d, invalid("workflow %.255q: input_json_schema is not JSON", r.Name)
	}
	if standalone(r) {
		d.TaskOptions, err = taskOptions(r.Tasks[0])
	} else {
		err = addTasks(&d, r)
	}
	if err == nil {
		err = addWorkflowOptions(&d.TaskOptions, r)
	}
	return d, err
}

// standalone reports whether a workflow is a task that stands alone: its run is the task's.
func standalone(r *wire.PutWorkflowRequest) bool {
	return len(r.Tasks) == 1 && r.OnFailureTask == nil && len(r.Tasks[0].Parents) == 0 && !hasConditions(r.Tasks[0])
}

func hasConditions(d *wire.TaskDefinition) bool {
	c := d.Conditions
	return len(c.GetParentOverrideConditions())+len(c.GetSleepConditions())+len(c.GetUserEventConditions()) > 0
}

// addTasks adds the tasks of a workflow.
func addTasks(d *stint.Definition, r *wire.PutWorkflowRequest) (err error) {
	for _, t := range r.Tasks {
		spec := stint.TaskSpec{Name: t.ReadableId, Parents: t.Parents}
		if spec.TaskOptions, err = taskOptions(t); err == nil {
			err = addConditions(&spec, t)
		}
		if err != nil {
			return err
		}
		d.Tasks = append(d.Tasks, spec)
	}
	if t := r.OnFailureTask; t != nil {
		if len(t.Parents) > 0 || hasConditions(t) {
			return invalid("on_failure_task %.255q has parents or conditions: those are for the other tasks", t.ReadableId)
		}
		d.OnFailure = &stint.TaskSpec{Name: t.ReadableId}
		d.OnFailure.TaskOptions, err = taskOptions(t)
	}
	return err
}

// addWorkflowOptions adds what is said of a whole workflow.
func addWorkflowOptions(o *stint.TaskOptions, r *wire.PutWorkflowRequest) (err error) {
	if r.DefaultPriority != nil {
		if err := checkPriority(r.GetDefaultPriority()); err != nil {
			return err
		}
		o.Priority = int(r.GetDefaultPriority())
	}
	if r.Sticky != nil {
		o.Sticky = "soft"
		if r.GetSticky() == wire.Sticky_STICKY_HARD {
			o.Sticky = "hard"
		}
	}
	limits := r.ConcurrencyArr
	if r.Concurrency != nil && len(limits) == 0 {
		limits = []*wire.Concurrency{r.Concurrency}
	}
	specs, err := concurrencySpecs(r.Name, limits)
	if err != nil {
		return err
	}
	o.Concurrency = append(specs, o.Concurrency...)
	o.Queue, o.Events = r.Name, r.EventTriggers // a queue of its own, so that it can be paused
	input, err := object("cron_input", r.GetCronInput())
	if err != nil {
		return err
	}
	for _, spec := range r.CronTriggers {
		o.Crons = append(o.Crons, stint.CronSpec{Spec: spec, Input: input})
	}
	for _, f := range r.DefaultFilters {
		o.EventFilters = append(o.EventFilters, stint.EventFilterSpec{Scope: f.Scope, Expression: f.Expression, Payload: f.Payload})
	}
	if i := r.Idempotency; i != nil {
		spec := &stint.IdempotencySpec{Key: i.Expression, TTL: stint.Duration(time.Duration(i.TtlMs) * time.Millisecond)}
		if i.GetMethod() == wire.IdempotencyMethod_IDEMPOTENCY_STATUS {
			spec.TTL, spec.UntilDone = 0, true
		}
		o.Idempotency = spec
	}
	return nil
}

// taskOptions returns the options of a task.
func taskOptions(d *wire.TaskDefinition) (o stint.TaskOptions, err error) {
	timeout, err := duration(d.ReadableId, "timeout", d.Timeout, defaultTimeout)
	if err != nil {
		return o, err
	}
	start, err := duration(d.ReadableId, "schedule_timeout", d.GetScheduleTimeout(), defaultScheduleTimeout)
	if err != nil {
		return o, err
	}
	o = stint.TaskOptions{Timeout: stint.Duration(timeout), ScheduleTimeout: stint.Duration(start), Retries: int(d.Retries)}
	if d.BackoffFactor != nil && d.GetBackoffFactor() > 0 {
		o.BackoffFactor, o.BackoffMax = max(1, float64(d.GetBackoffFactor())), stint.Duration(longestBackoff)
		if d.GetBackoffMaxSeconds() > 0 {
			o.BackoffMax = stint.Duration(time.Duration(d.GetBackoffMaxSeconds()) * time.Second)
		}
	}
	if n := (&task{Slots: slotsOf(d), Durable: d.IsDurable}).slots(); n > 1 {
		o.SlotCost = n
	}
	if o.Concurrency, err = concurrencySpecs(d.ReadableId, d.Concurrency); err != nil {
		return o, err
	}
	for _, l := range d.RateLimits {
		o.RateLimits = append(o.RateLimits, rateLimitSpec(l))
	}
	o.Affinity, err = affinities(d.WorkerLabels)
	return o, err
}

func duration(task, field, text string, def time.Duration) (time.Duration, error) {
	if text == "" {
		return def, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		return 0, invalid("task %.255q: %s is %.100q: want a time such as 60s", task, field, text)
	}
	return d, nil
}

var strategies = map[wire.LimitStrategy]stint.Strategy{
	wire.LimitStrategy_LIMIT_CANCEL_IN_PROGRESS: stint.StrategyCancelInProgress,
	wire.LimitStrategy_LIMIT_DROP_NEWEST:        stint.StrategyCancelNewest,
	wire.LimitStrategy_LIMIT_QUEUE_NEWEST:       stint.StrategyQueue,
	wire.LimitStrategy_LIMIT_GROUP_ROUND_ROBIN:  stint.StrategyGroupRoundRobin,
	wire.LimitStrategy_LIMIT_CANCEL_NEWEST:      stint.StrategyCancelNewest,
}

func concurrencySpecs(of string, limits []*wire.Concurrency) (specs []stint.ConcurrencySpec, err error) {
	for _, l := range limits {
		strategy, ok := strategies[l.GetLimitStrategy()]
		switch {
		case l.Expression == "":
			return nil, invalid("%.255q: a concurrency limit has no expression", of)
		case !ok:
			return nil, invalid("%.255q: a concurrency limit has strategy %v, which is unknown", of, l.GetLimitStrategy())
		}
		spec := stint.ConcurrencySpec{Key: l.Expression, Max: 1, Strategy: strategy}
		if l.MaxRuns != nil {
			spec.Max = int(l.GetMaxRuns())
		}
		specs = append(specs, spec)
	}
	return specs, nil
}

// windows are those of rate limits. A month has 30 days, a year 365.
var windows = map[wire.RateWindow]time.Duration{
	wire.RateWindow_RATE_SECOND: time.Second, wire.RateWindow_RATE_MINUTE: time.Minute, wire.RateWindow_RATE_HOUR: time.Hour,
	wire.RateWindow_RATE_DAY: 24 * time.Hour, wire.RateWindow_RATE_WEEK: 7 * 24 * time.Hour,
	wire.RateWindow_RATE_MONTH: 30 * 24 * time.Hour, wire.RateWindow_RATE_YEAR: 365 * 24 * time.Hour,
}

func rateLimitSpec(l *wire.TaskRateLimit) stint.RateLimitSpec {
	spec := stint.RateLimitSpec{Key: l.Key, KeyExpr: l.GetKeyExpr(), UnitsExpr: l.GetUnitsExpr(), LimitExpr: l.GetLimitValuesExpr()}
	if spec.KeyExpr != "" {
		spec.Key = "" // a name for people
	}
	if spec.UnitsExpr == "" {
		spec.Units = int(l.GetUnits())
	}
	if spec.LimitExpr != "" {
		window := wire.RateWindow_RATE_MINUTE
		if l.Duration != nil {
			window = l.GetDuration()
		}
		spec.Window = stint.Duration(windows[window])
	}
	return spec
}

var comparators = map[wire.LabelComparator]string{
	wire.LabelComparator_LABEL_EQUAL: "=", wire.LabelComparator_LABEL_NOT_EQUAL: "!=", wire.LabelComparator_LABEL_GREATER: ">",
	wire.LabelComparator_LABEL_GREATER_OR_EQUAL: ">=", wire.LabelComparator_LABEL_LESS: "<", wire.LabelComparator_LABEL_LESS_OR_EQUAL: "<=",
}

// affinities returns which labels a run wants of its worker.
func affinities(labels map[string]*wire.DesiredLabel) (wants []stint.Affinity, err error) {
	if len(labels) > maxLabels {
		return nil, invalid("%d desired labels: want at most %d", len(labels), maxLabels)
	}
	for label, l := range labels {
		a := stint.Affinity{Label: label, Comparator: comparators[l.GetComparator()], Value: l.GetStrValue(), Preferred: !l.GetRequired()}
		switch {
		case a.Comparator == "":
			return nil, invalid("label %.255q: comparator %v is unknown", label, l.GetComparator())
		case l != nil && l.IntValue != nil:
			a.Value = int(l.GetIntValue())
		case l.GetStrValue() == "":
			return nil, invalid("label %.255q has no value", label)
		}
		if a.Preferred {
			a.Weight = defaultWeight
			if l.GetWeight() > 0 {
				a.Weight = int(l.GetWeight())
			}
		}
		wants = append(wants, a)
	}
	slices.SortFunc(wants, func(a, b stint.Affinity) int { return cmp.Compare(a.Label, b.Label) })
	return wants, nil
}
