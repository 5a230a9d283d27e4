package reading

import (
	"fmt"
	"slices"
	"strings"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/keys"
	"github.com/stint-dev/stint/store/internal/lifecycle"
)

// rare reports whether the states have an index, and usually few runs.
func rare(states []store.State) bool {
	for _, st := range states {
		if st != store.Running && st != store.Waiting && st != store.Blocked && st <= store.Succeeded {
			return false
		}
	}
	return len(states) > 0
}

// ofParent is the condition of a filter by parent.
const ofParent = "r.parent = ?"

// where returns the condition of a filter, after runTables. States and lanes are literals, so that the
// planner can use the partial indexes.
func (r *Reader) where(q Querier, f *store.Filter) (string, []any, error) {
	var b strings.Builder
	var args []any
	b.WriteString(runTables + r.Visible)
	and := func(cond string, a ...any) {
		b.WriteString(" AND " + cond)
		args = append(args, a...)
	}
	if f.IDs != nil {
		and(in("r.id", r.keysOf(f.IDs)))
	}
	if f.Tasks != nil {
		nodes, err := r.nodesOf(q, f.Tasks)
		if err != nil {
			return "", nil, err
		}
		and("("+in("l.task", marks(len(f.Tasks)))+" OR "+in("r.node", nodes)+")", anys(f.Tasks)...)
	}
	if f.Queues != nil {
		and(in("l.queue", marks(len(f.Queues))), anys(f.Queues)...)
	}
	if f.States != nil {
		and(stateCondition(f.States))
	}
	if f.Parent != (store.ID{}) {
		key, _ := r.IDs.Key(f.Parent) // unknown: 0, no run's parent
		and(ofParent, key)
	}
	if f.TopLevel {
		and("r.parent IS NULL")
	}
	if f.Error != "" {
		and("r.error IS NOT NULL AND "+r.ErrorHas, f.Error)
	}
	if f.Limit != nil {
		and("r.limits IS NOT NULL AND "+r.HasLimit, f.Limit.Name, f.Limit.Key, f.Limit.Rate())
	}
	for k, v := range f.Metadata {
		and("r.metadata IS NOT NULL AND "+r.HasMetadata, k, v)
	}
	r.andRest(f, and)
	if !f.Since.IsZero() {
		and("r.id >= ?", keys.At(f.Since))
	}
	if !f.Until.IsZero() {
		and("r.id < ?", keys.At(f.Until))
	}
	if f.Through != (store.ID{}) {
		key, _ := r.IDs.Key(f.Through)
		and("r.id <= ?", key)
	}
	return b.String(), args, nil
}

// andRest adds the conditions on a run's metadata, its worker, its error and what began it.
func (r *Reader) andRest(f *store.Filter, and func(cond string, a ...any)) {
	if f.AnyMetadata != nil {
		any, pairs := []string{"false"}, []any{}
		for k, values := range f.AnyMetadata {
			for _, v := range values {
				any, pairs = append(any, r.HasMetadata), append(pairs, k, v)
			}
		}
		and("r.metadata IS NOT NULL AND ("+strings.Join(any, " OR ")+")", pairs...)
	}
	if f.Event != (store.ID{}) {
		key, _ := r.IDs.Key(f.Event)
		and("r.id IN (SELECT run FROM stint_event_runs WHERE event = ? AND woke = ?)", key, false)
	}
	if f.Worker != "" {
		and("EXISTS (SELECT 1 FROM stint_workers w WHERE w.id = r.worker AND w.name = ?)", f.Worker)
	}
	if f.ErrorGroup != 0 {
		and("r.id IN (SELECT run FROM stint_error_runs WHERE grp = ?)", f.ErrorGroup)
	}
	if f.NoTasks {
		and("(r.node IS NULL OR r.flags & 2 <> 0)")
	}
}

// in returns the condition that a column has a value of a list.
func in(column string, list []string) string {
	if len(list) == 0 {
		return "false"
	}
	return column + " IN (" + strings.Join(list, ",") + ")"
}

func (r *Reader) keysOf(ids []store.ID) []string {
	var keys []string
	for _, id := range ids {
		if key, ok := r.IDs.Key(id); ok {
			keys = append(keys, fmt.Sprint(key))
		}
	}
	return keys
}

