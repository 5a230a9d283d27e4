package stint

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"runtime"
	"time"

	"github.com/stint-dev/stint/internal/jsonx"
	"github.com/stint-dev/stint/store"
)

// ErrDiverged: code asks for other durable calls than a journal records.
var ErrDiverged = errors.New("stint: the code does not match the journal")

// recordingFormat is the version of what ExportJournal writes.
const recordingFormat = 1

// A recording is a run with its journal, and what the journal only refers to.
type recording struct {
	Format   int                      `json:"stint_journal"`
	Task     string                   `json:"task"`
	Run      store.ID                 `json:"run"`
	Parent   store.ID                 `json:"parent,omitzero"`
	Root     store.ID                 `json:"root,omitzero"`
	State    string                   `json:"state"`
	Attempt  int                      `json:"attempt"`
	Exported time.Time                `json:"exported"`
	Metadata map[string]string        `json:"metadata,omitempty"`
	Input    json.RawMessage          `json:"input"`
	Entries  []recordedEntry          `json:"entries,omitempty"`
	Runs     map[store.ID]recordedEnd `json:"runs,omitempty"`  // children that have ended
	Tasks    map[string]recordedEnd   `json:"tasks,omitempty"` // of its workflow, that had ended
}

type recordedEntry struct {
	Scope    string          `json:"scope,omitempty"`
	Seq      int             `json:"seq"`
	Kind     string          `json:"kind"`
	Name     string          `json:"name,omitempty"`
	Done     bool            `json:"done"`
	Output   json.RawMessage `json:"output,omitempty"`
	Error    json.RawMessage `json:"error,omitempty"`
	At       time.Time       `json:"at"`
	Due      time.Time       `json:"due,omitzero"`
	Attempts int             `json:"attempts,omitempty"`
}

// A recordedEnd is how a run ended.
type recordedEnd struct {
	Task    string          `json:"task,omitempty"`
	State   string          `json:"state"`
	Attempt int             `json:"attempt,omitempty"`
	Output  json.RawMessage `json:"output,omitempty"`
	Error   json.RawMessage `json:"error,omitempty"`
	Ended   time.Time       `json:"ended,omitzero"`
}

// A replaySource is what an execution of ReplayJournal has in place of a database.
type replaySource struct {
	at    time.Time // when the journal was exported
	runs  map[store.ID]recordedEnd
	tasks map[string]*store.WorkflowTask
}

// ReplayJournal runs fn on what ExportJournal or WriteJournal gave, and returns an error that is
// ErrDiverged if fn asks for other durable calls than are recorded: what would block
// the run after a deploy. No step runs: where the journal ends, or the run waited, fn is
// unwound. What fn does between durable calls it does.
//
// Options are those of the client whose run it was that matter to a handler: WithCodec,
// WithMiddleware, WithLogger. ctx ends a handler that blocks elsewhere.
func ReplayJournal[In, Out any](ctx context.Context, journal []byte, fn func(context.Context, In) (Out, error), opts ...ClientOption) error {
	var rec recording
	if err := json.Unmarshal(journal, &rec); err != nil {
		return errorf("stint: replay: not a journal from ExportJournal: %w", jsonx.DecodeError(err, journal, reflect.TypeFor[recording]()))
	}
	if rec.Format != recordingFormat {
		return fmt.Errorf("stint: replay: journal of format %d: this version reads %d", rec.Format, recordingFormat)
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
	go func() { // the handler's, which ends it
		defer close(done)
		e.execute()
	}()
	<-done
	if !stop() {
		return context.Cause(ctx)
	}
	return e.replayResult(rec.State)
}

// newReplay is an execution whose journal is a recording.
func newReplay(w *Worker, rec *recording, def *taskDef) (*execution, error) {
	metadata, err := json.Marshal(rec.Metadata)
	if err != nil {
		return nil, err
	}
	run := store.Claimed{
		ID: rec.Run, Lease: 1, Attempt: max(rec.Attempt, 1), Task: rec.Task, Input: rec.Input, Metadata: metadata,
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
	for i, r := range rec.Entries {
		kind, err := store.EntryKindNamed(r.Kind)
		if err != nil {
			return nil, errorf("stint: replay: entry %d: %w", i+1, err)
		}
		entries[i] = store.Entry{
			Address: store.Address{Scope: r.Scope, Seq: r.Seq}, Kind: kind, Name: r.Name, Done: r.Done, Value: r.Output,
			Error: r.Error, At: r.At, Due: r.Due, Attempts: r.Attempts,
		}
	}
	e.durable = newDurableRun(e, entries)
	w.inUse, w.running[run.ID] = 1, e
	w.execs.Add(1)
	return e, nil
}

// replayResult is what a replay that is over found.
func (e *execution) replayResult(recorded string) error {
	d := e.durable
	d.mu.Lock()
	verdict := d.divergence
	d.mu.Unlock()
	if verdict != nil {
		return errorf("%w: run %s of task %q: %w", ErrDiverged, e.run.ID, e.run.Task, verdict)
	}
	if n := len(e.w.outbox); n > 0 && recorded != store.Failed.String() {
		if f := decodeFailure(e.w.outbox[n-1].Error); f.Kind == kindPanic {
			return errorf("stint: replay of run %s of task %q: %w", e.run.ID, e.run.Task, f.err())
		}
	}
	return nil
}

// stopsAt reports whether a replay ends with this call: it is not recorded, or was not
// over when the journal was exported. A branch is recorded when it ends, so one that
// is not recorded had begun.
func (r *replaySource) stopsAt(e *store.Entry, recorded bool) bool {
	switch {
	case !recorded:
		return e.Kind != store.EntryBranch
	case e.Kind == store.EntrySleep:
		return e.Due.After(r.at)
	}
	return !e.Done
}

// stopReplay parks a branch for good: it is unwound when all others are parked or through.
func (sc *scope) stopReplay() {
	d := sc.e.durable
	d.park(&parked{woken: make(chan struct{})})
	<-d.unwind
	runtime.Goexit()
}

// runEnd is how a run ended that the replayed one waits for; if it had not, it does not return.
func (r *replaySource) runEnd(sc *scope, id store.ID) *store.Run {
	end, ok := r.runs[id]
	var state State
	err := state.UnmarshalText([]byte(end.State))
	if !ok || err != nil {
		sc.stopReplay()
	}
	return &store.Run{ID: id, Task: end.Task, State: state, Attempt: end.Attempt, Output: end.Output, Error: end.Error, Ended: end.Ended}
}
