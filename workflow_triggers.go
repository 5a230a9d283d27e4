package stint

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/stint-dev/stint/store"
)

// Triggers returns, in the handler of a workflow's task, what made its WithWaitFor condition
// true: see Fired. It is empty if the task has no such condition. Events that the retention has
// deleted are missing. It is an error outside of a handler of a workflow's task.
func Triggers(ctx context.Context) (Fired, error) {
	e := executionOf(ctx)
	if e == nil || e.replay != nil || e.def.node == nil {
		return nil, errors.New("stint: triggers: ctx is not of a handler of a workflow's task")
	}
	g, _, err := e.c.store.Workflow(ctx, e.run.Parent, []string{})
	if err != nil {
		return nil, wrapStoreErr("triggers", err)
	}
	place, ok := g.Place(e.def.node.name)
	if !ok || place >= g.End() || g.Tasks[place].WaitFor == nil {
		return Fired{}, nil
	}
	cond := g.Tasks[place].WaitFor
	leaves := cond.Leaves()
	truths, data := make([]time.Time, len(leaves)), make([][]byte, len(leaves))
	for i, l := range leaves {
		if truths[i], data[i], err = e.truth(ctx, g, l); err != nil {
			return nil, wrapStoreErr("triggers", err)
		}
	}
	_, fired := store.Evaluate(cond, truths)
	f := Fired{}
	b, err := store.FiredValues(fired, func(leaf int) []byte { return data[leaf] })
	if err == nil {
		err = json.Unmarshal(b, &f)
	}
	return f, err
}

// truth returns when a leaf of the task's condition became true, and what came with it.
func (e *execution) truth(ctx context.Context, g *store.Graph, c *store.Condition) (time.Time, []byte, error) {
	began := createdAt(e.run.ID) // when the parents had ended
	switch {
	case c.Event != nil:
		return e.firstEvent(ctx, c.Event)
	case c.Test != nil:
		name := g.Tasks[c.Test.Parent].Name
		tests := g.Tests(c.Test.Parent)
		o, err := e.c.outputs(ctx, e.run.Parent, []string{name})
		if err != nil {
			return time.Time{}, nil, err
		}
		r := o.tasks[name]
		i := slices.IndexFunc(e.def.node.w.nodes, func(n *node) bool { return n.name == name })
		if r == nil || r.State != store.Succeeded || i < 0 || c.Test.Test >= len(tests) {
			return time.Time{}, nil, nil
		}
		if results := e.def.node.w.nodes[i].evaluate(tests[c.Test.Test:c.Test.Test+1], e.run.Input, r.Output); !results[0].OK {
			return time.Time{}, nil, nil
		}
		return began, r.Output, nil
	}
	return began.Add(max(c.Sleep, 0)), nil, nil
}

// firstEvent returns when the first event came that matches, and its payload.
func (e *execution) firstEvent(ctx context.Context, m *store.Match) (at time.Time, payload []byte, err error) {
	since := e.run.Parent // IDs increase
	if m.FromNow {
		since = e.run.ID
	}
	for before := (store.ID{}); ; {
		events, next, err := e.c.store.Events(ctx, store.EventFilter{Keys: []string{m.Key}}, before, maxPage)
		if err != nil {
			return at, nil, err
		}
		for i := range events { // newest first
			ev := &events[i]
			if m.Since != 0 && ev.At.UnixMilli() < m.Since || m.Since == 0 && bytes.Compare(ev.ID[:], since[:]) <= 0 {
				return at, payload, nil
			}
			if ok, err := m.Matches(&ev.NewEvent); err != nil {
				return at, nil, fmt.Errorf("event %s: %w", ev.ID, err)
			} else if ok {
				at, payload = ev.At, ev.Payload
			}
		}
		if before = next; next == (store.ID{}) {
			return at, payload, nil
		}
	}
}
