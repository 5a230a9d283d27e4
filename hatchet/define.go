package hatchet

import (
	"context"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/hatchet/internal/wire"
)

const (
	maxTasks  = 1_000 // of a workflow
	onFailure = stint.OnFailureName
)

// PutWorkflow defines a workflow, or a task that stands alone, or a new version of it.
func (s rpc) PutWorkflow(ctx context.Context, r *wire.PutWorkflowRequest) (*wire.PutWorkflowResponse, error) {
	s.catalog.putMu.Lock()
	defer s.catalog.putMu.Unlock()
	if err := s.catalog.refresh(ctx); err != nil {
		return nil, err
	}
	former := s.catalog.workflow(r.Name)
	d, err := definitionOf(r)
	if err != nil {
		return nil, err
	}
	hosts, err := s.hostDefinition(ctx, &d, former)
	if err != nil {
		return nil, err
	}
	var w *workflow
	if hosts != nil {
		w, err = newImplementation(r, &d, hosts, former)
	} else {
		w, err = s.define(ctx, r, d, former)
	}
	if err != nil || same(w, former) {
		return w.response(), err
	}
	if err := s.catalog.put(ctx, w); err != nil {
		return nil, err
	}
	s.reclaim()
	return w.response(), nil
}

// define makes d the definition of a workflow that is the SDKs', and returns its record.
func (s *Server) define(ctx context.Context, r *wire.PutWorkflowRequest, d stint.Definition, former *workflow) (*workflow, error) {
	w, err := newWorkflow(r, standalone(r), former)
	if err != nil {
		return nil, err
	}
	if w.Version, err = s.c.Define(ctx, d); err != nil {
		return nil, invalidRun(err)
	}
	return w, s.pauseNewCrons(ctx, w.Name)
}

func (w *workflow) response() *wire.PutWorkflowResponse {
	if w == nil {
		return nil
	}
	return &wire.PutWorkflowResponse{Id: w.versionID(), WorkflowId: w.id()}
}

// same reports whether two records of a workflow say the same.
func same(w, former *workflow) bool {
	return former != nil && w.Version == former.Version && w.Host == former.Host && w.Description == former.Description &&
		w.Hard == former.Hard && slices.Equal(w.Order, former.Order) && reflect.DeepEqual(w.Tasks, former.Tasks)
}

// newWorkflow returns the record of a workflow, or, if alone, of a task. That of the former version may be nil.
func newWorkflow(r *wire.PutWorkflowRequest, alone bool, former *workflow) (*workflow, error) {
	tasks := r.Tasks
	if r.OnFailureTask != nil {
		tasks = append(tasks[:len(tasks):len(tasks)], r.OnFailureTask)
	}
	if len(r.Tasks) == 0 || len(tasks) > maxTasks {
		return nil, invalid("workflow %.255q has %d tasks: want 1 to %d", r.Name, len(r.Tasks), maxTasks)
	}
	w := &workflow{Name: r.Name, Description: r.Description, Created: time.Now(), Updated: time.Now(), Tasks: map[string]*task{},
		Hard: r.Sticky != nil && r.GetSticky() == wire.Sticky_STICKY_HARD}
	if former != nil {
		w.Created = former.Created
		for name, t := range former.Tasks {
			w.Tasks[name] = t
		}
	}
	for _, d := range tasks {
		t, err := newTask(r.Name, d)
		if err != nil {
			return nil, err
		}
		switch {
		case d == r.OnFailureTask:
			t.Name = r.Name + ":" + onFailure
		case !alone:
			t.Name = r.Name + ":" + d.ReadableId
		}
		w.Tasks[t.Name] = t
		w.Order = append(w.Order, t.Name)
	}
	return w, nil
}

func newTask(workflow string, d *wire.TaskDefinition) (*task, error) {
	t := &task{Workflow: workflow, Name: workflow, Readable: d.ReadableId, Action: strings.ToLower(d.Action), Durable: d.IsDurable,
		Slots: slotsOf(d), Parents: d.Parents, Retries: int(d.Retries)}
	service, name, ok := strings.Cut(d.Action, ":")
	switch {
	case d.ReadableId == "":
		return nil, invalid("a task of workflow %.255q has no name", workflow)
	case !ok || service == "" || name == "" || strings.Contains(name, ":"):
		return nil, invalid("task %.255q has action %.255q: want service:name", d.ReadableId, d.Action)
	case d.Inputs != "" && !json.Valid([]byte(d.Inputs)):
		return nil, invalid("task %.255q: inputs is not JSON", d.ReadableId)
	}
	for pool, n := range d.SlotRequests {
		if pool != poolDefault && pool != poolDurable || n < 0 || n > maxSlots {
			return nil, invalid("task %.255q takes %d slots of pool %.100q: want 0 to %d of %s or %s", d.ReadableId, n, pool, maxSlots,
				poolDefault, poolDurable)
		}
	}
	timeout, err := duration(d.ReadableId, "timeout", d.Timeout, defaultTimeout)
	t.Timeout = timeout
	if d.Batch != nil && err == nil {
		t.Batch, err = newBatchSpec(d.ReadableId, d.Batch)
	}
	return t, err
}

// slotsOf returns how many slots of each pool a run takes.
func slotsOf(d *wire.TaskDefinition) map[string]int {
	slots := make(map[string]int, len(d.SlotRequests))
	for pool, n := range d.SlotRequests {
		slots[pool] = int(n)
	}
	return slots
}

// reclaim makes the workers claim the tasks that their actions now have.
func (s *Server) reclaim() {
	for _, w := range s.allWorkers() {
		w.reclaim()
	}
}
