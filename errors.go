package stint

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/stint-dev/stint/internal/apperror"
	"github.com/stint-dev/stint/internal/failure"
	"github.com/stint-dev/stint/internal/guard"
	"github.com/stint-dev/stint/internal/journal"
	"github.com/stint-dev/stint/internal/pause"
	"github.com/stint-dev/stint/internal/text"
	"github.com/stint-dev/stint/store"
)

// Errors that calls return, for errors.Is.
var (
	// ErrNotFound reports that nothing has the given ID or name: no run, cron, worker, filter and so on.
	ErrNotFound = errors.New("stint: not found")
	// ErrClosed reports a call on a closed client.
	ErrClosed = errors.New("stint: client is closed")
	// ErrTaken reports that a cron of another task has the name, or that the cron with that name is declared in code.
	ErrTaken = errors.New("stint: the name is taken")
	// ErrStarted reports that a run to reschedule is no longer scheduled: it is queued, has started or has ended.
	ErrStarted = errors.New("stint: the run has started")
	// ErrNoFilter reports an empty filter without All, in a call that acts on every run that
	// matches.
	ErrNoFilter = errors.New("stint: nothing is selected")
	// ErrBusy reports that another program kept the database locked for longer than the client
	// waits. Nothing was changed; the call may be repeated.
	ErrBusy = errors.New("stint: database is locked by another program")
	// ErrReadOnly reports a call that would change something, on a client with WithReadOnly.
	ErrReadOnly = errors.New("stint: client is read-only")
	// ErrFileGone reports that the database file, or the log beside it, was removed or moved
	// while the client had it open; ErrReplaced reports that another file is at its path. What
	// the call changed is not kept. Put the file back and the client goes on, or close it and
	// open the path again.
	ErrFileGone = errors.New("stint: database file is gone")
	ErrReplaced = errors.New("stint: database file was replaced by another")
	// ErrMoved reports that `stint move` has moved the database to another, which the error names.
	// Open that one; a store made with postgres.Follow does so by itself.
	ErrMoved = errors.New("stint: database has moved")
)

// Why a run ended, for errors.Is on the error of Run.Wait, or why a handler's context is done,
// for errors.Is on context.Cause.
var (
	// ErrCanceled reports that the run was canceled.
	ErrCanceled = errors.New("stint: canceled")
	// ErrTimeout reports that an attempt took longer than WithTimeout, or that the run did not
	// start within WithScheduleTimeout.
	ErrTimeout = errors.New("stint: timed out")
	// ErrSkipped reports that the task of a workflow was skipped and has no output.
	ErrSkipped = errors.New("stint: skipped")
	// ErrShutdown reports that the worker stops and the run goes back to the queue. It is only
	// a context's cause.
	ErrShutdown = errors.New("stint: worker is shutting down")
)

// A TaskError says why a run ended without a result. Run.Wait returns it. It wraps the
// handler's own error, for errors.Is and errors.As. Where the handler ran in another process,
// before a restart or hundreds of failures ago, or where the caller is itself a handler, it
// wraps an error with the same text in which errors.Is and errors.As find the errors that can
// be stored: see RegisterError.
type TaskError struct {
	Task    string
	RunID   string
	Attempt int // the attempt that failed, from 1; 0 if none started, and of a workflow's run
	Err     error

	canceled bool // the run did not fail
}

// Error returns a message with the task, the attempt and the run's ID, and the text of Err.
func (e *TaskError) Error() string {
	if w, ok := e.Err.(*WorkflowError); ok {
		return fmt.Sprintf("stint: %v (run %s)", w, e.RunID)
	}
	if e.canceled {
		why := strings.TrimPrefix(fmt.Sprint(e.Err), ErrCanceled.Error())
		if e.Attempt == 0 {
			return fmt.Sprintf("stint: task %q was canceled before it started (run %s)%s", e.Task, e.RunID, why)
		}
		return fmt.Sprintf("stint: task %q was canceled on attempt %d (run %s)%s", e.Task, e.Attempt, e.RunID, why)
	}
	if e.Attempt == 0 {
		return fmt.Sprintf("stint: task %q did not start (run %s): %v", e.Task, e.RunID, e.Err)
	}
	return fmt.Sprintf("stint: task %q failed on attempt %d (run %s): %v", e.Task, e.Attempt, e.RunID, e.Err)
}

