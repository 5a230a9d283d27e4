package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	v0 "github.com/hatchet-dev/hatchet/pkg/client"
	sdk "github.com/hatchet-dev/hatchet/sdks/go"
	"github.com/rs/zerolog"
)

const steps = 5 // of a workflow and of a durable task

type input struct {
	I    int    `json:"i"`
	Sent int64  `json:"sent"` // Unix nanoseconds
	Pad  string `json:"pad"`
}

type output struct {
	OK int `json:"ok"`
}

func newInput(i int) input {
	return input{I: i, Sent: time.Now().UnixNano(), Pad: strings.Repeat("x", 60)}
}

// A bench is a connected program: a worker, and what starts runs.
type bench struct {
	options
	server *server
	starts chan time.Duration // from the call to the task's start, in order

	client  *sdk.Client
	legacy  v0.Client // has what the SDK's own bulk calls one by one
	results *v0.WorkflowRunsListener
	noop    *sdk.StandaloneTask
	idle    *sdk.StandaloneTask // that no worker has
	durable *sdk.StandaloneTask
	chain   *sdk.Workflow
	cleanup func() error
}

// connect defines the tasks and starts the worker.
func (b *bench) connect() (err error) {
	b.starts = make(chan time.Duration, 1<<20)
	if b.client, err = sdk.NewClient(); err != nil {
		return err
	}
	if b.legacy, err = v0.New(); err != nil {
		return err
	}
	b.noop = b.client.NewStandaloneTask("bench-noop", func(_ sdk.Context, in input) (output, error) {
		b.starts <- time.Duration(time.Now().UnixNano() - in.Sent)
		return output{1}, nil
	})
	b.idle = b.client.NewStandaloneTask("bench-idle", func(sdk.Context, input) (output, error) { return output{1}, nil })
	b.durable = b.client.NewStandaloneDurableTask("bench-durable", func(ctx sdk.DurableContext, _ input) (output, error) {
		for i := range steps {
			if _, err := ctx.Memo(fmt.Sprintf("step %d", i), func() (any, error) { return i, nil }); err != nil {
				return output{}, err
			}
		}
		return output{1}, nil
	})
	b.chain = b.client.NewWorkflow("bench-chain")
	var former *sdk.Task
	for i := range steps {
		var opts []sdk.TaskOption
		if former != nil {
			opts = append(opts, sdk.WithParents(former))
		}
		former = b.chain.NewTask(fmt.Sprintf("task-%d", i), func(sdk.Context, input) (output, error) { return output{1}, nil }, opts...)
	}
	w, err := b.client.NewWorker("bench", sdk.WithWorkflows(b.noop, b.durable, b.chain), sdk.WithSlots(b.slots), quiet)
	if err != nil {
		return err
	}
	if b.cleanup, err = w.Start(); err != nil {
		return err
	}
	for _, t := range []*sdk.StandaloneTask{b.idle, victimTask(b.client)} {
		request, _, _, _ := t.Dump()
		if err := b.legacy.Admin().PutWorkflowV1(request); err != nil {
			return err
		}
	}
	b.results, err = b.legacy.Subscribe().SubscribeToWorkflowRunEvents(context.Background())
	return err
}

func (b *bench) disconnect() {
	if err := b.cleanup(); err != nil {
		fmt.Fprintln(os.Stderr, "hatchet: worker:", err)
	}
}

// quiet has a worker log nothing: the SDK logs several lines a run, whatever its environment says.
var quiet = func() sdk.WorkerOption {
	none := zerolog.Nop()
	return sdk.WithLogger(&none)
}()

// A wait returns when a run has succeeded.
type wait func() error

func waitFor(r *sdk.WorkflowRunRef, err error) (wait, error) {
	if err != nil {
		return nil, err
	}
	return func() error { _, err := r.Result(); return err }, nil
}

// bulk starts runs by one call.
func (b *bench) bulk(t *sdk.StandaloneTask, n int) ([]wait, error) {
	runs := make([]*v0.WorkflowRun, n)
	for i := range runs {
		runs[i] = &v0.WorkflowRun{Name: t.GetName(), Input: newInput(i)}
	}
	ids, err := b.legacy.Admin().BulkRunWorkflow(runs)
	waits := make([]wait, len(ids))
	for i, id := range ids {
		w := v0.NewWorkflow(id, b.results)
		waits[i] = func() error { _, err := w.Result(); return err }
	}
	return waits, err
}

// victimTask says on its process's output that it has begun, and takes long.
func victimTask(c *sdk.Client) *sdk.StandaloneTask {
	return c.NewStandaloneTask("bench-victim", func(ctx sdk.Context, _ input) (output, error) {
		fmt.Println("began", time.Now().UnixNano())
		<-ctx.Done()
		return output{}, ctx.Err()
	}, sdk.WithExecutionTimeout(10*time.Minute))
}

// workAsVictim works the victim's task until the process is killed.
func workAsVictim(ctx context.Context) error {
	c, err := sdk.NewClient()
	if err != nil {
		return err
	}
	w, err := c.NewWorker("victim", sdk.WithWorkflows(victimTask(c)), sdk.WithSlots(1), quiet)
	if err != nil {
		return err
	}
	return startAndWait(ctx, w)
}

// workAsCrowd has workers with a connection each that have nothing to do.
func workAsCrowd(ctx context.Context, n int) error {
	for i := range n {
		c, err := sdk.NewClient()
		if err != nil {
			return err
		}
		idle := c.NewStandaloneTask("bench-crowd", func(sdk.Context, input) (output, error) { return output{1}, nil })
		w, err := c.NewWorker(fmt.Sprintf("crowd-%d", i), sdk.WithWorkflows(idle), sdk.WithSlots(10), quiet)
		if err != nil {
			return err
		}
		if _, err := w.Start(); err != nil {
			return err
		}
	}
	fmt.Println("ready")
	<-ctx.Done()
	return nil
}

func startAndWait(ctx context.Context, w *sdk.Worker) error {
	cleanup, err := w.Start()
	if err != nil {
		return err
	}
	fmt.Println("ready")
	<-ctx.Done()
	return cleanup()
}
