package ui

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/stint-dev/stint"
)

// A queueRow is a queue with its ready runs by priority and its statistics of the last hour.
type queueRow struct {
	stint.QueueInfo
	priorities map[int]int
	sum        stint.Stats // of the time range
}

func queuesPage(h *handler, ctx context.Context, arg string, q url.Values) (*view, error) {
	queues, err := h.c.ListQueues(ctx)
	if err != nil {
		return nil, err
	}
	r, err := rangeOf(q, time.Now())
	if err != nil {
		return nil, err
	}
	totals, err := h.taskTotals(ctx, r)
	if err != nil {
		return nil, err
	}
	rows := make([]queueRow, len(queues))
	for i, info := range queues {
		rows[i].QueueInfo = info
		if info.Ready > 0 {
			if rows[i].priorities, err = h.c.QueuePriorities(ctx, info.Name); err != nil {
				return nil, err
			}
		}
		for j := range totals {
			if totals[j].Queue == info.Name {
				rows[i].sum.Add(&totals[j].Stats)
			}
		}
	}
	return &view{Title: "Queues", Main: group(el("h1", "Queues"), h.showQueues(rows)), timeRange: &r}, nil
}

func (h *handler) showQueues(rows []queueRow) node {
	if len(rows) == 0 {
		return emptyState("No queue has been used yet. The first run of a task creates its queue.")
	}
	heads := tableHead("Queue", "Ready.figure", "By priority.optional", "Running.figure", "Enqueued.figure optional",
		"Ended.figure", "p99 wait.figure optional", "Oldest ready", h.actions())
	return table(heads, eachShown(rows, func(r queueRow) node {
		list := func(state stint.State, n int) node {
			return h.link(runsPath("queue", r.Name, "state", state.String()), formatCount(n))
		}
		path := runsPath("queue", r.Name)
		return h.linkedRow(path, el("td", h.link(path, userText(r.Name)), pausedBadge(r.Paused)),
			el("td.number", list(stint.StateQueued, r.Ready)), el("td.optional", priorities(r.priorities)),
			el("td.number", list(stint.StateRunning, r.Running)),
			el("td.number.optional", formatCount(r.sum.Enqueued)), el("td.number", formatCount(r.sum.Ended())),
			el("td.number.optional", formatDuration(r.sum.Wait(.99))), el("td", timestamp(r.Oldest)),
			el("td", h.pauseToggle(r.Paused, "queues/"+escapeSegment(r.Name)+"/", "/queues")))
	}))
}

// priorities lists the number of runs of each priority, the most urgent first.
func priorities(counts map[int]int) node {
	names := map[int]string{stint.PriorityLow: "low", stint.PriorityDefault: "default", stint.PriorityHigh: "high"}
	var parts []string
	for _, p := range slices.Backward(slices.Sorted(maps.Keys(counts))) {
		name := names[p]
		if name == "" {
			name = fmt.Sprint(p)
		}
		parts = append(parts, name+" "+formatCount(counts[p]))
	}
	return el("span.dim", strings.Join(parts, ", "))
}
