package ui

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"time"

	"github.com/stint-dev/stint"
)

func listTasks(h *handler, ctx context.Context, in url.Values) (any, error) {
	out := wireTasks{Tasks: []wireTask{}}
	known := map[string]bool{}
	defs, err := h.definedTasks(ctx)
	if err != nil {
		return nil, err
	}
	for _, d := range defs {
		t := wireTask{Name: d.Name, Workflow: d.Workflow, Handler: d.Handler, Queue: d.Queue, Retries: d.Retries,
			TimeoutMS: ms(d.Timeout), Crons: d.Crons, Events: d.Events, Input: d.Input}
		for _, n := range d.Tasks {
			t.Tasks = append(t.Tasks, wireNode{n.Name, n.Parents})
		}
		out.Tasks, known[d.Name] = append(out.Tasks, t), true
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
		d, err := time.ParseDuration(text)
		if err != nil {
			return nil, fmt.Errorf("delay: %w", err)
		}
		opts = append(opts, stint.WithDelay(d))
	}
	if at, err := timeParam(in.Get("at")); err != nil {
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
	for _, q := range all {
		counts, err := h.c.QueuePriorities(ctx, q.Name)
		if err != nil {
			return nil, err
		}
		out.Queues = append(out.Queues, wireQueue{q.Name, q.Paused, q.Ready, q.Running, optional(q.Oldest), counts})
	}
	return out, nil
}

func listWorkers(h *handler, ctx context.Context, in url.Values) (any, error) {
	all, err := h.c.ListWorkers(ctx)
	out := wireWorkers{Workers: []wireWorker{}}
	for _, w := range all {
		out.Workers = append(out.Workers,
			wireWorker{w.Name, w.Host, w.PID, w.Started, w.Slots, w.Running, w.Paused, w.Queues, w.Labels, w.Build})
	}
	return out, err
}
