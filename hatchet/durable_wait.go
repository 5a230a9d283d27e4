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
	scope   string // "": any
	filter  string
	from    time.Time // zero: from when the wait began
	number  int       // among all, by content
}

// conditions are the or-groups that must all be true.
type conditions [][]*condition

func newConditions(c *wire.DurableConditions) (conditions, error) {
	groups, order := map[string][]*condition{}, []string{}
	add := func(b *wire.BaseCondition, x condition) {
		id := b.GetOrGroupId()
		if id == "" || id == noGroup {
			id = fmt.Sprint("alone ", len(order))
		}
		if groups[id] == nil {
			order = append(order, id)
		}
		x.dataKey = b.GetReadableDataKey()
		groups[id] = append(groups[id], &x)
	}
	for _, w := range c.GetSleepConditions() {
		d, err := time.ParseDuration(w.SleepFor)
		if err != nil || d < 0 {
			return nil, invalid("sleep_for is %.100q: want a time such as 15s", w.SleepFor)
		}
		add(w.Base, condition{sleep: max(d, 1), text: w.SleepFor})
	}
	for _, w := range c.GetUserEventConditions() {
		x := condition{event: w.UserEventKey, scope: w.GetEventScope(), filter: w.GetBase().GetExpression()}
		if x.filter != "" {
			if _, err := stint.MatchFilter(x.filter, x.event, []byte("{}")); err != nil {
				return nil, invalid("event %.255q: %v", x.event, err)
			}
		}
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
	for i, x := range all.byContent() {
		x.number = i
	}
	return all, nil
}

// byContent returns the conditions in an order that does not depend on that in which they were given.
func (c conditions) byContent() []*condition {
	all := slices.Concat(c...)
	slices.SortStableFunc(all, func(a, b *condition) int { return strings.Compare(a.content(), b.content()) })
	return all
}

// content returns what must be the same when the wait is asked for again.
func (c conditions) content() string {
	var lines []string
	for _, x := range c.byContent() {
		lines = append(lines, x.content())
	}
	return strings.Join(lines, "\n")
}

func (x *condition) content() string {
	return fmt.Sprintf("%q %q %q %q", x.dataKey, x.text, x.event, x.filter)
}

// A wait is a call that waits for conditions: of all groups, or of one. All calls of a node must end.
type wait struct {
	of     conditions
	future *stint.Future[stint.Fired]
	found  *condition      // of the group, that an event before the wait made true; nil: none
	data   json.RawMessage // of the event
}

// start begins to wait. A group that looks back is a call by itself, for it may be true already.
func (c conditions) start(ctx context.Context) (waits []*wait, err error) {
	calls := []conditions{c}
	if c.looksBack() {
		calls = nil
		for _, g := range c {
			calls = append(calls, conditions{g})
		}
	}
	for _, of := range calls {
		cond := of.condition()
		if e, ok := stint.Peek(ctx); ok && e.Kind == "wait" { // it is recorded, perhaps with other groups
			cond = recordedWait(&e)
		}
		f, err := stint.StartWait(ctx, cond)
		if err != nil {
			return nil, err
		}
		waits = append(waits, &wait{of: of, future: f})
	}
	return waits, nil
}

// recordedWait returns a condition by which a wait that the journal has is called for again: its name is what counts.
func recordedWait(e *stint.JournalEntry) stint.Condition {
	return stint.Named(e.Name, stint.SleepFor(time.Millisecond))
}

// condition returns stint's. Its members are called by their numbers.
func (c conditions) condition() stint.Condition {
	groups := make([]stint.Condition, len(c))
	for i, g := range c {
		members := make([]stint.Condition, len(g))
		for j, x := range g {
			members[j] = stint.Named(itoa(x.number), x.condition())
		}
		groups[i] = stint.AnyOf(members...)
	}
	return stint.AllOf(groups...)
}

func (x *condition) condition() stint.Condition {
	if x.sleep > 0 {
		return stint.SleepFor(x.sleep)
	}
	opts := []stint.WaitOption{stint.FromNow()}
	if x.filter != "" && x.filter != "true" {
		opts = append(opts, stint.WithFilter(x.filter))
	}
	if x.scope != "" {
		opts = append(opts, stint.WithScope(x.scope))
	}
	return stint.UserEvent(x.event, opts...)
}

func (c conditions) looksBack() bool {
	for _, g := range c {
		for _, x := range g {
			if !x.from.IsZero() {
				return true
			}
		}
	}
	return false
}

// lookBack looks for events that made a group of a node true before its wait began. The newest counts.
func (s *Server) lookBack(ctx context.Context, n *node) error {
	for _, w := range n.waits {
		for _, g := range w.of {
			for _, x := range g {
				if x.from.IsZero() || w.found != nil {
					continue
				}
				e, err := s.newestEvent(ctx, x)
				if err != nil {
					return err
				}
				if e != nil {
					w.found, w.data = x, e.Payload
				}
			}
		}
	}
	return nil
}

// newestEvent returns the newest event that makes a condition true which looks back, or nil.
func (s *Server) newestEvent(ctx context.Context, x *condition) (*stint.EventInfo, error) {
	for f := (stint.EventFilter{Key: x.event, Since: x.from, Limit: maxPage}); ; {
		page, err := s.c.ListEvents(ctx, f)
		if err != nil {
			return nil, err
		}
		for i := range page.Events {
			if e := &page.Events[i]; x.takes(e) {
				return e, nil
			}
		}
		if f.Cursor = page.Next; f.Cursor == "" {
			return nil, nil
		}
	}
}

// takes reports whether an event makes the condition true. One for which the expression fails does not.
func (x *condition) takes(e *stint.EventInfo) bool {
	if x.scope != "" && x.scope != e.Scope {
		return false
	}
	if x.filter == "" || x.filter == "true" {
		return true
	}
	ok, err := stint.MatchFilter(x.filter, e.Key, e.Payload)
	return ok && err == nil
}

// awaitWaits waits until the calls of a node have ended.
func (n *node) awaitWaits(ctx context.Context) error {
	for _, w := range n.waits {
		if n.end != nil || w.found != nil {
			continue
		}
		select {
		case <-w.future.Done():
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// payload returns what ended a node's waits, which are over, and whether some of it was there before them.
func (n *node) payload(ctx context.Context) (body []byte, looked bool, err error) {
	data := map[string][]json.RawMessage{}
	for _, w := range n.waits {
		if w.found != nil {
			data[w.found.dataKey], looked = append(data[w.found.dataKey], asObject(w.data)), true
			continue
		}
		fired, err := w.future.Wait(ctx)
		if err != nil {
			return nil, false, err
		}
		for _, x := range w.of.byContent() {
			if v, ok := fired[itoa(x.number)]; ok {
				data[x.dataKey] = append(data[x.dataKey], x.dataOf(v))
			}
		}
	}
	body, err = json.Marshal(map[string]any{"CREATE": data})
	return body, looked, err
}

// dataOf returns what an SDK is told of a condition that became true.
func (x *condition) dataOf(fired json.RawMessage) json.RawMessage {
	if x.sleep == 0 {
		return asObject(fired)
	}
	data, err := json.Marshal(map[string]string{"sleep_duration": x.text})
	if err != nil {
		return json.RawMessage("{}") // impossible: it is text
	}
	return data
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
