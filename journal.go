package stint

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"reflect"
	"runtime"
	"time"

	"github.com/stint-dev/stint/internal/check"
	"github.com/stint-dev/stint/internal/clock"
	"github.com/stint-dev/stint/internal/failure"
	"github.com/stint-dev/stint/internal/journal"
	"github.com/stint-dev/stint/internal/jsonx"
	"github.com/stint-dev/stint/internal/recording"
	"github.com/stint-dev/stint/store"
)

// A JournalEntry is a durable call of a run and its result.
type JournalEntry struct {
	// Address is a scope and number: "3", "3/1" in the branch that entry 3 started, "3/on/1" for an event that wait 3
	// is for, "undo/1" and "undo/3/1" for compensations of the handler and of that branch, "version:…/1" for a change.
	Address string
	// Kind is step, sleep, event, wait, child, publish, branch, any, version, or end: the failure that ends the run
	// after its compensations. A compensation is a step.
	Kind string
	Name string // of a step, branch or change, the child's task, the event's key, or the Condition's String
	Done bool
	// Output is JSON. Of a child: the IDs of the runs; of publish: those of the events; of any: the index of the first
	// future; of a wait: what fired.
	Output json.RawMessage
	Error  string
	// Began is when the call began; for a step or a compensation, its first try. If that is not
	// known, it is when the call was recorded.
	Began    time.Time
	At       time.Time // when it was recorded: of a step, branch or wait its end, of a sleep or child its begin
	Due      time.Time // a sleep's end, an event's timeout or a step's next attempt; zero: none
	Attempts int       // of a step
	Tries    []StepTry // of a step that was tried again: its newest 20 tries
}

// A StepTry is a call of a step's function.
type StepTry struct {
	Began, Ended time.Time
	Error        string // its first 1 KiB; "": it succeeded
}

// Ended returns when the call ended, or the zero time if it has not. A recorded sleep ends at its
// Due, which may be in the future.
func (e *JournalEntry) Ended() time.Time {
	switch {
	case !e.Done:
		return time.Time{}
	case e.Kind == store.EntrySleep.String() && !e.Due.IsZero():
		return e.Due
	}
	return e.At
}

// A JournalFilter says which part of a journal JournalPage returns.
type JournalFilter struct {
	Limit int // size of the page; default 100, at most 1,000
	// Cursor is JournalPage.Next of the previous page, or the Address of an entry: the page
	// begins after it. "" begins with the first entry.
	Cursor string
}

// A JournalPage is a page of a run's journal, ordered by scope.
type JournalPage struct {
	Entries []JournalEntry
	Next    string // Cursor of the next page; "" on the last
}

// ErrDiverged reports that code makes other durable calls than a journal records.
var ErrDiverged = errors.New("stint: the code does not match the journal")

// Journal returns the durable calls of a run, ordered by scope. A run without durable calls has
// none. It returns ErrNotFound for a run that does not exist, and an error for a journal of more
// than 100,000 entries or 256 MiB; JournalPage and WriteJournal read one of any length.
func (c *Client) Journal(ctx context.Context, runID string) ([]JournalEntry, error) {
	id, err := parseID(runID)
	if err != nil {
		return nil, err
	}
	all := []JournalEntry{}
	var whole check.Whole
	for e, err := range recording.Entries(ctx, c.store, id) {
		if err != nil {
			return nil, wrapStoreErr("journal", err)
		}
		if err := whole.Add(e.Size()); err != nil {
			return nil, fmt.Errorf("stint: journal of run %s: %w: read it with JournalPage, or WriteJournal", id, err)
		}
		all = append(all, journalEntry(&e))
	}
	if err := c.exists(ctx, id, len(all)); err != nil {
		return nil, err
	}
	return all, nil
}

// JournalPage returns a page of a run's journal. A page ends early, but has at least one
// entry, when its outputs reach 8 MiB. What the run records meanwhile may appear on later
// pages. Errors: ErrNotFound for a run that does not exist, and one for an invalid cursor.
func (c *Client) JournalPage(ctx context.Context, runID string, f JournalFilter) (*JournalPage, error) {
	id, err := parseID(runID)
	if err != nil {
		return nil, err
	}
	limit, err := pageLimit(f.Limit)
	if err != nil {
		return nil, fmt.Errorf("stint: journal: %w", err)
	}
	var after journal.Address
	if f.Cursor != "" {
		if after, err = journal.ParseAddress(f.Cursor); err != nil {
			return nil, errorf("stint: journal: cursor: %w", err)
		}
	}
	stored, more, err := c.store.Entries(ctx, id, store.Address(after), limit, false)
	if err != nil {
		return nil, wrapStoreErr("journal", err)
	}
	page := &JournalPage{Entries: make([]JournalEntry, len(stored))}
	for i := range stored {
		page.Entries[i] = journalEntry(&stored[i])
	}
	if more {
		page.Next = page.Entries[len(stored)-1].Address
	}
	if err := c.exists(ctx, id, len(stored)); err != nil {
		return nil, err
	}
	return page, nil
}

