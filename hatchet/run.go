package hatchet

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/hatchet/internal/wire"
)

// textCanceled is the error of a run that was canceled.
const textCanceled = "task was cancelled"

// skipped is the output of a task that was skipped.
var skipped = json.RawMessage(`{"skipped":true}`)

// A taskRun is the run of a task, as part of a workflow's run or by itself.
type taskRun struct {
	ID, Name, Readable, Error string // ID "": it has not begun; Name is stint's
	State                     stint.State
	Output                    json.RawMessage
	info                      *stint.RunInfo // of the run; nil if there is none yet
	task                      *task          // nil: of the host
}

// taskRuns returns the runs of a run's tasks, parents first: itself, unless it is of a workflow.
func (s *Server) taskRuns(ctx context.Context, info *stint.RunInfo) ([]taskRun, error) {
	runs := s.taskEnds(info)
	for i := range runs {
		if runs[i].info != nil || runs[i].ID == "" {
			continue
		}
		of, err := s.c.GetRun(ctx, runs[i].ID)
		if err != nil {
			return nil, err
		}
		runs[i] = s.newTaskRun(of)
	}
	return runs, nil
}

// taskEnds returns what the run itself says of the runs of its tasks, parents first. It is all there is to say of how they ended.
func (s *Server) taskEnds(info *stint.RunInfo) []taskRun {
	if !info.Workflow {
		return []taskRun{s.newTaskRun(info)}
	}
	runs := make([]taskRun, 0, len(info.Tasks))
	for i := range info.Tasks {
		t := &info.Tasks[i]
		run := taskRun{ID: t.RunID, Name: info.Task + ":" + t.Name, State: t.State, Error: t.Error}
		s.describe(&run)
		run.explain(t.Output)
		runs = append(runs, run)
	}
	return runs
}

func (s *Server) newTaskRun(info *stint.RunInfo) taskRun {
	t := taskRun{ID: info.ID, Name: info.Task, State: s.stateOf(info), Error: info.Error, info: info}
	s.describe(&t)
	t.explain(info.Output)
	return t
}

// describe sets what the protocol says of the task.
func (s *Server) describe(t *taskRun) {
	if t.info == nil || !t.info.Workflow { // a former version of the workflow may have been a task
		t.task = s.catalog.task(t.Name)
	}
	if t.task != nil {
		t.Readable = t.task.Readable
		return
	}
	_, within, ok := strings.Cut(t.Name, ":")
	if t.Readable = within; !ok {
		t.Readable = t.Name
	}
}

// explain sets what SDKs are told of how the run ended: an output, or an error that is not empty.
func (t *taskRun) explain(output json.RawMessage) {
	switch t.State {
	case stint.StateSucceeded:
		t.Output, t.Error = output, ""
	case stint.StateSkipped:
		t.Output, t.Error = skipped, ""
	case stint.StateFailed:
		switch {
		case t.Error == "":
			t.Error = "task failed"
		case t.task != nil && strings.HasPrefix(t.Error, stint.ErrTimeout.Error()):
			t.Error = "Task exceeded timeout of " + t.task.Timeout.String() // programs look for these words
		}
	case stint.StateCanceled:
		if t.Error == "" || t.Error == stint.ErrCanceled.Error() {
			t.Error = textCanceled
		} else {
			t.Error = textCanceled + ": " + t.Error
		}
	}
}

// final reports whether a state is one in which a run stays.
func final(st stint.State) bool {
	switch st {
	case stint.StateSucceeded, stint.StateFailed, stint.StateCanceled, stint.StateSkipped:
		return true
	}
	return false
}

// statusOfState returns the protocol's status of a run.
func statusOfState(st stint.State) wire.RunStatus {
	switch st {
	case stint.StateRunning, stint.StateWaiting:
		return wire.RunStatus_RUN_RUNNING
	case stint.StateSucceeded, stint.StateSkipped:
		return wire.RunStatus_RUN_COMPLETED
	case stint.StateFailed:
		return wire.RunStatus_RUN_FAILED
	case stint.StateCanceled:
		return wire.RunStatus_RUN_CANCELLED
	}
	return wire.RunStatus_RUN_QUEUED
}

