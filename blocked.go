package stint

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/stint-dev/stint/internal/check"
	"github.com/stint-dev/stint/internal/journal"
	"github.com/stint-dev/stint/internal/jsonx"
	"github.com/stint-dev/stint/internal/text"
	"github.com/stint-dev/stint/store"
)

// workerReasons says which worker queued runs lack. It reads the workers once, for the first
// run, and decides once for runs that are alike.
type workerReasons struct {
	c       *Client
	workers []store.WorkerInfo
	found   map[[3]string]string // by queue, task and route; nil: the workers are not read yet
}

// reason returns which worker a queued run lacks, or "" if one can start it.
func (u *workerReasons) reason(ctx context.Context, queue, task string, route *store.Route) (string, error) {
	if u.found == nil {
		all, err := u.c.store.Living(ctx)
		if err != nil {
			return "", err
		}
		u.workers, u.found = all, map[[3]string]string{}
	}
	like := [3]string{queue, task, route.Text()}
	why, ok := u.found[like]
	if !ok {
		why = u.findReason(queue, task, route)
		u.found[like] = why
	}
	return why, nil
}

func (u *workerReasons) findReason(queue, task string, route *store.Route) string {
	serving := slices.DeleteFunc(slices.Clone(u.workers), func(w store.WorkerInfo) bool {
		return len(w.Queues) > 0 && !slices.Contains(w.Queues, queue)
	})
	if len(serving) == 0 {
		return "no worker serves queue " + queue
	}
	able := slices.DeleteFunc(serving, func(w store.WorkerInfo) bool {
		if w.Tasks == nil {
			return false
		}
		_, ok := slices.BinarySearch(w.Tasks, task)
		if workflow, _, within := strings.Cut(task, ":"); within && !ok {
			_, ok = slices.BinarySearch(w.Tasks, store.GraphLane(workflow))
		}
		return !ok
	})
	if len(able) == 0 {
		return "no worker has task " + task
	}
	fit := slices.DeleteFunc(able, func(w store.WorkerInfo) bool {
		_, ok := route.Score(w.Name, w.Labels)
		return !ok
	})
	if len(fit) == 0 {
		return routeText(route)
	}
	if len(slices.DeleteFunc(fit, func(w store.WorkerInfo) bool { return w.Paused })) == 0 {
		return "every worker that may work it is paused"
	}
	return ""
}

// routeText describes the worker that a route requires.
func routeText(r *store.Route) string {
	var parts []string
	for _, w := range r.Wants {
		if w.Weight == 0 {
			parts = append(parts, fmt.Sprintf("label %s %s %s", w.Label, w.Op, w.Value))
		}
	}
	if r.Hard && r.To != "" {
		parts = append(parts, fmt.Sprintf("name %q", r.To))
	}
	return "a worker with " + strings.Join(parts, " and ")
}

// explain completes info.Blocked, if nothing else keeps the run from starting.
func (u *workerReasons) explain(ctx context.Context, info *RunInfo, r *store.Run) (err error) {
	if r.State == store.Queued && info.Blocked == "" {
		info.Blocked, err = u.reason(ctx, r.Queue, r.Task, &r.Route)
	}
	if info.Canceling {
		info.Blocked = cleanupReason(r, info.Blocked)
	}
	return err
}

// explainTasks is explain for the tasks of a workflow's run.
func (u *workerReasons) explainTasks(ctx context.Context, g *store.Graph, infos []TaskInfo, tasks []store.WorkflowTask) error {
	byRun := map[string]int{}
	for i := range infos {
		byRun[infos[i].RunID] = i
	}
	for _, t := range tasks[1:] { // the first is the workflow's run itself
		i, ok := byRun[t.ID.String()]
		if !ok || t.State != store.Queued || infos[i].Blocked != "" {
			continue
		}
		route := store.Route{Wants: g.Task(t.Place).Wants}
		why, err := u.reason(ctx, infos[i].Queue, g.TaskName(t.Place), &route)
		if err != nil {
			return err
		}
		infos[i].Blocked = why
	}
	return nil
}

// An AwaitedEvent says which events a waiting run goes on with: those with the key, in the scope
// if there is one, with the value in the field if there is one, for which the filter holds.
type AwaitedEvent struct {
	Key, Scope, Field string
	Value             json.RawMessage // JSON
	Filter            string
}

// awaited returns the events that are part of a condition.
func awaited(c *store.Condition) (all []AwaitedEvent) {
	if c == nil {
		return nil
	}
	for _, parts := range [][]store.Condition{c.Any, c.All} {
		for i := range parts {
			all = append(all, awaited(&parts[i])...)
		}
	}
	if c.Event != nil {
		scope, field, value := c.Event.Parts()
		e := AwaitedEvent{Key: c.Event.Key, Scope: scope, Field: field, Filter: c.Event.Filter}
		if field != "" {
			e.Value = jsonx.Embed([]byte(value))
		}
		all = append(all, e)
	}
	return all
}

