package hatchet

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/hatchet/internal/wire"
)

const (
	defaultSlots = 100
	maxSlots     = 1_000_000
	maxActions   = 10_000
	maxLabels    = 100
	maxName      = 255 // bytes
)

// GetVersion returns the version of Hatchet whose behaviour is served.
func (s rpc) GetVersion(context.Context, *wire.GetVersionRequest) (*wire.GetVersionResponse, error) {
	return &wire.GetVersionResponse{Version: engineVersion}, nil
}

// Register makes a worker of an SDK known.
func (s rpc) Register(ctx context.Context, r *wire.RegisterRequest) (*wire.RegisterResponse, error) {
	rec, err := newRecord(r)
	if err != nil {
		return nil, err
	}
	if err := s.catalog.refresh(ctx); err != nil {
		return nil, err
	}
	w, err := s.adopt(newWorker(s.Server, rec))
	if err != nil {
		return nil, err
	}
	if err := w.save(ctx); err != nil {
		return nil, err
	}
	return &wire.RegisterResponse{TenantId: s.tenant, WorkerId: rec.ID, WorkerName: rec.Name}, nil
}

func newRecord(r *wire.RegisterRequest) (record, error) {
	rec := record{ID: uuid.NewString(), Name: r.WorkerName, Actions: r.Actions, Pools: map[string]int{}, Since: time.Now(),
		Language: r.GetRuntimeInfo().GetLanguage().String(), SDK: r.GetRuntimeInfo().GetSdkVersion(), OS: r.GetRuntimeInfo().GetOs()}
	switch {
	case len(r.WorkerName) > maxName:
		return rec, invalid("the worker's name has %d bytes: want at most %d", len(r.WorkerName), maxName)
	case len(r.Actions) > maxActions:
		return rec, invalid("the worker has %d actions: want at most %d", len(r.Actions), maxActions)
	case r.Slots != nil && len(r.SlotConfig) > 0:
		return rec, invalid("slots and slot_config are set: set one")
	}
	slots := r.SlotConfig
	if len(slots) == 0 {
		slots = map[string]int32{poolDefault: defaultSlots}
		if r.Slots != nil {
			slots[poolDefault] = r.GetSlots()
		}
	}
	for pool, n := range slots {
		if pool != poolDefault && pool != poolDurable {
			return rec, invalid("slot_config has pool %.100q: want %s or %s", pool, poolDefault, poolDurable)
		}
		if n < 0 || n > maxSlots {
			return rec, invalid("slot_config has %d slots in pool %s: want 0 to %d", n, pool, maxSlots)
		}
		rec.Pools[pool] = int(n)
	}
	var err error
	rec.Labels, err = labelsOf(r.Labels)
	return rec, err
}

// labelsOf returns labels as stint has them: texts, of which those that are numbers compare as such.
func labelsOf(labels map[string]*wire.LabelValue) (map[string]string, error) {
	if len(labels) > maxLabels {
		return nil, invalid("%d labels: want at most %d", len(labels), maxLabels)
	}
	all := make(map[string]string, len(labels))
	for k, v := range labels {
		if all[k] = v.GetStrValue(); v != nil && v.IntValue != nil {
			all[k] = strconv.Itoa(int(v.GetIntValue()))
		}
	}
	return all, nil
}

