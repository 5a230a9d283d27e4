package stint

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/google/uuid"

	"github.com/stint-dev/stint/internal/apperror"
	"github.com/stint-dev/stint/internal/clock"
	"github.com/stint-dev/stint/internal/guard"
	"github.com/stint-dev/stint/internal/journal"
	"github.com/stint-dev/stint/internal/pause"
	"github.com/stint-dev/stint/store"
)

// Errors of durable calls.
var (
	// ErrMaybeRan reports that a step with WithAtMostOnce began before and may have done what it
	// does: its process died, or it failed and that ended the attempt. It is not run again.
	ErrMaybeRan = errors.New("stint: the step began before, and may have run")
	// ErrDurable reports a durable call where none is allowed: inside a step, in two
	// goroutines of one branch at once, in a deferred function that a panic has called, after
	// the handler has returned, or, for calls that need a run, outside of one.
	ErrDurable = errors.New("stint: no durable call here")
)

// A StepOption changes a step: WithRetries, WithRetryBackoff, WithTimeout (of one attempt) or
// WithAtMostOnce.
type StepOption interface{ applyStep(*stepConfig) error }

type stepConfig struct {
	task       taskConfig // retries, backoff and timeout
	atMostOnce bool
	tx         bool // of StepTx: what fn returns without an error is committed
}

// A stepFunc is the function of a step, which encodes its result.
type stepFunc func(context.Context) ([]byte, error)

type stepOption func(*stepConfig) error

func (o stepOption) applyStep(c *stepConfig) error { return o(c) }

func (o taskOption) applyStep(c *stepConfig) error { return o(&c.task) }

func (o runOption) applyStep(*stepConfig) error {
	return errors.New("an option of runs is none of a step")
}

// WithAtMostOnce makes a step run at most once. Its start is recorded first. A handler that runs
// again and finds the step unfinished gets ErrMaybeRan. So does each later attempt of the run, also
// a replay, after one in which the step failed and that error, or ErrMaybeRan, ended the attempt:
// the step is never called again, unless RestartFrom or RestartAt asks for it. An attempt that
// runs again after a wait gets the step's own result or error, as of each step.
//
// A step with WithAtMostOnce has no retries: WithRetries beside it is an error.
func WithAtMostOnce() StepOption {
	return stepOption(func(c *stepConfig) error { c.atMostOnce = true; return nil })
}

// Step calls fn and records what it returns. When the handler runs again, after a crash or a
// wait, Step returns the recorded result and does not call fn. So fn runs at least once, and
// its result is recorded once. fn must not make durable calls.
//
// The result is decoded from the record, also when fn was just called: what the encoding of T
// loses, such as unexported fields and the types of values in interfaces, is always lost.
//
// An error of fn is recorded once the step's own retries are used up. If that error ends the
// attempt of the run, the next attempt calls fn again. A panic in fn becomes an error.
// WithTimeout limits one call of fn: its context is then done with cause ErrTimeout, and what
// fn returns later is discarded. Step does not return before fn does.
//
// Outside of a run, Step just calls fn.
func Step[T any](ctx context.Context, name string, fn func(context.Context) (T, error), opts ...StepOption) (T, error) {
	var out T
	sc, err := enter(ctx, store.EntryStep, name)
	if sc == nil {
		if err != nil {
			return out, err
		}
		return fn(ctx)
	}
	defer sc.leave()
	var cfg stepConfig
	for _, o := range opts {
		if o == nil {
			continue
		}
		if err := o.applyStep(&cfg); err != nil {
			return out, errorf("stint: step %q: %w", name, err)
		}
	}
	if cfg.atMostOnce && cfg.task.retries > 0 {
		return out, fmt.Errorf("stint: step %q: WithRetries(%d) beside WithAtMostOnce: a step that runs at most once has no retries",
			name, cfg.task.retries)
	}
	same := false // decoding would not change out
	e, err := sc.step(ctx, name, &cfg, func(ctx context.Context) ([]byte, error) {
		v, err := fn(ctx)
		if err != nil {
			return nil, err
		}
		if same = sc.e.c.decodesUnchanged(&v); same {
			out = v
		}
		b, err := marshalAs(sc.e.c, v)
		if err != nil {
			err = NonRetryable(errorf("stint: result of step %q: %w", name, err))
		}
		return b, err
	})
	if err == nil && !same {
		sc.decodeEntry(e, &out)
	}
	return out, err
}

