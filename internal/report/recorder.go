package report

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"sync"
	"time"

	"github.com/stint-dev/stint/internal/pause"
	"github.com/stint-dev/stint/store"
)

// recordEvery is how long progress and logs gather before they are stored.
const recordEvery = 100 * time.Millisecond

// patience is how long a log line waits for room, perhaps because the handler itself holds a transaction. Then
// the newest lines are kept.
const patience = time.Second

// A Recorder stores what the executions of a worker report.
type Recorder struct {
	store    Store
	logger   func() *slog.Logger
	reported chan struct{} // capacity 1: an execution has something to store
}

// A Store keeps records of runs.
type Store interface {
	Record(ctx context.Context, rs []store.Record) (stale []bool, err error)
}

// NewRecorder returns a Recorder. Its logger is told what cannot be stored.
func NewRecorder(s Store, logger func() *slog.Logger) *Recorder {
	return &Recorder{s, logger, make(chan struct{}, 1)}
}

// Run stores a portion of what each of the executions has reported, a short time after one of them did, until ctx is
// done. The rest then goes with their outcomes.
func (r *Recorder) Run(ctx context.Context, executions func() iter.Seq[*Reports]) {
	for {
		select {
		case <-r.reported:
		case <-ctx.Done():
			return
		}
		if !pause.For(ctx, recordEvery) {
			return
		}
		for e := range executions() {
			if e.flush(ctx) {
				r.signal()
			}
		}
	}
}

func (r *Recorder) signal() {
	select {
	case r.reported <- struct{}{}:
	default:
	}
}

// record stores a record, and reports whether it could.
func (r *Recorder) record(ctx context.Context, rec store.Record) bool {
	_, err := r.store.Record(context.WithoutCancel(ctx), []store.Record{rec})
	if err != nil && !errors.Is(err, store.ErrClosed) {
		r.logger().Error("stint: storing progress and logs", "run", rec.ID, "err", err)
	}
	return err == nil
}

// Reports are those of one execution that the store does not have yet. They end with Close. Their methods may be called
// concurrently.
type Reports struct {
	Recorder *Recorder
	Run      *store.Claimed

	storing sync.Mutex // held while they are stored, so that they keep their order

	mu       sync.Mutex
	closed   bool
	unstored Unstored
	chunks   *Chunks // nil before the first chunk
}

// Progress returns the newest progress.
func (r *Reports) Progress() store.Progress {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.unstored.Progress
}

// SetProgress changes the progress.
func (r *Reports) SetProgress(change func(*store.Progress)) {
	r.mu.Lock()
	r.unstored.SetProgress(change)
	r.mu.Unlock()
	r.Recorder.signal()
}

// Log keeps a line until it is stored. It waits for room, until ctx is done. After Close it drops the line.
func (r *Reports) Log(ctx context.Context, l store.Log) {
	r.mu.Lock()
	for !r.closed && ctx.Err() == nil {
		room := r.unstored.Room()
		if room == nil {
			break
		}
		r.mu.Unlock()
		r.Recorder.signal()
		inTime := waitForRoom(ctx, room)
		r.mu.Lock()
		if !inTime {
			r.unstored.InVain(room)
		}
	}
	if !r.closed {
		r.unstored.Add(l)
	}
	r.mu.Unlock()
	r.Recorder.signal()
}

// waitForRoom waits until there is room or the context is done. It returns false if it lost its patience.
func waitForRoom(ctx context.Context, room <-chan struct{}) bool {
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case <-room:
	case <-ctx.Done():
	case <-t.C:
		return false
	}
	return true
}

// Chunks returns what limits the run's chunks.
func (r *Reports) Chunks() *Chunks {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.chunks == nil {
		r.chunks = NewChunks()
	}
	return r.chunks
}

// take returns what is to be stored next. The caller holds mu.
func (r *Reports) take() store.Record {
	rec := r.unstored.Take()
	rec.ID, rec.Lease = r.Run.ID, r.Run.Lease
	return rec
}

// flush stores a portion, and reports whether more is left.
func (r *Reports) flush(ctx context.Context) (more bool) {
	r.storing.Lock()
	defer r.storing.Unlock()
	r.mu.Lock()
	rec := r.take()
	more = !r.unstored.Empty()
	r.mu.Unlock()
	if rec.Progress != nil || len(rec.Logs) > 0 {
		r.Recorder.record(ctx, rec)
	}
	return more
}

// Closed reports whether Close was called.
func (r *Reports) Closed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.closed
}

// Close ends the reports. It stores what exceeds a portion, and returns the last one, which goes with the outcome. On
// every call but the first, first is false and last is empty.
func (r *Reports) Close(ctx context.Context) (last store.Record, first bool) {
	r.storing.Lock()
	defer r.storing.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.unstored.Full() && !r.closed {
		rec := r.take()
		r.mu.Unlock()
		stored := r.Recorder.record(ctx, rec)
		r.mu.Lock()
		if !stored {
			break
		}
	}
	if r.closed {
		return store.Record{}, false
	}
	r.closed = true
	r.unstored.DropExcess() // nothing, unless the store failed
	return r.take(), true
}
