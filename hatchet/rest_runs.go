package hatchet

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/hatchet/internal/wire"
)

const (
	tenantPath = "/api/v1/tenants/{tenant}"
	stablePath = "/api/v1/stable"
	listPath   = stablePath + "/tenants/{tenant}"
)

// handleRuns registers what is asked of runs.
func (s *Server) handleRuns(handle func(pattern string, h restHandler)) {
	handle("GET "+listPath+"/workflow-runs", s.listRuns)
	handle("GET "+listPath+"/workflow-runs/external-ids", s.listRunIDs)
	handle("POST "+listPath+"/workflow-runs/trigger", s.triggerRun)
	handle("GET "+stablePath+"/workflow-runs/{run}", s.getRun)
	handle("GET "+stablePath+"/workflow-runs/{run}/status", func(r *http.Request) (any, error) {
		info, err := s.run(r.Context(), r.PathValue("run"))
		if err != nil {
			return nil, err
		}
		tasks, err := s.taskRuns(r.Context(), info)
		if err != nil {
			return nil, err
		}
		return statusText(runState(info, tasks)), nil
	})
	handle("GET "+stablePath+"/tasks/{run}", func(r *http.Request) (any, error) {
		info, err := s.run(r.Context(), r.PathValue("run"))
		if err != nil {
			return nil, err
		}
		return s.restTask(info), nil
	})
	handle("POST "+listPath+"/tasks/cancel", func(r *http.Request) (any, error) { return s.actOnRuns(r, s.cancelRun) })
	handle("POST "+listPath+"/tasks/replay", func(r *http.Request) (any, error) { return s.actOnRuns(r, s.replayRun) })
	handle("POST "+stablePath+"/tasks/{run}/restore", func(r *http.Request) (any, error) {
		ok, err := s.restore(r.Context(), r.PathValue("run"))
		return map[string]bool{"requeued": ok}, err
	})
	handle("POST "+listPath+"/durable-tasks/branch", s.branch)
	handle("GET "+tenantPath+"/workflow-runs/{run}/shape", func(r *http.Request) (any, error) {
		info, err := s.run(r.Context(), r.PathValue("run"))
		if err != nil {
			return nil, err
		}
		return s.getDetails(r.Context(), info)
	})
}

// restTask returns a run as REST lists it.
func (s *Server) restTask(info *stint.RunInfo) restTask {
	run := s.newTaskRun(info)
	r := restTask{Metadata: restMeta{info.ID, info.Created, updated(info)}, ID: info.ID, AdditionalMetadata: shownMetadata(info.Metadata),
		Attempt: info.Attempt, CreatedAt: info.Created, DisplayName: displayName(run.Readable, info),
		Duration:     millis(info.Started, info.Finished),
		ErrorMessage: run.Error, FinishedAt: orNil(info.Finished), IdempotencyKey: info.Key, Input: asObject(info.Input),
		Output: asObject(run.Output), IsEvicted: s.evicted(info), ParentTask: info.ParentID, RetryCount: max(0, info.Executions-1),
		StartedAt: orNil(info.Started), Status: statusText(run.State), TaskExternalID: info.ID, TaskID: numberOf(info.ID),
		TaskInsertedAt: info.Created, TenantID: s.tenant, Type: "TASK", WorkflowRunID: info.ID}
	name, _, _ := strings.Cut(info.Task, ":")
	r.WorkflowName, r.WorkflowID = name, idOf("workflow", name)
	if w := s.catalog.workflow(name); w != nil {
		r.WorkflowVersionID = w.versionID()
	}
	if info.Workflow {
		r.Type = "DAG"
	}
	if t := run.task; t != nil {
		r.ActionID, r.StepID, r.IsDurable, r.WorkflowRunID = t.Action, t.stepID(), t.Durable, t.workflowRun(info)
		if !t.standalone() {
			r.ParentTask = ""
		}
	}
	return r
}

