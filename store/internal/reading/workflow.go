package reading

import (
	"fmt"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/lifecycle"
	"github.com/stint-dev/stint/store/internal/workflow"
)

const workflowTaskSQL = "SELECT id, node, state, attempt, " + dueTime + `, started_at, ended_at, output, error,
  ` + isQueued + ` AND coalesce((SELECT task FROM stint_lanes l WHERE l.id = r.lane) NOT LIKE '%:', false)
FROM stint_runs r WHERE `

// Workflow reads what Workflow of store.History returns.
func (r *Reader) Workflow(q Querier, id store.ID, names []string) (g *store.Graph, tasks []store.WorkflowTask, err error) {
	key, ok := r.IDs.Key(id)
	if !ok {
		return nil, nil, notFound(id)
	}
	node, err := r.workflowTasks(q, &tasks, "id = ? AND flags & 2 <> 0", key)
	if err != nil {
		return nil, nil, err
	}
	if len(tasks) == 0 {
		return nil, nil, fmt.Errorf("workflow run %s: %w", id, store.ErrNotFound)
	}
	if g, err = r.graph(q, node>>lifecycle.NodeBits); err != nil {
		return nil, nil, err
	}
	base := node >> lifecycle.NodeBits << lifecycle.NodeBits
	if names == nil {
		_, err = r.workflowTasks(q, &tasks, "parent = ? AND node >= ? AND node <= ? ORDER BY parent, node", key, base,
			base|int64(g.Success()))
		return g, tasks, err
	}
	for _, name := range names {
		if p, ok := g.Place(name); ok {
			if _, err := r.workflowTasks(q, &tasks, "parent = ? AND node = ?", key, base|int64(p)); err != nil {
				return nil, nil, err
			}
		}
	}
	return g, tasks, nil
}

// workflowTasks reads runs of a workflow, and returns the node of the last one.
func (r *Reader) workflowTasks(q Querier, into *[]store.WorkflowTask, where string, args ...any) (node int64, err error) {
	type row struct {
		store.WorkflowTask
		key, node, due int64
		started, ended *int64
	}
	rows, err := All(q, func(t *row) []any {
		return []any{&t.key, &t.node, &t.State, &t.Attempt, &t.due, &t.started, &t.ended, &t.Output, &t.Error, &t.NoHandler}
	}, workflowTaskSQL+where, args...)
	for i := range rows {
		t := &rows[i]
		node, t.Place = t.node, workflow.Place(t.node)
		t.ID, t.Due, t.Started, t.Ended = r.IDs.ID(t.key), millis(t.due), optionalTime(t.started), optionalTime(t.ended)
		*into = append(*into, t.WorkflowTask)
	}
	return node, err
}
