package stint

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/stint-dev/stint/internal/clock"
	"github.com/stint-dev/stint/internal/jsonx"
	"github.com/stint-dev/stint/internal/report"
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
	p := e.unstored.Progress
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
	return setProgress(ctx, func(p *store.Progress) { p.Message = text.Cut(message, report.MaxProgress) })
}

func setProgress(ctx context.Context, change func(*store.Progress)) error {
	e := executionOf(ctx)
	if e == nil {
		return nil
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	e.mu.Lock()
	e.unstored.SetProgress(change)
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
		e.w.slots.Release(&e.slots)
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
	return slog.New(report.NewLogHandler(base.Handler(), guarded, func(r slog.Record, attrs []byte) {
		e.log(store.Log{At: e.c.inStore(r.Time), Level: int(r.Level), Message: text.Cut(r.Message, report.MaxMessage), Attrs: attrs,
			Attempt: e.run.Attempt})
	}))
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
		attrs, err = report.CutAttrs(bytes.Clone(l.Attrs))
	}
	return store.Log{At: at, Level: int(l.Level), Message: text.Cut(l.Message, report.MaxMessage), Attrs: attrs, Attempt: l.Attempt}, err
}

// logPatience is how long a log line waits for room, perhaps because the handler itself holds a transaction. Then
// the newest lines are kept.
const logPatience = time.Second

// log keeps a line until it is stored. It waits for room.
func (e *execution) log(l store.Log) {
	if e.replay != nil {
		return
	}
	e.mu.Lock()
	for !e.posted && e.ctx.Err() == nil {
		room := e.unstored.Room()
		if room == nil {
			break
		}
		e.mu.Unlock()
		signal(e.w.reported)
		inTime := e.waitForRoom(room)
		e.mu.Lock()
		if !inTime {
			e.unstored.InVain(room)
		}
	}
	if !e.posted {
		e.unstored.Add(l)
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
	r := e.unstored.Take()
	r.ID, r.Lease = e.run.ID, e.run.Lease
	return r
}

// flush stores a portion of what was reported, and reports whether more is left.
func (e *execution) flush(ctx context.Context) (more bool) {
	e.storeMu.Lock()
	defer e.storeMu.Unlock()
	e.mu.Lock()
	r := e.takeRecord()
	more = !e.unstored.Empty()
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
	for e.unstored.Full() && !e.posted {
		r := e.takeRecord()
		e.mu.Unlock()
		stored := e.record(e.ctx, r)
		e.mu.Lock()
		if !stored {
			e.unstored.DropExcess()
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
