package stint

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"
)

// WithLabels describes the worker: what runs with an affinity look for, and people. A
// value that is a number compares as one.
func WithLabels(labels map[string]string) WorkerOption {
	return workerOption(func(c *workerConfig) error {
		c.labels = maps.Clone(labels)
		return checkLabels(labels)
	})
}

func checkLabels(labels map[string]string) error {
	for name, value := range labels {
		if err := checkName("label", name); err != nil {
			return fmt.Errorf("stint: labels: %w", err)
		}
		if len(value) > maxName {
			return fmt.Errorf("stint: labels: value of %q has %d bytes: want at most %d", name, len(value), maxName)
		}
	}
	return nil
}

// SetLabels changes the labels of a worker that runs, at once.
func (w *Worker) SetLabels(ctx context.Context, labels map[string]string) error {
	if err := checkLabels(labels); err != nil {
		return err
	}
	w.mu.Lock()
	id := w.id
	w.mu.Unlock()
	if id == 0 {
		return errors.New("stint: SetLabels: the worker does not run yet: use WithLabels")
	}
	return public("set labels", w.c.store.SetLabels(ctx, id, maps.Clone(labels)))
}

// A WorkerInfo is a worker that runs, of any process on the database.
type WorkerInfo struct {
	Name    string
	Host    string
	PID     int
	Started time.Time
	Slots   int
	Running int      // runs that it works
	Queues  []string // empty: all
	Labels  map[string]string
}

// ListWorkers lists the workers that run, oldest first. One whose process has died is
// there until another process notices, within a second.
func (c *Client) ListWorkers(ctx context.Context) ([]WorkerInfo, error) {
	all, err := c.store.Living(ctx)
	if err != nil {
		return nil, public("list workers", err)
	}
	infos := make([]WorkerInfo, len(all))
	for i, w := range all {
		infos[i] = WorkerInfo{Name: w.Name, Host: w.Host, PID: w.PID, Started: w.Started, Slots: w.Slots, Running: w.Running, Queues: w.Queues, Labels: w.Labels}
	}
	return infos, nil
}
