package stint

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/stint-dev/stint/internal/near"
	"github.com/stint-dev/stint/store"
)

// workerReasons says of queued runs that no living worker may start them. It reads the workers
// once, when the first run is asked about, and looks once for runs that are alike.
type workerReasons struct {
	c       *Client
	workers []store.WorkerInfo
	found   map[[3]string]string // by queue, task and route; nil: the workers are not read yet
}

// reason returns which worker a queued run lacks, in words, or "" if one may start it.
func (u *workerReasons) reason(ctx context.Context, queue, task string, route *store.Route) (string, error) {
	if u.found == nil {
		all, err := u.c.store.Living(ctx)
		if err != nil {
			return "", err
		}
		u.workers, u.found = all, map[[3]string]string{}
	}
	like := [3]string{queue, task, route.Text()}
	why, ok := u.found[like]
	if !ok {
		why = u.findReason(queue, task, route)
		u.found[like] = why
	}
	return why, nil
}

func (u *workerReasons) findReason(queue, task string, route *store.Route) string {
	serving := slices.DeleteFunc(slices.Clone(u.workers), func(w store.WorkerInfo) bool {
		return len(w.Queues) > 0 && !slices.Contains(w.Queues, queue)
	})
	if len(serving) == 0 {
		return "no worker serves queue " + queue
	}
	able := slices.DeleteFunc(serving, func(w store.WorkerInfo) bool {
		if w.Tasks == nil {
			return false
		}
		_, ok := slices.BinarySearch(w.Tasks, task)
		return !ok
	})
	if len(able) == 0 {
		return "no worker has task " + task
	}
	fit := slices.DeleteFunc(able, func(w store.WorkerInfo) bool {
		_, ok := route.Score(w.Name, w.Labels)
		return !ok
	})
	if len(fit) == 0 {
		return routeText(route)
	}
	if len(slices.DeleteFunc(fit, func(w store.WorkerInfo) bool { return w.Paused })) == 0 {
		return "every worker that may work it is paused"
	}
	return ""
}

// routeText says which worker a route asks for.
func routeText(r *store.Route) string {
	var parts []string
	for _, w := range r.Wants {
		if w.Weight == 0 {
			parts = append(parts, fmt.Sprintf("label %s %s %s", w.Label, w.Op, w.Value))
		}
	}
	if r.Hard && r.To != "" {
		parts = append(parts, fmt.Sprintf("name %q", r.To))
	}
	return "a worker with " + strings.Join(parts, " and ")
}

// explain completes what keeps a run from starting, if nothing else does.
func (u *workerReasons) explain(ctx context.Context, info *RunInfo, r *store.Run) (err error) {
	if r.State == store.Queued && info.Blocked == "" {
		info.Blocked, err = u.reason(ctx, r.Queue, r.Task, &r.Route)
	}
	if info.Canceling {
		info.Blocked = cleanupReason(r, info.Blocked)
	}
	return err
}

// explainTasks is explain for the tasks of a workflow's run.
func (u *workerReasons) explainTasks(ctx context.Context, g *store.Graph, infos []TaskInfo, tasks []store.WorkflowTask) error {
	byRun := map[string]int{}
	for i := range infos {
		byRun[infos[i].RunID] = i
	}
	for _, t := range tasks[1:] { // the first is the workflow's run itself
		i, ok := byRun[t.ID.String()]
		if !ok || t.State != store.Queued || infos[i].Blocked != "" {
			continue
		}
		route := store.Route{}
		if t.Place < len(g.Tasks) {
			route.Wants = g.Tasks[t.Place].Wants
		}
		why, err := u.reason(ctx, infos[i].Queue, g.TaskName(t.Place), &route)
		if err != nil {
			return err
		}
		infos[i].Blocked = why
	}
	return nil
}

// A Names lists names that a database knows, each sorted: what a person may have meant.
type Names struct {
	Tasks  []string // and workflows: defined here, worked by a worker, started by a cron or a trigger, or with runs
	Queues []string // that have or had runs, were paused, or that a worker serves or served
}

// Unknown returns ErrNotFound if one of the names of tasks or of queues is not known, with
// those that are near to it, or nil.
func (n *Names) Unknown(tasks, queues []string) error {
	for _, of := range []struct {
		what         string
		names, known []string
	}{{"task", tasks, n.Tasks}, {"queue", queues, n.Queues}} {
		for _, name := range of.names {
			if !slices.Contains(of.known, name) {
				return fmt.Errorf("%w: no %s %q is known%s", ErrNotFound, of.what, name, near.Meant(name, of.known))
			}
		}
	}
	return nil
}

// Names returns the names of tasks and queues that are known. It costs time in proportion
// to their number.
func (c *Client) Names(ctx context.Context) (*Names, error) {
	known, err := c.store.Names(ctx)
	if err != nil {
		return nil, wrapStoreErr("names", err)
	}
	n := &Names{known.Tasks, known.Queues}
	for _, d := range c.ListTasks() {
		n.Tasks, n.Queues = append(n.Tasks, d.Name), append(n.Queues, d.Queue)
	}
	n.Tasks = slices.DeleteFunc(n.Tasks, func(t string) bool { return t == "" })
	n.Queues = slices.DeleteFunc(n.Queues, func(q string) bool { return q == "" })
	slices.Sort(n.Tasks)
	slices.Sort(n.Queues)
	n.Tasks, n.Queues = slices.Compact(n.Tasks), slices.Compact(n.Queues)
	return n, nil
}
