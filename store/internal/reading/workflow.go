package reading

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/lifecycle"
	"github.com/stint-dev/stint/store/internal/workflow"
)

const workflowTaskSQL = "SELECT CASE WHEN flags & 2 <> 0 THEN id ELSE parent END, id, node, state, attempt, " +
	dueTime + `, started_at, ended_at, output, error,
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
	return r.tasksOf(q, id, key, rows, names)
}

// tasksOf completes what Workflow returns, of the rows that were read.
func (r *Reader) tasksOf(q Querier, id store.ID, key int64, rows []workflowTask, names []string) (
	g *store.Graph, tasks []store.WorkflowTask, err error) {
	of := slices.IndexFunc(rows, func(t workflowTask) bool { return t.key == key })
	if of < 0 {
		return nil, nil, NoWorkflow(id)
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

// NoWorkflow returns the error for a run of a workflow that does not exist.
func NoWorkflow(id store.ID) error { return fmt.Errorf("workflow run %s: %w", id, store.ErrNotFound) }

// A Flow is what Workflow returns of a run.
type Flow struct {
	Graph *store.Graph
	Tasks []store.WorkflowTask
}

// Flows returns runs of workflows with all their tasks, by their keys, and leaves out those that do not exist.
func (r *Reader) Flows(q Querier, keys []int64) (map[int64]Flow, error) {
	rows, err := r.workflowTasks(q, "id "+r.OfKeys+" AND flags & 2 <> 0 UNION ALL "+workflowTaskSQL+"parent "+r.OfKeys+
		" AND node IS NOT NULL AND flags & 2 = 0", r.Keys(keys), r.Keys(keys))
	if err != nil {
		return nil, err
	}
	of := make(map[int64][]workflowTask, len(keys))
	for i := range rows {
		of[rows[i].of] = append(of[rows[i].of], rows[i])
	}
	all := make(map[int64]Flow, len(keys))
	for key, rows := range of {
		if !slices.ContainsFunc(rows, func(t workflowTask) bool { return t.key == key }) {
			continue // it was deleted before its tasks
		}
		g, tasks, err := r.tasksOf(q, r.IDs.ID(key), key, rows, nil)
		if err != nil {
			return nil, err
		}
		all[key] = Flow{g, tasks}
	}
	return all, nil
}

// A workflowTask is a run of a workflow, as it was read.
type workflowTask struct {
	store.WorkflowTask
	of             int64 // the workflow's run, which may be itself
	key, node, due int64
	started, ended *int64
}

// workflowTasks reads runs of a workflow.
func (r *Reader) workflowTasks(q Querier, where string, args ...any) ([]workflowTask, error) {
	rows, err := All(q, func(t *workflowTask) []any {
		return []any{&t.of, &t.key, &t.node, &t.State, &t.Attempt, &t.due, &t.started, &t.ended, &t.Output, &t.Error, &t.NoHandler}
	}, workflowTaskSQL+where, args...)
	for i := range rows {
		t := &rows[i]
		t.Place, t.ID, t.Due = workflow.Place(t.node), r.IDs.ID(t.key), millis(t.due)
		t.Started, t.Ended = optionalTime(t.started), optionalTime(t.ended)
	}
	return rows, err
}
