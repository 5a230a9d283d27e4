package stint

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/stint-dev/stint/internal/guard"
	"github.com/stint-dev/stint/store"
)

// What calls report, through errors.Is.
var (
	// ErrNotFound reports that no run, cron or queue has the ID or name asked for.
	ErrNotFound = errors.New("stint: not found")
	// ErrClosed reports a call on a client that is closed.
	ErrClosed = errors.New("stint: client is closed")
	// ErrTaken reports a cron whose name another has, or that is declared in code.
	ErrTaken = errors.New("stint: the name is taken")
	// ErrStarted reports a run that is not scheduled any more.
	ErrStarted = errors.New("stint: the run has started")
	// ErrNoFilter reports an action on all runs that match a filter which selects nothing, and
	// does not say that all are meant.
	ErrNoFilter = errors.New("stint: nothing is selected")
	// ErrBusy reports that another program kept the database locked for longer than the
	// client waits. Nothing was changed; the call may be repeated.
	ErrBusy = errors.New("stint: database is locked by another program")
	// ErrReadOnly reports a call that would change something, on a client WithReadOnly.
	ErrReadOnly = errors.New("stint: client is read-only")
	// ErrFileGone reports that the database's file, or the log beside it, was removed or
	// moved while the client had it open, and ErrReplaced that another file is at its path.
	// What the call changed is not kept. Put the file back and the client goes on; or close
	// it and open the path anew.
	ErrFileGone = errors.New("stint: database file is gone")
	ErrReplaced = errors.New("stint: database file was replaced by another")
)

// Why a run ended, through errors.Is on what Run.Wait returns; and, through
// context.Cause, why a handler's context is done.
var (
	// ErrCanceled: the run was canceled.
	ErrCanceled = errors.New("stint: canceled")
	// ErrTimeout: an attempt took longer than WithTimeout, or the run did not start
	// within WithScheduleTimeout.
	ErrTimeout = errors.New("stint: timed out")
	// ErrSkipped: the task of a workflow was skipped, and so has no output.
	ErrSkipped = errors.New("stint: skipped")
	// ErrShutdown: the worker stops, and the run goes back to the queue. Only a cause.
	ErrShutdown = errors.New("stint: worker is shutting down")
)

// A TaskError is why a run ended without a result. Run.Wait returns it; the handler's
// own error is inside, for errors.Is and errors.As. If the handler ran in another
// process, or before a restart, or the wait is a handler's, which may run again, what is
// inside has the error's text, and what is known of it: see RegisterError.
type TaskError struct {
	Task    string
	RunID   string
	Attempt int // the attempt that failed, from 1; 0 if none started
	Err     error
}

func (e *TaskError) Error() string {
	if e.Attempt == 0 {
		return fmt.Sprintf("stint: task %q did not start (run %s): %v", e.Task, e.RunID, e.Err)
	}
	return fmt.Sprintf("stint: task %q failed on attempt %d (run %s): %v", e.Task, e.Attempt, e.RunID, e.Err)
}

func (e *TaskError) Unwrap() error { return e.Err }

// A PanicError is a panic of the app's code, or its call of runtime.Goexit, as an error: of a
// handler or step, of a function that an option was given, or of a method of the error that
// a handler returned.
type PanicError struct {
	Value any    // what was passed to panic; a string once it was stored
	Stack []byte // of the goroutine that panicked, as it was then
}

func (e *PanicError) Error() string { return "panic: " + guard.Text(e.Value) }

// Unwrap gives the panic's value if it is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

type nonRetryable struct{ err error }

func (e *nonRetryable) Error() string { return e.err.Error() }
func (e *nonRetryable) Unwrap() error { return e.err }

// NonRetryable marks err as final: no attempt follows, however many are left. It wraps
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

// RetryAfter fails the attempt with err, and has the next one start after d instead
// of the task's backoff. It costs an attempt: with none left the run fails. A negative
// d counts as 0. RetryAfter(d, nil) is nil.
func RetryAfter(d time.Duration, err error) error {
	if err == nil {
		return nil
	}
	return &retryAfter{max(d, 0), err}
}

type snooze struct{ d time.Duration }

func (e *snooze) Error() string { return fmt.Sprintf("stint: snoozed for %v", e.d) }

// Snooze, returned by a handler, has the run come back after d and costs no attempt.
// A negative d counts as 0.
func Snooze(d time.Duration) error { return &snooze{max(d, 0)} }

// errorf formats an error as fmt.Errorf does. Its text names the library at its beginning
// alone: what it wraps may name it too.
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

// wrapStoreErr makes a store's error one of this package.
func wrapStoreErr(op string, err error) error {
	if err == nil {
		return nil
	}
	for _, m := range []struct{ from, to error }{
		{store.ErrClosed, ErrClosed}, {store.ErrNotFound, ErrNotFound}, {store.ErrBusy, ErrBusy},
		{store.ErrTaken, ErrTaken}, {store.ErrStarted, ErrStarted}, {store.ErrReadOnly, ErrReadOnly},
		{store.ErrFileGone, ErrFileGone}, {store.ErrReplaced, ErrReplaced},
	} {
		if errors.Is(err, m.from) {
			return errorf("%w: %s: %w", m.to, op, err)
		}
	}
	return errorf("stint: %s: %w", op, err)
}