// Unwrap returns Err.
func (e *TaskError) Unwrap() error { return e.Err }

// A WorkflowError says which tasks of a workflow's run failed or were canceled. The *TaskError
// that Run.Wait returns wraps it. errors.Is and errors.As look at the tasks that failed.
type WorkflowError struct {
	Workflow string
	RunID    string
	Tasks    map[string]error // errors of the tasks that failed or were canceled, by name
	canceled map[string]bool  // tasks that were canceled
}

// noteCanceled notes that a task was canceled.
func (e *WorkflowError) noteCanceled(name string, canceled bool) {
	if canceled {
		if e.canceled == nil {
			e.canceled = map[string]bool{}
		}
		e.canceled[name] = true
	}
}

// Error returns a message with the workflow and the tasks that failed or were canceled.
func (e *WorkflowError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "workflow %q", e.Workflow)
	for i, name := range e.names() {
		sep := "; "
		if i == 0 {
			sep = ": "
		}
		if i == maxListed {
			fmt.Fprintf(&b, "; and %d more", len(e.Tasks)-i)
			break
		}
		fmt.Fprintf(&b, "%stask %q: %v", sep, name, e.Tasks[name])
	}
	return b.String()
}

const maxListed = 5 // tasks listed in the text of a WorkflowError

// Unwrap returns the errors of the tasks that failed, ordered by name. If none failed it
// returns those of the tasks that were canceled: tasks that a failure canceled do not make the
// run a canceled one.
func (e *WorkflowError) Unwrap() []error {
	var all []error
	for _, name := range e.names() {
		if e.canceled[name] && len(e.canceled) < len(e.Tasks) {
			break
		}
		all = append(all, e.Tasks[name])
	}
	return all
}

// names returns the tasks that failed, then those that were canceled.
func (e *WorkflowError) names() []string {
	names := slices.Sorted(maps.Keys(e.Tasks))
	slices.SortStableFunc(names, func(a, b string) int {
		switch {
		case e.canceled[a] == e.canceled[b]:
			return 0
		case e.canceled[b]:
			return -1
		}
		return 1
	})
	return names
}

// A Divergence is a durable call that code makes where its run's journal has another.
type Divergence struct {
	Address  string `json:"address"`  // of the entry, as in JournalEntry
	Recorded string `json:"recorded"` // such as step "charge", or nothing if the journal has no such call
	Asked    string `json:"asked"`    // the call that the code makes instead; return: it ended before it made all recorded calls
	// File and Line are where the code makes the call or, if it returned too early, where its
	// function begins. Line 0: unknown.
	File string `json:"file,omitempty"`
	Line int    `json:"line,omitempty"`
}

// diverge unwinds the execution because the current call is not what is recorded.
func (sc *scope) diverge(err error) {
	sc.e.durable.diverge(locateCall(err))
	runtime.Goexit()
}

// locateCall adds to a divergence where the app calls this package.
func locateCall(err error) error {
	if d := (*journal.Divergence)(nil); errors.As(err, &d) {
		d.File, d.Line = appCaller()
	}
	return err
}

// appCaller returns where the app calls this package; line 0: unknown.
func appCaller() (file string, line int) {
	var pcs [32]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs[:])])
	for more := true; more; {
		var f runtime.Frame
		if f, more = frames.Next(); !strings.HasPrefix(f.Function, ownPackage) {
			return f.File, f.Line
		}
	}
	return "", 0
}

// ownPackage is the prefix of the names of this package's functions.
var ownPackage = reflect.TypeFor[scope]().PkgPath() + "."

// locateFunc adds to a divergence where fn, which returned too early, begins.
func locateFunc(err error, fn any) error {
	if err == nil || fn == nil {
		return err
	}
	var d *journal.Divergence
	if errors.As(err, &d) {
		if f := runtime.FuncForPC(reflect.ValueOf(fn).Pointer()); f != nil {
			if d.File, d.Line = f.FileLine(f.Entry()); d.File == "<autogenerated>" { // a method value
				d.File, d.Line = "", 0
			}
		}
	}
	return err
}

// A PanicError is a panic in the app's code, or its call of runtime.Goexit: in a handler or
// step, in a function given to an option, or in a method of an error that a handler returned.
type PanicError struct {
	Value any    // what was passed to panic; a string if it was stored
	Stack []byte // of the goroutine, at the time of the panic
}

