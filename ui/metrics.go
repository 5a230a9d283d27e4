package ui

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/stint-dev/stint"
)

// metrics writes figures in the text format of Prometheus,
// https://prometheus.io/docs/instrumenting/exposition_formats/. What happened is of the
// last whole minute, as gauges: the file keeps minutes, over restarts and processes.
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
	for _, s := range []stint.State{stint.StateScheduled, stint.StateQueued, stint.StateRunning, stint.StateWaiting, stint.StateBlocked} {
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
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	w.Write([]byte(b.String()))
}

func writeMinute(b *strings.Builder, head func(name, help string), all []stint.Stats, minute time.Time, perTask bool) {
	figures := []struct {
		name, help string
		of         func(*stint.Stats) float64
		perTask    bool
	}{
		{"stint_task_enqueued", "Runs that were made in the last whole minute.", func(s *stint.Stats) float64 { return float64(s.Enqueued) }, true},
		{"stint_task_started", "Executions that started in the last whole minute.", func(s *stint.Stats) float64 { return float64(s.Started) }, true},
		{"stint_task_succeeded", "Runs that succeeded in the last whole minute.", func(s *stint.Stats) float64 { return float64(s.Succeeded) }, true},
		{"stint_task_failed", "Runs that failed in the last whole minute.", func(s *stint.Stats) float64 { return float64(s.Failed) }, true},
		{"stint_task_retried", "Attempts that failed, and were not the last, in the last whole minute.", func(s *stint.Stats) float64 { return float64(s.Retried) }, true},
		{"stint_task_duration_p95_seconds", "Time from start to end, of those that ended in the last whole minute.", func(s *stint.Stats) float64 { return s.Duration(.95).Seconds() }, true},
		{"stint_wait_p50_seconds", "Time from due to start, of those that started in the last whole minute.", func(s *stint.Stats) float64 { return s.Wait(.5).Seconds() }, false},
		{"stint_wait_p99_seconds", "Time from due to start, of those that started in the last whole minute.", func(s *stint.Stats) float64 { return s.Wait(.99).Seconds() }, false},
		{"stint_commits", "Transactions in the last whole minute.", func(s *stint.Stats) float64 { return float64(s.Commits) }, false},
		{"stint_commit_p99_seconds", "Time that a commit took, in the last whole minute.", func(s *stint.Stats) float64 { return s.Commit(.99).Seconds() }, false},
	}
	for _, f := range figures {
		if f.perTask != perTask {
			continue
		}
		head(f.name, f.help)
		for i := range all {
			switch s := &all[i]; {
			case !s.At.Equal(minute):
			case perTask:
				fmt.Fprintf(b, "%s{task=\"%s\",queue=\"%s\"} %g\n", f.name, label(s.Task), label(s.Queue), f.of(s))
			default:
				fmt.Fprintf(b, "%s %g\n", f.name, f.of(s))
			}
		}
	}
}

// label is a name as the value of a label, which is UTF-8.
func label(name string) string { return labelEscapes.Replace(strings.ToValidUTF8(name, "\ufffd")) }

var labelEscapes = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

// healthz answers load balancers: 200 if the database can be written, else 503.
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
