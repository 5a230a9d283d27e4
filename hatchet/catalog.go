package hatchet

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/stint-dev/stint"
)

// settingWorkflow and a workflow's name is the key of its record.
const settingWorkflow = "hatchet.workflow."

// A workflow is what the protocol says of a workflow, and stint's definition does not.
type workflow struct {
	Name        string           `json:"name"`
	Description string           `json:"description,omitempty"`
	Hard        bool             `json:"hard,omitempty"` // sticky
	Host        bool             `json:"host,omitempty"` // its definition is the host's: see newImplementation
	Version     string           `json:"version"`        // of stint's definition
	Created     time.Time        `json:"created"`
	Updated     time.Time        `json:"updated"`
	Tasks       map[string]*task `json:"tasks"` // by stint's name, also of former versions: they may have runs
	Order       []string         `json:"order"` // of this version's, as they were declared
}

// A task is one of a workflow, or the only one: then stint's name is the workflow's.
type task struct {
	Workflow string         `json:"workflow"`
	Name     string         `json:"name"`     // stint's
	Readable string         `json:"readable"` // the protocol's, within the workflow
	Action   string         `json:"action"`   // lower case
	Durable  bool           `json:"durable,omitempty"`
	Slots    map[string]int `json:"slots,omitempty"` // by pool
	Parents  []string       `json:"parents,omitempty"`
	Retries  int            `json:"retries,omitempty"`
	Timeout  time.Duration  `json:"timeout,omitempty"`
	Batch    *batchSpec     `json:"batch,omitempty"`
}

// pool returns the pool whose slots a run of the task takes, and slots how many.
func (t *task) pool() string {
	if t.Slots[poolDurable] > 0 || len(t.Slots) == 0 && t.Durable {
		return poolDurable
	}
	return poolDefault
}

func (t *task) slots() int { return max(1, t.Slots[t.pool()]) }

// standalone reports whether a run of the workflow is the run of this task.
func (t *task) standalone() bool { return t.Name == t.Workflow }

func (w *workflow) id() string        { return idOf("workflow", w.Name) }
func (w *workflow) versionID() string { return idOf("version", w.Name, w.Version) }
func (t *task) stepID() string        { return idOf("step", t.Name) }

// A catalog has the workflows that SDKs have defined.
type catalog struct {
	c *stint.Client

	putMu sync.Mutex // held while a workflow is put

	mu        sync.Mutex
	workflows map[string]*workflow
	tasks     map[string]*task
}

// refresh reads what other servers on the database have put.
func (c *catalog) refresh(ctx context.Context) error {
	stored, err := c.c.Settings(ctx, settingWorkflow)
	if err != nil {
		return err
	}
	workflows, tasks := make(map[string]*workflow, len(stored)), map[string]*task{}
	for key, value := range stored {
		w := &workflow{}
		if err := json.Unmarshal(value, w); err != nil {
			return fmt.Errorf("setting %q: %w", key, err)
		}
		workflows[w.Name] = w
		for name, t := range w.Tasks {
			tasks[name] = t
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.workflows, c.tasks = workflows, tasks
	return nil
}

// put stores the record of a workflow.
func (c *catalog) put(ctx context.Context, w *workflow) error {
	stored, err := json.Marshal(w)
	if err != nil {
		return err
	}
	if err := c.c.SetSetting(ctx, settingWorkflow+w.Name, stored); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.workflows[w.Name] = w
	for name, t := range w.Tasks {
		c.tasks[name] = t
	}
	return nil
}

// remove forgets a workflow.
func (c *catalog) remove(ctx context.Context, w *workflow) error {
	if err := c.c.SetSetting(ctx, settingWorkflow+w.Name, nil); err != nil {
		return err
	}
	return c.refresh(ctx)
}

// workflow returns a workflow, or nil.
func (c *catalog) workflow(name string) *workflow {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.workflows[name]
}

// task returns the task with stint's name, or nil.
func (c *catalog) task(name string) *task {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.tasks[name]
}

// all returns every workflow.
func (c *catalog) all() []*workflow {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := make([]*workflow, 0, len(c.workflows))
	for _, w := range c.workflows {
		all = append(all, w)
	}
	return all
}

// tasksOf returns stint's names of the tasks with the actions, by pool.
func (c *catalog) tasksOf(actions []string) map[string][]string {
	wanted := make(map[string]bool, len(actions))
	for _, a := range actions {
		wanted[strings.ToLower(a)] = true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	found := map[string][]string{}
	for name, t := range c.tasks {
		if wanted[t.Action] {
			found[t.pool()] = append(found[t.pool()], name)
		}
	}
	return found
}
