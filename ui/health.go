package ui

import (
	"context"
	"fmt"
	"net/url"
	"time"

	"github.com/stint-dev/stint"
)

func healthPage(h *handler, ctx context.Context, arg string, q url.Values) (*view, error) {
	d, err := h.c.Database(ctx)
	if err != nil {
		return nil, err
	}
	spans, err := h.c.Stats(ctx, stint.StatsFilter{Since: time.Now().Add(-time.Hour)})
	if err != nil {
		return nil, err
	}
	var hour stint.Stats
	for i := range spans {
		hour.Add(&spans[i])
	}
	status := el("p.succeeded", "✓ The database can be written.")
	if err := h.c.Healthy(); err != nil {
		status = el("p.error", "✗ The database cannot be written at present: ", err)
	}
	return &view{Title: "Health", Main: group(el("h1", "Health"), status,
		el("div.grid", el("section", h2("File"), showFile(d)), el("section", h2("In the last hour"), showHour(&hour))),
		when(!h.readOnly,
			h2("Check"), el("p.dim", "Reads the whole file: the time it takes grows with the file."),
			h.actionButton("", "Look for damage", "check", ""),
			h2("Backup"), el("p.dim", "Writes a consistent copy to a new file in the program's backup directory, while runs go on."),
			h.backupForm()))}, nil
}

func (h *handler) backupForm() node {
	if h.backupDir == "" {
		return emptyState("The program has no backup directory. Set one with ", code("ui.WithBackupDir"), ".")
	}
	name := el("input", attr("name", "path"), attr("required"),
		attr("aria-label", "Name of the copy"), attr("placeholder", "app-1.db"), attr("data-keep"))
	return h.form("row", "backup", "", name, button("", "Back up now"))
}

func showFile(d *stint.DatabaseInfo) node {
	path := userText(d.Path)
	if d.Path == "" {
		path = el("span", "in memory")
	}
	return el("dl.facts", fact("Path", path), fact("Size", formatBytes(d.Size)+", of which "+formatBytes(d.Free)+" is free"),
		fact("Log", formatBytes(d.LogSize)), fact("Last checkpoint", timestamp(d.Checkpoint)),
		fact("Engine", fmt.Sprintf("%s, schema %d", d.Engine, d.Schema)), fact("Durability", d.Durability),
		fact("Retention", formatDuration(d.Retention)+" for runs that succeeded, three times as long for runs that failed"))
}

func showHour(s *stint.Stats) node {
	return el("dl.facts", fact("Commits", formatCount(s.Commits)),
		fact("Calls answered", fmt.Sprintf("%s, %.1f a commit", formatCount(s.Changes), float64(s.Changes)/float64(max(s.Commits, 1)))),
		fact("A commit takes", "p50 "+formatDuration(s.Commit(.5))+", p99 "+formatDuration(s.Commit(.99))),
		fact("Runs enqueued", formatCount(s.Enqueued)), fact("Executions", formatCount(s.Started)),
		fact("Wait to start", "p50 "+formatDuration(s.Wait(.5))+", p99 "+formatDuration(s.Wait(.99))))
}
