// Package stint has the signatures that the analyzer looks at.
package stint

import (
	"context"
	"database/sql"
	"time"
)

type Task[In, Out any] struct{}

func (t *Task[In, Out]) Run(ctx context.Context, in In, opts ...RunOption) (o Out, err error) { return }

func (t *Task[In, Out]) Enqueue(ctx context.Context, in In, opts ...RunOption) (r *Run[Out], err error) {
	return
}

type Run[Out any] struct{}

func (r *Run[Out]) Wait(ctx context.Context) (o Out, err error) { return }

type RunOption interface{ applyRun() }

type EventOption interface{ applyEvent() }

type TxOption interface {
	RunOption
	EventOption
}

func WithTx(tx *sql.Tx) TxOption                                 { return nil }
func WithChildKey(key string) RunOption                          { return nil }
func WithIdempotencyKey(key string, ttl time.Duration) RunOption { return nil }
func WithQueue(name string) RunOption                            { return nil }

type Client struct{}

func (c *Client) Publish(ctx context.Context, key string, payload any, opts ...EventOption) (id string, err error) {
	return
}

type Worker struct{}

func (w *Worker) Run(ctx context.Context) error { return nil }

type Future[T any] struct{}

func (f *Future[T]) Wait(ctx context.Context) (t T, err error) { return }

func Step[T any](ctx context.Context, name string, fn func(context.Context) (T, error)) (t T, err error) {
	return
}

func StepTx[T any](ctx context.Context, name string, fn func(context.Context, *sql.Tx) (T, error)) (t T, err error) {
	return
}
func Go[T any](ctx context.Context, name string, fn func(context.Context) (T, error)) *Future[T] {
	return nil
}
func Sleep(ctx context.Context, d time.Duration) error                            { return nil }
func WaitForEvent[T any](ctx context.Context, key string) (t T, err error)        { return }
func Compensate(ctx context.Context, name string, fn func(context.Context) error) {}
func Now(ctx context.Context) time.Time                                           { return time.Time{} }
func NewTask[In, Out any](name string, fn func(context.Context, In) (Out, error)) *Task[In, Out] {
	return nil
}
