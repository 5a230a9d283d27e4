package main

import (
	"context"

	"github.com/stint-dev/stint"
)

func listQueues(ctx context.Context, s *session) error {
	all, err := s.c.ListQueues(ctx)
	if err != nil {
		return err
	}
	return printRows(s, "QUEUE\tREADY\tRUNNING\tPAUSED", all, func(q stint.QueueInfo) string {
		return columns(truncate(q.Name), q.Ready, q.Running, q.Paused)
	})
}

func pauseQueue(ctx context.Context, s *session) error {
	name, err := s.arg(0, "the queue's name")
	if err != nil {
		return err
	}
	if err := s.checkNames(ctx, nil, []string{name}); err != nil {
		return err
	}
	return s.c.PauseQueue(ctx, name)
}

func resumeQueue(ctx context.Context, s *session) error {
	name, err := s.arg(0, "the queue's name")
	if err != nil {
		return err
	}
	if err := s.checkNames(ctx, nil, []string{name}); err != nil {
		return err
	}
	return s.c.ResumeQueue(ctx, name)
}

func listWorkers(ctx context.Context, s *session) error {
	all, err := s.c.ListWorkers(ctx)
	if err != nil {
		return err
	}
	return printRows(s, "WORKER\tHOST\tPID\tSLOTS\tRUNNING\tSTARTED", all, func(w stint.WorkerInfo) string {
		return columns(truncate(w.Name), truncate(w.Host), w.PID, w.Slots, w.Running, formatTime(w.Started))
	})
}
