package hatchet

import (
	"context"
	"time"

	"golang.org/x/time/rate"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/hatchet/internal/wire"
)

// PutRateLimit sets a rate limit: so many units in each window, and as many at once.
func (s rpc) PutRateLimit(ctx context.Context, r *wire.PutRateLimitRequest) (*wire.PutRateLimitResponse, error) {
	window, ok := windows[r.Duration]
	switch {
	case !ok:
		return nil, invalid("rate limit %.255q has duration %v, which is unknown", r.Key, r.Duration)
	case r.Limit < 1:
		return nil, invalid("rate limit %.255q is %d: want at least 1", r.Key, r.Limit)
	}
	if err := s.c.SetRateLimit(ctx, r.Key, rate.Limit(float64(r.Limit)/window.Seconds()), int(r.Limit)); err != nil {
		return nil, invalidRun(err)
	}
	return &wire.PutRateLimitResponse{}, nil
}

// ScheduleWorkflow starts a run at each of the times, in one commit. The ID of a schedule is that of its run.
func (s rpc) ScheduleWorkflow(ctx context.Context, r *wire.ScheduleWorkflowRequest) (*wire.ScheduleWorkflowResponse, error) {
	if len(r.Schedules) < 1 || len(r.Schedules) > maxBulk {
		return nil, invalid("%d schedules: want 1 to %d", len(r.Schedules), maxBulk)
	}
	got, err := s.schedule(ctx, &wire.TriggerWorkflowRequest{Name: r.Name, Input: r.Input, ParentId: r.ParentId,
		ParentTaskRunExternalId: r.ParentTaskRunExternalId, ChildIndex: r.ChildIndex, ChildKey: r.ChildKey,
		AdditionalMetadata: r.AdditionalMetadata, Priority: r.Priority}, r.Schedules)
	if err != nil {
		return nil, err
	}
	now := timestamppb.Now()
	resp := &wire.ScheduleWorkflowResponse{Id: s.versionOf(r.Name), WorkflowId: idOf("workflow", r.Name), CreatedAt: now, UpdatedAt: now,
		Order: 1}
	if w := s.catalog.workflow(r.Name); w != nil {
		resp.Version = w.Version
	}
	for i := range got {
		resp.ScheduledWorkflows = append(resp.ScheduledWorkflows, &wire.ScheduledRun{Id: got[i].ID, TriggerAt: r.Schedules[i]})
	}
	return resp, s.dropNew(ctx)
}

// schedule starts a run at each of the times.
func (s *Server) schedule(ctx context.Context, r *wire.TriggerWorkflowRequest, times []*timestamppb.Timestamp) ([]stint.Enqueued, error) {
	runs := make([]stint.JSONRun, len(times))
	for i, at := range times {
		if err := at.CheckValid(); err != nil {
			return nil, invalid("schedule %d: %v", i, err)
		}
		run, err := s.newRun(r)
		if err != nil {
			return nil, err
		}
		run.Options = append(run.Options, stint.WithRunAt(at.AsTime()))
		runs[i] = run
	}
	got, err := s.c.EnqueueJSONMany(ctx, runs)
	if err != nil {
		return nil, invalidRun(err)
	}
	for i := range got {
		if c := collisionOf(r, got[i]); c != nil {
			return nil, collided("v1.IdempotencyCollisionError", c)
		}
	}
	return got, nil
}

// TriggerWorkflowRun starts a run, as TriggerWorkflow does.
func (s rpc) TriggerWorkflowRun(ctx context.Context, r *wire.TriggerWorkflowRunRequest) (*wire.TriggerWorkflowRunResponse, error) {
	meta := string(r.AdditionalMetadata)
	got, err := s.TriggerWorkflow(ctx, &wire.TriggerWorkflowRequest{Name: r.WorkflowName, Input: string(r.Input), AdditionalMetadata: &meta,
		Priority: r.Priority, DesiredWorkerLabels: r.DesiredWorkerLabels})
	if err != nil {
		return nil, err
	}
	return &wire.TriggerWorkflowRunResponse{ExternalId: got.WorkflowRunId}, nil
}

// CancelTasks cancels runs, and returns those that had not ended.
func (s rpc) CancelTasks(ctx context.Context, r *wire.TasksRequest) (*wire.TasksResponse, error) {
	return s.actOnTasks(ctx, r, s.cancelRun)
}

// ReplayTasks runs runs again, and returns those that it did.
func (s rpc) ReplayTasks(ctx context.Context, r *wire.TasksRequest) (*wire.TasksResponse, error) {
	return s.actOnTasks(ctx, r, s.replayRun)
}

func (s *Server) actOnTasks(ctx context.Context, r *wire.TasksRequest, act runAction) (*wire.TasksResponse, error) {
	sel := &restSelection{IDs: r.ExternalIds}
	if f := r.Filter; f != nil {
		sel.Filter = &restFilter{Statuses: f.Statuses, Workflows: f.WorkflowIds, Metadata: f.AdditionalMetadata}
		if f.Since != nil {
			sel.Filter.Since = f.Since.AsTime()
		}
		if f.Until != nil {
			until := f.Until.AsTime()
			sel.Filter.Until = &until
		}
	}
	ids, err := s.actOn(ctx, sel, act)
	return &wire.TasksResponse{ExternalIds: ids}, err
}

// windowOf returns the window of a rate limit that admits burst units in it.
func windowOf(limit rate.Limit, burst int) time.Duration {
	if limit <= 0 || limit == rate.Inf {
		return 0
	}
	return time.Duration(float64(burst) / float64(limit) * float64(time.Second)).Round(time.Millisecond)
}