// Error returns the panic's value as text.
func (e *PanicError) Error() string { return "panic: " + guard.Text(e.Value) }

// Unwrap returns the panic's value if it is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

type nonRetryable struct{ err error }

func (e *nonRetryable) Error() string { return e.err.Error() }

func (e *nonRetryable) Unwrap() error { return e.err }

// NonRetryable marks err as final: no attempt follows, however many are left. The result wraps
// err, so errors.Is and errors.As see through it. NonRetryable(nil) is nil.
func NonRetryable(err error) error {
	if err == nil {
		return nil
	}
	return &nonRetryable{err}
}

type retryAfter struct {
	d   time.Duration
	err error
}

func (e *retryAfter) Error() string { return e.err.Error() }

func (e *retryAfter) Unwrap() error { return e.err }

// RetryAfter returns an error that fails the attempt with err and starts the next one after d
// instead of the task's backoff. It uses up an attempt: with none left the run fails. A
// negative d counts as 0. RetryAfter(d, nil) is nil.
func RetryAfter(d time.Duration, err error) error {
	if err == nil {
		return nil
	}
	return &retryAfter{max(d, 0), err}
}

type snooze struct{ d time.Duration }

func (e *snooze) Error() string { return fmt.Sprintf("stint: snoozed for %v", e.d) }

// Snooze returns an error that makes the run start again after d. It uses up no attempt. A
// negative d counts as 0.
func Snooze(d time.Duration) error { return &snooze{max(d, 0)} }

// errorf formats an error as fmt.Errorf does, and removes "stint: " from the texts of the
// errors it wraps, so that the library is named once.
func errorf(format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	text := err.Error()
	if plain := strings.ReplaceAll(text, ": stint: ", ": "); plain != text {
		return &namedOnce{plain, err}
	}
	return err
}

type namedOnce struct {
	text string
	err  error
}

func (e *namedOnce) Error() string { return e.text }

func (e *namedOnce) Unwrap() error { return e.err }

// wrapStoreErr turns a store's error into one of this package.
func wrapStoreErr(op string, err error) error {
	if err == nil {
		return nil
	}
	for _, m := range []struct{ from, to error }{
		{store.ErrClosed, ErrClosed}, {store.ErrNotFound, ErrNotFound}, {store.ErrBusy, ErrBusy},
		{store.ErrTaken, ErrTaken}, {store.ErrStarted, ErrStarted}, {store.ErrReadOnly, ErrReadOnly},
		{store.ErrParentCanceled, ErrCanceled},
		{store.ErrFileGone, ErrFileGone}, {store.ErrReplaced, ErrReplaced}, {store.ErrMoved, ErrMoved},
	} {
		if errors.Is(err, m.from) {
			return errorf("%w: %s: %w", m.to, op, err)
		}
	}
	return errorf("stint: %s: %w", op, err)
}

// unavailable reports whether an error of the store, or of a statement in the app's transaction,
// means that the database cannot be written at present.
func (c *Client) unavailable(err error) bool {
	s, ok := c.store.(store.AppTx)
	return errors.Is(err, store.ErrUnavailable) || ok && s.Unavailable(err)
}

// retryWhileUnavailable repeats a change until the store can write it or ctx is done: a disk that
// is full for a while must not fail a handler.
func (c *Client) retryWhileUnavailable(ctx context.Context, change func() error) error {
	for {
		err := change()
		if err == nil || !c.unavailable(err) {
			return err
		}
		c.logger().Warn("stint: the database cannot be written; will retry", "err", err, "in", retryStore)
		if !pause.For(ctx, retryStore) {
			return err
		}
	}
}

// retryStore is the pause before a failed call of the store is repeated.
const retryStore = time.Second

// The app's functions, and the methods of the errors they return, may panic or end their
// goroutine. Handlers and what they call run on goroutines that expect this: see
// execution.execute and future.run. All other calls of the app's code go through guarded.

// guarded calls f, which calls code of the app, on a goroutine of its own. A panic or a call
// of runtime.Goexit becomes a *PanicError.
func guarded(f func() error) (err error) {
	if p := guard.Call(func() { err = f() }); p != nil {
		return vet(panicOf(p))
	}
	return err
}

func panicOf(p *guard.Panic) *PanicError { return &PanicError{Value: p.Value, Stack: p.Stack} }

