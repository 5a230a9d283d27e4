package stint

import (
	"context"
	"time"

	"github.com/stint-dev/stint/store"
)

// ReadOnly reports whether the client was made WithReadOnly.
func (c *Client) ReadOnly() bool { return c.cfg.readOnly }

// writable returns ErrReadOnly if the client may not change anything. Calls that read before
// they change ask it first; the rest learn it from the store.
func (c *Client) writable(op string) error {
	if c.cfg.readOnly {
		return wrapStoreErr(op, store.ErrReadOnly)
	}
	return nil
}

// A readOnlyStore is a store whose every verb that changes something is refused. What it
// does not name is a verb that reads.
type readOnlyStore struct{ store.Store }

func (readOnlyStore) Enqueue(context.Context, time.Time, []store.NewRun) ([]store.Enqueued, error) {
	return nil, store.ErrReadOnly
}
func (readOnlyStore) Claim(context.Context, store.ClaimRequest) ([]store.Claimed, error) {
	return nil, store.ErrReadOnly
}
func (readOnlyStore) Finish(context.Context, time.Time, []store.Outcome) ([]bool, error) {
	return nil, store.ErrReadOnly
}
func (readOnlyStore) Record(context.Context, time.Time, []store.Record) ([]bool, error) {
	return nil, store.ErrReadOnly
}
func (readOnlyStore) Publish(context.Context, time.Time, []store.NewEvent) ([]store.ID, error) {
	return nil, store.ErrReadOnly
}
func (readOnlyStore) Register(context.Context, time.Time, store.WorkerInfo) (int64, error) {
	return 0, store.ErrReadOnly
}
func (readOnlyStore) SetLabels(context.Context, int64, map[string]string) error {
	return store.ErrReadOnly
}
func (readOnlyStore) SetTasks(context.Context, int64, []string) error    { return store.ErrReadOnly }
func (readOnlyStore) PauseWorker(context.Context, string, bool) error    { return store.ErrReadOnly }
func (readOnlyStore) Unregister(context.Context, time.Time, int64) error { return store.ErrReadOnly }
func (readOnlyStore) Recover(context.Context) (store.Recovered, error) {
	return store.Recovered{}, store.ErrReadOnly
}
func (readOnlyStore) Watch(context.Context, int64) (store.Signals, error) {
	return store.Signals{}, store.ErrReadOnly
}
func (readOnlyStore) Cancel(context.Context, time.Time, store.Filter, []byte) (int, error) {
	return 0, store.ErrReadOnly
}
func (readOnlyStore) Replay(context.Context, time.Time, store.Filter) (int, error) {
	return 0, store.ErrReadOnly
}
func (readOnlyStore) Delete(context.Context, store.Filter) (int, error) { return 0, store.ErrReadOnly }
func (readOnlyStore) Expire(context.Context, time.Time, time.Time) (int, error) {
	return 0, store.ErrReadOnly
}
func (readOnlyStore) PauseQueue(context.Context, string, bool) error { return store.ErrReadOnly }
func (readOnlyStore) SetRate(context.Context, time.Time, string, float64, int) error {
	return store.ErrReadOnly
}
func (readOnlyStore) PauseLimit(context.Context, time.Time, store.LimitKey, bool) error {
	return store.ErrReadOnly
}
func (readOnlyStore) Declare(context.Context, time.Time, []store.Declaration) error {
	return store.ErrReadOnly
}
func (readOnlyStore) SetCron(context.Context, time.Time, store.Cron) error { return store.ErrReadOnly }
func (readOnlyStore) ChangeCron(context.Context, time.Time, string, store.CronChange) error {
	return store.ErrReadOnly
}
func (readOnlyStore) TriggerCron(context.Context, time.Time, string) (store.ID, error) {
	return store.ID{}, store.ErrReadOnly
}
func (readOnlyStore) SetFilter(context.Context, store.TaskFilter) (int64, error) {
	return 0, store.ErrReadOnly
}
func (readOnlyStore) DeleteFilter(context.Context, int64) error { return store.ErrReadOnly }
func (readOnlyStore) Reschedule(context.Context, time.Time, store.ID, time.Time) error {
	return store.ErrReadOnly
}
func (readOnlyStore) Append(context.Context, time.Time, store.Call) (store.Entry, bool, error) {
	return store.Entry{}, false, store.ErrReadOnly
}
func (readOnlyStore) Restart(context.Context, time.Time, store.ID, store.Address) error {
	return store.ErrReadOnly
}
func (readOnlyStore) Fork(context.Context, time.Time, store.ID, store.Address) (store.ID, error) {
	return store.ID{}, store.ErrReadOnly
}
func (readOnlyStore) EnqueueTx(context.Context, time.Time, store.Tx, []store.NewRun) ([]store.Enqueued, error) {
	return nil, store.ErrReadOnly
}
func (readOnlyStore) PublishTx(context.Context, time.Time, store.Tx, []store.NewEvent) ([]store.ID, error) {
	return nil, store.ErrReadOnly
}
func (readOnlyStore) AppendTx(context.Context, time.Time, store.Tx, store.Call) (store.Entry, bool, error) {
	return store.Entry{}, false, store.ErrReadOnly
}