// step runs a step unless its result is recorded, and returns the recorded entry.
func (sc *scope) step(ctx context.Context, name string, cfg *stepConfig, fn stepFunc) (*store.Entry, error) {
	e, recorded, err := sc.next(store.EntryStep, name)
	if err != nil {
		return nil, err
	}
	if recorded && e.Done {
		done := e // escapes only here
		return &done, sc.errorOf(&done)
	}
	if err := sc.refuseNew(ctx); err != nil {
		return nil, err
	}
	if cfg.atMostOnce {
		if began, err := sc.beginOnce(ctx, &e); err != nil {
			return nil, err
		} else if began || recorded {
			return sc.finishStep(ctx, e, nil, NonRetryable(ErrMaybeRan))
		}
	}
	return sc.attemptStep(ctx, e, recorded, cfg, fn)
}

// beginOnce records that a step begins which may be called once only: its entry, and a note that stays when an attempt
// that fails forgets the entry. began reports that the note is there already.
func (sc *scope) beginOnce(ctx context.Context, e *store.Entry) (began bool, err error) {
	note := store.Entry{Address: store.Address{Scope: onceScope(e.Scope), Seq: e.Seq}, Kind: store.EntryNote, Name: e.Name}
	d := sc.e.durable
	d.mu.Lock()
	began = d.once[note.Address] == e.Name
	d.mu.Unlock()
	if began {
		return true, nil
	}
	if _, err := sc.append(ctx, note); err != nil {
		return false, err
	}
	_, err = sc.append(ctx, *e)
	return false, err
}

func onceScope(path string) string {
	if path == "" {
		return store.OnceScope
	}
	return store.OnceScope + "/" + path
}

// attemptStep runs a step until it succeeds or its retries are used up, and returns the
// recorded entry. recorded reports that the entry is stored already, as pending.
func (sc *scope) attemptStep(ctx context.Context, e store.Entry, recorded bool, cfg *stepConfig, fn stepFunc) (*store.Entry, error) {
	e.Error = nil // of the failed attempt
	for {
		if recorded && sc.e.c.now().Before(e.Due) { // when its next attempt is due
			if err := sc.wait(ctx, waitSpec{until: e.Due}); err != nil {
				return nil, err
			}
		}
		began := sc.e.c.now()
		if e.Attempts == 0 {
			e.Began = began
		}
		traced, end := sc.e.c.spans.Step(ctx, e.Name, sc.e.run.ID)
		out, late, err := sc.callStep(traced, &e, cfg, fn)
		end(err)
		if err != nil && ctx.Err() != nil && !late {
			return nil, sc.interruptedStepErr(ctx, apperror.Original(err)) // the attempt of the run ended: the step's does not count
		}
		e.Attempts++
		if cfg.atMostOnce {
			return sc.finishStep(ctx, e, out, err)
		}
		var delay time.Duration
		retry := false
		if err != nil {
			delay, retry, err = cfg.task.nextAttempt(e.Attempts, err)
			e.Error = encodeFailure(err)
		}
		now := sc.e.c.now()
		if retry || e.Attempts > 1 { // of a single try the entry itself says all
			addTry(&e, began, now)
		}
		if !retry {
			return sc.finishStep(ctx, e, out, err)
		}
		e.Due, recorded = clock.Add(now, delay), true
		if _, err := sc.append(ctx, e); err != nil {
			return nil, err
		}
		e.Error = nil
	}
}

// finishStep records the result of a step, and returns the entry with its error.
func (sc *scope) finishStep(ctx context.Context, e store.Entry, out []byte, err error) (*store.Entry, error) {
	e.Done, e.Due = true, time.Time{}
	if err != nil {
		e.Error = encodeFailure(err)
	} else {
		e.Value = out
	}
	stored, aerr := sc.append(ctx, e)
	if aerr != nil {
		return nil, aerr
	}
	e.At = stored.At
	return &e, sc.errorOf(&e)
}

