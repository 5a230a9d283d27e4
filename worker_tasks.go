package stint

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/stint-dev/stint/internal/check"
	"github.com/stint-dev/stint/internal/jsonx"
	"github.com/stint-dev/stint/store"
)

// WithTasks limits the worker to runs of these tasks. The name of a workflow stands for all its
// tasks, "workflow:task" for one of them. Without the option the worker takes runs of every task
// that its client has a handler for. With WithHandler the names may be of tasks that this program
// does not define. WithTasks with no names is an error, so that an empty list does not mean all.
func WithTasks(names ...string) WorkerOption {
	return workerOption(func(c *workerConfig) error {
		if len(names) == 0 {
			return errors.New("stint: WithTasks: no task is named; without the option the worker takes runs of all")
		}
		for _, n := range names {
			if err := check.Name("task name", n); err != nil {
				return errorf("stint: WithTasks: %w", err)
			}
		}
		c.tasks = append(c.tasks, names...)
		if err := check.Count("tasks", len(c.tasks), check.MaxNames); err != nil {
			return errorf("stint: WithTasks: %w", err)
		}
		return nil
	})
}

// WithHandler makes the worker execute every run with h, which gets the input as JSON and returns
// the output as JSON. Info(ctx) says which task the run is of. With it a program can execute tasks
// whose names it learns when it runs. The other options of a task, such as its retries and
// timeout, are those of its definition in this program or, if it has none, of Client.Define. A
// task without a definition has the defaults. An empty output is stored as null.
//
// Without WithTasks the worker takes runs of every task that its client has defined, with or
// without a function.
func WithHandler(h Handler) WorkerOption {
	return workerOption(func(c *workerConfig) error {
		if h == nil {
			return errors.New("stint: WithHandler(nil): want a function")
		}
		c.handler = h
		return nil
	})
}

// prepareHandler wraps what every handler of the client has around that of WithHandler, and checks
// what it returns.
func (c *Client) prepareHandler(cfg *workerConfig) (err error) {
	h := cfg.handler
	if h == nil {
		return nil
	}
	cfg.handler, err = c.withMiddleware(func(ctx context.Context, input []byte) ([]byte, error) {
		out, err := h(ctx, input)
		if err != nil {
			return nil, err
		}
		return c.checkOutput("the handler", out)
	})
	return err
}

// served is what a worker takes, by name.
type served struct {
	all   bool            // no WithTasks
	names map[string]bool // also, for each "workflow:task", "workflow:"
}

func newServed(names []string) served {
	s := served{all: names == nil, names: map[string]bool{}}
	for _, n := range names {
		s.names[n] = true
		if workflow, _, ok := strings.Cut(n, ":"); ok {
			s.names[store.GraphLane(workflow)] = true
		}
	}
	return s
}

// has reports whether a name is of a task that the worker takes, or of all tasks of a workflow of
// which it takes some.
func (s *served) has(name string) bool {
	if s.all || s.names[name] {
		return true
	}
	task, _, ok := strings.Cut(name, ":")
	return ok && s.names[task]
}

// hasHandler reports whether the worker can execute a task, or, with a colon after the name of a
// workflow, one of its tasks.
func (w *Worker) hasHandler(name string) bool {
	if !w.served.has(name) {
		return false
	}
	w.c.mu.Lock()
	defer w.c.mu.Unlock()
	d := w.c.tasks[name]
	if d != nil && d.handler != nil {
		return true
	}
	workflow, task, within := strings.Cut(name, ":")
	isWorkflow := w.c.tasks[workflow] != nil && w.c.tasks[workflow].workflow != nil || w.c.definitions.isWorkflow(workflow)
	switch {
	case within && task == "": // all tasks of a workflow
		return isWorkflow || w.cfg.handler != nil && !w.served.all
	case w.cfg.handler == nil:
		return false
	case w.served.all:
		return d != nil || w.c.defined[workflow]
	}
	return !within || w.served.names[name] || isWorkflow || !isOwn(name)
}