// statusText returns the protocol's name of a run's status.
func statusText(st stint.State) string {
	return [...]string{"QUEUED", "RUNNING", "COMPLETED", "FAILED", "CANCELLED"}[statusOfState(st)]
}

// evicted reports whether the SDK has unloaded a durable run while it waits. It is RUNNING all the same.
func (s *Server) evicted(info *stint.RunInfo) bool {
	if info.State != stint.StateWaiting {
		return false
	}
	t := s.catalog.task(info.Task)
	return t != nil && t.Durable
}

// stateOf returns the state that a task's run is shown in: it is running once its worker has said so.
func (s *Server) stateOf(info *stint.RunInfo) stint.State {
	if info.State == stint.StateRunning {
		if e := s.execution(info.ID, nil); e != nil && !e.hasStarted() {
			return stint.StateQueued
		}
	}
	return info.State
}

// onFailureRun returns the ID of the run of a run's on-failure task, or "" if none is under way.
func onFailureRun(info *stint.RunInfo) string {
	for i := range info.Tasks {
		if t := &info.Tasks[i]; t.Name == onFailure && !final(t.State) {
			return t.RunID
		}
	}
	return ""
}

// over reports whether a run has ended for SDKs: for them the on-failure task is one of its tasks, though the engine runs
// it beside and after the others.
func over(info *stint.RunInfo) bool { return final(info.State) && onFailureRun(info) == "" }

// runState returns the state that a run is shown in: that of a workflow is running from when a task of it has begun until
// its on-failure task has ended.
func runState(info *stint.RunInfo, tasks []taskRun) stint.State {
	if over(info) {
		return info.State
	}
	if !info.Workflow {
		return tasks[0].State
	}
	for i := range tasks {
		if tasks[i].State != stint.StateBlocked && tasks[i].State != stint.StateQueued && tasks[i].State != stint.StateScheduled {
			return stint.StateRunning
		}
	}
	return stint.StateQueued
}

// GetRunDetails returns a workflow's run and the runs of its tasks.
func (s rpc) GetRunDetails(ctx context.Context, r *wire.GetRunDetailsRequest) (*wire.GetRunDetailsResponse, error) {
	info, err := s.run(ctx, r.ExternalId)
	if err != nil {
		return nil, err
	}
	tasks, err := s.taskRuns(ctx, info)
	if err != nil {
		return nil, err
	}
	meta, err := json.Marshal(shownMetadata(info.Metadata))
	if err != nil {
		return nil, err
	}
	resp := &wire.GetRunDetailsResponse{Input: info.Input, Status: statusOfState(runState(info, tasks)), Done: over(info),
		AdditionalMetadata: meta, TaskRuns: make(map[string]*wire.TaskRunDetail, len(tasks))}
	for i := range tasks {
		t := &tasks[i]
		if t.info == nil && !final(t.State) { // it waits for others
			continue
		}
		d := &wire.TaskRunDetail{ExternalId: t.id(info.ID), Status: statusOfState(t.State), Output: t.Output, ReadableId: t.Readable,
			IsEvicted: t.info != nil && s.evicted(t.info)}
		if t.Error != "" && t.State != stint.StateCanceled {
			d.Error = proto.String(t.Error)
		}
		resp.IsEvicted = resp.IsEvicted || d.IsEvicted
		resp.TaskRuns[t.Readable] = d
	}
	return resp, nil
}

// id returns the ID of the task's run. One that has not begun has none yet; it gets one that belongs to nothing.
func (t *taskRun) id(workflowRun string) string {
	if t.ID != "" {
		return t.ID
	}
	return idOf("unstarted", workflowRun, t.Readable)
}

// run returns a run, or that of an error that names the ID.
func (s *Server) run(ctx context.Context, id string) (*stint.RunInfo, error) {
	info, err := s.c.GetRun(ctx, id)
	if errors.Is(err, stint.ErrNotFound) {
		return nil, notFound("no run has the ID %.100s", id)
	}
	return info, err
}

// millis returns how long a run took in milliseconds, or nil if it has not ended.
func millis(start, end time.Time) *int64 {
	if start.IsZero() || end.IsZero() {
		return nil
	}
	d := end.Sub(start).Milliseconds()
	return &d
}
