package hatchet

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/hatchet/internal/wire"
)

// A batchSpec says how runs of a task are gathered.
type batchSpec struct {
	Size     int           `json:"size"`
	Interval time.Duration `json:"interval"`
	Key      string        `json:"key"` // an expression
	AtOnce   int           `json:"at_once"`
}

// Defaults and bounds of batches.
const (
	defaultInterval = time.Second
	defaultKey      = "'default'"
	defaultAtOnce   = 100
	maxBatch        = 10_000

	// Runs that wait for others of their batch release their slots, so that the others can come. Beyond these
	// bounds, of a worker, they keep them.
	maxGathered      = 10_000
	maxGatheredBytes = 64 << 20
	batchOverhead    = 64 << 10 // of a message, beside the payloads
)

// runVars are the variables of an expression over a run.
var runVars = []string{"input", "metadata", "additional_metadata", "workflow_run_id"}

func newBatchSpec(task string, b *wire.BatchConfig) (*batchSpec, error) {
	spec := &batchSpec{Size: int(b.BatchMaxSize), Interval: defaultInterval, Key: defaultKey, AtOnce: defaultAtOnce}
	if b.BatchMaxIntervalMs != nil {
		spec.Interval = time.Duration(b.GetBatchMaxIntervalMs()) * time.Millisecond
	}
	if b.GetBatchGroupKey() != "" {
		spec.Key = b.GetBatchGroupKey()
	}
	if b.BatchGroupMaxRuns != nil {
		spec.AtOnce = int(b.GetBatchGroupMaxRuns())
	}
	if spec.Size < 1 || spec.Size > maxBatch || spec.Interval <= 0 || spec.AtOnce < 1 {
		return nil, invalid("task %.255q: batches of %d within %v, %d at once: want 1 to %d, more than 0, at least 1", task, spec.Size,
			spec.Interval, spec.AtOnce, maxBatch)
	}
	if _, err := stint.CompileExpr[string](spec.Key, runVars...); err != nil {
		return nil, invalid("task %.255q: batch_group_key: %v", task, err)
	}
	return spec, nil
}

// keyOf returns the key of a run's batch.
func (b *batchSpec) keyOf(info *stint.RunInfo) (string, error) {
	keyOf, err := stint.CompileExpr[string](b.Key, runVars...)
	if err == nil {
		var key string
		if key, err = keyOf(stint.ExprVars{Input: info.Input, Metadata: info.Metadata, RunID: info.ID}); err == nil {
			return key, nil
		}
	}
	return "", stint.NonRetryable(fmt.Errorf("failed to parse batch group key expression: %w", err))
}

// A batchGroup is the runs of one key that wait for their batch, and the batches of it that the worker has. All of it is
// guarded by the worker's mu.
type batchGroup struct {
	w       *worker
	id      groupKey
	t       *task
	members []*execution  // that wait
	size    int           // bytes of their payloads
	timer   *time.Timer   // of the first of them
	formed  int           // batches that have not ended
	active  int           // of them, those that have a place
	changed chan struct{} // closed when active falls; nil: nobody waits
}

type groupKey struct{ task, key string }

// gather adds a run to its group, and makes a batch if that is full. The run's slots are released while it waits.
func (w *worker) gather(ctx context.Context, e *execution) error {
	key, err := e.task.Batch.keyOf(&e.info)
	if err != nil {
		return err
	}
	p, err := w.s.payloadOf(ctx, e)
	if err != nil {
		return err
	}
	if e.payload, err = json.Marshal(map[string]any{"payload": p, "workflow_run_id": e.task.workflowRun(&e.info)}); err != nil {
		return err
	}
	room := w.s.opts.MaxMessage - batchOverhead
	if len(e.payload) > room {
		return stint.NonRetryable(fmt.Errorf("the payload has %d bytes: want at most %d (Options.MaxMessage)", len(e.payload), room))
	}
	if w.addToGroup(e, groupKey{e.task.Name, key}, room) {
		return stint.ReleaseSlot(ctx)
	}
	return nil
}

// addToGroup adds a run to its group, and reports whether it may release its slots.
func (w *worker) addToGroup(e *execution, id groupKey, room int) (release bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	g := w.groups[id]
	if g == nil {
		g = &batchGroup{w: w, id: id, t: e.task}
		w.groups[id] = g
	}
	g.t = e.task // the newest version's
	e.group, e.gathered = g, time.Now()
	if g.size+len(e.payload) > room {
		g.flush("memory")
	}
	g.members = append(g.members, e)
	g.size += len(e.payload)
	if release = w.gathered < maxGathered && w.gatheredBytes+len(e.payload) <= maxGatheredBytes; release {
		e.counted = true
		w.gathered++
		w.gatheredBytes += len(e.payload)
	}
	switch {
	case len(g.members) >= g.t.Batch.Size:
		g.flush("size")
	case len(g.members) == 1:
		g.timer = time.AfterFunc(g.t.Batch.Interval, func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			g.flush("interval")
		})
	}
	return release
}

// ungather ends what a run counts for, and takes it out of its group if its batch is not formed yet.
func (w *worker) ungather(e *execution) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if e.counted {
		w.gathered--
		w.gatheredBytes -= len(e.payload)
	}
	g := e.group
	if g == nil {
		return
	}
	if i := slices.Index(g.members, e); i >= 0 {
		g.members = slices.Delete(g.members, i, i+1)
		g.size -= len(e.payload)
		g.tidy()
	}
}

