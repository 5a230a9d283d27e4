package stint

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/stint-dev/stint/internal/clock"
	"github.com/stint-dev/stint/internal/guard"
	"github.com/stint-dev/stint/internal/journal"
	"github.com/stint-dev/stint/store"
)

// Errors of durable calls.
var (
	// ErrMaybeRan: a step WithAtMostOnce had begun when its process died, and is not run again.
	ErrMaybeRan = errors.New("stint: the step began before, and may have run")
	// ErrDurable: a durable call where none can be made: inside a step, from two
	// goroutines of one scope at once, in a deferred function that a panic has called, or
	// after the handler has returned.
	ErrDurable = errors.New("stint: no durable call here")
)

// A StepOption changes a step: WithRetries, WithRetryBackoff, WithTimeout (of one
// attempt), WithAtMostOnce.
type StepOption interface{ applyStep(*stepConfig) error }

type stepConfig struct {
	task       taskConfig // retries, backoff and timeout
	atMostOnce bool
	tx         bool // StepTx: what fn returns without an error is committed
}

// A stepFunc is the function of a step, which encodes its result.
type stepFunc func(context.Context) ([]byte, error)

type stepOption func(*stepConfig) error

func (o stepOption) applyStep(c *stepConfig) error { return o(c) }

func (o taskOption) applyStep(c *stepConfig) error { return o(&c.task) }

func (o runOption) applyStep(*stepConfig) error {
	return errors.New("an option of runs is none of a step")
}

// WithAtMostOnce never runs a step twice: its start is recorded first, and a handler
// that runs again and finds it unfinished gets ErrMaybeRan.
func WithAtMostOnce() StepOption {
	return stepOption(func(c *stepConfig) error { c.atMostOnce = true; return nil })
}

// Step calls fn and records what it returns. When the handler runs again, after a crash
// or a wait, Step returns what was recorded and does not call fn. So fn runs at least
// once, and its outcome is recorded once; fn must not make durable calls.
//
// Step returns what is decoded of the record also where it has called fn: what T's
// encoding loses, as unexported fields and the types of values in interfaces, is never
// there.
//
// An error that fn returns is recorded once the step's own retries are used up. If it
// ends the attempt of the run, the next attempt calls fn again. A panic in fn is an error.
// WithTimeout limits one call of fn: its context is done then with cause ErrTimeout, and
// what fn returns later is refused, though Step returns no sooner than fn.
//
// Outside of a run, Step calls fn.
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
	same := false // decoding would make of out what it is
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

// step runs a step, unless it is recorded, and returns what is recorded then.
func (sc *scope) step(ctx context.Context, name string, cfg *stepConfig, fn stepFunc) (*store.Entry, error) {
	e, recorded, err := sc.next(store.EntryStep, name)
	if err != nil {
		return nil, err
	}
	if recorded && e.Done {
		done := e // the others need no place of their own
		return &done, sc.errorOf(&done)
	}
	if err := sc.refuseNew(ctx); err != nil {
		return nil, err
	}
	if cfg.atMostOnce {
		if recorded {
			return sc.finishStep(ctx, e, nil, NonRetryable(ErrMaybeRan))
		}
		if _, err := sc.append(ctx, e); err != nil {
			return nil, err
		}
	}
	return sc.attemptStep(ctx, e, recorded, cfg, fn)
}

// attemptStep runs a step until it has succeeded or its retries are used up, and returns what
// it records then.
// begun says that it is recorded, as pending.
func (sc *scope) attemptStep(ctx context.Context, e store.Entry, begun bool, cfg *stepConfig, fn stepFunc) (*store.Entry, error) {
	e.Error = nil // of an attempt that failed
	for {
		if begun && time.Now().Before(e.Due) { // its next attempt is due then
			if err := sc.wait(ctx, waitSpec{until: e.Due}); err != nil {
				return nil, err
			}
		}
		traced, end := sc.traceStep(ctx, e.Name)
		out, late, err := sc.callStep(traced, e.Address, cfg, fn)
		end(err)
		if err != nil && ctx.Err() != nil && !late {
			return nil, sc.interruptedStepErr(ctx, original(err)) // the attempt of the run is over; this one did not count
		}
		e.Attempts++
		if err == nil || cfg.atMostOnce {
			return sc.finishStep(ctx, e, out, err)
		}
		delay, again, err := cfg.task.nextAttempt(e.Attempts, err)
		if !again {
			return sc.finishStep(ctx, e, out, err)
		}
		e.Due, begun = clock.Add(time.Now(), delay), true
		e.Error = encodeFailure(err)
		if _, err := sc.append(ctx, e); err != nil {
			return nil, err
		}
		e.Error = nil
	}
}

