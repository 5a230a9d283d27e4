package hatchet

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strings"

	"github.com/google/uuid"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/hatchet/internal/wire"
)

const maxBulk = 1_000 // runs or events in a call

// TriggerWorkflow starts a run. If its idempotency key is in use, the error names the run that has it.
func (s rpc) TriggerWorkflow(ctx context.Context, r *wire.TriggerWorkflowRequest) (*wire.TriggerWorkflowResponse, error) {
	id, collision, err := s.trigger(ctx, r)
	if err != nil {
		return nil, err
	}
	if collision != nil {
		return nil, collided("v1.IdempotencyCollisionError", collision)
	}
	return &wire.TriggerWorkflowResponse{WorkflowRunId: id}, nil
}

// trigger starts a run, or returns the run that has its idempotency key. A child that its parent has started before is
// returned as if it were new.
func (s *Server) trigger(ctx context.Context, r *wire.TriggerWorkflowRequest) (string, *wire.IdempotencyCollision, error) {
	run, err := s.newRun(r)
	if err != nil {
		return "", nil, err
	}
	got, err := s.c.EnqueueJSONMany(ctx, []stint.JSONRun{run})
	if err != nil {
		return "", nil, invalidRun(err)
	}
	if c := collisionOf(r, got[0]); c != nil {
		return "", c, nil
	}
	return got[0].ID, nil, nil
}

// collisionOf returns that a run was not started because another has its idempotency key, or nil.
func collisionOf(r *wire.TriggerWorkflowRequest, got stint.Enqueued) *wire.IdempotencyCollision {
	if !got.Existing || r.ChildIndex != nil && parentOf(r) != "" { // TypeScript numbers runs of a bulk that have no parent, too
		return nil
	}
	return &wire.IdempotencyCollision{ExistingRunExternalId: got.ID, CollidingRunExternalId: uuid.NewString()}
}

// textCollision is the text by which SDKs know that an idempotency key is in use.
const textCollision = "idempotency key collision"

// collided returns the status of a run, or runs, whose idempotency key is in use. SDKs find its detail by the name.
func collided(name string, detail proto.Message) error {
	body, err := proto.Marshal(detail)
	if err != nil {
		return err
	}
	return status.FromProto(&spb.Status{Code: int32(codes.AlreadyExists), Message: textCollision,
		Details: []*anypb.Any{{TypeUrl: "type.googleapis.com/" + name, Value: body}}}).Err()
}

// BulkTriggerWorkflow starts runs, in one commit and in order. Those whose idempotency key is in use are named by the error; the others
// are started all the same.
func (s rpc) BulkTriggerWorkflow(ctx context.Context, r *wire.BulkTriggerWorkflowRequest) (*wire.BulkTriggerWorkflowResponse, error) {
	if len(r.Workflows) < 1 || len(r.Workflows) > maxBulk {
		return nil, invalid("%d workflows: want 1 to %d", len(r.Workflows), maxBulk)
	}
	runs := make([]stint.JSONRun, len(r.Workflows))
	for i, w := range r.Workflows {
		var err error
		if runs[i], err = s.newRun(w); err != nil {
			return nil, err
		}
	}
	got, err := s.c.EnqueueJSONMany(ctx, runs)
	if err != nil {
		return nil, invalidRun(err)
	}
	resp, all := &wire.BulkTriggerWorkflowResponse{}, &wire.BulkIdempotencyCollision{}
	for i := range got {
		if c := collisionOf(r.Workflows[i], got[i]); c != nil {
			all.Collisions = append(all.Collisions, c)
		} else {
			resp.WorkflowRunIds = append(resp.WorkflowRunIds, got[i].ID)
		}
	}
	if len(all.Collisions) > 0 {
		all.SuccessfulWorkflowRunExternalIds = resp.WorkflowRunIds
		return nil, collided("v1.BulkTriggerIdempotencyCollisionError", all)
	}
	return resp, nil
}

