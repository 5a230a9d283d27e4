package ui

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/stint-dev/stint"
)

// loadJournal reads a page of the run's journal.
func loadJournal(h *handler, ctx context.Context, v *runView) error {
	cursor := v.query.Get("journal")
	page, err := h.c.JournalPage(ctx, v.ID, stint.JournalFilter{Limit: maxRows, Cursor: cursor})
	if errors.Is(err, stint.ErrNotFound) {
		return nil // deleted meanwhile
	}
	if err != nil {
		return err
	}
	h.redactEntries(v.Task, page.Entries)
	v.journal, v.journalFrom, v.journalNext = page.Entries, cursor, page.Next
	return nil
}

// failedSteps reports whether steps ended attempts.
func (v *runView) failedSteps() bool {
	return slices.ContainsFunc(v.Timeline, func(t stint.TimelineEntry) bool { return len(t.Failed) > 0 })
}

func showJournal(h *handler, v *runView) node {
	if len(v.journal) == 0 && v.journalFrom == "" && !v.failedSteps() {
		return emptyState("No durable calls. A handler makes them with ", code("stint.Step"), ", ", code("stint.Sleep"), ", ",
			code("stint.WaitForEvent"), " and others: what they return is kept over restarts.")
	}
	path := "runs/" + v.ID + "/"
	entry := func(e stint.JournalEntry, place, actions node) node {
		return el("tr", el("td.mono", place), el("td", e.Kind),
			el("td", userText(e.Name), when(e.Attempts > 1, el("span.dim", fmt.Sprintf(" (%d tries)", e.Attempts)))),
			el("td", h.showResult(e), showTries(e)), el("td", timestamp(e.Began)), el("td.number", tookOf(e)), el("td", actions))
	}
	entries := each(v.journal, func(e stint.JournalEntry) node {
		step := hidden("step", e.Name)
		return entry(e, group(e.Address), when(e.Kind == "step" && e.Done, h.actionButton("", "New run from here", path+"fork", "", step),
			when(!v.open, " ", h.actionButton("", "Replay from here", path+"restart", runPath(v.ID), step))))
	})
	failed := each(v.Timeline, func(t stint.TimelineEntry) node {
		return each(t.Failed, func(e stint.JournalEntry) node {
			return entry(e, group(e.Address, el("span.failed", fmt.Sprintf(" ended attempt %d", t.Attempt))), nil)
		})
	})
	head := tableHead("No.", "Kind", "Name", "Result", "Began", "Took.figure", h.actions())
	return group(table(head, entries, when(v.journalNext == "", failed)),
		h.journalLinks(v))
}

// tookOf returns how long a call took. Of children it is not known here.
func tookOf(e stint.JournalEntry) string {
	if !e.Done || e.Kind == "child" {
		return ""
	}
	return formatDuration(e.Ended().Sub(e.Began))
}

// showTries lists the tries of a step that was tried again.
func showTries(e stint.JournalEntry) node {
	return when(len(e.Tries) > 0, el("ul.tries", each(e.Tries, func(t stint.StepTry) node {
		what := group(el("bdi.error", truncate(300, t.Error)))
		if t.Error == "" {
			what = group("succeeded")
		}
		return el("li", timestamp(t.Began), " ", formatDuration(t.Ended.Sub(t.Began)), " ", what)
	})))
}

func (h *handler) showResult(e stint.JournalEntry) node {
	switch {
	case e.Error != "":
		return el("bdi.error", truncate(300, e.Error))
	case !e.Done:
		return group(stateBadge(stint.StateWaiting), when(!e.Due.IsZero(), " until ", timestamp(e.Due)))
	}
	return jsonTree(e.Output, smallTree)
}

// journalLinks leads to the other parts of a journal.
func (h *handler) journalLinks(v *runView) node {
	return when(v.journalFrom+v.journalNext != "", row(
		when(v.journalFrom != "", h.link(v.at(v.tab.name), attr("class", "btn"), "First part")),
		when(v.journalNext != "", h.link(v.at(v.tab.name, "journal", v.journalNext), attr("class", "btn"),
			attr("rel", "next"), "Next part"))))
}
