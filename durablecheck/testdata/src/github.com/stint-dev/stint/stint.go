// Package stint has the signatures that the analyzer looks at.
package stint

import (
	"context"
	"database/sql"
	"time"
)

type Task[In, Out any] struct{}

func (t *Task[In, Out]) Run(ctx context.Context, in In) (o Out, err error) { return }

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