// newRun checks a request. The caller may name a task that the host defines.
func (s *Server) newRun(r *wire.TriggerWorkflowRequest) (n stint.JSONRun, err error) {
	w := s.catalog.workflow(r.Name)
	if w == nil && !s.hostHas(r.Name) {
		return n, invalid("workflow names not found: %.255s", r.Name)
	}
	n.Task = r.Name
	if n.Input, err = object("input", r.Input); err != nil {
		return n, err
	}
	meta, err := metadataOf(r.GetAdditionalMetadata())
	if err != nil {
		return n, err
	}
	childOptions(&n, r, meta)
	if len(meta) > 0 {
		n.Options = append(n.Options, stint.WithMetadata(meta))
	}
	if r.Priority != nil {
		if err := checkPriority(r.GetPriority()); err != nil {
			return n, err
		}
		n.Options = append(n.Options, stint.WithPriority(int(r.GetPriority())))
	}
	if id := r.GetDesiredWorkerId(); id != "" {
		n.Options = append(n.Options, stint.WithWorker(id, w != nil && w.Hard))
	}
	wants, err := affinities(r.DesiredWorkerLabels)
	if len(wants) > 0 {
		n.Options = append(n.Options, stint.WithAffinity(wants...))
	}
	return n, err
}

// childOptions makes a run the child of the one that the request names, and says so in the metadata. A child inherits its
// parent's metadata, so what does not hold for it is set to nothing.
func childOptions(n *stint.JSONRun, r *wire.TriggerWorkflowRequest, meta map[string]string) {
	parent := parentOf(r)
	if parent == "" {
		return
	}
	n.Options = append(n.Options, stint.WithParent(parent))
	meta[metaParentRun], meta[metaParentTask], meta[metaChildIndex], meta[metaChildKey] = r.GetParentId(), parent, "", r.GetChildKey()
	if r.ChildIndex == nil {
		return
	}
	meta[metaChildIndex] = itoa(int(r.GetChildIndex()))
	key := meta[metaChildIndex]
	if r.GetChildKey() != "" {
		key = "key." + r.GetChildKey()
	}
	n.Options = append(n.Options, stint.WithChildKey(key))
}

// parentOf returns the ID of the run that starts the one of the request, or "".
func parentOf(r *wire.TriggerWorkflowRequest) string {
	if task := r.GetParentTaskRunExternalId(); task != "" {
		return task
	}
	return r.GetParentId()
}

// hostHas reports whether the host's program defines the task or workflow.
func (s *Server) hostHas(name string) bool {
	for _, t := range s.c.ListTasks() {
		if t.Name == name {
			return true
		}
	}
	return false
}

func checkPriority(p int32) error {
	if p < 1 || p > 3 {
		return invalid("priority %d: want 1 to 3", p)
	}
	return nil
}

// object returns a JSON object, or an error that names what is none; "" is the empty object.
func object(what, text string) (json.RawMessage, error) {
	if text == "" {
		return json.RawMessage("{}"), nil
	}
	trimmed := strings.TrimLeft(text, " \t\r\n")
	if !json.Valid([]byte(text)) || !strings.HasPrefix(trimmed, "{") {
		return nil, invalid("%s is not a JSON object", what)
	}
	if strings.Contains(text, `\u0000`) {
		return nil, invalid("%s has a NUL character", what)
	}
	return json.RawMessage(text), nil
}

// metadataOf returns the metadata of a JSON object. Values that are no strings become their JSON.
func metadataOf(text string) (map[string]string, error) {
	body, err := object("additional_metadata", text)
	if err != nil {
		return nil, err
	}
	var values map[string]json.RawMessage
	if err := json.Unmarshal(body, &values); err != nil {
		return nil, invalid("additional_metadata: %v", err)
	}
	meta := make(map[string]string, len(values))
	for k, v := range values {
		var text string
		if json.Unmarshal(v, &text) != nil {
			text = string(v)
		}
		meta[k] = text
	}
	maps.DeleteFunc(meta, func(k, _ string) bool { return strings.HasPrefix(k, "stint.") })
	return meta, nil
}

// invalidRun returns the error of an enqueue. Those that are not of the database are of the request.
func invalidRun(err error) error {
	if code := codeOf(err); code != nil {
		return code
	}
	return invalid("%s", strings.TrimPrefix(fmt.Sprint(err), "stint: "))
}
