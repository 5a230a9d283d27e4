package ui

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/stint-dev/stint"
)

// showDefinition shows all options of a task or workflow, and a workflow's graph and tasks.
func (h *handler) showDefinition(d *stint.TaskDefinition) node {
	if d == nil {
		return nil
	}
	kind := "task"
	switch {
	case d.Workflow:
		kind = "workflow"
	case d.BatchSize > 0:
		kind = fmt.Sprintf("batch task of up to %d", d.BatchSize)
	}
	if !d.Handler {
		kind += ", executed by another program"
	}
	o := &d.Options
	graph := newGraph(d.Tasks, true).draw()
	return group(h2("Definition"), el("dl.facts",
		fact("Kind", kind), fact("Queue", userText(d.Queue), fmt.Sprintf(", priority %d", d.Priority)), fact("Retries", d.Retries),
		when(d.Retries > 0, fact("Wait for a retry", backoffOf(o, d.RetryPolicy))),
		when(d.Timeout > 0, fact("Timeout", formatDuration(d.Timeout))),
		when(d.ScheduleTimeout > 0, fact("Must start within", formatDuration(d.ScheduleTimeout))),
		when(d.BatchSize > 0, fact("A batch waits", formatDuration(d.BatchInterval))),
		when(d.OnFailure, fact("On failure", "a function of the program runs")), when(d.SlotCost > 1, fact("Slots", d.SlotCost)),
		showIdempotency(o.Idempotency),
		when(len(d.Crons) > 0, fact("Crons", codes(d.Crons))),
		when(len(d.Events) > 0, fact("Events", codes(d.Events), when(d.EventFilter != "", "if ", code(d.EventFilter)))),
		each(o.EventFilters, func(f stint.EventFilterSpec) node {
			return fact("Filter of events", "in scope ", userText(f.Scope), " if ", code(f.Expression))
		}),
		showRouting(o), h.showTaskMetadata(d.Name, o.Metadata)),
		when(d.Limits > 0, h2("Limits"), h.showTaskLimits(o)),
		when(graph != nil, h2("Graph"), graph), showNodes(d))
}

func codes(texts []string) node {
	return each(texts, func(t string) node { return group(code(t), " ") })
}

// backoffOf says how long a retry waits.
func backoffOf(o *stint.TaskOptions, policy bool) string {
	switch {
	case policy:
		return "the code decides (WithRetryPolicy)"
	case o.BackoffFactor > 0:
		return fmt.Sprintf("%gⁿ s after attempt n, at most %s", o.BackoffFactor, formatDuration(time.Duration(o.BackoffMax)))
	}
	return "at once"
}

// computed shows an expression, or says that a function of the program stands in its place.
func computed(expr string) node {
	if expr == "func" { // see stint.TaskDefinition
		return el("span.dim", "a function of the input")
	}
	return code(expr)
}

func showIdempotency(s *stint.IdempotencySpec) node {
	if s == nil {
		return nil
	}
	until := " until the run has ended"
	if !s.UntilDone {
		until = " for " + formatDuration(time.Duration(s.TTL))
	}
	return fact("One run a key", computed(s.Key), until)
}

// showRouting says which workers may have a run.
func showRouting(o *stint.TaskOptions) node {
	sticky := map[string]string{"soft": "the worker of the first task, or of the parent, is preferred",
		"hard": "only the worker of the first task, or of the parent"}
	return group(each(o.Affinity, func(a stint.Affinity) node {
		op := a.Comparator
		if op == "" {
			op = "="
		}
		how := "only "
		if a.Preferred {
			how = fmt.Sprintf("preferred, with weight %d: ", a.Weight)
		}
		return fact("Workers", how, code(fmt.Sprintf("%s %s %v", a.Label, op, a.Value)))
	}), when(o.Sticky != "", fact("Sticky", sticky[o.Sticky])))
}

func (h *handler) showTaskMetadata(task string, m map[string]string) node {
	return when(len(m) > 0, fact("Metadata", each(slices.Sorted(maps.Keys(m)), func(k string) node {
		return group(code(k+"="+h.redactText("metadata", task, m[k])), " ")
	})))
}

var strategyWords = map[stint.Strategy]string{
	stint.StrategyQueue: "the run waits", stint.StrategyGroupRoundRobin: "the run waits, and keys take turns",
	stint.StrategyCancelInProgress: "older runs are canceled", stint.StrategyCancelNewest: "the run is canceled",
}

// showTaskLimits lists the limits that a run must pass.
func (h *handler) showTaskLimits(o *stint.TaskOptions) node {
	heads := tableHead("Limit", "Key", "At most", "If it is used up")
	return table(heads, each(o.Concurrency, func(l stint.ConcurrencySpec) node {
		key := computed(l.Key)
		if l.Key == "" {
			key = el("span.dim", "one for all runs")
		}
		return el("tr", el("td", h.link("/limits", userText(l.Name))), el("td", key),
			el("td", formatNumber(l.Max)+" at once", when(l.ReleaseWhileWaiting, ", without those that wait")),
			el("td", strategyWords[l.Strategy]))
	}), each(o.RateLimits, func(l stint.RateLimitSpec) node {
		key := computed(l.KeyExpr)
		if l.Key != "" {
			key = code(l.Key)
		}
		return el("tr", el("td", h.link("/limits", "Rate limit")), el("td", key), el("td", rateOf(&l)),
			el("td", strategyWords[stint.StrategyQueue]))
	}))
}

// rateOf says how many units a start takes, of how many.
func rateOf(l *stint.RateLimitSpec) node {
	units, of := group(formatNumber(max(l.Units, 1)), " of "), group("what SetRateLimit has set")
	if l.UnitsExpr != "" {
		units = group(computed(l.UnitsExpr), " of ")
	}
	switch {
	case l.Limit > 0:
		of = group(formatNumber(l.Limit))
	case l.LimitExpr != "":
		of = computed(l.LimitExpr)
	}
	return group(units, of, when(l.Window > 0, " each ", formatDuration(time.Duration(l.Window))))
}

// showNodes lists the tasks of a workflow with their own options.
func showNodes(d *stint.TaskDefinition) node {
	if len(d.NodeOptions) == 0 {
		return nil
	}
	heads := tableHead("Task", "Queue", "Retries.figure", "Wait for a retry", "Timeout", "Must start within", "Limits.figure")
	return group(h2("Tasks"), table(heads,
		eachShown(d.Tasks, func(t stint.TaskInfo) node {
			o := d.NodeOptions[t.Name]
			limits := len(o.Concurrency) + len(o.RateLimits)
			duration := func(v stint.Duration) node { return when(v > 0, formatDuration(time.Duration(v))) }
			return el("tr", el("td", userText(t.Name)), el("td", userText(t.Queue)), el("td.number", o.Retries),
				el("td", when(o.BackoffFactor > 0, backoffOf(&o, false))), el("td", duration(o.Timeout)),
				el("td", duration(o.ScheduleTimeout)), el("td.number", when(limits > 0, formatNumber(limits))))
		})))
}
