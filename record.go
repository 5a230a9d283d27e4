package stint

import (
	"context"
	"errors"
	"time"

	"github.com/stint-dev/stint/store"
)

// What handlers report is stored in portions, so that a run that reports without end fills
// no commit that others wait for. A run has one portion in memory, and one on its way to the
// store; then its log lines and chunks wait for room. Waiting for a log line is cut short
// where it cannot end soon: the context is done, or the store is not written to, perhaps
// because the handler itself holds a transaction. Then the last lines are kept.
const (
	portion      = 256 << 10 // bytes that a commit takes of what one run logged, or streamed
	lineOverhead = 512       // bytes that a log line counts for beside its texts
	chunkUnit    = 4 << 10   // bytes that a chunk counts for at least
	maxUnstored  = 16 << 20  // bytes of log lines that are kept in memory
	logPatience  = time.Second
)

// unstored is what a handler reported and the store does not have yet. It is guarded by
// execution.mu.
type unstored struct {
	progress   store.Progress
	progressed bool // progress is not stored yet
	impatient  bool // a line waited in vain; until lines are taken
	logs       []store.Log
	size       int           // of logs
	room       chan struct{} // closed when lines are taken; nil: nobody waits
}

func logSize(l *store.Log) int { return lineOverhead + len(l.Message) + len(l.Attrs) }

// full reports whether a portion of lines is there.
func (u *unstored) full() bool { return u.size >= portion }

// addLog appends a line, and drops the first lines if there are too many.
func (u *unstored) addLog(l store.Log) {
	u.logs = append(u.logs, l)
	u.size += logSize(&l)
	u.dropLogs(store.MaxLogs, maxUnstored)
}

// dropLogs removes the first lines until there are at most so many lines and bytes.
func (u *unstored) dropLogs(lines, size int) {
	n := 0
	for ; len(u.logs)-n > lines || u.size > size && n < len(u.logs); n++ {
		u.size -= logSize(&u.logs[n])
	}
	u.logs = u.logs[n:]
}

// take removes a portion, and makes room.
func (u *unstored) take() (r store.Record) {
	if u.progressed {
		p := u.progress
		r.Progress, u.progressed = &p, false
	}
	n, size := 0, 0
	for n < len(u.logs) && size < portion {
		size += logSize(&u.logs[n])
		n++
	}
	r.Logs = u.logs[:n:n]
	if u.logs, u.size, u.impatient = u.logs[n:], u.size-size, false; len(u.logs) == 0 {
		u.logs = nil
	}
	if u.room != nil && !u.full() {
		close(u.room)
		u.room = nil
	}
	return r
}

// log keeps a line to be stored. It waits for room.
func (e *execution) log(l store.Log) {
	if e.replay != nil {
		return
	}
	e.mu.Lock()
	for e.full() && !e.posted && !e.impatient && e.ctx.Err() == nil {
		if e.room == nil {
			e.room = make(chan struct{})
		}
		room := e.room
		e.mu.Unlock()
		signal(e.w.reported)
		inTime := e.waitForRoom(room)
		e.mu.Lock()
		e.impatient = e.impatient || !inTime && room == e.room
	}
	if !e.posted {
		e.addLog(l)
	}
	e.mu.Unlock()
	signal(e.w.reported)
}

// waitForRoom waits until there is room, or the context is done. It returns false if it waited
// in vain.
func (e *execution) waitForRoom(room <-chan struct{}) bool {
	t := time.NewTimer(logPatience)
	defer t.Stop()
	select {
	case <-room:
	case <-e.ctx.Done():
	case <-t.C:
		return false
	}
	return true
}

// takeRecord is what is to be stored next. The caller holds mu.
func (e *execution) takeRecord() store.Record {
	r := e.unstored.take()
	r.ID, r.Lease = e.run.ID, e.run.Lease
	return r
}

