package hatchet

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/stint-dev/stint"
)

// maxCounted is the highest number of active runs that figures for each workflow or task count.
const maxCounted = 10_000

type restQueueMetrics struct {
	Queued  int `json:"numQueued"`
	Running int `json:"numRunning"`
	Pending int `json:"numPending"` // they wait for a time, an event, a child or a limit
}

type restTaskStat struct {
	Queued  *restStatusStat `json:"queued,omitempty"`
	Running *restStatusStat `json:"running,omitempty"`
}

type restStatusStat struct {
	Total  int            `json:"total"`
	Queues map[string]int `json:"queues"`
	Oldest *time.Time     `json:"oldest,omitempty"`
}

// handleMetrics registers what is asked of figures, and the test of an expression.
func (s *Server) handleMetrics(handle func(pattern string, h restHandler)) {
	handle("GET "+tenantPath+"/queue-metrics", s.queueMetrics)
	handle("GET "+tenantPath+"/step-run-queue-metrics", func(r *http.Request) (any, error) {
		queues, err := s.queueLengths(r.Context())
		return map[string]any{"queues": queues}, err
	})
	handle("GET "+tenantPath+"/task-stats", s.taskStats)
	handle("GET "+tenantPath+"/prometheus-metrics", s.prometheus)
	handle("GET "+listPath+"/task-metrics", s.taskMetrics)
	handle("GET /api/v1/workflows/{workflow}/metrics", s.workflowMetrics)
	handle("POST "+listPath+"/cel/debug", debugExpr)
}

// queueLengths returns how many runs of each queue may start.
func (s *Server) queueLengths(ctx context.Context) (map[string]int, error) {
	all, err := s.c.ListQueues(ctx)
	lengths := make(map[string]int, len(all))
	for _, q := range all {
		lengths[q.Name] = q.Ready
	}
	return lengths, err
}

// activeRuns calls each with the runs that have not ended, newest first, up to maxCounted of them.
func (s *Server) activeRuns(ctx context.Context, f stint.RunFilter, each func(*stint.RunInfo)) error {
	f.Limit = maxPage
	f.States = []stint.State{stint.StateScheduled, stint.StateQueued, stint.StateBlocked, stint.StateRunning, stint.StateWaiting}
	for n := 0; n < maxCounted; {
		page, err := s.c.ListRuns(ctx, f)
		if err != nil {
			return err
		}
		for i := range page.Runs {
			each(&page.Runs[i])
		}
		if f.Cursor = page.Next; f.Cursor == "" {
			return nil
		}
		n += len(page.Runs)
	}
	return nil
}

func (m *restQueueMetrics) count(st stint.State, n int) {
	switch st {
	case stint.StateQueued:
		m.Queued += n
	case stint.StateRunning:
		m.Running += n
	case stint.StateScheduled, stint.StateWaiting, stint.StateBlocked:
		m.Pending += n
	}
}

func (s *Server) queueMetrics(r *http.Request) (any, error) {
	q := r.URL.Query()
	f := stint.RunFilter{Flat: true}
	var err error
	if f.Metadata, err = pairsOf(q["additionalMetadata"]); err != nil {
		return nil, err
	}
	if ids := q["workflows"]; len(ids) > 0 {
		f.Tasks = s.names(ids)
	}
	workflows := map[string]*restQueueMetrics{}
	var total restQueueMetrics
	if err := s.activeRuns(r.Context(), f, func(info *stint.RunInfo) {
		if workflows[info.Task] == nil {
			workflows[info.Task] = &restQueueMetrics{}
		}
		workflows[info.Task].count(info.State, 1)
		total.count(info.State, 1)
	}); err != nil {
		return nil, err
	}
	queues, err := s.queueLengths(r.Context())
	return map[string]any{"total": total, "workflow": workflows, "queues": queues}, err
}

