package ui

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/internal/wire"
)

func listTasks(h *handler, ctx context.Context, in url.Values) (any, error) {
	out := wireTasks{Tasks: []wireTask{}}
	known := map[string]bool{}
	defs, err := h.definedTasks(ctx)
	if err != nil {
		return nil, err
	}
	for i := range defs {
		out.Tasks, known[defs[i].Name] = append(out.Tasks, wire.TaskOf(&defs[i])), true
	}
	names, err := h.taskNames(ctx)
	if err != nil {
		return nil, err
	}
	for _, n := range names {
		if !known[n] {
			out.Tasks = append(out.Tasks, wireTask{Name: n})
		}
	}
	return out, nil
}

func startTask(h *handler, ctx context.Context, in url.Values) (any, error) {
	input, err := requiredParam(in, "input")
	if err != nil {
		return nil, err
	}
	var opts []stint.RunOption
	if key := in.Get("key"); key != "" {
		opts = append(opts, stint.WithIdempotencyKey(key, 24*time.Hour))
	}
	if text := in.Get("delay"); text != "" {
		d, err := parseDuration(text)
		if err != nil {
			return nil, fmt.Errorf("delay %q: want a duration like 90m or 7d", text)
		}
		if in.Get("at") != "" {
			return nil, errors.New("want delay or at, not both")
		}
		opts = append(opts, stint.WithDelay(d))
	}
	if at, err := dueParam(in, "at"); err != nil {
		return nil, err
	} else if !at.IsZero() {
		opts = append(opts, stint.WithRunAt(at))
	}
	if in.Get("priority") != "" {
		p, err := intParam(in, "priority", 0)
		if err != nil {
			return nil, err
		}
		opts = append(opts, stint.WithPriority(p))
	}
	f, err := h.filterOf(url.Values{"metadata": in["metadata"]})
	if err != nil {
		return nil, err
	}
	if f.Metadata != nil {
		opts = append(opts, stint.WithMetadata(f.Metadata))
	}
	if err := h.checkNames(ctx, in, in["task"], nil); err != nil {
		return nil, err
	}
	run, err := h.c.EnqueueJSON(ctx, in.Get("task"), json.RawMessage(input), opts...)
	if err != nil {
		return nil, err
	}
	return wireStarted{run.ID(), run.Existing()}, nil
}

func listQueues(h *handler, ctx context.Context, in url.Values) (any, error) {
	all, err := h.c.ListQueues(ctx)
	if err != nil {
		return nil, err
	}
	out := wireQueues{Queues: []wireQueue{}}
	for i := range all {
		counts, err := h.c.QueuePriorities(ctx, all[i].Name)
		if err != nil {
			return nil, err
		}
		out.Queues = append(out.Queues, wire.QueueOf(&all[i], counts))
	}
	return out, nil
}

func listWorkers(h *handler, ctx context.Context, in url.Values) (any, error) {
	all, err := h.c.ListWorkers(ctx)
	out := wireWorkers{Workers: []wireWorker{}}
	for i := range all {
		out.Workers = append(out.Workers, wire.WorkerOf(&all[i]))
	}
	return out, err
}
