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
	main := all(el("h1", "Workers"), each(workers[:min(len(workers), listShown)], func(w stint.WorkerInfo) node { return h.showWorker(w, page.Runs) }),
		only(len(workers) > listShown, el("p.dim", fmt.Sprintf("and %s more, which the API lists", figure(len(workers)-listShown)))))
	if len(workers) == 0 {
		main = all(main, empty("No worker runs, so nothing starts. ", code("client.NewWorker()"), " makes one, and its ", code("Run"), " works until its context ends."))
	}
	return &view{Title: "Workers", Main: main}, nil
}

func (h *handler) showWorker(w stint.WorkerInfo, running []stint.RunInfo) node {
	queues := el("span", each(w.Queues, func(q string) node { return all(data(q), " ") }))
	if len(w.Queues) == 0 {
		queues = el("span", "all")
	}
	has := slices.DeleteFunc(slices.Clone(running), func(r stint.RunInfo) bool { return r.Worker != w.Name })
	return el("section", h2(data(w.Name), pausedSign(w.Paused)),
		only(!h.readOnly, row(h.toggle(w.Paused, "workers/"+seg(w.Name)+"/", "/workers"))),
		el("dl.facts",
			fact("Slots", meter("slots in use", int64(w.Running), int64(w.Slots)), fmt.Sprintf(" %d of %d", w.Running, w.Slots)),
			fact("Process", fmt.Sprintf("%d on ", w.PID), data(w.Host), ", since ", when(w.Started)),
			fact("Alive", "its process holds its lock; a death is noticed within a second"),
			fact("Build", el("span.mono", w.Build)),
			fact("Queues", queues),
			each(slices.Sorted(maps.Keys(w.Labels)), func(k string) node { return fact(data(k), data(w.Labels[k])) })),
		only(len(has) > 0, h.runTable(has)))
}
