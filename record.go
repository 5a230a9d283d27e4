package stint

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/stint-dev/stint/internal/jsonx"
	"github.com/stint-dev/stint/internal/report"
	"github.com/stint-dev/stint/internal/text"
	"github.com/stint-dev/stint/store"
)

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
	e.reports.SetProgress(change)
	return nil
}

// Stream appends a chunk to the run's stream, which any number of readers follow with
// Run.Stream. The chunk is durable when Stream returns. A commit stores at most 256 KiB of one
// run's chunks, or one larger chunk, so that a busy stream leaves room for others; further
// calls wait. Outside of a run it does nothing.
func Stream(ctx context.Context, chunk []byte) error {
	e := executionOf(ctx)
	if e == nil || e.replay != nil {
		return nil
	}
	if max := e.c.cfg.maxPayload; len(chunk) > max {
		return fmt.Errorf("stint: Stream: chunk of %d bytes: want at most %d (WithMaxPayload)", len(chunk), max)
	}
	if chunk == nil {
		chunk = []byte{} // an empty chunk is one too
	}
	release, err := e.reports.Chunks().Acquire(ctx, len(chunk))
	if err != nil {
		return wrapStoreErr("stream", err)
	}
	if began := time.Now(); len(chunk) < report.ChunkUnit {
		defer release()
	} else { // holds it as long again, so that others get the disk
		defer func() { time.AfterFunc(time.Since(began), release) }()
	}
	stale, err := e.c.store.Record(ctx, []store.Record{{ID: e.run.ID, Lease: e.run.Lease,
		Chunks: []store.Chunk{{Data: chunk, At: e.c.now(), Attempt: e.run.Attempt, Execution: e.run.Executions}}}})
	if err != nil {
		return wrapStoreErr("stream", err)
	}
	if stale[0] {
		return errors.New("stint: Stream: this attempt is over")
	}
	return nil
}

// Stream yields the chunks of the run's stream from the beginning, until the run has ended and
// all chunks are read. An error is yielded last, without a chunk: ctx's error if ctx is done, or
// ErrNotFound if there is no such run.
func (r *Run[Out]) Stream(ctx context.Context) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for c, err := range r.Chunks(ctx, 0) {
			if !yield(c.Data, err) {
				return
			}
		}
	}
}

// Chunks yields what Stream does, with the time and the attempt of each chunk, and only chunks with numbers above after.
func (r *Run[Out]) Chunks(ctx context.Context, after int64) iter.Seq2[Chunk, error] {
	return func(yield func(Chunk, error) bool) {
		if r.idErr != nil {
			yield(Chunk{}, r.idErr)
			return
		}
		for after := max(after, 0); ; {
			chunks, ended, err := r.c.store.Chunks(ctx, r.id, after, chunksAtOnce)
			if err == nil && len(chunks) == 0 && !ended {
				_, err = r.c.store.Await(ctx, r.id, store.Until{Chunk: after + 1})
			}
			if err != nil {
				yield(Chunk{}, wrapStoreErr("stream", err))
				return
			}
			for _, c := range chunks {
				if !yield(Chunk(c), nil) {
					return
				}
				after = c.Seq
			}
			if ended {
				return
			}
		}
	}
}

const chunksAtOnce = 256

// StreamChunks returns up to limit chunks of a run's stream with numbers above after; the
// first chunk has number 1. It returns fewer, but at least one, when they reach 8 MiB, and
// none if no more are stored yet. Run.Stream waits for more.
func (c *Client) StreamChunks(ctx context.Context, runID string, after int64, limit int) ([][]byte, error) {
	chunks, err := c.Chunks(ctx, runID, max(after, 0), limit)
	if err != nil {
		return nil, err
	}
	all := make([][]byte, len(chunks))
	for i := range chunks {
		all[i] = chunks[i].Data
	}
	return all, nil
}

// A Chunk is a piece of a run's stream. A run that starts again, after a failure, a crash or a wait, appends to its stream;
// Attempt and Execution tell the chunks of each start apart.
type Chunk struct {
	Seq       int64 // its number in the run, from 1
	Data      []byte
	At        time.Time
	Attempt   int
	Execution int // RunInfo.Executions at that time
}

// Chunks is like StreamChunks, with the time and the attempt of each chunk. A negative after means the end of the stream:
// with -3, the last three of the chunks that are stored are returned. Run.Chunks waits for more.
func (c *Client) Chunks(ctx context.Context, runID string, after int64, limit int) ([]Chunk, error) {
	u, err := parseID(runID)
	if err != nil {
		return nil, err
	}
	stored, _, err := c.store.Chunks(ctx, u, after, limit)
	if err != nil {
		return nil, wrapStoreErr("stream", err)
	}
	all := make([]Chunk, len(stored))
	for i, s := range stored {
		all[i] = Chunk(s)
	}
	return all, nil
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
		if e.replay == nil {
			e.reports.Log(e.ctx, store.Log{At: e.c.inStore(r.Time), Level: int(r.Level), Message: text.Cut(r.Message, report.MaxMessage),
				Attrs: attrs, Attempt: e.run.Attempt})
		}
	}))
}

