package ui

import (
	"context"
	"net/url"
	"slices"
	"time"

	"github.com/stint-dev/stint"
)

// cronsShown is how many crons a page has.
const cronsShown = 500

func schedulesPage(h *handler, ctx context.Context, arg string, q url.Values) (*view, error) {
	crons, err := h.c.CronPage(ctx, stint.CronFilter{Limit: cronsShown, Cursor: q.Get("crons")})
	if err != nil {
		return nil, err
	}
	h.redactCrons(crons.Crons)
	page, err := h.list(ctx, stint.RunFilter{States: []stint.State{stint.StateScheduled}, Limit: 100, Scan: perQuery})
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(page.Runs, func(a, b stint.RunInfo) int { return a.Scheduled.Compare(b.Scheduled) })
	return &view{Title: "Schedules", Main: all(el("h1", "Schedules"),
		h2("Crons"), h.showCrons(crons.Crons), h.otherRows("/schedules", "crons", q.Get("crons"), crons.Next),
		h2("One-time"), h.showScheduled(page.Runs), only(page.Next != "", el("p", h.link(runsPath("state", "scheduled"), "All of them"))))}, nil
}

func (h *handler) showCrons(crons []stint.CronInfo) node {
	if len(crons) == 0 {
		return empty("No cron. ", code(`stint.WithCron("0 9 * * *")`), " on a task declares one, ", code(`task.Cron(ctx, "name", "0 9 * * *", input)`), " makes one at run time.")
	}
	return table(head("Cron", "Task", "When", "Input.optional", "Next", "Last.optional", h.actions()), each(crons, func(c stint.CronInfo) node {
		last := when(c.Last)
		if c.LastRunID != "" {
			last = h.link(runPath(c.LastRunID), last)
		}
		return el("tr",
			el("td", data(c.Name), pausedSign(c.Paused), only(c.Error != "", el("br"), el("bdi.error", short(160, c.Error))),
				only(c.Blocked != "", el("br"), el("bdi.error", short(160, c.Blocked)))),
			el("td", h.link(taskPath(c.Task), data(c.Task))),
			el("td", code(c.Spec), only(readSpec(c.Spec) != "", el("br"), el("span.dim", readSpec(c.Spec)))),
			el("td.optional", el("bdi.dim.mono", short(60, string(c.Input)))),
			el("td", when(c.Next), nextTicks(c)), el("td.optional", last), el("td", h.cronActions(c)))
	}))
}

func nextTicks(c stint.CronInfo) node {
	if c.Paused {
		return nil
	}
	ticks, err := stint.CronTicks(c.Spec, time.Now(), 5)
	if err != nil || len(ticks) == 0 {
		return nil // its spec was read when it was made
	}
	return details("next five", each(ticks, func(t time.Time) node { return all(when(t), el("br")) }))
}

func (h *handler) cronActions(c stint.CronInfo) node {
	const next = "/schedules"
	of := "crons/" + seg(c.Name) + "/"
	edit := h.form("row", of+"update", next, el("input", attr("name", "spec"), attr("value", c.Spec), attr("aria-label", "Spec of "+visible(c.Name))), button("", "Save"))
	return all(h.act("", "Run now", of+"trigger", ""), " ", h.toggle(c.Paused, of, next),
		only(!c.Declared && !h.readOnly, " ", h.act("danger", "Delete", of+"delete", next), details("Edit", edit)))
}

func (h *handler) showScheduled(runs []stint.RunInfo) node {
	if len(runs) == 0 {
		return empty("No run waits for its time. ", code("task.Schedule(ctx, at, input)"), " makes one that does.")
	}
	return table(head("Task", "Due", "Input.optional", h.actions()), each(runs, func(r stint.RunInfo) node {
		move := h.form("row", "runs/"+r.ID+"/reschedule", "/schedules",
			el("input", attr("name", "at"), attr("type", "datetime-local"), attr("required"), attr("data-keep"), attr("aria-label", "New time of "+tail(r.ID))), button("", "Move"))
		return el("tr", attr("id", "r"+r.ID), attr("data-url", h.base+runPath(r.ID)), el("td", h.link(runPath(r.ID), data(r.Task))), el("td", when(r.Scheduled)),
			el("td.optional", el("bdi.dim.mono", short(60, string(r.Input)))),
			el("td", only(!h.readOnly, move), h.act("danger", "Cancel", "runs/"+r.ID+"/cancel", "/schedules")))
	}))
}
