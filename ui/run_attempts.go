package ui

import (
	"github.com/stint-dev/stint"
)

func showHistory(timeline []stint.TimelineEntry) node {
	return table(tableHead("When", "State", "Attempt.figure", "Worker", "Error"), eachShown(timeline, func(e stint.TimelineEntry) node {
		return el("tr", el("td", timestamp(e.At)), el("td", stateBadge(e.State)), el("td.number", when(e.Attempt > 0, e.Attempt)),
			el("td", userText(e.Worker)), el("td", el("bdi.error", truncate(300, e.Error))))
	}))
}

// showAttempts shows the run's history: each attempt, on which worker, and how it ended.
func showAttempts(_ *handler, v *runView) node { return showHistory(v.Timeline) }
