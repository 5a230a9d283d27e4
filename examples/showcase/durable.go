package main

import (
	"context"
	"fmt"
	"time"

	"github.com/stint-dev/stint"
)

// fulfil makes an order ready in many steps, and waits for an approval in the middle.
func fulfil(ctx context.Context, o order) (int, error) {
	packed := 0
	for i, item := range o.Items {
		tries := 0
		n, err := stint.Step(ctx, "pack "+item, func(context.Context) (int, error) {
			if tries++; tries == 1 && i == 3 && o.ID%2 == 1 {
				return 0, fmt.Errorf("shelf %d is empty", i)
			}
			return 1, nil
		}, stint.WithRetries(1))
		if err != nil {
			return packed, err
		}
		packed += n
	}
	label := stint.Go(ctx, "label", func(ctx context.Context) (string, error) {
		if err := stint.Sleep(ctx, 5*time.Millisecond); err != nil {
			return "", err
		}
		return stint.Step(ctx, "print label", func(context.Context) (string, error) { return "label", nil })
	})
	if _, err := stint.WaitForEvent[payment](ctx, "order.approved", stint.WithMatch("order", o.ID)); err != nil {
		return packed, err
	}
	if _, err := label.Wait(ctx); err != nil {
		return packed, err
	}
	return packed, nil
}

// refund undoes what it did, since its last step fails.
func refund(ctx context.Context, o order) (string, error) {
	for _, what := range []string{"reserve", "book"} {
		if _, err := stint.Step(ctx, what, func(context.Context) (string, error) { return what, nil }); err != nil {
			return "", err
		}
		stint.Compensate(ctx, "undo "+what, func(context.Context) error { return nil })
	}
	return stint.Step(ctx, "pay back", func(context.Context) (string, error) {
		return "", fmt.Errorf("account of customer %d is closed", o.ID)
	})
}
