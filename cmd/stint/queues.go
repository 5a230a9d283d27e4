package main

import (
	"context"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/internal/wire"
)

func listQueues(ctx context.Context, s *session) error {
	all, err := s.c.ListQueues(ctx)
	if err != nil {
		return err
	}
	priorities := map[string]map[int]int{}
	for i := 0; i < len(all) && s.output != ""; i++ {
		if priorities[all[i].Name], err = s.c.QueuePriorities(ctx, all[i].Name); err != nil {
			return err
		}
	}
	l := list[stint.QueueInfo]{s: s, field: "queues", header: "QUEUE\tREADY\tRUNNING\tPAUSED",
		row:  func(q *stint.QueueInfo) string { return columns(truncate(q.Name), q.Ready, q.Running, q.Paused) },
		wire: func(q *stint.QueueInfo) any { return wire.QueueOf(q, priorities[q.Name]) }}
	return l.printAll(all)
}

func pauseQueue(ctx context.Context, s *session) error {
	name, err := s.arg(0, "the queue's name")
	if err != nil {
		return err
	}
	if err := s.checkNames(ctx, nil, []string{name}); err != nil {
		return err
	}
	return s.printDone(s.c.PauseQueue(ctx, name))
}

func resumeQueue(ctx context.Context, s *session) error {
	name, err := s.arg(0, "the queue's name")
	if err != nil {
		return err
	}
	if err := s.checkNames(ctx, nil, []string{name}); err != nil {
		return err
	}
	return s.printDone(s.c.ResumeQueue(ctx, name))
}

func listWorkers(ctx context.Context, s *session) error {
	all, err := s.c.ListWorkers(ctx)
	if err != nil {
		return err
	}
	l := list[stint.WorkerInfo]{s: s, field: "workers", header: "WORKER\tHOST\tPID\tSLOTS\tRUNNING\tSTARTED",
		row: func(w *stint.WorkerInfo) string {
			return columns(truncate(w.Name), truncate(w.Host), w.PID, w.Slots, w.Running, formatTime(w.Started))
		},
		wire: func(w *stint.WorkerInfo) any { return wire.WorkerOf(w) }}
	return l.printAll(all)
}
