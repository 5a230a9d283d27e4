package stint

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"time"

	"github.com/stint-dev/stint/internal/apperror"
	"github.com/stint-dev/stint/internal/backoff"
	"github.com/stint-dev/stint/internal/check"
	"github.com/stint-dev/stint/internal/clock"
	"github.com/stint-dev/stint/internal/guard"
	"github.com/stint-dev/stint/store"
)

// A TaskOption changes a task, for all its runs. See NewTask. Some are options of workflows or
// steps too: see WorkflowOption and StepOption.
type TaskOption interface {
	applyTask(*taskConfig) error
	WorkflowOption
	StepOption
}

// A RunOption changes one run. It overrides the task's option.
type RunOption interface{ applyRun(*runConfig) error }

// An Option is an option of tasks, for all their runs, and of single runs and crons, where it
// overrides the task's.
type Option interface {
	TaskOption
	RunOption
	CronOption
}

// A ClientOption changes a client. See Open.
type ClientOption interface{ applyClient(*clientConfig) error }

// A WorkerOption changes a worker. See Client.NewWorker.
type WorkerOption interface{ applyWorker(*workerConfig) error }

type (
	taskOption   func(*taskConfig) error
	runOnly      func(*runConfig) error
	runOption    func(*runConfig) error
	clientOption func(*clientConfig) error
	workerOption func(*workerConfig) error
)

func (o taskOption) applyTask(c *taskConfig) error { return o(c) }

func (o runOnly) applyRun(c *runConfig) error { return o(c) }

func (o runOption) applyTask(c *taskConfig) error { return o(&c.run) }

func (o runOption) applyRun(c *runConfig) error { return o(c) }

func (o clientOption) applyClient(c *clientConfig) error { return o(c) }

func (o workerOption) applyWorker(c *workerConfig) error { return o(c) }

// wantTime returns an error if t cannot be stored.
func wantTime(option string, t time.Time) error {
	if err := clock.Check(t); err != nil {
		return errorf("stint: %s: %w", option, err)
	}
	return nil
}

func wantPositive(option string, d time.Duration) error {
	if d <= 0 {
		return fmt.Errorf("stint: %s(%v): want more than 0", option, d)
	}
	return nil
}

// A runConfig has the options of a run, which override those of its task.
type runConfig struct {
	priority    int
	prioritySet bool
	queue       string
	runAt       time.Time
	delay       time.Duration
	key         string
	start       string // the option that says when
	debounce    time.Duration
	keyTTL      time.Duration
	metadata    map[string]string
	detached    bool
	parent      store.ID   // that enqueues the run, or that WithParent names
	named       *store.Run // the parent that WithParent names, once it is read
	parentNamed bool
	childKey    string
	wants       []store.Want
	worker      string
	onlyThere   bool // on no other worker
	tx          store.Tx
}

// WithPriority sets the priority of a run, from -128 to 127: of due runs in a queue, those
// with higher priority start first. The default is PriorityDefault, 2. A run's effective
// priority rises by one for each minute it waits (WithPriorityAgeing). As an option of an event,
// it is the priority of the runs that the event starts.
func WithPriority(p int) PriorityOption { return priorityOption(p) }

// A PriorityOption is an option of tasks, workflows, runs and events.
type PriorityOption interface {
	Option
	EventOption
}

type priorityOption int

func (o priorityOption) check() error {
	if o < -128 || o > 127 {
		return fmt.Errorf("stint: WithPriority(%d): want -128 to 127", int(o))
	}
	return nil
}

func (o priorityOption) applyRun(c *runConfig) error {
	c.priority, c.prioritySet = int(o), true
	return o.check()
}

func (o priorityOption) applyTask(c *taskConfig) error { return o.applyRun(&c.run) }

func (o priorityOption) applyWorkflow(c *workflowConfig) error { return o.applyRun(&c.task.run) }

func (o priorityOption) applyStep(*stepConfig) error { return runOption(nil).applyStep(nil) }

func (o priorityOption) applyCron(c *cronConfig) error { c.run = append(c.run, o); return nil }

func (o priorityOption) applyEvent(c *eventConfig) error {
	p := int8(o)
	c.priority = &p
	return o.check()
}

// WithQueue puts runs into the named queue, which is created by its first use. The default is
// DefaultQueue.
func WithQueue(name string) Option {
	return runOption(func(c *runConfig) error {
		c.queue = name
		if err := check.Name("queue name", name); err != nil {
			return errorf("stint: WithQueue: %w", err)
		}
		return nil
	})
}