// isOwn reports whether the name is of a task that belongs to another one's function.
func isOwn(name string) bool {
	return strings.HasSuffix(name, onEventSuffix) || strings.HasSuffix(name, onFailureSuffix)
}

// taskOf returns the definition of a claimed run's task, or nil if the worker has no handler for it.
func (w *Worker) taskOf(r *store.Claimed) *taskDef {
	if !w.hasHandler(r.Task) {
		return nil
	}
	d := w.c.task(r.Task)
	if w.cfg.handler == nil || d != nil && d.handler != nil && (isOwn(d.name) || d.hookOf != nil) {
		return d
	}
	if d == nil {
		return w.definedTask(r)
	}
	own := *d
	own.handler = w.cfg.handler
	return &own
}

// definedTask returns the task of a run that was made by a definition, if it was, with the worker's handler.
// A run whose definition was changed by other means fails; one whose definition cannot be read at present
// comes back.
func (w *Worker) definedTask(r *store.Claimed) *taskDef {
	own := taskDef{name: r.Task, handler: w.cfg.handler}
	version := jsonx.Texts(r.Metadata)[store.MetaVersion]
	if version == "" {
		return &own
	}
	d, err := w.c.definitionOf(context.Background(), r.Task, version)
	switch {
	case err != nil && w.c.unavailable(err):
		own.handler = func(context.Context, []byte) ([]byte, error) { return nil, Snooze(retryStore) }
	case err != nil:
		own.handler = func(context.Context, []byte) ([]byte, error) { return nil, NonRetryable(errorf("stint: %w", err)) }
	case d != nil:
		if d = d.within(r.Task); d != nil {
			own = *d
			own.handler = d.checked(w.cfg.handler)
		}
	}
	return &own
}

// readDefinitions reads the definitions of the tasks that the worker names: a claim asks what they cost. It
// leaves out those that cannot be used.
func (w *Worker) readDefinitions(ctx context.Context) error {
	if w.cfg.handler == nil {
		return nil
	}
	for _, task := range w.cfg.tasks {
		name, _, _ := strings.Cut(task, ":")
		if w.c.definitions.last(name) != nil || w.c.task(name) != nil {
			continue
		}
		if _, err := w.c.definition(ctx, name); err != nil && w.c.unavailable(err) {
			return wrapStoreErr("worker: read the definitions of its tasks", err)
		}
	}
	return nil
}

// handledTasks returns the tasks and workflows that the worker has handlers for.
func (w *Worker) handledTasks() []string {
	c := w.c
	c.mu.Lock()
	defer c.mu.Unlock()
	names := []string{}
	for name, d := range c.tasks {
		if w.served.has(name) && (d.handler != nil || d.workflow != nil || w.cfg.handler != nil) {
			names = append(names, name)
		}
	}
	if w.cfg.handler != nil {
		others := w.cfg.tasks
		if w.served.all {
			others = slices.Collect(maps.Keys(c.defined))
		}
		for _, name := range others {
			names = append(names, name, store.GraphLane(name)) // any task of a workflow of that name
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// definedTasks returns the tasks and workflows of the client, with or without handlers.
func (c *Client) definedTasks() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Collect(maps.Keys(c.tasks))
}

// storeTasks stores which tasks the worker has, if more were defined since.
func (w *Worker) storeTasks(ctx context.Context) error {
	w.c.mu.Lock()
	defined := len(w.c.tasks) + len(w.c.defined)
	w.c.mu.Unlock()
	if defined == w.definedCount {
		return nil
	}
	tasks := w.handledTasks()
	if !slices.Equal(tasks, w.storedTasks) {
		if _, err := w.c.store.Register(ctx, store.WorkerInfo{ID: w.id, Tasks: tasks}); err != nil {
			return err
		}
	}
	w.definedCount, w.storedTasks = defined, tasks
	return nil
}