// ListenV2 is the stream on which a worker gets what it shall do. It ends when the worker opens another, is lost, or
// the server ends.
func (s rpc) ListenV2(r *wire.ListenRequest, stream grpc.ServerStreamingServer[wire.AssignedAction]) error {
	ctx := stream.Context()
	w, err := s.worker(ctx, r.WorkerId)
	if err != nil {
		return err
	}
	if err := s.catalog.refresh(ctx); err != nil {
		return err
	}
	q := newSession()
	w.attach(q, s.graceOf(ctx))
	defer w.detach(q)
	if err := stream.SendHeader(nil); err != nil { // the caller sees that it has begun
		return err
	}
	for {
		for _, a := range q.take() {
			if err := stream.Send(a); err != nil {
				return err
			}
		}
		select {
		case <-q.wake:
		case <-q.ended:
			return nil
		case <-s.ctx.Done():
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// graceOf returns how long the runs of a worker stay with it when its connection is gone.
func (s *Server) graceOf(ctx context.Context) time.Duration {
	if s.opts.WorkerGrace > 0 {
		return s.opts.WorkerGrace
	}
	if isLocal(ctx) {
		return loopbackGrace
	}
	return remoteGrace
}

// Heartbeat notes that a worker lives.
func (s rpc) Heartbeat(ctx context.Context, r *wire.HeartbeatRequest) (*wire.HeartbeatResponse, error) {
	w, err := s.worker(ctx, r.WorkerId)
	if err != nil {
		return nil, err
	}
	w.alive()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.session == nil {
		return nil, errNoStream
	}
	return &wire.HeartbeatResponse{}, nil
}

// Unsubscribe ends a worker: it gets no more runs, and may report on those that it has.
func (s rpc) Unsubscribe(ctx context.Context, r *wire.UnsubscribeRequest) (*wire.WorkerResponse, error) {
	w, err := s.worker(ctx, r.WorkerId)
	if err != nil {
		return nil, err
	}
	w.leave()
	return s.workerResponse(w), nil
}

func (s *Server) workerResponse(w *worker) *wire.WorkerResponse {
	return &wire.WorkerResponse{TenantId: s.tenant, WorkerId: w.rec.ID}
}

// UpsertWorkerLabels adds labels to those of a worker.
func (s rpc) UpsertWorkerLabels(ctx context.Context, r *wire.UpsertWorkerLabelsRequest) (*wire.WorkerResponse, error) {
	w, err := s.worker(ctx, r.WorkerId)
	if err != nil {
		return nil, err
	}
	labels, err := labelsOf(r.Labels)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	merged := maps.Clone(w.rec.Labels)
	if merged == nil {
		merged = map[string]string{}
	}
	maps.Copy(merged, labels)
	if len(merged) > maxLabels {
		w.mu.Unlock()
		return nil, invalid("the worker would have %d labels: want at most %d", len(merged), maxLabels)
	}
	w.rec.Labels = merged
	claimers := slices.Clone(w.claimers)
	w.mu.Unlock()
	merged = maps.Clone(merged)
	merged[labelName] = w.rec.Name
	for _, sw := range claimers {
		if err := sw.SetLabels(ctx, merged); err != nil {
			w.reclaim() // it has only begun, or ends: the next has the labels from the start
			break
		}
	}
	return s.workerResponse(w), w.save(ctx)
}

// SendStepActionEvent takes what a worker reports on a run. A report that ends the run is answered when the database
// has it. One on an execution that is no longer the worker's changes nothing.
func (s rpc) SendStepActionEvent(ctx context.Context, r *wire.StepActionEvent) (*wire.WorkerResponse, error) {
	e, err := s.reported(ctx, r.WorkerId, r.TaskRunExternalId, r.RetryCount)
	if e != nil && e.take(r.EventType, r.EventPayload, r.GetShouldNotRetry()) {
		err = s.awaitEnds(ctx, r.EventType, e)
	}
	return &wire.WorkerResponse{TenantId: s.tenant, WorkerId: r.WorkerId}, err
}

// reported returns the execution that a worker reports on, or nil if it is not, or no longer, that worker's. The
// TypeScript SDK gives the worker's name in place of its ID.
func (s *Server) reported(ctx context.Context, id, run string, retry *int32) (*execution, error) {
	e := s.execution(run, retry)
	if !isUUID(id) {
		if e == nil || e.w.rec.Name != id {
			return nil, nil
		}
		e.w.touch()
		return e, nil
	}
	w, err := s.worker(ctx, id)
	if err != nil {
		return nil, err
	}
	w.touch()
	if e == nil || e.w != w {
		return nil, nil
	}
	return e, nil
}

// awaitEnds waits until the database has the outcomes of executions that reports end. Those that the worker has canceled
// are canceled first.
func (s *Server) awaitEnds(ctx context.Context, kind wire.StepEventType, told ...*execution) error {
	if kind == wire.StepEventType_STEP_EVENT_CANCELLED {
		f := stint.RunFilter{}
		for _, e := range told {
			f.IDs = append(f.IDs, e.info.ID)
		}
		if _, err := s.c.CancelRuns(ctx, f); err != nil {
			return err
		}
	}
	for _, e := range told {
		if err := e.awaitStored(ctx); err != nil {
			return err
		}
	}
	return nil
}

// take carries out a report on the execution, and returns whether the report ends it.
func (e *execution) take(kind wire.StepEventType, payload string, isFinal bool) bool {
	e.begins()
	o := outcome{}
	switch kind {
	case wire.StepEventType_STEP_EVENT_COMPLETED:
		if payload == "" {
			payload = "null"
		}
		if o.output = []byte(payload); !json.Valid(o.output) {
			o = outcome{err: stint.NonRetryable(&taskFailure{"the task's output is not JSON"})}
		}
	case wire.StepEventType_STEP_EVENT_FAILED:
		if o.err = (&taskFailure{payload}); isFinal {
			o.err = stint.NonRetryable(o.err)
		}
	case wire.StepEventType_STEP_EVENT_CANCELLED:
		return true // once the run is canceled
	default: // a sign of life
		return false
	}
	e.finish(o)
	return true
}

// A taskFailure is what an SDK said of a failure.
type taskFailure struct{ text string }

func (f *taskFailure) Error() string { return f.text }