// A LogLine is a line that a handler logged with Logger.
type LogLine struct {
	Seq     int64 // its number in the run
	At      time.Time
	Level   slog.Level
	Message string
	Attrs   json.RawMessage // a JSON object, or nil
	Attempt int
}

// Logs returns up to limit lines of a run with numbers above after, oldest first; the first
// line has number 1. It returns fewer, but at least one, when they reach 8 MiB.
func (c *Client) Logs(ctx context.Context, runID string, after int64, limit int) ([]LogLine, error) {
	u, err := parseID(runID)
	if err != nil {
		return nil, err
	}
	if limit < 1 {
		return nil, fmt.Errorf("stint: logs: limit %d: want 1 or more", limit)
	}
	logs, err := c.store.Logs(ctx, u, after, limit)
	if err != nil {
		return nil, wrapStoreErr("logs", err)
	}
	lines := make([]LogLine, len(logs))
	for i, l := range logs {
		lines[i] = logLineOf(&l)
	}
	return lines, nil
}

// AddLogs appends lines to the log of a run, in whatever state the run is: the lines of a handler that
// executes in another program may come after its result. It sets the Seq of each line, and its At if that is zero. It cuts
// lines as Logger does. The error is ErrNotFound if there is no such run.
func (c *Client) AddLogs(ctx context.Context, runID string, lines ...LogLine) error {
	if err := c.writable("add logs"); err != nil {
		return err
	}
	id, err := parseID(runID)
	if err != nil {
		return err
	}
	u := report.Unstored{}
	for _, l := range lines {
		at := l.At // by the clock of the program that logged it, whichever that is
		if at.IsZero() {
			at = c.now()
		}
		log, err := report.NewLine(store.Log{At: at, Level: int(l.Level), Message: l.Message, Attrs: l.Attrs, Attempt: l.Attempt})
		if err != nil {
			return fmt.Errorf("stint: add logs: %w", err)
		}
		u.Add(log)
	}
	for !u.Empty() {
		r := u.Take()
		r.ID = id
		stale, err := c.store.Record(ctx, []store.Record{r})
		if err == nil && stale[0] {
			err = store.ErrNotFound
		}
		if err != nil {
			return wrapStoreErr("add logs", err)
		}
	}
	return nil
}

// A LogFilter selects the lines of all runs' logs that match all its fields. A zero field matches every line; an empty list
// that is not nil matches none.
type LogFilter struct {
	Tasks  []string     // at most 1,000
	RunID  string       // "": any
	Level  slog.Leveler // the lowest level, such as slog.LevelWarn; nil: any
	Text   string       // in the message or an attribute; case is ignored
	Since  time.Time    // logged at or after
	Until  time.Time    // logged before
	Oldest bool         // the oldest lines first
	Limit  int          // size of the page; default 100, at most 1,000
	Scan   int          // with Tasks, Level or Text: how many lines are examined for a page; 0: as many as it takes
	Cursor string       // LogPage.Next of the previous page
}

// A LogPage is a page of lines, newest first unless the filter says otherwise.
type LogPage struct {
	Lines []RunLogLine
	Next  string // Cursor of the next page; "" on the last. With Scan, lines may follow also where Lines is empty
}

// A RunLogLine is a line with the run that logged it.
type RunLogLine struct {
	LogLine
	RunID, Task string
}

// Cursor returns the LogFilter.Cursor of the lines after this one.
func (l *RunLogLine) Cursor() string {
	return fmt.Sprintf("%d.%s.%d", l.At.UnixMilli(), l.RunID, l.Seq)
}

