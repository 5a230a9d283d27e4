package ui

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"slices"

	"github.com/stint-dev/stint"
)

func workersPage(h *handler, ctx context.Context, arg string, q url.Values) (*view, error) {
	workers, err := h.c.ListWorkers(ctx)
	if err != nil {
		return nil, err
	}
	page, err := h.list(ctx, stint.RunFilter{States: []stint.State{stint.StateRunning}, Limit: 200})
	if err != nil {
		return nil, err
	}
	show := func(w stint.WorkerInfo) node { return h.showWorker(w, page.Runs) }
	main := group(el("h1", "Workers"), each(workers[:min(len(workers), maxRows)], show),
		when(len(workers) > maxRows, el("p.dim", fmt.Sprintf("and %s more, which the API lists", formatNumber(len(workers)-maxRows)))))
	if len(workers) == 0 {
		main = group(main, emptyState("No worker is running, so no run starts. Create one with ", code("client.NewWorker()"),
			"; its ", code("Run"), " works until its context ends."))
	}
	return &view{Title: "Workers", Main: main}, nil
}

func (h *handler) showWorker(w stint.WorkerInfo, running []stint.RunInfo) node {
	queues := el("span", each(w.Queues, func(q string) node { return group(userText(q), " ") }))
	if len(w.Queues) == 0 {
		queues = el("span", "all")
	}
	has := slices.DeleteFunc(slices.Clone(running), func(r stint.RunInfo) bool { return r.Worker != w.Name })
	return el("section", h2(userText(w.Name), pausedBadge(w.Paused)),
		when(!h.readOnly, row(h.pauseToggle(w.Paused, "workers/"+escapeSegment(w.Name)+"/", "/workers"))),
		el("dl.facts",
			fact("Slots", progressBar("slots in use", int64(w.Running), int64(w.Slots)), fmt.Sprintf(" %d of %d", w.Running, w.Slots)),
			fact("Process", fmt.Sprintf("%d on ", w.PID), userText(w.Host), ", since ", timestamp(w.Started)),
			fact("Alive", "its process holds its lock; if it dies, that is noticed within a second"),
			fact("Build", el("span.mono", w.Build)),
			fact("Queues", queues),
			each(slices.Sorted(maps.Keys(w.Labels)), func(k string) node { return fact(userText(k), userText(w.Labels[k])) })),
		when(len(has) > 0, h.runTable(has)),
		h.link(runsPath("worker", w.Name), "All its runs"))
}
