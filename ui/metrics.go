package ui

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/stint-dev/stint"
)

// metrics writes the text format of Prometheus,
// https://prometheus.io/docs/instrumenting/exposition_formats/. Statistics are gauges of the last
// whole minute, not counters: the file holds minutes, over restarts and of all processes.
func (h *handler) metrics(w http.ResponseWriter, r *http.Request) {
	if !h.authorize(w, r, Action{Name: "metrics"}) {
		return
	}
	counts, err := h.c.CountRuns(r.Context())
	if err != nil {
		h.writeError(w, r, statusOf(err), err)
		return
	}
	queues, err := h.c.ListQueues(r.Context())
	if err != nil {
		h.writeError(w, r, statusOf(err), err)
		return
	}
	var b strings.Builder
	head := func(name, help string) { fmt.Fprintf(&b, "# HELP %[1]s %[2]s\n# TYPE %[1]s gauge\n", name, help) }
	head("stint_runs", "Runs that have not ended, counted up to 10,000.")
	for _, s := range allStates[:5] {
		fmt.Fprintf(&b, "stint_runs{state=%q} %d\n", s, counts[s])
	}
	head("stint_queue_ready", "Runs that may start, counted up to 10,000 a task.")
	for _, q := range queues {
		fmt.Fprintf(&b, "stint_queue_ready{queue=\"%s\"} %d\n", label(q.Name), q.Ready)
	}
	minute := time.Now().Truncate(time.Minute).Add(-time.Minute)
	for _, perTask := range []bool{false, true} {
		all, err := h.c.Stats(r.Context(), stint.StatsFilter{Since: minute, PerTask: perTask})
		if err != nil {
			h.writeError(w, r, statusOf(err), err)
			return
		}
		writeMinute(&b, head, all, minute, perTask)
	}
	head("stint_writable", "1 if the database can be written.")
	ok := 1
	if h.c.Healthy() != nil {
		ok = 0
	}
	fmt.Fprintf(&b, "stint_writable %d\n", ok)
	if d, err := h.c.Database(r.Context()); err == nil && d.Server != nil {
		writeServer(&b, head, d.Server)
	}
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	w.Write([]byte(b.String()))
}

// writeServer writes what is to be watched of a server.
func writeServer(b *strings.Builder, head func(name, help string), s *stint.Server) {
	for _, g := range []struct {
		name, help string
		value      float64
	}{
		{"stint_server_connections", "Connections to the server, of all programs.", float64(s.Connections)},
		{"stint_server_max_connections", "Connections that the server takes.", float64(s.MaxConnections)},
		{"stint_server_processes", "Programs that have the database open.", float64(s.Processes)},
		{"stint_server_clock_skew_seconds", "How far the server's clock is ahead of this program's.", s.Skew.Seconds()},
		{"stint_server_dead_rows", "Rows that vacuum has yet to remove, estimated.", float64(s.DeadRows)},
		{"stint_server_oldest_snapshot_seconds", "Age of the oldest transaction whose rows vacuum must keep.", s.OldestSnapshot.Seconds()},
		{"stint_server_standby_lag_bytes", "What the last standby has yet to replay; -1: unknown.", float64(s.StandbyLag)},
	} {
		head(g.name, g.help)
		fmt.Fprintf(b, "%s %g\n", g.name, g.value)
	}
}

// A metric is a value of the last whole minute.
type metric struct {
	name, help string
	value      func(*stint.Stats) float64
}

var taskMetrics = []metric{
	{"stint_task_enqueued", "Runs that were enqueued", func(s *stint.Stats) float64 { return float64(s.Enqueued) }},
	{"stint_task_started", "Executions that started", func(s *stint.Stats) float64 { return float64(s.Started) }},
	{"stint_task_succeeded", "Runs that succeeded", func(s *stint.Stats) float64 { return float64(s.Succeeded) }},
	{"stint_task_failed", "Runs that failed", func(s *stint.Stats) float64 { return float64(s.Failed) }},
	{"stint_task_retried", "Attempts that failed and are retried,", func(s *stint.Stats) float64 { return float64(s.Retried) }},
	{"stint_task_duration_p95_seconds", "Time from start to end, of runs that ended",
		func(s *stint.Stats) float64 { return s.Duration(.95).Seconds() }},
}

var minuteMetrics = []metric{
	{"stint_wait_p50_seconds", "Time from due to start, of runs that started",
		func(s *stint.Stats) float64 { return s.Wait(.5).Seconds() }},
	{"stint_wait_p99_seconds", "Time from due to start, of runs that started",
		func(s *stint.Stats) float64 { return s.Wait(.99).Seconds() }},
	{"stint_commits", "Transactions", func(s *stint.Stats) float64 { return float64(s.Commits) }},
	{"stint_commit_p99_seconds", "Duration of a commit", func(s *stint.Stats) float64 { return s.Commit(.99).Seconds() }},
}

// writeMinute writes the metrics per task and queue, or those of the whole database.
func writeMinute(b *strings.Builder, head func(name, help string), all []stint.Stats, minute time.Time, perTask bool) {
	metrics := minuteMetrics
	if perTask {
		metrics = taskMetrics
	}
	for _, f := range metrics {
		head(f.name, f.help+" in the last whole minute.")
		for i := range all {
			switch s := &all[i]; {
			case !s.At.Equal(minute):
			case perTask:
				fmt.Fprintf(b, "%s{task=\"%s\",queue=\"%s\"} %g\n", f.name, label(s.Task), label(s.Queue), f.value(s))
			default:
				fmt.Fprintf(b, "%s %g\n", f.name, f.value(s))
			}
		}
	}
}

// label returns a name as the value of a label, which must be UTF-8.
func label(name string) string { return labelEscapes.Replace(strings.ToValidUTF8(name, "\ufffd")) }

var labelEscapes = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

// healthz answers 200 if the database can be written, else 503.
func (h *handler) healthz(w http.ResponseWriter, r *http.Request) {
	if !h.authorize(w, r, Action{Name: "healthz"}) {
		return
	}
	if err := h.c.Healthy(); err != nil {
		h.writeError(w, r, http.StatusServiceUnavailable, err)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	fmt.Fprintln(w, "ok")
}
