package ui

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/stint-dev/stint"
)

// A concern is something that needs a person: what, since when, and what to do about it.
type concern struct {
	icon, class string
	what        node
	since       time.Time
	actions     []node // links, the last is the one for small screens
}

// What counts as a concern, beside what is always one.
const (
	failingShare = 10              // at least 1 in as many runs of a task failed
	longWait     = 5 * time.Minute // since the first of a queue's ready runs was due
)

const whatCounts = "A task of whose runs at least a tenth failed in the chosen time, without errors that are muted or resolved, or a " +
	"workflow, if none of its tasks is listed; an error that was first seen in that time; ready runs that no worker serves, or whose " +
	"queue is paused, or that wait for 5 minutes; a firing alert; a cron whose last tick started no run; blocked runs; a database that " +
	"cannot be written."

// concerns returns what needs a person, the most urgent first.
func (h *handler) concerns(ctx context.Context, o *overview) (all []concern, err error) {
	if err := h.c.Healthy(); err != nil {
		all = append(all, concern{"health", "bad", group(el("b", "The database cannot be written"), el("span", " · ", err)), time.Time{},
			[]node{h.smallButton("/health", "Open health")}})
	}
	failing := o.failing()
	for _, f := range o.failures {
		if failing[f.Task] {
			all = append(all, h.failingTask(o, &f))
		}
	}
	for i := range o.errors.groups {
		e := &o.errors.groups[i]
		if e.First.After(o.Since) && isOpen(e) && !failing[e.Task] && !(failing[workflowOf(e.Task)] && !o.hasErrors(workflowOf(e.Task))) {
			all = append(all, h.newError(o, e))
		}
	}
	for i := range o.queues {
		if c, is := h.queueConcern(o, &o.queues[i]); is {
			all = append(all, c)
		}
	}
	firing, err := h.firingAlerts(ctx)
	all = append(all, firing...)
	for _, c := range o.badCrons {
		why := c.Blocked
		if c.Error != "" {
			why = c.Error
		}
		all = append(all, concern{"schedules", "bad",
			group("Cron ", el("b", userText(c.Name)), " starts no runs", el("span", " · ", userText(truncate(200, why)))), c.Last,
			[]node{h.smallButton("/schedules", "Open schedules")}})
	}
	for _, r := range o.stuck {
		all = append(all, concern{"st-blocked", "warn",
			group(el("b", userText(r.Task)), " is blocked", el("span", " · ", userText(truncate(200, r.Blocked)))), r.Created,
			[]node{h.smallButton(runPath(r.ID), "Open run")}})
	}
	return all, err
}

// failing returns the tasks of which too many runs failed: not a workflow if a task of it is among them.
func (o *overview) failing() map[string]bool {
	failing := map[string]bool{}
	for _, f := range o.failures {
		failed := min(f.Failed, o.openFailures(f.Task))
		failing[f.Task] = failed > 0 && failed*failingShare >= f.Ended()
	}
	for _, f := range o.failures {
		if w := workflowOf(f.Task); failing[f.Task] && !o.hasErrors(w) {
			delete(failing, w)
		}
	}
	return failing
}

// workflowOf returns the workflow of a task that is named as one is; "": none.
func workflowOf(task string) string {
	w, _, ok := strings.Cut(task, ":")
	if !ok {
		return ""
	}
	return w
}

// hasErrors reports whether a task has errors of its own: a workflow has none, its tasks have them.
func (o *overview) hasErrors(task string) bool {
	return slices.ContainsFunc(o.errors.groups, func(e stint.ErrorGroup) bool { return e.Task == task })
}

// openFailures returns how many runs of a task failed, in all queues, with errors that are open.
func (o *overview) openFailures(task string) (n int64) {
	for i := range o.failures {
		if f := &o.failures[i]; f.Task == task {
			n += f.Failed
		}
	}
	for i := range o.errors.groups {
		if e := &o.errors.groups[i]; !isOpen(e) && (e.Task == task || workflowOf(e.Task) == task && !o.hasErrors(task)) {
			n -= e.InRange()
		}
	}
	return n
}

// newError returns what is wrong with runs that fail as none did before the range.
func (h *handler) newError(o *overview, e *stint.ErrorGroup) concern {
	what := group("New error of ", el("b", userText(e.Task)),
		el("span", " · ", counted(e.InRange(), "run", "runs"), " · ", maskedText(e.Text)))
	c := concern{icon: "errors", class: "bad", what: what, since: e.First}
	if !h.readOnly {
		c.actions = append(c.actions, h.link(replayGroupPath(e.ID), attr("class", "btn sm second"), "Replay…"))
	}
	c.actions = append(c.actions, h.smallButton("/errors/"+e.ID+"?"+pathQuery(o.pairs()...), "Show error"))
	return c
}

