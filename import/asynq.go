package imports

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/hibiken/asynq"
)

type asynqSource struct{ inspector *asynq.Inspector }

// OpenAsynq opens the Redis database of an asynq, by a URL like redis://localhost:6379/0.
func OpenAsynq(url string) (Source, error) {
	opt, err := asynq.ParseRedisURI(url)
	if err != nil {
		return nil, fmt.Errorf("asynq: %w", err)
	}
	return &asynqSource{asynq.NewInspector(opt)}, nil
}

func (s *asynqSource) Close() error { return s.inspector.Close() }

// asynqPage is the number of tasks that are read at a time.
const asynqPage = 1000

// Jobs implements Source. Tasks that move meanwhile, since workers work, may be missed: an import after they were stopped
// finds them.
func (s *asynqSource) Jobs(ctx context.Context, f func(Job) error) error {
	queues, err := s.inspector.Queues()
	if err != nil {
		return fmt.Errorf("asynq: %w", err)
	}
	slices.Sort(queues)
	for _, q := range queues {
		if err := s.queue(ctx, q, f); err != nil {
			return fmt.Errorf("asynq: queue %s: %w", q, err)
		}
	}
	return nil
}

// queue calls f with the tasks of a queue.
func (s *asynqSource) queue(ctx context.Context, queue string, f func(Job) error) error {
	lists := []func(string, ...asynq.ListOption) ([]*asynq.TaskInfo, error){s.inspector.ListActiveTasks, s.inspector.ListRetryTasks,
		s.inspector.ListScheduledTasks, s.inspector.ListPendingTasks}
	groups, err := s.inspector.Groups(queue)
	if err != nil {
		return err
	}
	for _, g := range groups {
		lists = append(lists, func(queue string, opts ...asynq.ListOption) ([]*asynq.TaskInfo, error) {
			return s.inspector.ListAggregatingTasks(queue, g.Group, opts...)
		})
	}
	seen := map[string]bool{}
	for _, list := range lists {
		for page := 1; ; page++ {
			tasks, err := list(queue, asynq.Page(page), asynq.PageSize(asynqPage))
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				return err
			}
			for _, t := range tasks {
				if seen[t.ID] {
					continue
				}
				seen[t.ID] = true
				if err := f(asynqJob(t)); err != nil {
					return err
				}
			}
			if len(tasks) < asynqPage {
				break
			}
		}
	}
	return nil
}

func asynqJob(t *asynq.TaskInfo) Job {
	j := Job{ID: "asynq " + t.ID, Key: "asynq:" + t.Queue + ":" + t.ID, Kind: t.Type, Queue: t.Queue, State: t.State.String(),
		Payload: t.Payload, Priority: stintDefault, Ready: t.NextProcessAt, Metadata: map[string]string{}}
	if t.State == asynq.TaskStateActive {
		j.State = Running
	}
	if j.Ready.IsZero() {
		j.Ready = time.Now()
	}
	maps.Copy(j.Metadata, t.Headers)
	if t.Retried > 0 {
		j.Metadata["attempts"] = fmt.Sprintf("%d of %d", t.Retried, t.MaxRetry+1)
	}
	if !t.Deadline.IsZero() {
		j.Metadata["deadline"] = t.Deadline.Format(time.RFC3339)
	}
	if t.Group != "" {
		j.Metadata["group"] = t.Group
	}
	return j
}
