package stint

import (
	"fmt"
	"time"

	"github.com/stint-dev/stint/internal/clock"
)

// A TaskOption changes a task, for all its runs. See NewTask. A few are options of a
// workflow or a step too; NewWorkflow and StepOption say which.
type TaskOption interface {
	applyTask(*taskConfig) error
	WorkflowOption
	StepOption
}

// A RunOption changes one run, where it outranks the task's.
type RunOption interface{ applyRun(*runConfig) error }

// An Option is given to a task, for all its runs, or to one run or cron, where it outranks.
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

func (o taskOption) applyTask(c *taskConfig) error       { return o(c) }
func (o runOnly) applyRun(c *runConfig) error            { return o(c) }
func (o runOption) applyTask(c *taskConfig) error        { return o(&c.run) }
func (o runOption) applyRun(c *runConfig) error          { return o(c) }
func (o clientOption) applyClient(c *clientConfig) error { return o(c) }
func (o workerOption) applyWorker(c *workerConfig) error { return o(c) }

// wantTime reports a time that cannot be kept.
func wantTime(option string, t time.Time) error {
	if err := clock.Check(t); err != nil {
		return errorf("stint: %s: %w", option, err)
	}
	return nil
}

// inputAs is an input as its type. A nil of an interface type is nil: it has no type of its own.
func inputAs[In any](in any) In {
	typed, _ := in.(In)
	return typed
}

func wantPositive(option string, d time.Duration) error {
	if d <= 0 {
		return fmt.Errorf("stint: %s(%v): want more than 0", option, d)
	}
	return nil
}
