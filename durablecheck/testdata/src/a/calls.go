package a

import (
	"context"
	"database/sql"
	"time"

	"github.com/stint-dev/stint"
)

func inSteps(ctx context.Context, c *stint.Client, t *stint.Task[int, int], opt stint.RunOption) { // want inSteps:"durable"
	stint.Step(ctx, "s", func(ctx context.Context) (int, error) {
		stint.Compensate(ctx, "undo", func(context.Context) error { return nil }) // want `stint.Compensate inside a step: .* after the step`
		t.Enqueue(ctx, 1)                                                         // want `Task.Enqueue inside a step: each try`
		t.Run(ctx, 1, stint.WithQueue("q"))                                       // want `Task.Run inside a step: each try`
		t.Enqueue(ctx, 1, stint.WithChildKey("k"))
		t.Enqueue(ctx, 1, stint.WithQueue("q"), stint.WithIdempotencyKey("k", time.Hour))
		t.Enqueue(ctx, 1, opt) // it may be a key
		t.Enqueue(ctx, 1, []stint.RunOption{opt}...)
		c.Publish(ctx, "e", 1)
		return 0, nil
	})
	stint.StepTx(ctx, "tx", func(ctx context.Context, tx *sql.Tx) (int, error) {
		_, err := t.Enqueue(ctx, 1, stint.WithTx(tx))
		return 0, err
	})
	stint.Compensate(ctx, "refund", func(ctx context.Context) error {
		_, err := t.Enqueue(ctx, 1)
		return err
	})
}

func outsideOfSteps(ctx context.Context, c *stint.Client, t *stint.Task[int, int], tx *sql.Tx) { // want outsideOfSteps:"durable"
	stint.Sleep(ctx, time.Second)
	t.Enqueue(ctx, 1, stint.WithTx(tx))      // want `WithTx in a durable function: Task.Enqueue would do it anew`
	c.Publish(ctx, "e", 1, stint.WithTx(tx)) // want `WithTx in a durable function: Client.Publish would do it anew`
	defer c.Publish(ctx, "e", 1)             // want `Client.Publish in a defer of a durable function`
	stint.Step(ctx, "s", func(ctx context.Context) (int, error) {
		_, err := t.Enqueue(ctx, 1, stint.WithTx(tx))
		return 0, err
	})
}

// A web handler may have its own transaction, and its own deadline.
func web(ctx context.Context, c *stint.Client, t *stint.Task[int, int], tx *sql.Tx) {
	t.Enqueue(ctx, 1, stint.WithTx(tx))
	c.Publish(ctx, "e", 1, stint.WithTx(tx))
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	t.Run(ctx, 1)
}

func deadline(ctx context.Context, t *stint.Task[int, int]) error { // want deadline:"durable"
	stint.Sleep(ctx, time.Second)
	limited, cancel := context.WithTimeout(ctx, time.Hour)
	defer cancel()
	if _, err := stint.WaitForEvent[int](limited, "e"); err != nil { // want `stint.WaitForEvent with a deadline of context.WithTimeout`
		return err
	}
	if _, err := t.Run(limited, 1); err != nil { // want `Task.Run with a deadline of context.WithTimeout`
		return err
	}
	_, err := stint.Step(limited, "s", work) // a step is not a wait
	if err == nil {
		_, err = stint.WaitForEvent[int](ctx, "e")
	}
	return err
}
