package hatchet

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/hatchet/internal/wire"
)

// A condition is a member of an or-group of what a durable wait waits for.
type condition struct {
	dataKey string
	sleep   time.Duration // 0: an event
	text    string        // of sleep, as the SDK wrote it
	event   string
	scope   *string
	filter  string
	from    time.Time // zero: from when the wait began
}

// conditions are the or-groups that must all be true.
type conditions [][]condition

func newConditions(c *wire.DurableConditions) (conditions, error) {
	groups, order := map[string][]condition{}, []string{}
	add := func(b *wire.BaseCondition, x condition) {
		id := b.GetOrGroupId()
		if id == "" {
			id = fmt.Sprint("alone ", len(order))
		}
		if groups[id] == nil {
			order = append(order, id)
		}
		x.dataKey = b.GetReadableDataKey()
		groups[id] = append(groups[id], x)
	}
	for _, w := range c.GetSleepConditions() {
		d, err := time.ParseDuration(w.SleepFor)
		if err != nil || d < 0 {
			return nil, invalid("sleep_for is %.100q: want a time such as 15s", w.SleepFor)
		}
		add(w.Base, condition{sleep: max(d, 1), text: w.SleepFor})
	}
	for _, w := range c.GetUserEventConditions() {
		x := condition{event: w.UserEventKey, scope: w.EventScope, filter: w.GetBase().GetExpression()}
		if w.ConsiderEventsSince != nil {
			x.from = w.ConsiderEventsSince.AsTime()
		}
		add(w.Base, x)
	}
	if len(order) == 0 {
		return nil, invalid("a wait has no condition")
	}
	all := make(conditions, len(order))
	for i, id := range order {
		all[i] = groups[id]
	}
	return all, nil
}

// content returns what must be the same when the wait is asked for again.
func (c conditions) content() string {
	var lines []string
	for _, g := range c {
		for _, x := range g {
			lines = append(lines, fmt.Sprintf("%q %q %q %q", x.dataKey, x.text, x.event, x.filter))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// A firing is that a condition became true.
type firing struct {
	of   *condition
	at   time.Time
	data json.RawMessage
}

// awaitConditions waits until each group has a member that is true, and returns what made it so.
func (s *Server) awaitConditions(ctx context.Context, c conditions, since time.Time) (*wire.DurableEntryCompleted, error) {
	wake, stop := s.feed.follow(c.eventKeys())
	defer stop()
	for {
		fired, next, err := s.firedOf(ctx, c, since)
		if err != nil {
			return nil, err
		}
		if fired != nil {
			body, err := json.Marshal(map[string]any{"CREATE": dataOf(fired)})
			return &wire.DurableEntryCompleted{Payload: body}, err
		}
		if err := awaitWake(ctx, wake, next); err != nil {
			return nil, err
		}
	}
}

// awaitWake waits until wake receives, or until the time comes, which may be zero: never.
func awaitWake(ctx context.Context, wake <-chan struct{}, at time.Time) error {
	var due <-chan time.Time
	if !at.IsZero() {
		t := time.NewTimer(time.Until(at))
		defer t.Stop()
		due = t.C
	}
	select {
	case <-wake:
		return nil
	case <-due:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// eventKeys returns the keys of the events that conditions are of.
func (c conditions) eventKeys() (keys []string) {
	for _, g := range c {
		for i := range g {
			if g[i].sleep == 0 {
				keys = append(keys, g[i].event)
			}
		}
	}
	return keys
}

func dataOf(fired []firing) map[string][]json.RawMessage {
	data := map[string][]json.RawMessage{}
	for _, f := range fired {
		data[f.of.dataKey] = append(data[f.of.dataKey], f.data)
	}
	return data
}

// firedOf returns the first firing of each group, or nil and when the next sleep ends (zero: none does).
func (s *Server) firedOf(ctx context.Context, c conditions, since time.Time) (fired []firing, next time.Time, err error) {
	now, complete := time.Now(), true
	for _, g := range c {
		var first *firing
		for i := range g {
			f, due, err := s.firingOf(ctx, &g[i], since, now)
			if err != nil {
				return nil, next, err
			}
			if f != nil && (first == nil || f.at.Before(first.at)) {
				first = f
			}
			if f == nil && !due.IsZero() && (next.IsZero() || due.Before(next)) {
				next = due
			}
		}
		if first == nil {
			complete = false
			continue
		}
		fired = append(fired, *first)
	}
	if !complete {
		return nil, next, nil
	}
	return fired, next, nil
}

// firingOf returns when a condition became true, or nil and when it will be, if that is known.
func (s *Server) firingOf(ctx context.Context, x *condition, since, now time.Time) (*firing, time.Time, error) {
	if x.sleep > 0 {
		due := since.Add(x.sleep)
		if now.Before(due) {
			return nil, due, nil
		}
		data, err := json.Marshal(map[string]string{"sleep_duration": x.text})
		return &firing{x, due, data}, due, err
	}
	e, err := s.firstEvent(ctx, x, since)
	if e == nil || err != nil {
		return nil, time.Time{}, err
	}
	return &firing{x, e.Published, asObject(e.Payload)}, time.Time{}, nil
}

// firstEvent returns the event that makes a condition true, or nil: of those before the wait, if it looks back, the
// newest, else the first after it.
func (s *Server) firstEvent(ctx context.Context, x *condition, since time.Time) (*stint.EventInfo, error) {
	from := since
	if !x.from.IsZero() {
		from = x.from
	}
	var after *stint.EventInfo
	for f := (stint.EventFilter{Key: x.event, Limit: maxPage}); ; {
		page, err := s.c.ListEvents(ctx, f)
		if err != nil {
			return nil, err
		}
		for i := range page.Events {
			e := &page.Events[i]
			if e.Published.Before(from) {
				return after, nil
			}
			if !x.takes(e) {
				continue
			}
			if e.Published.Before(since) {
				return e, nil
			}
			after = e
		}
		if f.Cursor = page.Next; f.Cursor == "" {
			return after, nil
		}
	}
}

// takes reports whether an event makes the condition true. One for which the expression fails does not.
func (x *condition) takes(e *stint.EventInfo) bool {
	if x.scope != nil && *x.scope != e.Scope {
		return false
	}
	if x.filter == "" || x.filter == "true" {
		return true
	}
	ok, err := stint.MatchFilter(x.filter, e.Key, e.Payload)
	return ok && err == nil
}

// childResult waits for a child, and returns its output, or the error of the first task that failed.
func (s *Server) childResult(ctx context.Context, run string) (*wire.DurableEntryCompleted, error) {
	if err := s.awaitEnd(ctx, run); err != nil {
		return nil, err
	}
	info, err := s.run(ctx, run)
	if err != nil {
		return nil, err
	}
	tasks := s.taskEnds(info)
	outputs, failure := map[string]json.RawMessage{}, ""
	for i := range tasks {
		if t := &tasks[i]; t.Error != "" && (failure == "" || t.State == stint.StateFailed) {
			failure = t.Error
			if t.State == stint.StateFailed {
				break // those that its failure canceled come after it
			}
		}
		outputs[tasks[i].Readable] = tasks[i].Output
	}
	if failure != "" {
		return &wire.DurableEntryCompleted{IsFailure: true, ErrorMessage: proto.String(failure)}, nil
	}
	if !info.Workflow {
		return &wire.DurableEntryCompleted{Payload: tasks[0].Output}, nil
	}
	body, err := json.Marshal(outputs)
	return &wire.DurableEntryCompleted{Payload: body}, err
}
