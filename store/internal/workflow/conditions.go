package workflow

import (
	"encoding/json"
	"time"

	"github.com/stint-dev/stint/internal/clock"
	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/keys"
	"github.com/stint-dev/stint/store/internal/lifecycle"
)

// Start implements Run.
func (r *run) Start(task int) (store.State, error) {
	g := &r.graph.Tasks[task]
	t := Task{Run: lifecycle.Run{State: store.Queued}}
	if g.CancelIf == nil && g.SkipIf == nil && g.WaitFor == nil {
		_, err := r.insert(task, t)
		return t.State, err
	}
	all := Leaves(g)
	truths := make([]Truth, len(all))
	for i, c := range all {
		var err error
		if truths[i], err = r.truth(c, r.now); err != nil {
			return 0, err
		}
	}
	t.Due = decided(&t.Run, Decide(g, millis(r.now), millis(r.now), truths))
	key, err := r.insert(task, t)
	if err != nil || t.State != store.Waiting {
		return t.State, err
	}
	for i, c := range all {
		if c.Event == nil || !truths[i].Since.IsZero() {
			continue
		}
		if err := r.AwaitEvent(key, i, c.Event); err != nil {
			return 0, err
		}
	}
	return t.State, nil
}

// decided sets the state that a decision says, and returns when to decide again; 0: at no time.
func decided(t *lifecycle.Run, d Decision) (next int64) {
	t.State, t.Error = d.To, nil
	switch {
	case d.To == store.Blocked:
		t.Error = lifecycle.Failure(store.KindCondition, d.Reason)
	case d.To == store.Canceled:
		t.Error = lifecycle.Failure("canceled", "its cancel condition held")
	case d.To == store.Waiting && !d.Next.IsZero():
		return clock.CeilMillis(d.Next)
	}
	return 0
}

// truth reports when a leaf became true for a task whose parents ended at parentsDone.
func (r *run) truth(c *store.Condition, parentsDone int64) (Truth, error) {
	switch {
	case c.Event != nil && c.Event.FromNow: // Came says when it is
		return Truth{}, nil
	case c.Event != nil:
		at, err := r.EventSince(r.key, c.Event)
		return Truth{Since: at}, err
	case c.Test != nil:
		return r.test(c.Test, parentsDone)
	}
	return Truth{Since: millis(parentsDone).Add(max(c.Sleep, 0))}, nil
}

// test returns the result of a predicate on a parent's output; false if the parent did not succeed.
func (r *run) test(ref *store.TestRef, parentsDone int64) (truth Truth, err error) {
	text, err := r.Results(r.key, r.node|int64(ref.Parent))
	if err != nil || text == nil {
		return truth, err
	}
	var results []store.TestResult
	if json.Unmarshal(text, &results) != nil || ref.Test >= len(results) {
		return Truth{Error: "the results of the predicates on a parent's output cannot be read"}, nil
	}
	switch res := results[ref.Test]; {
	case res.Error != "":
		truth.Error = res.Error
	case res.OK:
		truth.Since = millis(parentsDone)
	}
	return truth, nil
}

// Reconsider decides a waiting task again, after an event or at its time.
func Reconsider(rows Rows, key, now int64) error {
	t, err := rows.Runs().Run(key)
	if err != nil || t == nil || t.State != store.Waiting || t.Lease != 0 || !t.IsTask() {
		return err
	}
	r, err := runOf(rows, t.Parent, t.Node, now)
	if err != nil {
		return err
	}
	g := &r.graph.Tasks[Place(t.Node)]
	truths, err := r.truthsAgain(key, g)
	if err != nil {
		return err
	}
	t.SetDue(decided(t, Decide(g, millis(keys.CreatedAt(key)), millis(now), truths)))
	switch {
	case t.State == store.Queued:
		t.SetDue(now)
		t.SetStartBy(now)
	case t.State.Terminal():
		t.Ended = now
	}
	r.announce(t)
	if err := rows.Runs().Write(t); err != nil || t.State == store.Waiting {
		return err
	}
	if err := rows.Runs().DropWaits(key); err != nil || !t.State.Terminal() {
		return err
	}
	rows.Runs().Ended(key)
	return TaskEnded(rows, t.Parent, t.Node, t.State, now)
}

// truthsAgain returns which leaves of a waiting task are true by now.
func (r *run) truthsAgain(key int64, g *store.GraphTask) ([]Truth, error) {
	events, err := r.Came(key)
	if err != nil {
		return nil, err
	}
	came := map[int]time.Time{}
	for _, e := range events {
		came[e.Leaf] = e.At
	}
	all := Leaves(g)
	truths := make([]Truth, len(all))
	for i, c := range all {
		if at, ok := came[i]; ok {
			truths[i].Since = at
			continue
		}
		if truths[i], err = r.truth(c, keys.CreatedAt(key)); err != nil {
			return nil, err
		}
	}
	return truths, nil
}