// taskStats returns how many runs of each task wait for a worker, and how many one has.
func (s *Server) taskStats(r *http.Request) (any, error) {
	stats := map[string]*restTaskStat{}
	err := s.activeRuns(r.Context(), stint.RunFilter{}, func(info *stint.RunInfo) {
		if info.Workflow || info.State != stint.StateQueued && info.State != stint.StateRunning {
			return
		}
		name := s.newTaskRun(info).Readable
		if stats[name] == nil {
			stats[name] = &restTaskStat{}
		}
		stat := &stats[name].Queued
		if info.State == stint.StateRunning {
			stat = &stats[name].Running
		}
		if *stat == nil {
			*stat = &restStatusStat{Queues: map[string]int{}}
		}
		(*stat).Total++
		(*stat).Queues[info.Queue]++
		if c := info.Created; (*stat).Oldest == nil || c.Before(*(*stat).Oldest) {
			(*stat).Oldest = &c
		}
	})
	return stats, err
}

// taskMetrics returns how many tasks that a request selects have each status.
func (s *Server) taskMetrics(r *http.Request) (any, error) {
	f, err := s.filterOf(r.URL.Query())
	if err != nil {
		return nil, err
	}
	if f.Tasks != nil {
		f.Tasks = s.taskNames(f.Tasks)
	}
	f.DryRun = true
	rows := []map[string]any{}
	for _, status := range []string{"QUEUED", "RUNNING", "COMPLETED", "FAILED", "CANCELLED"} {
		if f.States, err = states([]string{status}); err != nil {
			return nil, err
		}
		count := s.c.DeleteRuns
		if status == "QUEUED" || status == "RUNNING" {
			count = s.c.CancelRuns
		}
		n, err := count(r.Context(), f)
		if err != nil {
			return nil, err
		}
		rows = append(rows, map[string]any{"status": status, "count": n})
	}
	return rows, nil
}

// workflowMetrics returns how many keys the concurrency limits of a workflow have, and how many runs one of them, or all.
func (s *Server) workflowMetrics(r *http.Request) (any, error) {
	w, err := s.workflowByID(r)
	if err != nil {
		return nil, err
	}
	all, err := s.c.ListConcurrency(r.Context())
	if err != nil {
		return nil, err
	}
	runs, keys, status := 0, map[string]bool{}, r.URL.Query().Get("status")
	for _, l := range all {
		if name, _, _ := strings.Cut(l.Name, "/"); name != w.Name && !strings.HasPrefix(name, w.Name+":") {
			continue
		}
		keys[l.Key] = true
		if !wants(r.URL.Query().Get("groupKey"), l.Key) {
			continue
		}
		if status != "QUEUED" {
			runs += l.Active
		}
		if status != "RUNNING" {
			runs += l.Waiting
		}
	}
	return map[string]int{"groupKeyRunsCount": runs, "groupKeyCount": len(keys)}, nil
}

// debugExpr computes a filter's expression for an event that is not published.
func debugExpr(r *http.Request) (any, error) {
	var body struct {
		Expression string          `json:"expression"`
		Input      json.RawMessage `json:"input"`
		Payload    json.RawMessage `json:"filterPayload"`
		Metadata   json.RawMessage `json:"additionalMetadata"`
	}
	if err := readJSON(r, &body); err != nil {
		return nil, err
	}
	meta, err := metadataOf(string(asObject(body.Metadata)))
	if err != nil {
		return nil, err
	}
	f, err := stint.CompileExpr[bool](body.Expression, "input", "payload", "metadata", "additional_metadata")
	var passes bool
	if err == nil {
		passes, err = f(stint.ExprVars{Input: asObject(body.Input), Payload: asObject(body.Payload), Metadata: meta})
	}
	if err != nil {
		return map[string]any{"status": "ERROR", "error": strings.TrimPrefix(err.Error(), "stint: ")}, nil
	}
	return map[string]any{"status": "SUCCESS", "output": passes}, nil
}
