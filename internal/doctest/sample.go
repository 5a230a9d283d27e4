package doctest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/stint-dev/stint"
)

// An order is the input of the sample's tasks.
type order struct {
	ID     int `json:"id"`
	Amount int `json:"amount"`
}

// writeSample writes the file that commands of the docs are shown with: a shop on which two builds of a program have worked.
func writeSample(ctx context.Context, path string) error {
	for _, build := range []func(context.Context, *stint.Client) error{firstBuild, secondBuild} {
		c, err := stint.Open(path, stint.WithLogger(slog.New(slog.DiscardHandler)))
		if err != nil {
			return err
		}
		if err := errors.Join(build(ctx, c), c.Close()); err != nil {
			return err
		}
	}
	return nil
}

// firstBuild leaves runs that succeeded, one that failed, two that wait for events, and one that no worker may take.
func firstBuild(ctx context.Context, c *stint.Client) error {
	charge := stint.NewTask(c, "charge", func(ctx context.Context, o order) (string, error) {
		stint.Logger(ctx).Info("charging", "cents", o.Amount)
		if o.Amount > 10_000 {
			return "", stint.NonRetryable(fmt.Errorf("card of order %d declined", o.ID))
		}
		return fmt.Sprintf("receipt-%d", o.ID), nil
	}, stint.WithRetries(3))
	fulfil := stint.NewTask(c, "fulfil", func(ctx context.Context, o order) (string, error) {
		if _, err := step(ctx, "pack"); err != nil {
			return "", err
		}
		return stint.WaitForEvent[string](ctx, "shipped", stint.WithMatch("order", o.ID))
	})
	invoice := stint.NewTask(c, "invoice", func(ctx context.Context, o order) (string, error) {
		if _, err := step(ctx, "number"); err != nil {
			return "", err
		}
		return stint.WaitForEvent[string](ctx, "approved")
	})
	resize := stint.NewTask(c, "resize", func(_ context.Context, name string) (string, error) { return name, nil }, stint.WithQueue("gpu"))
	if err := startWorker(ctx, c); err != nil {
		return err
	}
	for i, amount := range []int{1200, 25_000, 900} {
		if _, err := charge.Run(ctx, order{i + 1, amount}); err != nil && amount <= 10_000 {
			return err
		}
	}
	for _, t := range []*stint.Task[order, string]{fulfil, invoice} {
		run, err := t.Enqueue(ctx, order{1, 1200})
		if err == nil {
			err = waitFor(ctx, run.Info, stint.StateWaiting)
		}
		if err != nil {
			return err
		}
	}
	_, err := resize.Enqueue(ctx, "cat.png")
	return err
}

// secondBuild has changed what the invoice does first, so its run is blocked.
func secondBuild(ctx context.Context, c *stint.Client) error {
	stint.NewTask(c, "invoice", func(ctx context.Context, o order) (string, error) {
		if _, err := step(ctx, "total"); err != nil {
			return "", err
		}
		return stint.WaitForEvent[string](ctx, "approved")
	})
	if err := startWorker(ctx, c); err != nil {
		return err
	}
	found, err := c.ListRuns(ctx, stint.RunFilter{Tasks: []string{"invoice"}})
	if err != nil {
		return err
	}
	if _, err := c.Publish(ctx, "approved", "yes"); err != nil {
		return err
	}
	run := stint.RunByID[string](c, found.Runs[0].ID)
	return waitFor(ctx, run.Info, stint.StateBlocked)
}

func step(ctx context.Context, name string) (string, error) {
	return stint.Step(ctx, name, func(context.Context) (string, error) { return name, nil })
}

// startWorker starts a worker, which the client's Close stops.
func startWorker(ctx context.Context, c *stint.Client) error {
	w, err := c.NewWorker(stint.WithName("worker-1"), stint.WithQueues("default"))
	if err == nil {
		go w.Run(ctx)
	}
	return err
}

// waitFor waits until a run is in a state.
func waitFor(ctx context.Context, info func(context.Context) (*stint.RunInfo, error), s stint.State) error {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		switch i, err := info(ctx); {
		case err != nil:
			return err
		case i.State == s:
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