// panicError turns what recover returned in a deferred function into an error; nil means
// runtime.Goexit.
func panicError(v any) error { return vet(panicOf(guard.Recovered(v))) }

// vet returns err, which code of the app returned, as an *apperror.Error, or as a *PanicError if its
// methods panic, end their goroutine, or do not end.
func vet(err error) error {
	switch err.(type) {
	case nil, *apperror.Error:
		return err
	}
	a, p := apperror.Read(err)
	if p == nil {
		return a
	}
	bad := &PanicError{Value: guard.Text(p.Value), Stack: p.Stack}
	if of, ok := err.(*PanicError); ok && of != nil { // its value is the error whose methods panic
		bad = &PanicError{Value: fmt.Sprintf("%T, of which: %v", of.Value, bad), Stack: of.Stack}
	}
	return bad
}

// RegisterError makes errors of type T survive being stored. Where a run, step, branch or
// child fails with a T, on its own or wrapped, errors.As finds it in what Step, Wait and the
// on-failure function return: in every attempt, after a restart, and in other processes that
// register T under the same name. Without it only the text of such an error is kept, and the
// errors inside that the package knows: its own, those of context, and the common ones of io,
// io/fs and database/sql.
//
// The value is stored as JSON, so fields that matter must be exported and must not be
// interfaces; an error that it wraps is stored beside it. A value that does not encode and
// decode, or whose JSON exceeds 64 KiB, is stored as its text.
//
// Call RegisterError once for each type when the program starts. It panics if the name is
// empty, T is an interface, or the name or T is registered with another T or name.
func RegisterError[T error](name string) {
	t := reflect.TypeFor[T]()
	if name == "" || t.Kind() == reflect.Interface {
		panic(fmt.Sprintf("stint: RegisterError[%v](%q): want a name, and a type that is not an interface", t, name))
	}
	err := failure.Register(t, name, func(b []byte) (error, error) {
		var v T
		err := json.Unmarshal(b, &v)
		return v, err
	})
	if err != nil {
		panic(fmt.Sprintf("stint: RegisterError[%v](%q): %v", t, name, err))
	}
}

// logger returns the app's logger, which may be called where a panic would end the process.
func (c *Client) logger() *slog.Logger {
	l := c.cfg.logger
	if l == nil {
		l = slog.Default()
	}
	return slog.New(guard.LogHandler(l.Handler()))
}

// WithoutErrorText keeps the texts of the app's errors out of the client's logger and out of
// spans. They show only the kind of failure ("error", "panic", "timeout", "canceled"); the
// text is in the database, with the run. Without the option texts are logged, cut at 1 KiB.
func WithoutErrorText() ClientOption {
	return clientOption(func(c *clientConfig) error {
		c.noErrorText = true
		return nil
	})
}

// logText returns what is logged of an error of the app; nil: "".
func (c *Client) logText(err error) string {
	switch {
	case err == nil:
		return ""
	case c.cfg.noErrorText:
		return failureKind(vet(err))
	}
	return text.Cut(vet(err).Error(), text.Listed)
}

// spanError returns an error of the app as spans show it, with its type.
func (c *Client) spanError(err error) error {
	if seen := vet(err); !c.cfg.noErrorText && len(seen.Error()) <= text.Listed {
		return apperror.Original(seen)
	}
	return errors.New(c.logText(err))
}

// maxRefusals is how often the store may refuse an outcome before the attempt fails. A refusal may be temporary: somebody has
// taken away a right by mistake, and gives it back.
const maxRefusals = 5

// replaceRefused makes the attempt of an outcome that the store has refused too often fail, if the store takes that:
// then what the handler returned or reported is at fault.
func (w *Worker) replaceRefused(ctx context.Context, o *outcome, err error) (replaced bool) {
	e := o.e
	o.refusals++
	w.c.logger().Error("stint: an outcome is refused; will retry", "err", err, "task", e.run.Task, "run", e.run.ID, "attempt",
		e.run.Attempt, "in", retryStore)
	if o.refusals < maxRefusals || e.def == nil || o.To == store.Canceled {
		return false
	}
	failed, _ := e.failedOutcome(e.newOutcome(store.Failed), errorf("the outcome cannot be stored: %w", err))
	return w.tryOutcomes(ctx, []outcome{{Outcome: failed, e: e}}) == nil
}
