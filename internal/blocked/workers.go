package blocked

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/stint-dev/stint/store"
)

// Workers says which worker queued runs lack. It reads the workers once, for the first
// run, and decides once for runs that are alike.
type Workers struct {
	Store store.Lists

	all   []store.WorkerInfo
	found map[[3]string]string // by queue, task and route; nil: the workers are not read yet
}

// Lacks returns which worker a queued run lacks, or "" if one can start it.
func (u *Workers) Lacks(ctx context.Context, queue, task string, route *store.Route) (string, error) {
	if u.found == nil {
		var list store.WorkerList
		if err := u.Store.Read(ctx, &list); err != nil {
			return "", err
		}
		u.all, u.found = list.Workers, map[[3]string]string{}
	}
	like := [3]string{queue, task, route.Text()}
	why, ok := u.found[like]
	if !ok {
		why = lacks(u.all, queue, task, route)
		u.found[like] = why
	}
	return why, nil
}

// Run returns why a run does not go on. why is what else is known to keep it from starting, or "".
func (u *Workers) Run(ctx context.Context, r *store.Run, why string) (string, error) {
	var err error
	if r.State == store.Queued && why == "" {
		why, err = u.Lacks(ctx, r.Queue, r.Task, &r.Route)
	}
	if !r.CancelAt.IsZero() && !r.State.Terminal() {
		why = Cleanup(r, why)
	}
	return why, err
}

func lacks(all []store.WorkerInfo, queue, task string, route *store.Route) string {
	serving := slices.DeleteFunc(slices.Clone(all), func(w store.WorkerInfo) bool {
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
		if workflow, _, within := strings.Cut(task, ":"); within && !ok {
			_, ok = slices.BinarySearch(w.Tasks, store.GraphLane(workflow))
		}
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
		return required(route)
	}
	if len(slices.DeleteFunc(fit, func(w store.WorkerInfo) bool { return w.Paused })) == 0 {
		return "every worker that may work it is paused"
	}
	return ""
}

// required describes the worker that a route requires.
func required(r *store.Route) string {
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