// finishStep records what came of a step, and returns that with its error.
func (sc *scope) finishStep(ctx context.Context, e store.Entry, out []byte, err error) (*store.Entry, error) {
	e.Done, e.Due = true, time.Time{}
	if err != nil {
		e.Error = encodeFailure(err)
	} else {
		e.Value = out
	}
	if _, aerr := sc.append(ctx, e); aerr != nil {
		return nil, aerr
	}
	return &e, sc.errorOf(&e)
}

// callStep runs the function of a step. What that returns after the step's own timeout, which
// late reports, is refused.
func (sc *scope) callStep(ctx context.Context, at store.Address, cfg *stepConfig, fn stepFunc) (out []byte, late bool, err error) {
	ctx = context.WithValue(ctx, stepKey{}, &stepRef{sc.e.run.ID, at})
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

// stepKey holds the stepPlace of the step whose function a context is given to.
type stepKey struct{}

type stepRef struct {
	run store.ID
	at  store.Address
}

// StepKey is a token of a step, inside of its function: the same each time that it
// runs, for the idempotency header of another service. Elsewhere it is empty.
func StepKey(ctx context.Context) string {
	p, _ := ctx.Value(stepKey{}).(*stepRef)
	if p == nil {
		return ""
	}
	return fmt.Sprintf("%s:%v", p.run, journal.Address(p.at))
}

// Sleep waits for d. The time is stored: a crash or a restart does not begin it anew. A
// sleeping run holds no slot, and after a moment no goroutine and no memory.
//
// Outside of a run it sleeps, or until ctx is done.
func Sleep(ctx context.Context, d time.Duration) error {
	return sleepUntil(ctx, func() time.Time { return clock.Add(time.Now(), d) })
}

// SleepUntil is Sleep until a time. One outside of the years 1 to 9999 is an error.
func SleepUntil(ctx context.Context, t time.Time) error {
	if err := wantTime("SleepUntil", t); err != nil {
		return err
	}
	return sleepUntil(ctx, func() time.Time { return t })
}

func sleepUntil(ctx context.Context, until func() time.Time) error {
	sc, err := enter(ctx, store.EntrySleep, "sleep")
	if sc == nil {
		if err != nil {
			return err
		}
		if pause(ctx, time.Until(until())) {
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
		e.Done, e.Due = true, ceilMillis(until())
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

// ceilMillis is t as it is stored, so that the pass which stores it sees it as later ones do.
func ceilMillis(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return time.UnixMilli(clock.CeilMillis(t))
}

// WaitForEvent waits for an event with the key, and what WithMatch asks, published since
// the run was enqueued and not yet given to it, and decodes its payload. With
// WithWaitTimeout it is ErrTimeout after that.
//
// Outside of a run it is ErrDurable: there is nobody who would tell it.
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
			e.Due = clock.Add(time.Now(), w.timeout)
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
		if !e.Due.IsZero() && !time.Now().Before(e.Due) { // unless the event was first
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

// decodeEntry reads a recorded value. One that is not what the code asks for blocks the run:
// it is there, and code that can read it may come.
func (sc *scope) decodeEntry(e *store.Entry, v any) {
	if err := sc.e.c.unmarshal(e.Value, v); err != nil {
		file, line := appCaller()
		sc.diverge(fmt.Errorf("entry %v, %v %q: what is recorded is not a %s (%s:%d): %w", journal.Address(e.Address), e.Kind,
			e.Name, reflect.TypeOf(v).Elem(), file, line, err))
	}
}

// Now is the time at which the last durable call that this branch waited for was over: a
// step's end, a sleep's, when an event came, when a child or branch ended. Before the
// first of them it is when the run was enqueued, or the branch begun. It never goes back,
// and is the same when the handler runs again. Outside of a run, and inside a step, it
// is time.Now().
func Now(ctx context.Context) time.Time {
	sc := scopeOf(ctx)
	if sc == nil {
		return time.Now()
	}
	return sc.now
}

// NewID is a random UUID, the same when the handler runs again.
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

// Version reports whether a run executes the code after a change: true for runs that
// had not come to this point before the change was made. It is decided once for each
// run and change, and recorded. Outside of a run it is true. It panics if change is empty, no
// UTF-8 or longer than 255 bytes.
func Version(ctx context.Context, change string) bool {
	sc := scopeOf(ctx)
	if sc == nil {
		return true
	}
	mustName("Version", change)
	return sc.e.durable.version(ctx, sc, change)
}

// version decides once for each change.
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

// diverge unwinds the execution: the call under way is not what is recorded.
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

// appCaller returns where the app calls this package; line 0: it does not.
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

// ownPackage is how the names of this package's functions begin.
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