// nodesOf returns the nodes of workflows' tasks ("workflow:task") in all graphs.
func (r *Reader) nodesOf(q Querier, tasks []string) (nodes []string, err error) {
	tasks = slices.DeleteFunc(slices.Clone(tasks), func(t string) bool { return !strings.Contains(t, ":") })
	if len(tasks) == 0 {
		return nil, nil
	}
	err = r.graphs(q, func(id int64, g *store.Graph) {
		for place := range g.Success() + 1 {
			if place != g.End() && slices.Contains(tasks, g.TaskName(place)) {
				nodes = append(nodes, fmt.Sprint(id<<lifecycle.NodeBits|int64(place)))
			}
		}
	})
	return nodes, err
}

// stateCondition returns the condition for states, with those of the partial indexes that have them.
func stateCondition(states []store.State) string {
	var list []string
	held, unsuccessful := len(states) > 0, len(states) > 0
	for _, st := range states {
		list = append(list, fmt.Sprint(uint8(st)))
		held = held && (st == store.Waiting || st == store.Blocked)
		unsuccessful = unsuccessful && st > store.Succeeded
	}
	cond := in("r.state", list)
	if len(list) == 1 {
		cond = "r.state = " + list[0]
	}
	switch {
	case held:
		cond += " AND r." + afterRunning + " AND r." + notEnded
	case unsuccessful:
		cond += " AND r." + notSucceeded
	}
	return cond
}

func marks(n int) []string { return slices.Repeat([]string{"?"}, n) }

func anys(ss []string) []any {
	all := make([]any, len(ss))
	for i, s := range ss {
		all[i] = s
	}
	return all
}

// A Selection is the runs that a filter selects and an action concerns.
type Selection struct {
	what, where, only string
	args              []any
}

// actions says which runs each action concerns, and what is counted of them.
var actions = map[store.ActionKind]struct {
	states      []store.State
	what, where string
}{
	store.ActCancel: {[]store.State{store.Scheduled, store.Queued, store.Running, store.Waiting, store.Blocked},
		"r.id", "(r.cancel_at IS NULL OR r." + isBlocked + ")"},
	store.ActDelete: {[]store.State{store.Succeeded, store.Failed, store.Canceled, store.Skipped},
		"r.id", "(r.node IS NULL OR r.flags & 2 <> 0) AND " +
			"NOT EXISTS (SELECT 1 FROM stint_runs p WHERE p.id = r.parent AND NOT p." + hasEnded + ")"},
	// A task of a workflow is replayed with its workflow's run, if that has ended.
	store.ActReplay: {[]store.State{store.Blocked, store.Succeeded, store.Failed, store.Canceled, store.Skipped},
		"DISTINCT CASE WHEN " + replaysParent + " THEN r.parent ELSE r.id END",
		"(NOT (" + replaysParent + ") OR EXISTS (SELECT 1 FROM stint_runs f WHERE f.id = r.parent AND f." + hasEnded + "))"},
	store.ActMoveQueue: {[]store.State{store.Scheduled, store.Queued, store.Waiting, store.Blocked}, "r.id", "r.flags & 2 = 0"},
}

const replaysParent = "r.node IS NOT NULL AND r.flags & 2 = 0 AND r." + hasEnded

// Select returns the runs that an action concerns, by their states, and a filter selects.
func (r *Reader) Select(q Querier, do *store.Action, f store.Filter) (*Selection, error) {
	a := actions[do.Kind]
	if f.States == nil {
		f.States = a.states
	} else {
		f.States = slices.DeleteFunc(slices.Clone(f.States), func(s store.State) bool { return !slices.Contains(a.states, s) })
	}
	where, args, err := r.where(q, &f)
	if do.Kind == store.ActMoveQueue {
		where, args = where+" AND l.queue <> ?", append(args, do.Queue)
	}
	return &Selection{a.what, where, a.where, args}, err
}

// Count returns how many runs the action would change.
func (s *Selection) Count(q Querier) (n int, err error) {
	_, err = one(q, "SELECT count("+s.what+")"+s.where+" AND "+s.only, s.args, &n)
	return n, err
}

// Before returns up to n of the keys before one, the highest first.
func (s *Selection) Before(q Querier, key int64, n int) ([]int64, error) {
	return Column[int64](q, "SELECT r.id"+s.where+" AND r.id < ? ORDER BY r.id DESC LIMIT ?",
		append(slices.Clip(s.args), key, n)...)
}
