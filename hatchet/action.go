package hatchet

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/hatchet/internal/wire"
)

// Keys of a run's metadata that SDKs know.
const (
	metaParentRun  = "hatchet__parent_workflow_run_id"
	metaParentTask = "hatchet__parent_step_run_id"
	metaChildIndex = "hatchet__child_index"
	metaChildKey   = "hatchet__child_key"
)

// payload is the content of AssignedAction.action_payload.
type payload struct {
	Input       json.RawMessage            `json:"input"`
	TriggeredBy string                     `json:"triggered_by"`
	Parents     map[string]json.RawMessage `json:"parents"`
	Triggers    map[string]any             `json:"triggers"`
	UserData    any                        `json:"user_data"`
	Overrides   any                        `json:"overrides"`
	StepErrors  map[string]string          `json:"step_run_errors,omitempty"`
}

// newAction returns the action that tells the worker to execute e.
func (s *Server) newAction(ctx context.Context, e *execution) (*wire.AssignedAction, error) {
	info, t := &e.info, e.task
	p, err := s.payloadOf(ctx, e)
	if err != nil {
		return nil, err
	}
	body, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}
	meta, err := json.Marshal(shownMetadata(info.Metadata))
	if err != nil {
		return nil, err
	}
	a := &wire.AssignedAction{
		TenantId: s.tenant, WorkflowRunId: t.workflowRun(info), JobId: t.stepID(), JobName: t.Readable, JobRunId: info.ID,
		TaskId: t.stepID(), TaskRunExternalId: info.ID, ActionId: t.Action, TaskName: t.Readable, ActionPayload: string(body),
		RetryCount: e.retry(), AdditionalMetadata: proto.String(string(meta)), Priority: int32(info.Priority),
	}
	if w := s.catalog.workflow(t.Workflow); w != nil {
		a.WorkflowId, a.WorkflowVersionId = proto.String(w.id()), proto.String(w.versionID())
	}
	if t.Durable {
		a.DurableTaskInvocationCount = proto.Int32(int32(info.Executions))
	}
	if id := info.Metadata[stint.MetaEvent]; id != "" {
		a.TriggeringEventExternalId, a.TriggeringEventKey = proto.String(id), proto.String(info.Metadata[stint.MetaEventKey])
	}
	if parent := info.Metadata[metaParentRun]; parent != "" {
		a.ParentWorkflowRunId = proto.String(parent)
	}
	if n, err := strconv.Atoi(info.Metadata[metaChildIndex]); err == nil {
		a.ChildWorkflowIndex = proto.Int32(int32(n))
	}
	if key := info.Metadata[metaChildKey]; key != "" {
		a.ChildWorkflowKey = proto.String(key)
	}
	return a, nil
}

// workflowRun returns the ID of the workflow's run that a task's run belongs to.
func (t *task) workflowRun(info *stint.RunInfo) string {
	if t.standalone() {
		return info.ID
	}
	return info.ParentID
}

// payloadOf returns what the worker gets of a run's input and of what came before it.
func (s *Server) payloadOf(ctx context.Context, e *execution) (*payload, error) {
	p := &payload{Input: e.info.Input, TriggeredBy: "manual", Parents: map[string]json.RawMessage{}, Triggers: map[string]any{}}
	var filter json.RawMessage
	if err := stint.FilterPayload(ctx, &filter); err == nil {
		p.Triggers["filter_payload"] = filter
	} else {
		p.Triggers["filter_payload"] = nil
	}
	if e.task.standalone() {
		return p, nil
	}
	return p, p.addWorkflow(ctx, strings.HasSuffix(e.task.Name, ":"+onFailure))
}

// addWorkflow adds what a task of a workflow gets of the tasks before it, and of the conditions that let it start. Of the
// on-failure task all have come before it.
func (p *payload) addWorkflow(ctx context.Context, afterFailure bool) error {
	before, err := stint.EarlierOutputs(ctx)
	if err != nil {
		return err
	}
	for _, name := range before.Names() {
		switch output, err := before.JSON(name); {
		case err == nil:
			p.Parents[name] = asObject(output)
		case errors.Is(err, stint.ErrSkipped):
			p.Parents[name] = skipped
		}
	}
	if afterFailure {
		return p.addErrors(ctx)
	}
	fired, err := stint.Triggers(ctx)
	for key, data := range fired {
		p.Triggers[key] = asObject(data)
	}
	return err
}

// addErrors adds the errors of the tasks that have failed.
func (p *payload) addErrors(ctx context.Context) error {
	failure, err := stint.WorkflowFailure(ctx)
	if err != nil {
		return err
	}
	p.StepErrors = map[string]string{}
	for name, err := range failure.Tasks {
		if !errors.Is(err, stint.ErrCanceled) {
			p.StepErrors[name] = err.Error()
		}
	}
	return nil
}

// shownMetadata returns a run's metadata without what the engine keeps there, unless the protocol has it too.
func shownMetadata(m map[string]string) map[string]string {
	shown := make(map[string]string, len(m))
	for k, v := range m {
		if !strings.HasPrefix(k, "stint.") && !(v == "" && strings.HasPrefix(k, "hatchet__")) {
			shown[k] = v
		}
	}
	for key, of := range shownAs {
		if v := m[of]; v != "" {
			shown[key] = v
		}
	}
	return shown
}

// runMetadata returns the metadata by which runs are asked for, given as key:value under the names that SDKs see.
func runMetadata(texts []string) (map[string]string, error) {
	pairs, err := pairsOf(texts)
	named := make(map[string]string, len(pairs))
	for k, v := range pairs {
		named[storedKey(k)] = v
	}
	return named, err
}

// storedKey returns the key of metadata that SDKs see under a name.
func storedKey(name string) string { return cmp.Or(shownAs[name], name) }

// shownAs has the names under which SDKs see metadata of stint's.
var shownAs = map[string]string{"hatchet__event_id": stint.MetaEvent, "hatchet__event_key": stint.MetaEventKey,
	"hatchet__cron_name": stint.MetaCron, "hatchet__cron_scheduled_at": stint.MetaTick}
