package ui

import (
	"context"
	"net/url"
	"slices"
	"time"

	"github.com/stint-dev/stint"
)

// maxCrons bounds the crons on one page.
const maxCrons = 500

func schedulesPage(h *handler, ctx context.Context, arg string, q url.Values) (*view, error) {
	crons, err := h.c.CronPage(ctx, stint.CronFilter{Limit: maxCrons, Cursor: q.Get("crons")})
	if err != nil {
		return nil, err
	}
	h.redactCrons(crons.Crons)
	page, err := h.list(ctx, stint.RunFilter{States: []stint.State{stint.StateScheduled}, Limit: 100, Scan: scanLimit})
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(page.Runs, func(a, b stint.RunInfo) int { return a.Scheduled.Compare(b.Scheduled) })
	var once, again []stint.RunInfo // a run that was executed waits to be tried again
	for _, r := range page.Runs {
		if r.Executions == 0 {
			once = append(once, r)
		} else {
			again = append(again, r)
		}
	}
	return &view{Title: "Schedules", Main: group(el("h1", "Schedules"),
		h2("Crons"), h.showCrons(crons.Crons), h.moreRowsLinks("/schedules", "crons", q.Get("crons"), crons.Next),
		h2("One-time"), h.showScheduled(once),
		when(len(again) > 0, h2("Retries that wait"), h.showScheduled(again)),
		when(page.Next != "", el("p", h.link(runsPath("state", "scheduled"), "All of them"))))}, nil
}

func (h *handler) showCrons(crons []stint.CronInfo) node {
	if len(crons) == 0 {
		return emptyState("No crons. Declare one on a task with ", code(`stint.WithCron("0 9 * * *")`), ", or create one at run time with ",
			code(`task.Cron(ctx, "name", "0 9 * * *", input)`), ".")
	}
	heads := tableHead("Cron", "Task", "When", "Input.optional", "Next", "Last.optional", h.actions())
	return table(heads, each(crons, func(c stint.CronInfo) node {
		last := timestamp(c.Last)
		if c.LastRunID != "" {
			last = h.link(runPath(c.LastRunID), last)
		}
		return el("tr",
			el("td", userText(c.Name), pausedBadge(c.Paused), when(c.Error != "", el("br"), el("bdi.error", truncate(160, c.Error))),
				when(c.Blocked != "", el("br"), el("bdi.error", truncate(160, c.Blocked)))),
			el("td", h.link(taskPath(c.Task), userText(c.Task))),
			el("td", code(c.Spec), when(readSpec(c.Spec) != "", el("br"), el("span.dim", readSpec(c.Spec)))),
			el("td.optional", el("bdi.dim.mono", truncate(60, string(c.Input)))),
			el("td", timestamp(c.Next), nextTicks(c)), el("td.optional", last), el("td", h.cronActions(c)))
	}))
}

func nextTicks(c stint.CronInfo) node {
	if c.Paused {
		return nil
	}
	ticks, err := stint.CronTicks(c.Spec, time.Now(), 5)
	if err != nil || len(ticks) == 0 {
		return nil // cannot happen: the spec was checked when it was set
	}
	return details("next 5", each(ticks, func(t time.Time) node { return group(timestamp(t), el("br")) }))
}

func (h *handler) cronActions(c stint.CronInfo) node {
	const next = "/schedules"
	path := "crons/" + escapeSegment(c.Name) + "/"
	spec := el("input", attr("name", "spec"), attr("value", c.Spec), attr("aria-label", "Spec of "+escapeInvisible(c.Name)))
	edit := h.form("row", path+"update", next, spec, button("", "Save"))
	return group(h.actionButton("", "Run now", path+"trigger", ""), " ", h.pauseToggle(c.Paused, path, next),
		when(!c.Declared && !h.readOnly, " ", h.actionButton("danger", "Delete", path+"delete", next), details("Edit", edit)))
}

func (h *handler) showScheduled(runs []stint.RunInfo) node {
	if len(runs) == 0 {
		return emptyState("No scheduled runs. Schedule one with ", code("task.Schedule(ctx, at, input)"), ".")
	}
	return table(tableHead("Task", "Due", "Input.optional", h.actions()), each(runs, func(r stint.RunInfo) node {
		move := h.form("row", "runs/"+r.ID+"/reschedule", "/schedules",
			el("input", attr("name", "at"), attr("type", "datetime-local"), attr("required"), attr("data-keep"),
				attr("aria-label", "New time of "+shortID(r.ID))), button("", "Move"))
		return h.linkedRow(runPath(r.ID), attr("id", "r"+r.ID),
			el("td", h.link(runPath(r.ID), userText(r.Task))), el("td", timestamp(r.Scheduled)),
			el("td.optional", el("bdi.dim.mono", truncate(60, string(r.Input)))),
			el("td", when(!h.readOnly, move), h.actionButton("danger", "Cancel", "runs/"+r.ID+"/cancel", "/schedules")))
	}))
}