// WithMetadata attaches keys and values to a run. Filters find runs by them, and children
// inherit them. They are added to the task's own. Keys and values must be UTF-8, a key at most
// 255 bytes, and all keys and values together at most 64 KiB.
func WithMetadata(m map[string]string) MetadataOption { return metadataOption(m) }

// A MetadataOption is an option of tasks, workflows, runs and events.
type MetadataOption interface {
	Option
	EventOption
}

type metadataOption map[string]string

func (o metadataOption) merge(into *map[string]string) error {
	if err := check.Metadata(o); err != nil {
		return errorf("stint: WithMetadata: %w", err)
	}
	merged := make(map[string]string, len(*into)+len(o))
	maps.Copy(merged, *into)
	maps.Copy(merged, o)
	*into = merged
	// The payload of the filter that started the parent has a bound of its own.
	return check.Size("stint: WithMetadata: metadata",
		check.MetadataSize(merged)-len(merged[store.MetaPayload])+len(o[store.MetaPayload]), check.MaxMetadata)
}

func (o metadataOption) applyRun(c *runConfig) error { return o.merge(&c.metadata) }

func (o metadataOption) applyTask(c *taskConfig) error { return o.merge(&c.run.metadata) }

func (o metadataOption) applyWorkflow(c *workflowConfig) error { return o.merge(&c.task.run.metadata) }

func (o metadataOption) applyStep(*stepConfig) error { return runOption(nil).applyStep(nil) }

func (o metadataOption) applyEvent(c *eventConfig) error { return o.merge(&c.metadata) }

// WithRunAt starts a run at t, or at once if t has passed. A t outside of the years 1 to 9999
// is an error of the enqueue, as is WithRunAt beside WithDelay, WithDebounce or Schedule.
func WithRunAt(t time.Time) RunOption {
	return runOnly(func(c *runConfig) error {
		c.runAt = t
		return errors.Join(c.startsBy("WithRunAt"), wantTime("WithRunAt", t))
	})
}

// WithDelay starts a run after d. A negative d is an error of the enqueue, as is WithDelay beside
// WithRunAt, WithDebounce or Schedule.
func WithDelay(d time.Duration) RunOption {
	return runOnly(func(c *runConfig) error {
		if d < 0 {
			return fmt.Errorf("stint: WithDelay(%v): want 0 or more", d)
		}
		c.delay = d
		return c.startsBy("WithDelay")
	})
}

// WithIdempotencyKey makes an enqueue with a key that the task has used within ttl return a
// handle to the first run, whose Existing is true. With UntilDone as ttl the key is free again
// when that run has ended.
//
// The key lasts for ttl whatever happens to its run: a replay does not prolong it, and if the
// run is deleted, by retention or DeleteRuns, Info and Wait of the handle return ErrNotFound.
func WithIdempotencyKey(key string, ttl time.Duration) RunOption {
	return runOnly(func(c *runConfig) error {
		c.key, c.keyTTL, c.debounce = store.StoredKey(key), ttl, 0
		if err := check.Name("key", key); err != nil {
			return errorf("stint: WithIdempotencyKey: %w", err)
		}
		return checkTTL("WithIdempotencyKey", ttl)
	})
}

// WithDebounce combines enqueues of the task with the same key into one run with the input of
// the last. The run starts once no enqueue has come for wait, at the latest max after the
// first. Later enqueues return a handle to the same run, whose Existing is true. Once the run
// has started, the next enqueue creates another.
//
// The input, the metadata and the limits are those of the last enqueue. The rest, such as the priority,
// the queue, the parent and the routing, is that of the first. With WithDelay, WithRunAt or Schedule the
// enqueue is an error.
func WithDebounce(key string, wait, max time.Duration) RunOption {
	return runOnly(func(c *runConfig) error {
		if err := check.Name("key", key); err != nil {
			return errorf("stint: WithDebounce: %w", err)
		}
		if wait <= 0 || max < wait {
			return fmt.Errorf("stint: WithDebounce(%q, %v, %v): want a wait of more than 0, and a max of at least that", key, wait, max)
		}
		c.key, c.keyTTL, c.debounce = store.DebouncePrefix+key, UntilDone, max
		c.delay = wait
		return c.startsBy("WithDebounce")
	})
}