// displayName returns what a run is called: programs look for the name before the time.
func displayName(name string, info *stint.RunInfo) string {
	return name + "-" + strconv.FormatInt(info.Created.UnixMilli(), 10)
}

// numberOf returns a number for a run: SDKs want one, and do nothing with it.
func numberOf(run string) int64 {
	id, err := uuid.Parse(run)
	if err != nil {
		return 0
	}
	sec, nsec := id.Time().UnixTime()
	return sec*1000 + nsec/1e6
}

// updated returns when a run last changed.
func updated(info *stint.RunInfo) time.Time {
	return slices.MaxFunc([]time.Time{info.Created, info.Started, info.Finished}, time.Time.Compare)
}

// A restDetails is a run with all that belongs to it.
type restDetails struct {
	Run    restRun         `json:"run"`
	Tasks  []restTask      `json:"tasks"`
	Events []restTaskEvent `json:"taskEvents"`
	Shape  []restShape     `json:"shape"`
}

func (s *Server) getRun(r *http.Request) (any, error) {
	info, err := s.run(r.Context(), r.PathValue("run"))
	if err != nil {
		return nil, err
	}
	return s.getDetails(r.Context(), info)
}

func (s *Server) getDetails(ctx context.Context, info *stint.RunInfo) (any, error) {
	tasks, err := s.taskRuns(ctx, info)
	if err != nil {
		return nil, err
	}
	whole := s.restTask(info)
	if !over(info) {
		whole.FinishedAt, whole.Duration = nil, nil
	}
	d := restDetails{Tasks: []restTask{}, Events: []restTaskEvent{}, Shape: s.shapeOf(info, tasks)}
	d.Run = restRun{Metadata: whole.Metadata, ID: info.ID, Status: statusText(runState(info, tasks)), StartedAt: whole.StartedAt,
		FinishedAt: whole.FinishedAt, CreatedAt: info.Created, Duration: whole.Duration, TenantID: s.tenant,
		AdditionalMetadata: whole.AdditionalMetadata, DisplayName: whole.DisplayName, WorkflowID: whole.WorkflowID,
		WorkflowVersionID: whole.WorkflowVersionID, Input: whole.Input, Output: whole.Output, ErrorMessage: whole.ErrorMessage,
		ParentTask: whole.ParentTask}
	for i := range tasks {
		if tasks[i].info == nil {
			continue
		}
		d.Tasks = append(d.Tasks, s.restTask(tasks[i].info))
		d.Events = append(d.Events, s.timelineOf(&tasks[i])...)
	}
	return d, nil
}

func (s *Server) shapeOf(info *stint.RunInfo, tasks []taskRun) []restShape {
	shape := []restShape{}
	for i := range tasks {
		t := &tasks[i]
		item := restShape{TaskExternalID: t.id(info.ID), StepID: idOf("step", t.Name), TaskName: t.Readable, Children: []string{}}
		_, within, _ := strings.Cut(t.Name, ":")
		for j := range info.Tasks {
			if slices.Contains(info.Tasks[j].Parents, within) {
				item.Children = append(item.Children, idOf("step", info.Task+":"+info.Tasks[j].Name))
			}
		}
		shape = append(shape, item)
	}
	return shape
}

// timelineOf returns how a task's run went, as REST names it. An attempt after which there is another has failed, too.
func (s *Server) timelineOf(t *taskRun) []restTaskEvent {
	names := map[stint.State]string{stint.StateScheduled: "QUEUED", stint.StateQueued: "QUEUED", stint.StateRunning: "STARTED",
		stint.StateWaiting: "DURABLE_EVICTED", stint.StateBlocked: "REQUEUED_NO_WORKER", stint.StateSucceeded: "FINISHED",
		stint.StateFailed: "FAILED", stint.StateCanceled: "CANCELLED", stint.StateSkipped: "SKIPPED"}
	var events []restTaskEvent
	for _, e := range t.info.Timeline {
		ev := restTaskEvent{TaskID: t.ID, Timestamp: e.At, Type: names[e.State], Message: e.State.String(),
			ErrorMessage: e.Error, TaskName: t.Readable, RetryCount: max(0, e.Attempt-1), Attempt: e.Attempt}
		if isUUID(e.Worker) {
			ev.WorkerID = e.Worker
		}
		if ev.Type == "QUEUED" && e.Error != "" {
			ev.Type = "FAILED"
			events = append(events, ev)
			ev.Type, ev.ErrorMessage = "RETRYING", ""
		}
		events = append(events, ev)
	}
	for i := range events {
		events[i].ID = int64(i + 1)
	}
	return events
}