// flush makes a batch of the members that wait. The worker's mu is held.
func (g *batchGroup) flush(reason string) {
	members := g.members
	g.members, g.size = nil, 0
	if len(members) > 0 && g.w.s.ctx.Err() == nil {
		b := &batch{g: g, id: uuid.NewString(), members: members, reason: reason, ended: make(chan struct{})}
		b.left.Store(int32(len(members)))
		g.formed++
		g.w.s.wg.Go(b.run)
	}
	g.tidy()
}

// tidy stops the timer if nothing waits, and drops the group if nothing is left of it. The worker's mu is held.
func (g *batchGroup) tidy() {
	if len(g.members) == 0 && g.timer != nil {
		g.timer.Stop()
		g.timer = nil
	}
	if len(g.members) == 0 && g.formed == 0 {
		delete(g.w.groups, g.id)
	}
}

// A batch is runs that the worker gets as one.
type batch struct {
	g       *batchGroup
	id      string
	members []*execution
	reason  string
	left    atomic.Int32  // members that have not ended
	ended   chan struct{} // closed when none is left
}

// memberEnds notes that one of the members has ended.
func (b *batch) memberEnds() {
	if b.left.Add(-1) == 0 {
		close(b.ended)
	}
}

// run sends the batch once there is a slot, and a place among the group's batches, and waits until all its members have
// ended.
func (b *batch) run() {
	ctx, cancel := context.WithCancel(b.g.w.s.ctx)
	defer cancel()
	for _, e := range b.members {
		e.join(b)
	}
	defer b.g.leave()
	if !b.g.enter(ctx, b.ended) {
		return
	}
	defer b.g.exit()
	pool := b.members[0].pool
	n, err := pool.acquire(ctx, b.g.t.slots())
	if err != nil {
		return
	}
	defer pool.release(n)
	if !b.send() {
		for _, e := range b.members {
			e.finish(outcome{err: stint.Snooze(0)})
		}
	}
	select {
	case <-b.ended:
	case <-ctx.Done():
	}
}

// enter waits until fewer batches of the group are active than may be, and reports whether the batch has a place.
func (g *batchGroup) enter(ctx context.Context, ended <-chan struct{}) bool {
	for {
		g.w.mu.Lock()
		if g.active < g.t.Batch.AtOnce {
			g.active++
			g.w.mu.Unlock()
			return true
		}
		if g.changed == nil {
			g.changed = make(chan struct{})
		}
		changed := g.changed
		g.w.mu.Unlock()
		select {
		case <-changed:
		case <-ended:
			return false
		case <-ctx.Done():
			return false
		}
	}
}

func (g *batchGroup) exit() {
	g.w.mu.Lock()
	defer g.w.mu.Unlock()
	g.active--
	if g.changed != nil {
		close(g.changed)
		g.changed = nil
	}
}

func (g *batchGroup) leave() {
	g.w.mu.Lock()
	defer g.w.mu.Unlock()
	g.formed--
	g.tidy()
}

// send sends the batch with the members that have not ended, and reports whether the worker has a stream. The time in
// which they waited for one another does not count against their timeouts.
func (b *batch) send() bool {
	items := make(map[string]json.RawMessage, len(b.members))
	for _, e := range b.members {
		if !e.goesOut() {
			continue
		}
		stint.ExtendTimeout(e.ctx, time.Since(e.gathered)+time.Millisecond) // an attempt that is over needs none
		items[e.info.ID] = e.payload
	}
	body, err := json.Marshal(items)
	if err != nil || len(items) == 0 {
		return len(items) == 0
	}
	t := b.g.t
	return b.g.w.send(&wire.AssignedAction{TenantId: b.g.w.s.tenant, JobId: t.stepID(), JobName: t.Readable, TaskId: t.stepID(),
		TaskName: t.Readable, ActionId: t.Action, ActionType: wire.ActionType_ACTION_START_BATCH, ActionPayload: string(body),
		BatchId: proto.String(b.id), BatchKey: proto.String(b.g.id.key), BatchSize: proto.Int32(int32(len(items))),
		BatchStart: &wire.BatchStart{TriggerReason: b.reason, TriggerTime: timestamppb.Now(), ExpectedSize: int32(len(items))}})
}

// SendBatchActionEvent takes what a worker reports on members of a batch.
func (s rpc) SendBatchActionEvent(ctx context.Context, r *wire.BatchActionEvent) (*wire.WorkerResponse, error) {
	if len(r.Items) == 0 {
		return nil, invalid("a report on a batch has no items")
	}
	var told []*execution
	for _, item := range r.Items {
		e, err := s.reported(ctx, r.WorkerId, item.TaskRunExternalId, item.RetryCount)
		if err != nil {
			return nil, err
		}
		if e != nil && e.isOf(r.GetBatchId()) && e.take(r.EventType, item.EventPayload, item.GetShouldNotRetry()) {
			told = append(told, e)
		}
	}
	if len(told) > 0 {
		if err := s.awaitEnds(ctx, r.EventType, told...); err != nil {
			return nil, err
		}
	}
	return &wire.WorkerResponse{TenantId: s.tenant, WorkerId: r.WorkerId}, nil
}