// WithIdempotency is like WithIdempotencyKey, for every run of a task, with a key computed
// from the input. An empty key means none.
func WithIdempotency[In any](key func(In) string, ttl time.Duration) TaskOption {
	return taskOption(func(c *taskConfig) error {
		if key == nil {
			return errors.New("stint: WithIdempotency: nil key function")
		}
		if err := wantInput[In]("WithIdempotency", c); err != nil {
			return err
		}
		c.idempotency, c.keyTTL = func(in any) string { return key(inputAs[In](in)) }, ttl
		return checkTTL("WithIdempotency", ttl)
	})
}

func checkTTL(option string, ttl time.Duration) error {
	if ttl != UntilDone && ttl <= 0 {
		return fmt.Errorf("stint: %s: ttl %v: want more than 0, or UntilDone", option, ttl)
	}
	return nil
}

// Detached lets a child outlive its parent: it is not canceled with it.
func Detached() RunOption {
	return runOnly(func(c *runConfig) error { c.detached = true; return nil })
}

// WithRetries sets how many times a failed attempt is followed by another. The default is 0.
func WithRetries(n int) TaskOption {
	return taskOption(func(c *taskConfig) error {
		if n < 0 {
			return fmt.Errorf("stint: WithRetries(%d): want 0 or more", n)
		}
		c.retries = n
		return nil
	})
}

// WithRetryBackoff sets the wait before attempt k+1 to min(max, factor^k seconds), varied by
// 10%. factor is at least 1. By default a retry starts at once.
func WithRetryBackoff(factor float64, max time.Duration) TaskOption {
	return taskOption(func(c *taskConfig) error {
		if !(factor >= 1) || math.IsInf(factor, 0) {
			return fmt.Errorf("stint: WithRetryBackoff: factor %v: want 1 or more", factor)
		}
		c.backoff = backoff.Exponential{Factor: factor, Max: max}
		return wantPositive("WithRetryBackoff: max", max)
	})
}

// WithRetryPolicy sets the wait before the next attempt to the result of f, which is given the
// number of the failed attempt, from 1, and its error. If the result is negative no attempt
// follows. If f panics no attempt follows either, and the panic is the run's error.
func WithRetryPolicy(f func(attempt int, err error) time.Duration) TaskOption {
	return taskOption(func(c *taskConfig) error {
		if f == nil {
			return errors.New("stint: WithRetryPolicy(nil): want a function")
		}
		c.policy = f
		return nil
	})
}

// WithTimeout limits one attempt to d. Then its context is done with cause ErrTimeout, and the
// attempt fails even if the handler goes on. The default is no limit.
//
// Only time in which the handler works counts, including the functions of steps. Time in which
// the handler and all branches started by Go wait in durable calls (Sleep, WaitForEvent, a
// child's Run or Wait, a Future, a step's retry) does not count.
//
// For a workflow it limits the whole run, waits included, from when the run may start, and
// anew from a replay.
func WithTimeout(d time.Duration) TaskOption {
	return taskOption(func(c *taskConfig) error {
		c.timeout = d
		return wantPositive("WithTimeout", d)
	})
}

// WithScheduleTimeout cancels a run that has not started within d of when it was due. What
// moves the due time moves the limit too: WithRunAt, WithDelay, each enqueue of WithDebounce,
// and Reschedule. A replay counts anew. Retries and waits of a run that has started are not
// limited. The default is no limit.
func WithScheduleTimeout(d time.Duration) TaskOption {
	return taskOption(func(c *taskConfig) error {
		c.scheduleTimeout = d
		return wantPositive("WithScheduleTimeout", d)
	})
}

// WithLinger sets how long an execution of a durable function stays in memory while all its
// branches wait. An event or the end of a child that comes in that time is seen at once, and the
// handler need not run again from the top. After d the run leaves memory until something comes. It
// leaves at once if it waits only for times that are later than that. The default is a second, and
// less while more than WithMaxResident executions wait. With 0 it leaves at once.
func WithLinger(d time.Duration) TaskOption {
	return taskOption(func(c *taskConfig) error {
		if c.linger = &d; d < 0 {
			return fmt.Errorf("WithLinger(%v): want 0 or more", d)
		}
		return nil
	})
}

// WithHeldSlots makes an execution keep its slots while it waits in memory. By default it
// gives them up, and waits for free ones before it goes on.
func WithHeldSlots() TaskOption {
	return taskOption(func(c *taskConfig) error { c.holdSlots = true; return nil })
}

