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

func (readOnly) SetLabels(context.Context, int64, map[string]string) error {
	return store.ErrReadOnly
}

func (readOnly) SetTasks(context.Context, int64, []string) error { return store.ErrReadOnly }

func (readOnly) Unregister(context.Context, int64) error { return store.ErrReadOnly }

func (readOnly) Recover(context.Context) (store.Recovered, error) {
	return store.Recovered{}, store.ErrReadOnly
}

func (readOnly) Watch(context.Context, int64) (store.Signals, error) {
	return store.Signals{}, store.ErrReadOnly
}

func (readOnly) Cancel(context.Context, time.Time, store.Filter, []byte) (int, error) {
	return 0, store.ErrReadOnly
}

func (readOnly) Replay(context.Context, time.Time, store.Filter) (int, error) {
	return 0, store.ErrReadOnly
}

func (readOnly) Delete(context.Context, store.Filter) (int, error) { return 0, store.ErrReadOnly }

func (readOnly) Expire(context.Context, time.Time, time.Time) (int, error) {
	return 0, store.ErrReadOnly
}

func (readOnly) Pause(context.Context, store.Pausable, bool) error { return store.ErrReadOnly }

func (readOnly) SetRate(context.Context, time.Time, string, float64, int) error {
	return store.ErrReadOnly
}

func (readOnly) Declare(context.Context, time.Time, []store.Declaration) error {
	return store.ErrReadOnly
}

func (readOnly) SetCron(context.Context, time.Time, store.Cron) error { return store.ErrReadOnly }

func (readOnly) ChangeCron(context.Context, time.Time, string, store.CronChange) error {
	return store.ErrReadOnly
}

func (readOnly) TriggerCron(context.Context, time.Time, string) (store.ID, error) {
	return store.ID{}, store.ErrReadOnly
}

func (readOnly) SetFilter(context.Context, store.TaskFilter) (int64, error) {
	return 0, store.ErrReadOnly
}

func (readOnly) DeleteFilter(context.Context, int64) error { return store.ErrReadOnly }

func (readOnly) Reschedule(context.Context, time.Time, store.ID, time.Time) error {
	return store.ErrReadOnly
}

func (readOnly) Append(context.Context, time.Time, store.Call) (store.Entry, bool, error) {
	return store.Entry{}, false, store.ErrReadOnly
}

func (readOnly) Restart(context.Context, time.Time, store.ID, store.Address) error {
	return store.ErrReadOnly
}

func (readOnly) Fork(context.Context, time.Time, store.ID, store.Address) (store.ID, error) {
	return store.ID{}, store.ErrReadOnly
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

func (readOnly) BeginTx(context.Context) (*sql.Tx, error) { return nil, store.ErrReadOnly }