// callStep calls the function of a step. late reports that the function returned after the
// step's timeout; its result is then discarded.
func (sc *scope) callStep(ctx context.Context, e *store.Entry, cfg *stepConfig, fn stepFunc) (out []byte, late bool, err error) {
	ctx = context.WithValue(ctx, stepKey{}, &stepRef{sc.e.run.ID, *e, sc.e.c.now()})
	var timeout error
	if d := cfg.task.timeout; d > 0 {
		timeout = fmt.Errorf("%w: step took longer than %v", ErrTimeout, d)
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, d, timeout)
		defer cancel()
	}
	defer func() {
		cause := context.Cause(ctx)
		late = timeout != nil && cause == timeout
		if v := recover(); v != nil {
			err = panicError(v)
		}
		if err != nil && errors.Is(cause, ErrTimeout) {
			err = errorf("%w: %w", cause, err)
		} else if late && !cfg.tx {
			out, err = nil, cause
		}
	}()
	out, err = fn(ctx)
	return out, false, vet(err)
}

// stepKey is the context key of the stepRef of the step whose function runs.
type stepKey struct{}

type stepRef struct {
	run   store.ID
	entry store.Entry // as it was before the call
	began time.Time
}

// StepKey returns a token for the step whose function runs: the same each time the function is
// called, so it can be the idempotency key of a request to another service. Outside of a step
// it returns "".
func StepKey(ctx context.Context) string {
	p, _ := ctx.Value(stepKey{}).(*stepRef)
	if p == nil {
		return ""
	}
	return fmt.Sprintf("%s:%v", p.run, journal.Address(p.entry.Address))
}

// Sleep waits for d. The end of the sleep is stored: a crash or a restart does not start it
// anew. A sleeping run occupies no slot and, after a moment, no goroutine and no memory.
//
// Outside of a run, Sleep waits for d or until ctx is done.
func Sleep(ctx context.Context, d time.Duration) error {
	return sleepUntil(ctx, func(now time.Time) time.Time { return clock.Add(now, d) })
}

// SleepUntil sleeps until t. It returns an error if t is outside of the years 1 to 9999.
func SleepUntil(ctx context.Context, t time.Time) error {
	if err := wantTime("SleepUntil", t); err != nil {
		return err
	}
	return sleepUntil(ctx, func(time.Time) time.Time { return t })
}

func sleepUntil(ctx context.Context, until func(now time.Time) time.Time) error {
	sc, err := enter(ctx, store.EntrySleep, "sleep")
	if sc == nil {
		if err != nil {
			return err
		}
		if pause.For(ctx, time.Until(until(time.Now()))) {
			return nil
		}
		return context.Cause(ctx)
	}
	defer sc.leave()
	e, recorded, err := sc.next(store.EntrySleep, "")
	if err != nil {
		return err
	}
	if !recorded {
		if err := sc.refuseNew(ctx); err != nil {
			return err
		}
		e.Done, e.Due = true, clock.Ceil(until(sc.e.c.now()))
		if e, err = sc.append(ctx, e); err != nil {
			return err
		}
	}
	if e.Due.IsZero() { // no time to wait for
		return nil
	}
	if err := sc.wait(ctx, waitSpec{until: e.Due}); err != nil {
		return err
	}
	sc.advanceTo(e.Due)
	return nil
}

// WaitForEvent waits for an event with the key, and with what WithMatch and WithFilter ask
// for, and decodes its payload. It receives events published since the run was enqueued, each
// once. With WithWaitTimeout it returns ErrTimeout if none arrives in time; a next attempt of the
// run, if that error ended this one, waits anew. A deadline of ctx's own is not recorded: a
// handler that runs again begins it anew.
//
// A payload that is not a T blocks the run, for code that can read it: with json.RawMessage as T
// the handler itself decides whether a payload is good, and may wait again.
//
// Outside of a run it returns ErrDurable.
func WaitForEvent[T any](ctx context.Context, key string, opts ...WaitOption) (T, error) {
	var out T
	sc, err := enter(ctx, store.EntryEvent, key)
	if sc == nil {
		if err == nil {
			err = fmt.Errorf("%w: WaitForEvent outside of a run", ErrDurable)
		}
		return out, err
	}
	defer sc.leave()
	w := waitConfig{Match: store.Match{Key: key}}
	for _, o := range opts {
		if o == nil {
			continue
		}
		if err := o.applyWait(&w); err != nil {
			return out, errorf("stint: wait for event %q: %w", key, err)
		}
	}
	if w.Match, err = w.match(); err == nil {
		err = sc.e.c.canMatch(&w.Match)
	}
	if err != nil {
		return out, errorf("stint: wait for event %q: %w", key, err)
	}
	e, err := sc.awaitEvent(ctx, key, &w)
	if err == nil {
		sc.decodeEntry(&e, &out)
	}
	return out, err
}

