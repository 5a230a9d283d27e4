// Package readonly is a store that refuses changes.
package readonly

import (
	"context"
	"database/sql"
	"time"

	"github.com/stint-dev/stint/store"
)

// New returns s with every method that changes something refused: it returns
// store.ErrReadOnly. The methods that read are those of s.
func New(s store.Store) store.Store { return readOnly{s} }

type readOnly struct{ store.Store }

func (readOnly) Enqueue(context.Context, time.Time, []store.NewRun) ([]store.Enqueued, error) {
	return nil, store.ErrReadOnly
}

func (readOnly) Claim(context.Context, store.ClaimRequest) ([]store.Claimed, error) {
	return nil, store.ErrReadOnly
}

func (readOnly) Finish(context.Context, time.Time, []store.Outcome) ([]bool, error) {
	return nil, store.ErrReadOnly
}

func (readOnly) Record(context.Context, []store.Record) ([]bool, error) {
	return nil, store.ErrReadOnly
}

func (readOnly) Publish(context.Context, time.Time, []store.NewEvent) ([]store.ID, error) {
	return nil, store.ErrReadOnly
}

func (readOnly) Register(context.Context, store.WorkerInfo) (int64, error) {
	return 0, store.ErrReadOnly
}

func (readOnly) Unregister(context.Context, int64) error { return store.ErrReadOnly }

func (readOnly) Recover(context.Context) (store.Recovered, error) {
	return store.Recovered{}, store.ErrReadOnly
}

func (readOnly) Watch(context.Context, int64) (store.Signals, error) {
	return store.Signals{}, store.ErrReadOnly
}

// Act counts, and changes nothing.
func (r readOnly) Act(ctx context.Context, now time.Time, a store.Action, f store.Filter) (int, error) {
	if a.DryRun {
		return r.Store.Act(ctx, now, a, f)
	}
	return 0, store.ErrReadOnly
}

func (readOnly) Change(context.Context, time.Time, store.Change) error { return store.ErrReadOnly }

func (readOnly) Expire(context.Context, time.Time, time.Time) (int, error) {
	return 0, store.ErrReadOnly
}

func (readOnly) Declare(context.Context, time.Time, []store.Declaration) error {
	return store.ErrReadOnly
}

func (readOnly) Append(context.Context, time.Time, store.Call) (store.Entry, bool, error) {
	return store.Entry{}, false, store.ErrReadOnly
}

func (readOnly) EnqueueTx(context.Context, time.Time, store.Tx, []store.NewRun) ([]store.Enqueued, error) {
	return nil, store.ErrReadOnly
}

func (readOnly) PublishTx(context.Context, time.Time, store.Tx, []store.NewEvent) ([]store.ID, error) {
	return nil, store.ErrReadOnly
}

func (readOnly) AppendTx(context.Context, time.Time, store.Tx, store.Call) (store.Entry, bool, error) {
	return store.Entry{}, false, store.ErrReadOnly
}

func (readOnly) Unavailable(error) bool { return false }

func (readOnly) BeginTx(context.Context) (*sql.Tx, error) { return nil, store.ErrReadOnly }
