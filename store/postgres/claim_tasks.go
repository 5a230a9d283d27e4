package postgres

import (
	"errors"
	"maps"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/lifecycle"
	"github.com/stint-dev/stint/store/internal/ready"
	"github.com/stint-dev/stint/store/internal/workflow"
)

// The statements of claims in lanes that have tasks of workflows: with the row of each task's workflow run, whose input and
// metadata are its own, and of which the process remembers what the task's end needs. If $4, all tasks are of the graphs of
// the last argument, and nothing follows from their start.
var (
	claimTaskLaneSQL = withParents(claimLaneSQL, "$10")
	claimTasksSQL    = withParents(claimSQL, "$6")
)

// withParents returns the statement of a claim for tasks.
func withParents(claim, graphs string) string {
	return strings.NewReplacer(
		"h.id, h.flags", "h.id, h.flags, h.parent, h.node",
		"t.id, t.flags", "t.id, t.flags, t.parent, t.node",
		"FROM heads WHERE", `FROM heads LEFT JOIN LATERAL (
  SELECT w.id, w.state, w.replayed, w.lane, w.root, w.started_at, w.priority, w.limits, w.metadata,
    coalesce(w.input, (SELECT data FROM stint.inputs i WHERE i.id = w.id)) AS data FROM stint.runs w
  WHERE w.id = heads.parent AND heads.node IS NOT NULL LIMIT 1) p ON true WHERE`,
		"OR r.limits IS NULL", "OR r.limits IS NULL AND (r.node IS NULL OR r.node >> 20 = ANY ("+graphs+"))",
		claimedColumns, claimedTaskColumns).Replace(claim)
}

// claimedTaskColumns are claimedColumns, without a search for each, and what a flow is made of.
var claimedTaskColumns = strings.NewReplacer(
	claimedInput, "coalesce(r.input, CASE WHEN r.node IS NULL THEN (SELECT data FROM stint.inputs i WHERE i.id = r.id) ELSE p.data END)",
	claimedMetadata, "CASE WHEN r.node IS NULL THEN r.metadata ELSE p.metadata END").Replace(claimedColumns) + `,
  coalesce(p.state = 4 AND p.replayed = 0, false), coalesce(p.lane, 0), coalesce(p.root, p.id, 0), coalesce(p.started_at, 0),
  coalesce(p.priority, 0), p.limits IS NOT NULL`

// flow returns where to scan what claimedTaskColumns add.
func (r *claimedRow) flow() []any {
	return []any{&r.goesOn, &r.of.lane, &r.of.root, &r.of.started, &r.of.priority, &r.of.limited}
}

// collectClaimed appends the rows of a claim to got: with those of their workflows' runs, if they may be tasks of workflows.
// Each is scanned into the same variables, because a row and what tells where to scan it have a kilobyte.
func collectClaimed(rows pgx.Rows, got []claimedRow, tasks bool) ([]claimedRow, error) {
	defer rows.Close()
	r := &claimedRow{}
	into := r.into()
	if tasks {
		into = append(into, r.flow()...)
	}
	for rows.Next() {
		*r = claimedRow{}
		if err := rows.Scan(into...); err != nil {
			return nil, err
		}
		got = append(got, *r)
	}
	return got, rows.Err()
}

// graphsOf reports whether a choice is of lanes of which some have tasks of workflows, and returns the graphs that those are
// known to be of, if nothing follows from the start of their tasks.
func (s *laneSet) graphsOf(x ready.Choice) (tasks bool, graphs map[int64]*store.Graph) {
	graphs = map[int64]*store.Graph{}
	for _, l := range x.Lanes() {
		tasks = tasks || ofWorkflow(l)
		maps.Copy(graphs, s.graphs[l.ID])
	}
	return tasks, graphs
}

// learnGraph notes that a lane has tasks of a graph.
func (s *laneSet) learnGraph(lane, id int64, g *store.Graph) {
	if g == nil || g.Sticky != 0 {
		return
	}
	if s.graphs[lane] == nil {
		s.graphs[lane] = map[int64]*store.Graph{}
	}
	s.graphs[lane][id] = g
}

// startTasks completes what a committed claim has started: of tasks of workflows, from whose start nothing follows. It leaves
// out those that are damaged.
func (w *writer) startTasks(all []claimedRow, graphs map[int64]*store.Graph) (got []claimedRow) {
	got = all[:0]
	for i := range all {
		r := &all[i]
		if err := forRun(r.key, func() error { return w.startTask(r, graphs) }); err != nil {
			w.damaged = append(w.damaged, err)
			continue
		}
		got = append(got, *r)
	}
	return got
}

func (w *writer) startTask(r *claimedRow, graphs map[int64]*store.Graph) error {
	if r.odd {
		return errEnded
	}
	if r.node == nil {
		return nil
	}
	if l := w.lanes.ByID[r.lane]; l != nil && !ofWorkflow(l) {
		return errors.New("a workflow's task in the lane of another")
	}
	workflow.Describe(graphs[*r.node>>lifecycle.NodeBits], &r.Claimed, *r.node)
	if r.goesOn {
		w.s.flows.put(*r.parent, r.of)
	}
	return nil
}

// startCarefully does what follows from the start of a task, and remembers of which graph it is.
func (w *writer) startCarefully(u *unit, r *claimedRow, worker int64) error {
	if r.odd {
		return errEnded
	}
	if err := workflow.Start(workflowRows{u}, &r.Claimed, *r.parent, *r.node, worker); err != nil {
		return err
	}
	id := *r.node >> lifecycle.NodeBits
	w.lanes.learnGraph(r.lane, id, w.s.graphs.Get(id))
	if r.goesOn {
		w.s.flows.put(*r.parent, r.of)
	}
	return nil
}
