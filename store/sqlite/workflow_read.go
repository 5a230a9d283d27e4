package sqlite

import (
	"context"
	"fmt"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/workflow"
)

const workflowTaskSQL = `
SELECT id, node, state, attempt, ` + dueTime + `, started_at, ended_at, output, error,
  ` + stateQueued + ` AND coalesce((SELECT task FROM stint_lanes l WHERE l.id = r.lane) NOT LIKE '%:', 0)
FROM stint_runs r WHERE `

// Workflow implements store.History.
func (s *Store) Workflow(ctx context.Context, id store.ID, names []string) (g *store.Graph, tasks []store.WorkflowTask, err error) {
	key, ok := s.ids.Key(id)
	if !ok {
		return nil, nil, fmt.Errorf("run %s: %w", id, store.ErrNotFound)
	}
	err = s.view(ctx, func(q querier) error {
		node, err := s.workflowTasks(q, &tasks, "id = ? AND flags & 2", key)
		if err != nil {
			return err
		}
		if len(tasks) == 0 {
			return fmt.Errorf("workflow run %s: %w", id, store.ErrNotFound)
		}
		if g, err = s.graphs.graph(q, node>>nodeBits); err != nil {
			return err
		}
		base := node >> nodeBits << nodeBits
		if names == nil {
			_, err = s.workflowTasks(q, &tasks, "parent = ? AND node >= ? AND node <= ? ORDER BY parent, node", key, base,
				base|int64(g.Success()))
			return err
		}
		for _, name := range names {
			if p, ok := g.Place(name); ok {
				if _, err := s.workflowTasks(q, &tasks, "parent = ? AND node = ?", key, base|int64(p)); err != nil {
					return err
				}
			}
		}
		return nil
	})
	return g, tasks, err
}

// workflowTasks reads runs of a workflow, and returns the node of the last one.
func (s *Store) workflowTasks(q querier, into *[]store.WorkflowTask, where string, args ...any) (node int64, err error) {
	rows, err := q.query(workflowTaskSQL+where, args...)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	for rows.Next() {
		var t store.WorkflowTask
		var key, due int64
		var started, ended *int64
		if err := rows.Scan(&key, &node, &t.State, &t.Attempt, &due, &started, &ended, &t.Output, &t.Error, &t.NoHandler); err != nil {
			return 0, err
		}
		t.Place = workflow.Place(node)
		t.ID, t.Due, t.Started, t.Ended = s.ids.ID(key), millis(due), optionalTime(started), optionalTime(ended)
		*into = append(*into, t)
	}
	return node, rows.Err()
}
