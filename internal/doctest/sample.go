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

// writeSample writes the file that commands of the docs are shown with: a shop on which a worker has worked.
func writeSample(ctx context.Context, path string) (err error) {
	c, err := stint.Open(path, stint.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	charge := stint.NewTask(c, "charge", func(ctx context.Context, o order) (string, error) {
		stint.Logger(ctx).Info("charging", "cents", o.Amount)
		if o.Amount > 10_000 {
			return "", stint.NonRetryable(fmt.Errorf("card of order %d declined", o.ID))
		}
		return fmt.Sprintf("receipt-%d", o.ID), nil
	}, stint.WithRetries(3))
	fulfil := stint.NewTask(c, "fulfil", func(ctx context.Context, o order) (string, error) {
		if _, err := stint.Step(ctx, "pack", func(context.Context) (string, error) { return "box", nil }); err != nil {
			return "", err
		}
		return stint.WaitForEvent[string](ctx, "shipped", stint.WithMatch("order", o.ID))
	})
	resize := stint.NewTask(c, "resize", func(_ context.Context, name string) (string, error) { return name, nil }, stint.WithQueue("gpu"))

	w, err := c.NewWorker(stint.WithName("worker-1"))
	if err != nil {
		return err
	}
	work, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- w.Run(work) }()
	defer func() { stop(); err = errors.Join(err, <-done) }()

	for i, amount := range []int{1200, 25_000, 900} {
		if _, err := charge.Run(ctx, order{i + 1, amount}); err != nil && amount <= 10_000 {
			return err
		}
	}
	run, err := fulfil.Enqueue(ctx, order{1, 1200})
	if err != nil {
		return err
	}
	if err := waitFor(ctx, run.Info, stint.StateWaiting); err != nil {
		return err
	}
	_, err = resize.Enqueue(ctx, "cat.png")
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
