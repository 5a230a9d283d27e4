package stint

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/stint-dev/stint/store"
)

// A TaskDefinition is what this client's program says of a task or workflow.
type TaskDefinition struct {
	Name        string
	Workflow    bool
	Handler     bool // the program works it, and does not only enqueue it
	Queue       string
	Priority    int
	Retries     int
	Timeout     time.Duration // 0: none
	Crons       []string
	Events      []string
	EventFilter string
	SlotCost    int
	BatchSize   int             // 0: not a batch task
	Input       json.RawMessage // JSON schema of the input
	Example     json.RawMessage // the zero input
	Tasks       []TaskInfo      // of a workflow: name, parents and queue
}

// ListTasks lists the tasks and workflows that are defined on this client, by name. The
// tasks of a workflow stand with it.
func (c *Client) ListTasks() []TaskDefinition {
	c.mu.Lock()
	defs := slices.Collect(maps.Values(c.tasks))
	c.mu.Unlock()
	var all []TaskDefinition
	for _, d := range defs {
		if d.node == nil && d.hookOf == nil && !strings.Contains(d.name, ":") {
			all = append(all, d.definition(c))
		}
	}
	slices.SortFunc(all, func(a, b TaskDefinition) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

func (d *taskDef) definition(c *Client) TaskDefinition {
	t := TaskDefinition{
		Name: d.name, Workflow: d.workflow != nil, Handler: d.handler != nil, Queue: d.cfg.run.queue, Priority: d.cfg.run.priority, Retries: d.cfg.retries,
		Timeout: d.cfg.timeout, Crons: d.cfg.crons, Events: d.cfg.events, EventFilter: d.cfg.eventFilter, SlotCost: max(d.cfg.slotCost, 1),
		BatchSize: d.cfg.batch.size, Input: jsonSchema(d.cfg.in),
	}
	t.Example, _ = c.encode(d.zero) // one that has no JSON has no example
	if w := d.workflow; w != nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, n := range w.nodes {
			t.Handler = t.Handler || n.def.handler != nil
			info := TaskInfo{Name: n.name, Queue: n.graph.Queue, State: StateBlocked}
			for _, p := range n.graph.Parents {
				info.Parents = append(info.Parents, w.nodes[p].name)
			}
			t.Tasks = append(t.Tasks, info)
		}
	}
	return t
}

// EnqueueJSON enqueues a run of the task or workflow of that name with an input that is
// JSON already. If it is defined on this client, all that its definition says holds, and
// the input must be one of its type; else it is a run that another program works, with
// the options that are given here alone.
func (c *Client) EnqueueJSON(ctx context.Context, task string, input json.RawMessage, opts ...RunOption) (*Run[json.RawMessage], error) {
	r, err := c.newJSONRun(ctx, task, input, opts)
	if err != nil {
		return nil, errorf("stint: enqueue %q: %w", task, err)
	}
	got, err := c.enqueueDurably(ctx, r.now, r.tx, []store.NewRun{r.NewRun})
	if err != nil {
		return nil, wrapStoreErr(fmt.Sprintf("enqueue %q", task), err)
	}
	return &Run[json.RawMessage]{c: c, id: got[0].ID, existing: got[0].Existing}, nil
}

type jsonRun struct {
	store.NewRun
	now time.Time
	tx  store.Tx
}

func (c *Client) newJSONRun(ctx context.Context, task string, input json.RawMessage, opts []RunOption) (r jsonRun, err error) {
	if err := checkName("task name", task); err != nil {
		return r, err
	}
	if !json.Valid(input) {
		return r, errors.New("the input is not JSON")
	}
	if len(input) > c.cfg.maxPayload {
		return r, fmt.Errorf("input of %d bytes: want at most %d (WithMaxPayload)", len(input), c.cfg.maxPayload)
	}
	c.mu.Lock()
	def := c.tasks[task]
	c.mu.Unlock()
	switch {
	case def == nil && strings.Contains(task, ":"), def != nil && (def.node != nil || def.hookOf != nil):
		return r, errors.New("it is started by its task or workflow alone")
	case def == nil:
		def = &taskDef{name: task, cfg: taskConfig{run: runConfig{priority: PriorityDefault, queue: DefaultQueue}}}
	}
	rc, err := def.runConfig(ctx, c, opts)
	if err != nil {
		return r, err
	}
	r.now, r.tx = time.Now(), rc.tx
	r.NewRun = rc.newRun(def, c, r.now)
	r.Route, r.Input = def.route(c.localExecution(ctx)), input
	if def.workflow != nil {
		if r.Graph, err = def.workflow.freeze(); err != nil {
			return r, err
		}
	}
	if def.prepare == nil {
		return r, nil
	}
	return r, def.prepare(input, &r.NewRun)
}
