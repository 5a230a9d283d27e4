package workflow

import (
	"slices"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/lifecycle"
)

// Start completes what a worker is given of a task, and makes others follow to the worker.
func Start(rows Rows, c *store.Claimed, run, node, worker int64) error {
	g, err := rows.Graph(node >> lifecycle.NodeBits)
	if err != nil {
		return err
	}
	Describe(g, c, node)
	return stick(rows, g, run, worker)
}

// Describe completes what a worker is given of a task.
func Describe(g *store.Graph, c *store.Claimed, node int64) {
	place := Place(node)
	c.Task, c.Node, c.Tests = g.TaskName(place), node, g.Tests(place)
}

// TaskOf returns the name of a task, or of a workflow's run. All tasks of a workflow may share a lane.
func TaskOf(g *store.Graph, node int64, lane string) string {
	if place := Place(node); place < len(g.Tasks) {
		return g.TaskName(place)
	}
	return lane
}

// stick makes the tasks of a workflow's run follow the worker that took the first, if they are
// sticky.
func stick(rows Rows, g *store.Graph, run, worker int64) error {
	if g.Sticky == 0 {
		return nil
	}
	first, err := rows.Stick(run, worker)
	if err != nil || !first {
		return err
	}
	tasks, err := rows.Unstarted(run)
	if err != nil {
		return err
	}
	for _, t := range tasks {
		if err := rows.MoveTask(g, t); err != nil {
			return err
		}
	}
	return nil
}

// RouteFor returns which workers may have a task of a workflow's run: RouteOf for a run that is stored.
func RouteFor(rows Rows, g *store.Graph, place int, run int64) (r store.Route, err error) {
	follows := ""
	if g.Sticky != 0 {
		if follows, err = rows.Follows(run); err != nil {
			return r, err
		}
	}
	shared, err := rows.Shared(run)
	if err != nil {
		return r, err
	}
	return RouteOf(g, place, follows, shared.Route), nil
}

// RouteOf returns which workers may have a task. follows is the worker that the tasks of its
// workflow's run follow; "": none yet. ofRun is the route of the workflow's run: its wants replace
// those of the task for the same labels, and its worker comes before the one that tasks follow. The on-failure and the
// on-success task have their own wants alone: the run has ended, or is about to.
func RouteOf(g *store.Graph, place int, follows string, ofRun store.Route) (r store.Route) {
	if place >= len(g.Tasks) {
		r.Wants = g.Task(place).Wants
		return r
	}
	if r.Wants = g.Tasks[place].Wants; len(ofRun.Wants) > 0 {
		kept := slices.DeleteFunc(slices.Clone(r.Wants), func(w store.Want) bool {
			return slices.ContainsFunc(ofRun.Wants, func(o store.Want) bool { return o.Label == w.Label })
		})
		r.Wants = append(kept, ofRun.Wants...)
	}
	switch {
	case ofRun.To != "":
		r.To, r.Hard = ofRun.To, ofRun.Hard
	case g.Sticky != 0 && follows != "":
		r.To, r.Hard = follows, g.Sticky == store.StickyHard
	}
	return r
}