// states returns those that a status stands for.
func states(texts []string) (found []stint.State, err error) {
	all := map[string][]stint.State{
		"QUEUED":    {stint.StateScheduled, stint.StateQueued, stint.StateBlocked},
		"RUNNING":   {stint.StateRunning, stint.StateWaiting},
		"COMPLETED": {stint.StateSucceeded, stint.StateSkipped}, "FAILED": {stint.StateFailed}, "CANCELLED": {stint.StateCanceled},
	}
	for _, text := range texts {
		some, ok := all[strings.ToUpper(text)]
		if !ok {
			return nil, invalid("status %.100q is unknown", text)
		}
		found = append(found, some...)
	}
	return found, nil
}

// filterOf returns the filter of a request for runs.
func (s *Server) filterOf(q url.Values) (f stint.RunFilter, err error) {
	if f.Since, err = timeOf(q, "since"); err != nil {
		return f, err
	}
	if f.Until, err = timeOf(q, "until"); err != nil {
		return f, err
	}
	if f.States, err = states(q["statuses"]); err != nil {
		return f, err
	}
	if f.Metadata, err = runMetadata(q["additional_metadata"]); err != nil {
		return f, err
	}
	f.ParentID = q.Get("parent_task_external_id")
	if ids := q["workflow_ids"]; len(ids) > 0 {
		f.Tasks = s.names(ids)
	}
	switch v := q.Get("additional_metadata_operator"); v {
	case "AND":
	case "", "OR":
		if len(f.Metadata) > 0 {
			f.Metadata, f.AnyMetadata = map[string]string{}, map[string][]string{}
		}
		for _, pair := range q["additional_metadata"] {
			k, v, _ := strings.Cut(pair, ":")
			k = storedKey(k)
			f.AnyMetadata[k] = append(f.AnyMetadata[k], v)
		}
	default:
		return f, invalid("additional_metadata_operator is %.100q: want AND or OR", v)
	}
	if id := q.Get("triggering_event_external_id"); id != "" {
		f.Metadata[stint.MetaEvent] = id
	}
	return f, nil
}

// names returns the names of the workflows with the IDs; never nil.
func (s *Server) names(ids []string) []string {
	names := []string{}
	for _, w := range s.catalog.all() {
		if slices.Contains(ids, w.id()) {
			names = append(names, w.Name)
		}
	}
	return names
}

// taskNames returns the names of the workflows' tasks.
func (s *Server) taskNames(workflows []string) []string {
	names := []string{}
	for _, name := range workflows {
		if w := s.catalog.workflow(name); w != nil {
			names = slices.AppendSeq(names, maps.Keys(w.Tasks))
		}
	}
	return names
}

// listRuns lists runs, newest first: of tasks, or else those that are not a task of a workflow's run.
func (s *Server) listRuns(r *http.Request) (any, error) {
	rows, more, p, err := s.findRuns(r)
	if err != nil {
		return nil, err
	}
	tasks := make([]restTask, len(rows))
	for i := range rows {
		tasks[i] = s.restTask(&rows[i])
		if tasks[i].Children, err = s.tasksOf(r.Context(), &rows[i]); err != nil {
			return nil, err
		}
	}
	return restList{p.page(more), tasks}, nil
}