// WithOnFailure calls fn once after the last attempt of a run failed, with the run's input and
// error. The call is a run of its own, of the task "NAME:on-failure", and is stored in the commit
// that records the failure.
func WithOnFailure[In any](fn func(context.Context, In, *TaskError) error) TaskOption {
	return taskOption(func(c *taskConfig) error {
		if fn == nil {
			return errors.New("stint: WithOnFailure(nil): want a function")
		}
		c.onFailure = func(ctx context.Context, in any, err *TaskError) error { return fn(ctx, inputAs[In](in), err) }
		return wantInput[In]("WithOnFailure", c)
	})
}

// nextAttempt returns whether another attempt follows one that failed with err, after which
// delay, and why the attempt failed: err, or a panic of the retry policy.
func (c *taskConfig) nextAttempt(attempt int, err error) (delay time.Duration, retry bool, why error) {
	var final *nonRetryable
	var after *retryAfter
	switch {
	case errors.As(err, &final), attempt > c.retries:
		return 0, false, err
	case errors.As(err, &after):
		return after.d, true, err
	case c.policy != nil:
		return c.askPolicy(attempt, err)
	}
	return c.backoff.Jittered(attempt), true, err
}

func (c *taskConfig) askPolicy(attempt int, err error) (delay time.Duration, retry bool, why error) {
	p := guard.Call(func() { delay = c.policy(attempt, apperror.Original(err)) })
	if p != nil {
		return 0, false, &PanicError{Value: fmt.Sprintf("%s: in the retry policy, asked about: %v", guard.Text(p.Value), err),
			Stack: p.Stack}
	}
	return delay, delay >= 0, err
}

// WithSlots sets how many runs the worker executes at once. The default is 100.
func WithSlots(n int) WorkerOption {
	return workerOption(func(c *workerConfig) error {
		if n < 1 || n > maxSlots {
			return fmt.Errorf("stint: WithSlots(%d): want 1 to %d", n, maxSlots)
		}
		c.slots = n
		return nil
	})
}

// WithQueues limits the worker to runs of these queues. Without the option it serves all
// queues. WithQueues with no names is an error, so that an empty list does not mean all.
func WithQueues(names ...string) WorkerOption {
	return workerOption(func(c *workerConfig) error {
		if len(names) == 0 {
			return errors.New("stint: WithQueues: no queue is named; without the option the worker takes runs of all")
		}
		for _, n := range names {
			if err := check.Name("queue name", n); err != nil {
				return errorf("stint: WithQueues: %w", err)
			}
		}
		c.queues = append(c.queues, names...)
		if err := check.Count("queues", len(c.queues), check.MaxNames); err != nil {
			return errorf("stint: WithQueues: %w", err)
		}
		return nil
	})
}

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

// WithName sets the worker's name. The default is host name and process ID, with a number of the process's second and later
// workers. Workers that share a name are paused together, and runs that are routed to it go to any of them.
func WithName(name string) WorkerOption {
	return workerOption(func(c *workerConfig) error {
		c.name = name
		if err := check.Name("worker name", name); err != nil {
			return errorf("stint: WithName: %w", err)
		}
		return nil
	})
}

// WithDrainTimeout sets how long handlers may go on when the worker stops, before their
// contexts are canceled. The default is 30 s; with 0 they are canceled at once.
func WithDrainTimeout(d time.Duration) WorkerOption {
	return workerOption(func(c *workerConfig) error {
		if d < 0 {
			return fmt.Errorf("stint: WithDrainTimeout(%v): want 0 or more", d)
		}
		c.drain = d
		return nil
	})
}

// WithLabels sets the worker's labels, which WithAffinity looks for and ListWorkers shows. A
// value that is a number compares as one.
func WithLabels(labels map[string]string) WorkerOption {
	return workerOption(func(c *workerConfig) error {
		c.labels = maps.Clone(labels)
		return checkLabels(labels)
	})
}

func checkLabels(labels map[string]string) error {
	if err := check.Count("labels", len(labels), check.MaxNames); err != nil {
		return errorf("stint: %w", err)
	}
	for name, value := range labels {
		if err := check.Name("label", name); err != nil {
			return errorf("stint: labels: %w", err)
		}
		if err := check.Text(fmt.Sprintf("value of label %q", name), value); err != nil {
			return errorf("stint: labels: %w", err)
		}
	}
	return nil
}
