package stint

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/stint-dev/stint/internal/clock"
	"github.com/stint-dev/stint/internal/guard"
	"github.com/stint-dev/stint/internal/jsonx"
	"github.com/stint-dev/stint/internal/text"
	"github.com/stint-dev/stint/store"
)

// Info returns the run whose handler ctx belongs to. It returns false outside of a run.
func Info(ctx context.Context) (RunInfo, bool) {
	e := executionOf(ctx)
	if e == nil {
		return RunInfo{}, false
	}
	r := &e.run
	e.mu.Lock()
	p := e.progress
	e.mu.Unlock()
	return RunInfo{
		ID: r.ID.String(), Task: r.Task, Queue: r.Queue, State: StateRunning, Priority: int(r.Priority),
		Attempt: r.Attempt, Executions: r.Executions, Canceling: !r.CancelAt.IsZero(),
		Input: r.Input, Metadata: jsonx.Texts(r.Metadata), Scheduled: r.Due, Started: r.Started, Created: createdAt(r.ID),
		ParentID: idString(r.Parent), RootID: idString(r.Root), Worker: e.w.cfg.name, WorkerID: e.w.cfg.name,
		Progress: ProgressInfo{p.Done, p.Total, p.Message},
	}, true
}

// createdAt returns the time in a UUIDv7.
func createdAt(id store.ID) time.Time {
	sec, nsec := id.Time().UnixTime()
	return time.Unix(sec, nsec)
}

// Progress reports that done of total units of the run's work are done; total 0 means unknown.
// It is stored within 100 ms, shown live and kept with the run. Outside of a run it does
// nothing.
func Progress(ctx context.Context, done, total int64) error {
	if done < 0 || total < 0 {
		return fmt.Errorf("stint: Progress(%d, %d): want 0 or more", done, total)
	}
	return setProgress(ctx, func(p *store.Progress) { p.Done, p.Total = done, total })
}

// ProgressMessage describes in words what the run is doing. Its first 1 KiB is kept, like
// Progress.
func ProgressMessage(ctx context.Context, message string) error {
	return setProgress(ctx, func(p *store.Progress) { p.Message = text.Cut(message, maxProgress) })
}

// Bytes kept of a progress message, of a log line and of a line's attributes.
const (
	maxProgress = 1 << 10
	maxLogText  = 16 << 10
	maxLogAttrs = 64 << 10
)

func setProgress(ctx context.Context, change func(*store.Progress)) error {
	e := executionOf(ctx)
	if e == nil {
		return nil
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	e.mu.Lock()
	change(&e.progress)
	e.progressed = true
	e.mu.Unlock()
	signal(e.w.reported)
	return nil
}

// ExtendTimeout gives the attempt d more time before its WithTimeout ends it, also if it waits
// in between and continues in another process. A retry starts with WithTimeout again. After
// the timeout it returns ErrTimeout. Without a timeout, or outside of a run, it does nothing.
func ExtendTimeout(ctx context.Context, d time.Duration) error {
	e := executionOf(ctx)
	if e == nil {
		return nil
	}
	if err := wantPositive("ExtendTimeout", d); err != nil {
		return err
	}
	if err := context.Cause(e.ctx); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.deadline.IsZero() {
		e.left = clock.Sum(e.left, d)
	} else {
		e.deadline = clock.Add(e.deadline, d)
	}
	return nil
}

// Recorded returns a channel that receives nil once the outcome of this execution is stored: that
// it succeeded, failed, or goes back to the queue. It receives an error if the outcome was refused
// because another execution has the run. It is for a handler that works for a program elsewhere:
// once it has received nil, the program's result cannot be lost, and may be acknowledged.
//
// Nothing is received if the worker ends before the outcome can be stored; the run is then queued
// again. Outside of a run, and on every call but the first, Recorded returns nil.
func Recorded(ctx context.Context) <-chan error {
	e := executionOf(ctx)
	if e == nil || e.replay != nil {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.recorded != nil {
		return nil
	}
	e.recorded = make(chan error, 1)
	return e.recorded
}

// ReleaseSlot gives up the run's worker slots before the handler returns, so that another run
// can start. Outside of a run it does nothing.
func ReleaseSlot(ctx context.Context) error {
	if e := executionOf(ctx); e != nil {
		e.w.releaseSlots(e)
	}
	return nil
}

// Logger returns a logger that adds the run's ID, task and attempt to each line, writes it to
// the client's logger, and keeps it with the run. Kept are lines of level Info and above, and
// lower ones that the client's logger accepts: the last 10,000 lines, the first 16 KiB of each
// message, and attributes up to 64 KiB. A run may log about 5,000 short lines, or 2.5 MiB, a
// second. Beyond that a call waits, at most a second and not after ctx is done. Outside of a
// run it returns slog.Default().
func Logger(ctx context.Context) *slog.Logger {
	e := executionOf(ctx)
	if e == nil {
		return slog.Default()
	}
	base := e.c.logger().With("run", e.run.ID, "task", e.run.Task, "attempt", e.run.Attempt)
	sink := &logSink{}
	attrs := slog.NewJSONHandler(&sink.buf, &slog.HandlerOptions{Level: slog.Level(-1 << 20), ReplaceAttr: dropBuiltin})
	return slog.New(&runHandler{e, base.Handler(), attrs, sink})
}

// runHandler passes each record to the app's handler and keeps it with the run.
type runHandler struct {
	e     *execution
	base  slog.Handler
	attrs slog.Handler // renders a record's attributes into sink
	sink  *logSink
}

type logSink struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// dropBuiltin drops time, level and message, which are stored separately.
func dropBuiltin(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey || a.Key == slog.MessageKey) {
		return slog.Attr{}
	}
	return a
}

func (h *runHandler) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelInfo || h.base.Enabled(ctx, l)
}

