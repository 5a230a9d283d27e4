package a

import (
	"context"
	"database/sql"
	"encoding/json"
	"time"

	"github.com/stint-dev/stint"
)

type order struct {
	ID    int
	Lines []line
	At    time.Time
	Raw   json.RawMessage
	Skip  func() `json:"-"`
}

type line struct {
	Name string
	Of   *order
}

type account struct {
	Name   string
	secret string
}

type embeds struct{ account }

type holds struct {
	N    int
	More map[string][]any
}

// An amount encodes itself.
type amount struct{ cents int }

func (a amount) MarshalJSON() ([]byte, error)     { return json.Marshal(a.cents) }
func (a *amount) UnmarshalJSON(data []byte) error { return json.Unmarshal(data, &a.cents) }

func result[T any](context.Context) (t T, err error) { return }

func inTx[T any](context.Context, *sql.Tx) (t T, err error) { return }

func results(ctx context.Context) { // want results:"durable"
	stint.Step(ctx, "s", result[int])
	stint.Step(ctx, "s", result[order])
	stint.Step(ctx, "s", result[[]amount])
	stint.Step(ctx, "s", result[struct{}])
	stint.Step(ctx, "s", result[any])                // want `stint.Step of any: a value in an interface loses its type`
	stint.Step(ctx, "s", result[error])              // want `stint.Step of error: a value in an interface`
	stint.Step[*account](ctx, "s", result[*account]) // want `stint.Step of \*account: the unexported field secret is lost`
	stint.Step(ctx, "s", result[embeds])             // want `the unexported field secret is lost`
	stint.Step(ctx, "s", result[map[string]holds])   // want `in More a value in an interface`
	stint.Step(ctx, "s", result[chan int])           // want `a channel is not encoded`
	stint.Step(ctx, "s", result[struct{ F func() }]) // want `in F a function is not encoded`
	stint.StepTx(ctx, "s", inTx[account])            // want `stint.StepTx of account`
	stint.Go(ctx, "b", result[any])                  // want `stint.Go of any`
	stint.WaitForEvent[map[string]any](ctx, "e")
	stint.NewTask("t", func(ctx context.Context, in map[string]any) (account, error) { return account{}, nil }) // want `stint.NewTask of account`
	stint.NewTask("t", func(ctx context.Context, in map[string]any) (int, error) { return 0, nil })
}

func generic[T any](ctx context.Context) (T, error) { // want generic:"durable"
	return stint.Step(ctx, "s", result[T])
}