// ListLogs returns a page of the lines of all runs. A page ends early, but has at least one line, when they reach 8 MiB.
func (c *Client) ListLogs(ctx context.Context, f LogFilter) (*LogPage, error) {
	limit, err := pageLimit(f.Limit)
	if err != nil {
		return nil, fmt.Errorf("stint: list logs: %w", err)
	}
	sf, err := f.store()
	if err != nil {
		return nil, errorf("stint: list logs: %w", err)
	}
	after, err := parseLogCursor(f.Cursor)
	if err != nil {
		return nil, fmt.Errorf("stint: list logs: %w", err)
	}
	page := &LogPage{}
	for size := 0; ; {
		list := store.LogList{Filter: sf, After: after, Limit: limit}
		if err := c.store.Read(ctx, &list); err != nil {
			return nil, wrapStoreErr("list logs", err)
		}
		lines, next := list.Lines, list.Next
		for i := range lines {
			l := RunLogLine{logLineOf(&lines[i].Log), lines[i].ID.String(), lines[i].Task}
			if f.Text != "" && !l.Has(f.Text) {
				continue
			}
			if n := lines[i].Size(); len(page.Lines) == limit || size+n > store.MaxPageBytes && len(page.Lines) > 0 {
				return page, nil
			}
			size += lines[i].Size()
			page.Lines = append(page.Lines, l)
			page.Next = l.Cursor()
		}
		if after = next; next == (store.LogPlace{}) {
			page.Next = ""
			return page, nil
		}
		last := RunLogLine{LogLine{At: next.At, Seq: next.Seq}, next.Run.String(), ""}
		if page.Next = last.Cursor(); f.Text == "" || len(page.Lines) == limit {
			return page, nil
		}
		if sf.Scan -= len(lines); f.Scan > 0 && (sf.Scan <= 0 || len(lines) < limit) {
			return page, nil
		}
	}
}

// Has reports whether the line's message, or a text or number of its attributes, contains the
// text. Case is ignored.
func (l *LogLine) Has(text string) bool {
	text = strings.ToLower(text)
	has := func(s string) bool { return strings.Contains(strings.ToLower(s), text) }
	return has(l.Message) || has(string(l.Attrs)) || slices.ContainsFunc(jsonx.Strings(l.Attrs), has)
}

func logLineOf(l *store.Log) LogLine {
	return LogLine{l.Seq, l.At, slog.Level(l.Level), l.Message, jsonx.Embed(l.Attrs), l.Attempt}
}

func (f *LogFilter) store() (sf store.LogFilter, err error) {
	if len(f.Tasks) > 1000 {
		return sf, fmt.Errorf("%d tasks: want at most 1,000", len(f.Tasks))
	}
	sf = store.LogFilter{Tasks: f.Tasks, Since: f.Since, Until: f.Until, Oldest: f.Oldest, Scan: f.Scan}
	if f.RunID != "" {
		if sf.Run, err = parseID(f.RunID); err != nil {
			return sf, err
		}
	}
	if f.Level != nil {
		level := int(f.Level.Level())
		sf.Level = &level
	}
	return sf, nil
}

// parseLogCursor is the inverse of RunLogLine.Cursor.
func parseLogCursor(s string) (p store.LogPlace, err error) {
	if s == "" {
		return p, nil
	}
	parts := strings.Split(s, ".")
	if len(parts) != 3 {
		return p, fmt.Errorf("cursor %q: want one that a page gave", text.Cut(s, 100))
	}
	at, err1 := strconv.ParseInt(parts[0], 10, 64)
	p.Run, err = parseID(parts[1])
	seq, err2 := strconv.ParseInt(parts[2], 10, 64)
	if err := cmp.Or(err, err1, err2); err != nil {
		return p, fmt.Errorf("cursor %q: want one that a page gave", text.Cut(s, 100))
	}
	p.At, p.Seq = time.UnixMilli(at), seq
	return p, nil
}

// A LogCount says how many lines of a level were logged in a span that begins at At.
type LogCount struct {
	At    time.Time
	Level slog.Level // DEBUG, INFO, WARN or ERROR; a level between two of them counts as the lower one
	Lines int64
}

// CountLogs counts the lines that match by level and by spans of a minute or longer, in the order of their times. It looks at
// the newest 50,000 lines in the filter's time, and leaves out its Text, Limit, Scan and Cursor.
func (c *Client) CountLogs(ctx context.Context, f LogFilter, span time.Duration) ([]LogCount, error) {
	if span < time.Minute {
		return nil, fmt.Errorf("stint: count logs: span %v: want a minute or more", span)
	}
	sf, err := f.store()
	if err != nil {
		return nil, errorf("stint: count logs: %w", err)
	}
	list := store.LogCountList{Filter: sf, Span: span, Limit: MaxCountedLines}
	if err := c.store.Read(ctx, &list); err != nil {
		return nil, wrapStoreErr("count logs", err)
	}
	all := make([]LogCount, len(list.Counts))
	for i, n := range list.Counts {
		all[i] = LogCount{n.At, slog.Level(n.Level), n.Lines}
	}
	return all, nil
}

// MaxCountedLines is the number of lines that CountLogs looks at.
const MaxCountedLines = 50_000

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

// report tells who asked with Recorded that the outcome was stored, or refused.
func (e *execution) report(stale bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.recorded == nil {
		return
	}
	var err error
	if stale {
		err = errLost
	}
	e.recorded <- err // an execution posts one outcome
}