// waitReason returns what a waiting run waits for, and the events among it.
func (c *Client) waitReason(ctx context.Context, r *store.Run) (why string, events []AwaitedEvent, err error) {
	var parts []string
	wait := func(cond *store.Condition) {
		parts, events = append(parts, conditionText(cond)), append(events, awaited(cond)...)
	}
	child := ""
	for e, err := range c.entries(ctx, r.ID) {
		if err != nil {
			return "", nil, err
		}
		if len(parts) == check.MaxWaits {
			parts = append(parts, "others")
			break
		}
		switch {
		case store.IsLeaf(e.Scope):
		case e.Kind == store.EntryWait && !e.Done:
			var w store.Wait
			if err := json.Unmarshal(e.Value, &w); err != nil { // somebody edited it
				return "", nil, fmt.Errorf("what entry %v waits for cannot be read: %w", journal.Address(e.Address), err)
			}
			wait(&w.Cond)
		case e.Kind == store.EntryEvent && !e.Done:
			wait(&store.Condition{Event: &e.Match})
		case (e.Kind == store.EntrySleep || e.Kind == store.EntryStep && !e.Done) && e.Due.After(c.now()):
			parts = append(parts, e.Kind.String()+" until "+e.Due.Format(time.RFC3339))
		case e.Kind == store.EntryChild:
			child = fmt.Sprintf("a run of task %q", e.Name)
		}
	}
	if len(parts) == 0 && child != "" {
		parts = append(parts, child)
	}
	if len(parts) > 0 || r.Parent == (store.ID{}) {
		return strings.Join(parts, " or "), events, nil
	}
	_, name, ofWorkflow := strings.Cut(r.Task, ":")
	if !ofWorkflow { // its parent is a handler's run
		return "", nil, nil
	}
	g, _, err := c.store.Workflow(ctx, r.Parent, []string{}) // a task of a workflow, before its start
	if err != nil {
		why, err = c.unreadable(ctx, "what it waits for", err)
		return why, nil, err
	}
	if place, ok := g.Place(name); ok && place < g.End() {
		wait(g.Tasks[place].WaitFor)
		return parts[0], events, nil
	}
	return "", nil, nil
}

// unreadable returns what is shown in place of something that cannot be read because somebody changed rows by
// hand (R8), or the error if it has another cause.
func (c *Client) unreadable(ctx context.Context, what string, err error) (string, error) {
	if ctx.Err() != nil || errors.Is(err, ErrClosed) || c.unavailable(err) {
		return "", err
	}
	return what + " cannot be read: " + text.Cut(err.Error(), maxListedText), nil
}

// limitReason describes the limit that a queued run waits for.
func limitReason(g *store.LimitInfo) string {
	if !g.Rate() {
		what := fmt.Sprintf("concurrency limit %q", g.Name)
		if g.Key != "" {
			what += fmt.Sprintf(" (key %q)", g.Key)
		}
		if g.Paused {
			return what + " is paused"
		}
		return fmt.Sprintf("%s: %d at once", what, g.Max)
	}
	what := fmt.Sprintf("rate limit %q", g.Key)
	if g.Paused {
		return what + " is paused"
	}
	if !g.ReadyAt.IsZero() {
		what += ": until " + g.ReadyAt.UTC().Format("2006-01-02T15:04:05.000Z07:00")
	}
	return what
}

func blockedReason(task string, state State, elsewhere bool, failure string) string {
	switch {
	case state == store.Blocked:
		return text.Cut(failure, maxListedText)
	case elsewhere:
		return fmt.Sprintf("no worker has task %s: it waits for one whose code has %q", task, task)
	}
	return ""
}

// cleanupReason returns what a canceled run that has not ended waits for.
func cleanupReason(r *store.Run, blocked string) string {
	switch {
	case r.State == store.Blocked:
		return "canceled, but it cannot clean up: " + blocked + "; cancel it again to end it as it is"
	case r.State == store.Running && r.Workflow:
		return "canceled; its tasks clean up"
	case r.State == store.Running:
		return "canceled; its handler has yet to return or to clean up"
	case blocked != "":
		return "canceled; to clean up it waits for " + blocked
	}
	return "canceled; waits for a worker to clean up"
}

// setParentReasons sets the Blocked of tasks that have no run yet: the parents they wait for.
func setParentReasons(g *store.Graph, infos []TaskInfo) {
	for i := range g.Tasks {
		if infos[i].RunID != "" {
			continue
		}
		var open []string
		for _, p := range g.Tasks[i].Parents {
			if !infos[p].State.Terminal() && len(open) <= maxListed {
				open = append(open, infos[p].Name)
			}
		}
		infos[i].Blocked = "waits for " + strings.Join(open, ", ")
	}
}

// conditionText describes a condition.
func conditionText(c *store.Condition) string {
	list := func(cs []store.Condition, sep string) string {
		words := make([]string, len(cs))
		for i := range cs {
			words[i] = conditionText(&cs[i])
		}
		return "(" + strings.Join(words, sep) + ")"
	}
	switch {
	case c == nil:
		return "its conditions"
	case c.Any != nil:
		return list(c.Any, " or ")
	case c.All != nil:
		return list(c.All, " and ")
	case c.Event != nil:
		what := fmt.Sprintf("event %q", c.Event.Key)
		scope, field, value := c.Event.Parts()
		if scope != "" {
			what += fmt.Sprintf(" of scope %q", scope)
		}
		if field != "" {
			what += fmt.Sprintf(" with %s = %s", field, value)
		}
		if c.Event.Filter != "" {
			what += " where " + c.Event.Filter
		}
		return what
	case c.Test != nil:
		return "a parent's output"
	}
	return fmt.Sprintf("a sleep of %v", c.Sleep)
}