func (sc *scope) awaitEvent(ctx context.Context, key string, w *waitConfig) (e store.Entry, err error) {
	e, recorded, err := sc.next(store.EntryEvent, key)
	if err != nil {
		return e, err
	}
	if recorded && e.Done && sc.e.afterInterrupt(e.At) && ctx.Err() != nil {
		return e, sc.refuseNew(ctx)
	}
	if !recorded {
		if err := sc.refuseNew(ctx); err != nil {
			return e, err
		}
		e.Match = w.Match
		if w.timeout > 0 {
			e.Due = clock.Add(sc.e.c.now(), w.timeout)
		}
		if e, err = sc.append(ctx, e); err != nil {
			return e, err
		}
	}
	for !e.Done {
		if err := sc.wait(ctx, waitSpec{until: e.Due, entry: e.Address, into: &e}); err != nil {
			return e, err
		}
		if e.Done {
			break
		}
		if !e.Due.IsZero() && !sc.e.c.now().Before(e.Due) { // no event came in time
			late := e
			late.Done, late.Error = true, encodeFailure(fmt.Errorf("%w: no event %q in %v", ErrTimeout, key, w.timeout))
			e, err = sc.append(ctx, late)
		} else {
			e, err = sc.append(ctx, e)
		}
		if err != nil {
			return e, err
		}
	}
	return e, sc.errorOf(&e)
}

// decodeEntry decodes a recorded value. A value that does not decode as the type the code asks
// for blocks the run: it is kept for code that can read it.
func (sc *scope) decodeEntry(e *store.Entry, v any) {
	if err := sc.e.c.unmarshal(e.Value, v); err != nil {
		file, line := appCaller()
		sc.diverge(fmt.Errorf("entry %v, %v %q: what is recorded is not a %s (%s:%d): %w", journal.Address(e.Address), e.Kind,
			e.Name, reflect.TypeOf(v).Elem(), file, line, err))
	}
}

// Now returns the time at which the last durable call that this branch waited for completed: a
// step or sleep ended, an event arrived, a child or branch ended. Before the first such call
// it returns when the run was enqueued, or when the branch began. It never goes back and is
// the same when the handler runs again. Outside of a run, and inside a step, it returns
// time.Now().
func Now(ctx context.Context) time.Time {
	sc := scopeOf(ctx)
	if sc == nil {
		return time.Now()
	}
	return sc.now
}

// NewID returns a random UUID that is the same when the handler runs again.
func NewID(ctx context.Context) uuid.UUID {
	sc := scopeOf(ctx)
	if sc == nil {
		return uuid.New()
	}
	sc.ids++
	h := sha256.Sum256(fmt.Appendf(nil, "%s %s %d", sc.e.run.ID, sc.cursor.Path, sc.ids))
	var id uuid.UUID
	copy(id[:], h[:])
	id[6], id[8] = 0x40|id[6]&0x0f, 0x80|id[8]&0x3f // RFC 9562: version 4, variant 10
	return id
}

// Version reports whether a run executes the code after a change: true for runs that had not
// reached this point when the change was deployed. The answer is decided once for each run and
// change, and recorded. Outside of a run it is true. Version panics if change is empty, not
// UTF-8 or longer than 255 bytes.
func Version(ctx context.Context, change string) bool {
	sc := scopeOf(ctx)
	if sc == nil {
		return true
	}
	mustName("Version", change)
	return sc.e.durable.version(ctx, sc, change)
}

// version returns the recorded answer of Version, or decides and records it.
func (d *durableRun) version(ctx context.Context, sc *scope, change string) bool {
	d.mu.Lock()
	is, known := d.versions[change]
	begins := !known && !guard.Unwinding()
	if !known {
		is = d.tape.Played()
	}
	if begins {
		d.versions[change] = is
	}
	d.mu.Unlock()
	if begins {
		value := []byte("false")
		if is {
			value = []byte("true")
		}
		e := store.Entry{Address: store.Address{Scope: "version:" + change, Seq: 1}, Kind: store.EntryVersion, Name: change,
			Done: true, Value: value}
		if _, err := sc.append(ctx, e); err != nil {
			sc.e.c.logger().Error("stint: recording a version", "change", change, "err", err)
		}
	}
	return is
}
