package sqlite

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/keys"
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

// where returns the condition of a filter over runTables. States and lanes are literals, so that the
// planner can use the partial indexes.
func (s *Store) where(ctx context.Context, f store.Filter) (string, []any, error) {
	var b strings.Builder
	var args []any
	b.WriteString("WHERE l.staged IS NULL")
	and := func(cond string, a ...any) {
		b.WriteString(" AND " + cond)
		args = append(args, a...)
	}
	if f.IDs != nil {
		and(s.idCondition(f.IDs))
	}
	if f.Tasks != nil {
		nodes, err := s.nodesOf(ctx, f.Tasks)
		if err != nil {
			return "", nil, err
		}
		and("(l.task IN ("+marks(len(f.Tasks))+") OR r.node IN ("+nodes+"))", anys(f.Tasks)...)
	}
	if f.Queues != nil {
		and("l.queue IN ("+marks(len(f.Queues))+")", anys(f.Queues)...)
	}
	if f.States != nil {
		and(stateCondition(f.States))
	}
	if f.Parent != (store.ID{}) {
		key, _ := s.ids.Key(f.Parent) // unknown: 0, no run's parent
		and("r.parent = ?", key)
	}
	if f.TopLevel {
		and("r.parent IS NULL")
	}
	if f.Error != "" {
		and("r.error IS NOT NULL AND stint_error_has(r.error, ?)", f.Error)
	}
	if f.Limit != nil {
		and(`r.limits IS NOT NULL AND EXISTS (SELECT 1 FROM json_each(CASE WHEN json_valid(r.limits) THEN r.limits END) j
			WHERE coalesce(j.value->>'n', '') = ? AND coalesce(j.value->>'k', '') = ? AND (j.value->>'u' IS NOT NULL) = ?)`, f.Limit.Name,
			f.Limit.Key, f.Limit.Rate())
	}
	for k, v := range f.Metadata {
		and("r.metadata IS NOT NULL AND EXISTS (SELECT 1 FROM json_each(CASE WHEN json_valid(r.metadata) THEN r.metadata END) j "+
			"WHERE j.key = ? AND j.value = ?)", k, v)
	}
	if !f.Since.IsZero() {
		and("r.id >= ?", keys.At(f.Since))
	}
	if !f.Until.IsZero() {
		and("r.id < ?", keys.At(f.Until))
	}
	if f.Through != (store.ID{}) {
		key, _ := s.ids.Key(f.Through)
		and("r.id <= ?", key)
	}
	return b.String(), args, nil
}

func (s *Store) idCondition(ids []store.ID) string {
	var keys []string
	for _, id := range ids {
		if key, ok := s.ids.Key(id); ok {
			keys = append(keys, fmt.Sprint(key))
		}
	}
	return "r.id IN (" + strings.Join(keys, ",") + ")"
}

// nodesOf returns the nodes of workflows' tasks ("workflow:task") in all graphs.
func (s *Store) nodesOf(ctx context.Context, tasks []string) (string, error) {
	tasks = slices.DeleteFunc(slices.Clone(tasks), func(t string) bool { return !strings.Contains(t, ":") })
	if len(tasks) == 0 {
		return "", nil
	}
	var nodes []string
	err := s.view(ctx, func(q querier) error {
		ids, err := column[int64](q, "SELECT id FROM stint_graphs ORDER BY id")
		if err != nil {
			return err
		}
		for _, id := range ids {
			g, err := s.graphs.graph(q, id)
			if err != nil {
				return err
			}
			for place := range g.Success() + 1 {
				if place != g.End() && slices.Contains(tasks, g.TaskName(place)) {
					nodes = append(nodes, fmt.Sprint(id<<nodeBits|int64(place)))
				}
			}
		}
		return nil
	})
	return strings.Join(nodes, ","), err
}

// stateCondition returns the condition for states, with those of the partial indexes that have them.
func stateCondition(states []store.State) string {
	var in []string
	held, unsuccessful := len(states) > 0, len(states) > 0
	for _, st := range states {
		in = append(in, fmt.Sprint(uint8(st)))
		held = held && (st == store.Waiting || st == store.Blocked)
		unsuccessful = unsuccessful && st > store.Succeeded
	}
	cond := "r.state IN (" + strings.Join(in, ",") + ")"
	if len(in) == 1 {
		cond = "r.state = " + in[0]
	}
	switch {
	case held:
		cond += " AND r." + afterRunning + " AND r." + notEnded
	case unsuccessful:
		cond += " AND r." + notSucceeded
	}
	return cond
}

func marks(n int) string { return strings.TrimSuffix(strings.Repeat("?,", n), ",") }

func anys(ss []string) []any {
	all := make([]any, len(ss))
	for i, s := range ss {
		all[i] = s
	}
	return all
}