func (h *handler) smallButton(path, label string) node {
	return h.link(path, attr("class", "btn sm"), label)
}

func (h *handler) failingTask(o *overview, f *failure) concern {
	pairs := append(o.pairs(), "state", "failed", "task", f.Task)
	what := group(el("b", userText(f.Task)), fmt.Sprintf(" fails: %s of %s runs", formatCount(f.Failed), formatCount(f.Ended())))
	c := concern{icon: "st-failed", class: "bad", what: what}
	if i := slices.IndexFunc(f.failed, func(n float64) bool { return n > 0 }); i >= 0 {
		step := o.length() / time.Duration(len(f.failed))
		c.since = o.Since.Add(step * time.Duration(i))
	}
	if f.newest != nil {
		c.what = group(what, el("span", " · ", userText(truncate(200, f.newest.Error))))
	}
	if !h.readOnly {
		match := "/confirm?do=runs.replay&" + runsPath(pairs...)[len("/runs?"):]
		c.actions = append(c.actions, h.link(match, attr("class", "btn sm second"), "Replay "+formatCount(f.Failed)+"…"))
	}
	show := h.smallButton(runsPath(pairs...), "Show runs") // of a workflow, whose tasks have the errors
	if o.hasErrors(f.Task) {
		show = h.smallButton("/errors?"+pathQuery(append(o.pairs(), "task", f.Task)...), "Show errors")
	}
	c.actions = append(c.actions, show)
	return c
}

// queueConcern returns what is wrong with a queue that has ready runs.
func (h *handler) queueConcern(o *overview, q *stint.QueueInfo) (c concern, is bool) {
	if q.Ready == 0 {
		return c, false
	}
	served := slices.ContainsFunc(o.workers, func(w stint.WorkerInfo) bool {
		return !w.Paused && (len(w.Queues) == 0 || slices.Contains(w.Queues, q.Name))
	})
	ready := el("span", fmt.Sprintf(" · %s ready", formatCount(q.Ready)))
	c = concern{icon: "st-blocked", class: "warn", since: q.Oldest,
		actions: []node{h.smallButton(runsPath("queue", q.Name, "state", "queued"), "Show runs")}}
	switch {
	case q.Paused:
		c.what = group("Queue ", el("b", userText(q.Name)), " is paused", ready)
		c.actions = append(c.actions, h.smallButton("/queues", "Open queues"))
	case len(o.workers) == 0:
		c.what = group(el("b", "No worker is running"),
			el("span", fmt.Sprintf(" · %s ready in queue ", formatCount(q.Ready)), userText(q.Name)))
	case !served:
		c.what = group(el("b", "No worker serves queue ", userText(q.Name)), ready)
		c.actions = append(c.actions, h.smallButton("/workers", "Open workers"))
	case !q.Oldest.IsZero() && time.Since(q.Oldest) > longWait:
		c.what = group("Queue ", el("b", userText(q.Name)), " is behind", ready)
	default:
		return c, false
	}
	return c, true
}

// firingAlerts returns the rules whose condition is met.
func (h *handler) firingAlerts(ctx context.Context) (all []concern, err error) {
	if h.alerts == nil {
		return nil, nil
	}
	rules, err := h.alerts.Statuses(ctx)
	for _, r := range rules {
		if r.Firing() {
			all = append(all, concern{"alerts", "bad", group("Alert ", el("b", userText(r.Name)), " fires"), r.Since,
				[]node{h.smallButton("/alerts", "Open alerts")}})
		}
	}
	return all, err
}

// showConcerns returns the list of what needs a person, or nil if nothing does.
func (h *handler) showConcerns(all []concern) node {
	if len(all) == 0 {
		return nil
	}
	const shown = 12
	help := el("details.pop", el("summary.more", "What counts here"), el("div.menu.text", whatCounts))
	return el("section.panel", attr("aria-label", "Needs attention"),
		el("header", h2("Needs attention"), el("span.pill.bad", len(all)), el("span.more", help)),
		el("ul.need", each(all[:min(len(all), shown)], func(c concern) node {
			since := el("span.since", "since ", timestamp(c.since))
			if c.since.IsZero() {
				since = el("span.since")
			}
			return el("li", el("span."+c.class, icon(c.icon)), el("span.what", c.what), since,
				el("span.act", each(c.actions, func(n node) node { return n })))
		}), when(len(all) > shown, el("li", el("span"), el("span.what", fmt.Sprintf("and %d more", len(all)-shown))))))
}