// exists returns ErrNotFound if a journal was read as empty because its run does not exist.
func (c *Client) exists(ctx context.Context, id store.ID, entries int) error {
	if entries > 0 {
		return nil
	}
	_, err := c.store.Get(ctx, id)
	return wrapStoreErr("journal", err)
}

func journalEntry(e *store.Entry) JournalEntry {
	j := JournalEntry{
		Address: journal.Address(e.Address).String(), Kind: e.Kind.String(), Name: e.Name, Done: e.Done,
		Output: jsonx.Embed(e.Value), Began: e.Began, At: e.At, Due: e.Due, Attempts: e.Attempts, Tries: stepTries(journal.Tries(e.Tries)),
	}
	if e.Error != nil {
		j.Error = failure.Decode(e.Error).Message
	}
	if store.IsUndo(e.Scope) || e.Kind == store.EntryWait && !e.Done { // its value is internal
		j.Output = nil
	}
	return j
}

func stepTries(stored []journal.Try) []StepTry {
	all := make([]StepTry, len(stored))
	for i, t := range stored {
		all[i] = StepTry{clock.FromMillis(t.Began), clock.FromMillis(t.Ended), t.Error}
	}
	return all[:len(all):len(all)]
}

// ExportJournal returns a run, its journal, and how the runs ended that the journal refers to,
// as indented JSON: for ReplayJournal, and to keep with the code's tests. Inputs and outputs
// are included as stored; one that is not JSON becomes a string that says so. A document of
// more than 256 MiB is an error; WriteJournal writes one of any length.
func (c *Client) ExportJournal(ctx context.Context, runID string) ([]byte, error) {
	var b wholeDocument
	if err := c.WriteJournal(ctx, runID, &b); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// A wholeDocument is a document in memory, of bounded size.
type wholeDocument struct{ bytes.Buffer }

// Write implements io.Writer.
func (b *wholeDocument) Write(p []byte) (int, error) {
	if b.Len()+len(p) > check.MaxWholeBytes {
		return 0, fmt.Errorf("more than %d MiB: write it with WriteJournal", check.MaxWholeBytes>>20)
	}
	return b.Buffer.Write(p)
}

// WriteJournal writes what ExportJournal returns to w. It holds a few MiB in memory, and the
// IDs of the runs that the journal refers to. It returns an error, and the document is
// incomplete, if w returns one, or if the run starts another attempt meanwhile, which may have
// removed entries already written. What the run records meanwhile may be in the document.
func (c *Client) WriteJournal(ctx context.Context, runID string, w io.Writer) error {
	id, err := parseID(runID)
	if err != nil {
		return err
	}
	r, err := c.store.Get(ctx, id)
	if err != nil {
		return wrapStoreErr("export a journal", err)
	}
	return wrapStoreErr("export a journal", recording.Export(ctx, c.store, r, c.now(), w))
}

// A replaySource is what an execution of ReplayJournal has in place of a database.
type replaySource struct {
	at    time.Time // when the journal was exported
	runs  map[store.ID]recording.End
	tasks map[string]*store.WorkflowTask
}

// ReplayJournal runs fn against the output of ExportJournal or WriteJournal. It returns
// ErrDiverged if fn makes other durable calls than are recorded, which would block the run
// after a deploy. Steps are not executed: where the journal ends, or the run waited, fn is
// unwound. Code between durable calls is executed.
//
// The options that matter are those of the run's client that handlers depend on: WithCodec,
// WithMiddleware and WithLogger. When ctx is done, a handler that blocks elsewhere is unwound
// too.
func ReplayJournal[In, Out any](
	ctx context.Context, journal []byte, fn func(context.Context, In) (Out, error), opts ...ClientOption,
) error {
	var rec recording.Run
	if err := json.Unmarshal(journal, &rec); err != nil {
		return errorf("stint: replay: not a journal from ExportJournal: %w",
			jsonx.DecodeError(err, journal, reflect.TypeFor[recording.Run]()))
	}
	if rec.Format != recording.Format {
		return fmt.Errorf("stint: replay: journal of format %d: this version reads %d", rec.Format, recording.Format)
	}
	c, err := Open(":memory:", append([]ClientOption{WithLogger(slog.New(slog.DiscardHandler)), WithMaxResident(0)}, opts...)...)
	if err != nil {
		return err
	}
	defer c.Close()
	w, err := c.NewWorker()
	if err != nil {
		return err
	}
	h, err := c.withMiddleware(typedHandler(c, fn))
	if err != nil {
		return errorf("stint: replay: %w", err)
	}
	e, err := newReplay(w, &rec, &taskDef{name: rec.Task, handler: h, fn: fn})
	if err != nil {
		return err
	}
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		e.cancel(context.Cause(ctx))
		e.durable.diverge(context.Cause(ctx))
	})
	go func() { // the handler may end its goroutine
		defer close(done)
		e.execute()
	}()
	<-done
	if !stop() {
		return context.Cause(ctx)
	}
	return e.replayResult(rec.State)
}