// flush stores a portion of what was reported, and reports whether more is left.
func (e *execution) flush(ctx context.Context) (more bool) {
	e.storeMu.Lock()
	defer e.storeMu.Unlock()
	e.mu.Lock()
	r := e.takeRecord()
	more = len(e.logs) > 0
	e.mu.Unlock()
	if r.Progress != nil || len(r.Logs) > 0 {
		e.record(ctx, r)
	}
	return more
}

func (e *execution) record(ctx context.Context, r store.Record) bool {
	_, err := e.c.store.Record(context.WithoutCancel(ctx), time.Now(), []store.Record{r})
	if err != nil && !errors.Is(err, store.ErrClosed) {
		e.c.logger().Error("stint: storing progress and logs", "run", e.run.ID, "err", err)
	}
	return err == nil
}

// flushExcess stores what is more than goes with the outcome. The caller holds storing.
func (e *execution) flushExcess() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for e.full() && !e.posted {
		r := e.takeRecord()
		e.mu.Unlock()
		stored := e.record(e.ctx, r)
		e.mu.Lock()
		if !stored {
			e.dropLogs(store.MaxLogs, portion)
			return
		}
	}
}

// chunkSemaphore lets a run have chunks of one portion at a time on their way to the store.
type chunkSemaphore struct {
	lock   chan struct{} // of who takes shares: two who have some each would wait for ever
	tokens chan struct{}
}

func newChunkSemaphore() *chunkSemaphore {
	return &chunkSemaphore{make(chan struct{}, 1), make(chan struct{}, portion/chunkUnit)}
}

// acquire waits until a chunk of that size may go, in order, and returns what gives its
// shares back.
func (s *chunkSemaphore) acquire(ctx context.Context, size int) (release func(), err error) {
	select {
	case s.lock <- struct{}{}:
		defer func() { <-s.lock }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	n := 0
	release = func() {
		for range n {
			<-s.tokens
		}
	}
	for want := min(1+size/chunkUnit, cap(s.tokens)); n < want; n++ {
		select {
		case s.tokens <- struct{}{}:
		case <-ctx.Done():
			release()
			return nil, ctx.Err()
		}
	}
	return release, nil
}

// streamSemaphore returns the shares of the run's chunks.
func (e *execution) streamSemaphore() *chunkSemaphore {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.streamLimit == nil {
		e.streamLimit = newChunkSemaphore()
	}
	return e.streamLimit
}

// recordLoop stores what handlers log and how far they are, a little after they said so.
func (w *Worker) recordLoop(ctx context.Context) {
	for {
		select {
		case <-w.reported:
		case <-ctx.Done():
			return
		}
		if !pause(ctx, recordEvery) {
			return // what is left goes with the outcomes
		}
		for _, e := range w.executions() {
			if e.flush(ctx) {
				signal(w.reported)
			}
		}
	}
}

// recordEvery is how long progress and logs gather before they are stored.
const recordEvery = 100 * time.Millisecond

// nextOutcomes takes those that one commit records: all, unless they carry many log lines.
func (w *Worker) nextOutcomes() []outcome {
	w.mu.Lock()
	defer w.mu.Unlock()
	n, size := 0, 0
	for ; n < len(w.outbox) && size < 4*portion; n++ {
		for i := range w.outbox[n].Record.Logs {
			size += logSize(&w.outbox[n].Record.Logs[i])
		}
	}
	if n == 0 {
		return nil
	}
	batch, rest := w.outbox[:n:n], w.outbox[n:]
	if len(rest) == 0 {
		batch, rest, w.spare = w.outbox, w.spare, nil
	}
	w.outbox = rest
	return batch
}

// reuseOutbox makes the next outbox of a batch that was committed: outcomes are large.
func (w *Worker) reuseOutbox(batch []outcome) {
	clear(batch) // what they refer to may go
	w.mu.Lock()
	defer w.mu.Unlock()
	if cap(batch) <= maxSpare {
		w.spare = batch[:0]
	}
}

// maxSpare is the size of an outbox that is kept: half a MiB.
const maxSpare = 1024
