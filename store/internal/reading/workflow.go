package reading

import (
	"cmp"
	"fmt"
	"slices"

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
	where, args := "id = ? AND flags & 2 <> 0", []any{key}
	if names == nil { // with all tasks, by one statement: each is a round trip to a server
		where, args = where+" UNION ALL "+workflowTaskSQL+"parent = ? AND node IS NOT NULL AND flags & 2 = 0", append(args, key)
	}
	rows, err := r.workflowTasks(q, where, args...)
	if err != nil {
		return nil, nil, err
	}
	of := slices.IndexFunc(rows, func(t workflowTask) bool { return t.key == key })
	if of < 0 {
		return nil, nil, fmt.Errorf("workflow run %s: %w", id, store.ErrNotFound)
	}
	first := rows[of].node >> lifecycle.NodeBits << lifecycle.NodeBits
	if g, err = r.graph(q, first>>lifecycle.NodeBits); err != nil {
		return nil, nil, err
	}
	tasks = append(tasks, rows[of].WorkflowTask)
	all := slices.Delete(rows, of, of+1)
	slices.SortFunc(all, func(a, b workflowTask) int { return cmp.Compare(a.node, b.node) })
	for _, name := range names {
		if p, ok := g.Place(name); ok {
			task, err := r.workflowTasks(q, "parent = ? AND node = ?", key, first|int64(p))
			if err != nil {
				return nil, nil, err
			}
			all = append(all, task...)
		}
	}
	tasks = slices.Grow(tasks, len(all))
	for i := range all {
		if all[i].node >= first && all[i].node <= first|int64(g.Success()) {
			tasks = append(tasks, all[i].WorkflowTask)
		}
	}
	return g, tasks, nil
}

// A workflowTask is a run of a workflow, as it was read.
type workflowTask struct {
	store.WorkflowTask
	key, node, due int64
	started, ended *int64
}

// workflowTasks reads runs of a workflow.
func (r *Reader) workflowTasks(q Querier, where string, args ...any) ([]workflowTask, error) {
	rows, err := All(q, func(t *workflowTask) []any {
		return []any{&t.key, &t.node, &t.State, &t.Attempt, &t.due, &t.started, &t.ended, &t.Output, &t.Error, &t.NoHandler}
	}, workflowTaskSQL+where, args...)
	for i := range rows {
		t := &rows[i]
		t.Place, t.ID, t.Due = workflow.Place(t.node), r.IDs.ID(t.key), millis(t.due)
		t.Started, t.Ended = optionalTime(t.started), optionalTime(t.ended)
	}
	return rows, err
}