// newReplay returns an execution whose journal is a recording.
func newReplay(w *Worker, rec *recording.Run, def *taskDef) (*execution, error) {
	metadata, err := json.Marshal(rec.Metadata)
	if err != nil {
		return nil, err
	}
	run := store.Claimed{
		ID: rec.Run, Executions: 1, Attempt: max(rec.Attempt, 1), Task: rec.Task, Input: rec.Input, Metadata: metadata,
		Parent: rec.Parent, Root: rec.Root, Due: createdAt(rec.Run), Started: rec.Exported, Journal: true,
	}
	e := newExecution(w, &run)
	e.def = def
	e.replay = &replaySource{at: rec.Exported, runs: rec.Runs, tasks: map[string]*store.WorkflowTask{}}
	for name, end := range rec.Tasks {
		var state State
		if err := state.UnmarshalText([]byte(end.State)); err != nil {
			return nil, errorf("stint: replay: %w", err)
		}
		e.replay.tasks[name] = &store.WorkflowTask{ID: rec.Run, State: state, Attempt: end.Attempt, Output: end.Output, Error: end.Error}
	}
	entries := make([]store.Entry, len(rec.Entries))
	for i := range rec.Entries {
		if entries[i], err = rec.Entries[i].Stored(); err != nil {
			return nil, errorf("stint: replay: entry %d: %w", i+1, err)
		}
	}
	e.durable = newDurableRun(e, entries)
	w.slots.Take(&e.slots, 1)
	w.running[run.ID] = e
	w.execs.Add(1)
	return e, nil
}

// replayResult returns what a finished replay found.
func (e *execution) replayResult(recorded string) error {
	d := e.durable
	d.mu.Lock()
	divergence := d.divergence
	d.mu.Unlock()
	if divergence != nil {
		return errorf("%w: run %s of task %q: %w", ErrDiverged, e.run.ID, e.run.Task, divergence)
	}
	if posted := e.w.outbox.Next(); len(posted) > 0 && recorded != store.Failed.String() {
		if f := failure.Decode(posted[len(posted)-1].Error); f.Kind == failure.KindPanic {
			return errorf("stint: replay of run %s of task %q: %w", e.run.ID, e.run.Task, storedError(f))
		}
	}
	return nil
}

// stopsAt reports whether a replay ends with this call: it is not recorded, or had not ended
// when the journal was exported. A branch is recorded when it ends, so one that is not
// recorded had begun.
func (r *replaySource) stopsAt(e *store.Entry, recorded bool) bool {
	switch {
	case !recorded:
		return e.Kind != store.EntryBranch
	case e.Kind == store.EntrySleep:
		return e.Due.After(r.at)
	}
	return !e.Done
}

// stopReplay parks a branch for good; it is unwound when all others are parked or have ended.
func (sc *scope) stopReplay() {
	d := sc.e.durable
	d.park(&parked{woken: make(chan struct{})})
	<-d.unwind
	runtime.Goexit()
}

// runEnd returns how a run ended that the replayed one waits for. If it had not ended, the
// branch stops here.
func (r *replaySource) runEnd(sc *scope, id store.ID) *store.Run {
	end, ok := r.runs[id]
	var state State
	err := state.UnmarshalText([]byte(end.State))
	if !ok || err != nil {
		sc.stopReplay()
	}
	return &store.Run{ID: id, Task: end.Task, State: state, Attempt: end.Attempt, Output: end.Output, Error: end.Error, Ended: end.Ended}
}