// tasksOf returns the runs of a workflow's tasks that have begun; of another run, none.
func (s *Server) tasksOf(ctx context.Context, info *stint.RunInfo) ([]restTask, error) {
	if !info.Workflow {
		return nil, nil
	}
	whole, err := s.run(ctx, info.ID)
	if err != nil {
		return nil, err
	}
	var ids []string
	for i := range whole.Tasks {
		if id := whole.Tasks[i].RunID; id != "" {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return nil, nil
	}
	page, err := s.c.ListRuns(ctx, stint.RunFilter{IDs: ids, Limit: maxPage})
	if err != nil {
		return nil, err
	}
	tasks := make([]restTask, len(page.Runs))
	for i := range page.Runs {
		tasks[i] = s.restTask(&page.Runs[i])
	}
	return tasks, nil
}

func (s *Server) listRunIDs(r *http.Request) (any, error) {
	rows, _, _, err := s.findRuns(r)
	if err != nil {
		return nil, err
	}
	ids := []string{}
	for i := range rows {
		ids = append(ids, rows[i].ID)
	}
	return ids, nil
}

// findRuns returns the page of runs that a request asks for, and whether there are more.
func (s *Server) findRuns(r *http.Request) (rows []stint.RunInfo, more bool, p pageQuery, err error) {
	q := r.URL.Query()
	if p, err = newPageQuery(q); err != nil {
		return nil, false, p, err
	}
	f, err := s.filterOf(q)
	if err != nil {
		return nil, false, p, err
	}
	onlyTasks, worker := q.Get("only_tasks") == "true", q.Get("worker_id")
	if onlyTasks && f.Tasks != nil {
		f.Tasks = s.taskNames(f.Tasks)
	}
	f.Limit = maxPage
	for skip := p.offset; ; {
		page, err := s.c.ListRuns(r.Context(), f)
		if err != nil {
			return nil, false, p, err
		}
		for i := range page.Runs {
			run := &page.Runs[i]
			isPart := strings.Contains(run.Task, ":")
			switch {
			case run.State == stint.StateScheduled && run.Executions == 0: // a schedule is no run before its time
			case onlyTasks && run.Workflow, !onlyTasks && isPart && f.ParentID == "", worker != "" && run.Worker != worker:
			case !isOne(q["idempotency_keys"], run.Key), !s.runsAs(q.Get("running_filter"), run):
			case skip > 0:
				skip--
			case len(rows) == p.limit:
				return rows, true, p, nil
			default:
				rows = append(rows, *run)
			}
		}
		if page.Next == "" {
			return rows, false, p, nil
		}
		f.Cursor = page.Next
	}
}

// runsAs reports whether a run that is running is where a request wants it: on a worker, or unloaded by it.
func (s *Server) runsAs(where string, run *stint.RunInfo) bool {
	if where != "EVICTED" && where != "ON_WORKER" || run.State != stint.StateRunning && run.State != stint.StateWaiting {
		return true
	}
	return s.evicted(run) == (where == "EVICTED")
}

// triggerRun starts a run.
func (s *Server) triggerRun(r *http.Request) (any, error) {
	var body struct {
		Name     string          `json:"workflowName"`
		Input    json.RawMessage `json:"input"`
		Metadata json.RawMessage `json:"additionalMetadata"`
		Priority *int32          `json:"priority"`
		OnlyID   bool            `json:"return_only_id"`
	}
	if err := readJSON(r, &body); err != nil {
		return nil, err
	}
	meta := string(body.Metadata)
	if meta == "null" {
		meta = ""
	}
	got, err := rpc{Server: s}.TriggerWorkflow(r.Context(), &wire.TriggerWorkflowRequest{Name: body.Name, Input: string(body.Input),
		AdditionalMetadata: &meta, Priority: body.Priority})
	if err != nil {
		return nil, err
	}
	info, err := s.run(r.Context(), got.WorkflowRunId)
	if err != nil {
		return nil, err
	}
	return s.getDetails(r.Context(), info)
}