func (h *runHandler) Handle(ctx context.Context, r slog.Record) error {
	attrs, err := h.render(ctx, r)
	h.e.log(store.Log{At: h.e.c.inStore(r.Time), Level: int(r.Level), Message: text.Cut(r.Message, maxLogText), Attrs: attrs,
		Attempt: h.e.run.Attempt})
	if h.base.Enabled(ctx, r.Level) {
		return errors.Join(err, h.base.Handle(ctx, r))
	}
	return err
}

// render returns a record's attributes as JSON, or nil if it has none or they cannot be
// encoded.
func (h *runHandler) render(ctx context.Context, r slog.Record) (attrs []byte, err error) {
	h.sink.mu.Lock()
	defer h.sink.mu.Unlock()
	h.sink.buf.Reset()
	err = guarded(func() error { return h.attrs.Handle(ctx, r) })
	if attrs = bytes.TrimSpace(h.sink.buf.Bytes()); err != nil || string(attrs) == "{}" {
		return nil, err
	}
	return cutAttrs(bytes.Clone(attrs))
}

// newLog returns a line as it is stored.
func (c *Client) newLog(l LogLine) (store.Log, error) {
	if l.Attempt < 1 {
		return store.Log{}, fmt.Errorf("a line has attempt %d: want 1 or more", l.Attempt)
	}
	at := l.At // by the clock of the program that logged it, whichever that is
	if at.IsZero() {
		at = c.now()
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(l.Attrs, &object); err != nil && len(l.Attrs) > 0 {
		return store.Log{}, errors.New("a line's Attrs are not a JSON object")
	}
	attrs, err := []byte(nil), error(nil)
	if len(object) > 0 {
		attrs, err = cutAttrs(bytes.Clone(l.Attrs))
	}
	return store.Log{At: at, Level: int(l.Level), Message: text.Cut(l.Message, maxLogText), Attrs: attrs, Attempt: l.Attempt}, err
}

// cutAttrs shortens a line's attributes.
func cutAttrs(attrs []byte) ([]byte, error) {
	if len(attrs) > maxLogAttrs {
		return json.Marshal(map[string]string{"cut": text.Cut(string(attrs), text.Listed)})
	}
	return attrs, nil
}

func (h *runHandler) WithAttrs(as []slog.Attr) slog.Handler {
	attrs := h.attrs
	guard.Call(func() { attrs = h.attrs.WithAttrs(as) }) // it renders them
	return &runHandler{h.e, h.base.WithAttrs(as), attrs, h.sink}
}

func (h *runHandler) WithGroup(name string) slog.Handler {
	return &runHandler{h.e, h.base.WithGroup(name), h.attrs.WithGroup(name), h.sink}
}

// What handlers report is stored in portions, so that no run fills commits that others wait
// for. A run has one portion in memory and one on its way to the store; beyond that its log
// lines and chunks wait for room. A log line stops waiting when the context is done or after
// logPatience, perhaps because the handler itself holds a transaction; then the newest lines
// are kept.
const (
	portion      = 256 << 10 // maximum size in bytes of what a commit stores of one run's lines, or chunks
	lineOverhead = 512       // bytes counted for a log line beside its texts
	chunkUnit    = 4 << 10   // bytes counted at least for a chunk
	maxUnstored  = 16 << 20  // bytes of log lines kept in memory
	logPatience  = time.Second
)

// unstored is what a handler reported and the store does not have yet. It is guarded by
// execution.mu.
type unstored struct {
	progress   store.Progress
	progressed bool // progress is not stored yet
	impatient  bool // a line waited in vain; reset when lines are taken
	logs       []store.Log
	size       int           // of logs
	room       chan struct{} // closed when lines are taken; nil: nobody waits
}

func logSize(l *store.Log) int { return lineOverhead + len(l.Message) + len(l.Attrs) }

// full reports whether a whole portion of lines is unstored.
func (u *unstored) full() bool { return u.size >= portion }

// addLog appends a line, and drops the oldest if there are too many.
func (u *unstored) addLog(l store.Log) {
	u.logs = append(u.logs, l)
	u.size += logSize(&l)
	u.dropLogs(store.MaxLogs, maxUnstored)
}

// dropLogs drops the oldest lines until at most that many lines and bytes are left.
func (u *unstored) dropLogs(lines, size int) {
	n := 0
	for ; len(u.logs)-n > lines || u.size > size && n < len(u.logs); n++ {
		u.size -= logSize(&u.logs[n])
	}
	u.logs = u.logs[n:]
}

// take removes and returns a portion.
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

// log keeps a line until it is stored. It waits for room.
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

// waitForRoom waits until there is room or the context is done. It returns false if it waited
// for logPatience in vain.
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

// takeRecord returns what is to be stored next. The caller holds mu.
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
	_, err := e.c.store.Record(context.WithoutCancel(ctx), []store.Record{r})
	if err != nil && !errors.Is(err, store.ErrClosed) {
		e.c.logger().Error("stint: storing progress and logs", "run", e.run.ID, "err", err)
	}
	return err == nil
}

// flushExcess stores what exceeds the portion that goes with the outcome. The caller holds
// storeMu.
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

// recordLoop stores what handlers log and report, recordEvery after they do.
func (w *Worker) recordLoop(ctx context.Context) {
	for {
		select {
		case <-w.reported:
		case <-ctx.Done():
			return
		}
		if !pause(ctx, recordEvery) {
			return // the rest is stored with the outcomes
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