// RestartFrom reruns a run that has ended or is blocked, from the first step with that
// name in its handler. What was recorded before the step is kept; the step and all that
// follows run anew. It returns ErrNotFound if there is no such run or step.
func (c *Client) RestartFrom(ctx context.Context, runID, stepName string) error {
	if err := c.writable("restart"); err != nil {
		return err
	}
	id, at, err := c.findStep(ctx, runID, stepName)
	if err != nil {
		return err
	}
	return c.change(ctx, "restart", &store.RunChange{Kind: store.RunRestart, ID: id, At: at})
}

// RestartAt is RestartFrom at any durable call of the handler itself: the Address of an entry
// of its journal, such as "3". The calls before it are kept. The address after the last entry
// keeps all, so that the handler replays what it did and ends anew. For an address beyond that the
// error is ErrNotFound.
func (c *Client) RestartAt(ctx context.Context, runID, address string) error {
	if err := c.writable("restart"); err != nil {
		return err
	}
	id, err := parseID(runID)
	if err != nil {
		return err
	}
	at, err := journal.ParseAddress(address)
	if err != nil {
		return errorf("stint: restart: %w", err)
	}
	if at.Scope != "" {
		return fmt.Errorf("stint: restart: %q is within a branch: want an address of the handler itself, as that of the branch", address)
	}
	last, err := c.lastAddress(ctx, id)
	if err != nil {
		return err
	}
	if at.Seq > last+1 {
		return fmt.Errorf("%w: run %s: restart at %q: the last entry of its handler is %d", ErrNotFound, runID, address, last)
	}
	return c.change(ctx, "restart", &store.RunChange{Kind: store.RunRestart, ID: id, At: store.Address(at)})
}

// WakeRun makes a run that waits, and has left memory, go on now, as if something that it waits for had come: its
// handler runs again from the top, and waits for what has not come. The error is ErrNotFound if there is no such run, or it
// does not wait.
func (c *Client) WakeRun(ctx context.Context, runID string) error {
	if err := c.writable("wake"); err != nil {
		return err
	}
	id, err := parseID(runID)
	if err != nil {
		return err
	}
	return c.change(ctx, "wake", &store.RunChange{Kind: store.RunWake, ID: id})
}

// Fork creates a new run of the same task with the same input and returns its ID. The new run
// starts with what the original recorded before the first step with that name in its handler;
// the children of those calls are shared and do not run again. The original does not change.
func (c *Client) Fork(ctx context.Context, runID, stepName string) (string, error) {
	if err := c.writable("fork"); err != nil {
		return "", err
	}
	id, at, err := c.findStep(ctx, runID, stepName)
	if err != nil {
		return "", err
	}
	fork := store.RunChange{Kind: store.RunFork, ID: id, At: at}
	if err := c.change(ctx, "fork", &fork); err != nil {
		return "", err
	}
	return fork.Fork.String(), nil
}

// lastAddress returns the last address of the journal in the handler's own scope; 0 if there is none.
func (c *Client) lastAddress(ctx context.Context, id store.ID) (last int, err error) {
	for e, err := range recording.Entries(ctx, c.store, id) {
		if err != nil {
			return 0, wrapStoreErr("read the journal", err)
		}
		if e.Scope != "" { // the handler's own comes first
			break
		}
		last = max(last, e.Seq)
	}
	return last, nil
}

// findStep returns the address of the first step with that name in the handler's own scope.
func (c *Client) findStep(ctx context.Context, runID, name string) (id store.ID, at store.Address, err error) {
	if id, err = parseID(runID); err != nil {
		return id, at, err
	}
	if err := check.Text("step name", name); err != nil {
		return id, at, wrapStoreErr("find the step", err)
	}
	for e, err := range recording.Entries(ctx, c.store, id) {
		if err != nil {
			return id, at, wrapStoreErr("read the journal", err)
		}
		if e.Scope != "" { // the handler's own comes first
			break
		}
		if e.Kind == store.EntryStep && e.Name == name {
			return id, e.Address, nil
		}
	}
	return id, at, fmt.Errorf("%w: run %s has no step %q of its own", ErrNotFound, runID, name)
}

// Peek returns what the journal has for the next durable call of this branch. It returns false if
// the journal has nothing, so that the call would be a new one. For a branch that has not ended
// only the Address and the Kind are set. Peek is for code that makes the calls of another program:
// it can compare before it calls, since a call that differs blocks the run. Outside of a run it
// returns false.
func Peek(ctx context.Context) (JournalEntry, bool) {
	sc := scopeOf(ctx)
	if sc == nil {
		return JournalEntry{}, false
	}
	at, e, recorded, begun := sc.cursor.PeekRecord()
	switch {
	case recorded:
		return journalEntry(e), true
	case begun:
		return JournalEntry{Address: at.String(), Kind: journal.Branch}, true
	}
	return JournalEntry{}, false
}
