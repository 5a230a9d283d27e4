package ui

import (
	"context"
	"fmt"
	"net/url"
	"runtime"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/internal/build"
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
	status := el("p.ok", icon("st-succeeded"), " The database can be written.")
	if err := h.c.Healthy(); err != nil {
		status = el("p.error", icon("st-failed"), " The database cannot be written at present: ", err)
	}
	return &view{Title: "Health", Main: group(el("h1", "Health"), status,
		el("div.grid", showDatabase(d), el("section", h2("In the last hour"), showHour(&hour))),
		el("p.dim", "This program has stint ", code(build.Version()), ", built with ", runtime.Version(), "."),
		when(!h.readOnly,
			h2("Check"), el("p.dim", "Reads the whole database: the time it takes grows with it."),
			h.actionButton("", "Look for damage", "check", ""),
			h2("Backup"), h.backupSection(d)))}, nil
}

func (h *handler) backupSection(d *stint.DatabaseInfo) node {
	if d.Server != nil {
		return el("p.dim", "Back up the server's database with the server's own tools, such as ", code("pg_dump"), ".")
	}
	return group(el("p.dim", "Writes a consistent copy to a new file in the program's backup directory, while runs go on."), h.backupForm())
}

func (h *handler) backupForm() node {
	if h.backupDir == "" {
		return emptyState("The program has no backup directory. Set one with ", code("ui.WithBackupDir"), ".")
	}
	name := el("input", attr("name", "path"), attr("required"),
		attr("aria-label", "Name of the copy"), attr("placeholder", "app-1.db"), attr("data-keep"))
	return h.form("row", "backup", "", name, button("", "Back up now"))
}

func showDatabase(d *stint.DatabaseInfo) node {
	if d.Server != nil {
		return el("section", h2("Server"), showServer(d, d.Server))
	}
	return el("section", h2("File"), showFile(d))
}

// What a page marks: see docs/postgres.md, "Monitoring".
const (
	skewWarning     = time.Second
	snapshotWarning = 10 * time.Minute
)

func showServer(d *stint.DatabaseInfo, s *stint.Server) node {
	mark := func(bad bool, value ...any) node {
		if bad {
			return el("strong.error", value...)
		}
		return group(value...)
	}
	skew := "less than 10 ms"
	if s.Skew.Abs() >= 10*time.Millisecond {
		skew = formatDuration(s.Skew.Abs()) + map[bool]string{true: " ahead of this machine's", false: " behind this machine's"}[s.Skew > 0]
	}
	oldest := "none"
	if s.SnapshotOf != "" {
		oldest = formatDuration(s.OldestSnapshot) + ", " + s.SnapshotOf
	}
	lag := "no standby"
	if s.Standbys > 0 && s.StandbyLag < 0 {
		lag = "unknown: this role needs pg_monitor"
	} else if s.Standbys > 0 {
		lag = fmt.Sprintf("%s, of %d", formatBytes(s.StandbyLag), s.Standbys)
	}
	return el("dl.facts", fact("Database", userText(s.Database), ", schema ", userText(s.Schema)), fact("Address", userText(s.Address)),
		fact("Engine", fmt.Sprintf("%s, tables of version %d", d.Engine, d.Schema)), fact("Size", formatBytes(d.Size)),
		fact("Programs", formatNumber(s.Processes)),
		fact("Connections", mark(s.Connections*10 >= s.MaxConnections*9, fmt.Sprintf("%d of %d", s.Connections, s.MaxConnections))),
		fact("Others' commits", map[bool]string{true: "heard by LISTEN", false: "polled"}[s.Listens]),
		fact("Server's clock", mark(s.Skew.Abs() >= skewWarning, skew)),
		fact("Dead rows", fmt.Sprintf("%s, beside %s live ones", formatCount(s.DeadRows), formatCount(s.LiveRows))),
		fact("Oldest snapshot", mark(s.OldestSnapshot >= snapshotWarning, userText(oldest))),
		fact("Standbys' lag", lag), fact("Durability", d.Durability), fact("Retention", retention(d)))
}

func retention(d *stint.DatabaseInfo) string {
	return formatDuration(d.Retention) + " for runs that succeeded, three times as long for runs that failed"
}

func showFile(d *stint.DatabaseInfo) node {
	path := userText(d.Path)
	if d.Path == "" {
		path = el("span", "in memory")
	}
	return el("dl.facts", fact("Path", path), fact("Size", formatBytes(d.Size)+", of which "+formatBytes(d.Free)+" is free"),
		fact("Log", formatBytes(d.LogSize)), fact("Last checkpoint", timestamp(d.Checkpoint)),
		fact("Engine", fmt.Sprintf("%s, schema %d", d.Engine, d.Schema)), fact("Durability", d.Durability),
		fact("Retention", retention(d)))
}

func showHour(s *stint.Stats) node {
	return el("dl.facts", fact("Commits", formatCount(s.Commits)),
		fact("Calls answered", fmt.Sprintf("%s, %.1f a commit", formatCount(s.Changes), float64(s.Changes)/float64(max(s.Commits, 1)))),
		fact("A commit takes", "p50 "+formatDuration(s.Commit(.5))+", p99 "+formatDuration(s.Commit(.99))),
		fact("Runs enqueued", formatCount(s.Enqueued)), fact("Executions", formatCount(s.Started)),
		fact("Wait to start", "p50 "+formatDuration(s.Wait(.5))+", p99 "+formatDuration(s.Wait(.99))))
}
