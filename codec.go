package stint

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"reflect"
	"time"
	"unicode/utf8"

	"github.com/stint-dev/stint/internal/guard"
	"github.com/stint-dev/stint/internal/journal"
	"github.com/stint-dev/stint/internal/jsonx"
	"github.com/stint-dev/stint/internal/text"
	"github.com/stint-dev/stint/store"
)

// failure is the form in which an error is stored.
type failure struct {
	Kind    string `json:"kind"` // one of the kinds below
	Message string `json:"message"`
	Stack   string `json:"stack,omitempty"`
	// Divergence has the parts of the error if it is a divergence.
	Divergence *Divergence `json:"divergence,omitempty"`
	// Inside has the errors that err wraps, as far as errors.Is and errors.As find them again.
	Inside []knownError `json:"inside,omitempty"`
}

const (
	kindError           = "error"
	kindPanic           = "panic"
	kindTimeout         = "timeout"
	kindScheduleTimeout = "schedule_timeout" // written by stores too
	kindCanceled        = "canceled"
	kindParent          = store.KindParent
)

// A knownError is an error inside a stored one. The fields that are set depend on its kind.
type knownError struct {
	Is       string          `json:"is"`                 // the name of a sentinel, or one of the marks below
	Text     string          `json:"text,omitempty"`     // its text; empty: the text of the error around it
	After    time.Duration   `json:"after,omitempty"`    // of a RetryAfter or Snooze
	Stack    string          `json:"stack,omitempty"`    // of a panic; empty: the failure's own
	Task     string          `json:"task,omitempty"`     // of a TaskError; for a WorkflowError, its Workflow
	RunID    string          `json:"run,omitempty"`      // as Task
	Attempt  int             `json:"attempt,omitempty"`  // of a TaskError
	Tasks    []string        `json:"tasks,omitempty"`    // of a WorkflowError: the names of the tasks in Inside
	Canceled bool            `json:"canceled,omitempty"` // in a WorkflowError: the task was canceled
	At       *store.Address  `json:"at,omitempty"`       // of an entryError
	Next     *store.Address  `json:"next,omitempty"`     // of an entryError, if it has one
	Step     *journal.Failed `json:"step,omitempty"`     // of an entryError, if it is a step's
	Type     string          `json:"type,omitempty"`     // the name of a registered type
	Value    json.RawMessage `json:"value,omitempty"`    // the JSON of a registered type
	Inside   []knownError    `json:"inside,omitempty"`   // what it wraps
}

const (
	markFinal    = "final"    // NonRetryable
	markAfter    = "after"    // RetryAfter
	markSnooze   = "snooze"   // Snooze
	markPanic    = "panic"    // PanicError
	markTask     = "task"     // TaskError
	markWorkflow = "workflow" // WorkflowError
	markEntry    = "entry"    // an entryError
	markType     = "type"     // of a registered type
	markText     = "text"     // only its text
)

// sentinels are the errors that errors.Is finds again, and the names under which they are
// stored.
var sentinels = []struct {
	name string
	err  error
}{
	{"ErrCanceled", ErrCanceled}, {"ErrTimeout", ErrTimeout}, {"ErrSkipped", ErrSkipped}, {"ErrShutdown", ErrShutdown},
	{"ErrMaybeRan", ErrMaybeRan}, {"ErrDurable", ErrDurable}, {"ErrDiverged", ErrDiverged}, {"ErrNotFound", ErrNotFound},
	{"ErrClosed", ErrClosed}, {"ErrTaken", ErrTaken}, {"ErrStarted", ErrStarted}, {"ErrBusy", ErrBusy},
	{"context.Canceled", context.Canceled}, {"context.DeadlineExceeded", context.DeadlineExceeded},
	{"io.EOF", io.EOF}, {"io.ErrUnexpectedEOF", io.ErrUnexpectedEOF}, {"os.ErrDeadlineExceeded", os.ErrDeadlineExceeded},
	{"fs.ErrNotExist", fs.ErrNotExist}, {"fs.ErrExist", fs.ErrExist}, {"fs.ErrPermission", fs.ErrPermission},
	{"sql.ErrNoRows", errNoRows}, {"errors.ErrUnsupported", errors.ErrUnsupported},
}

// What is stored of an error, in bytes. A text that is cut says so at its end.
const (
	maxErrorText  = 16 << 10 // of its text, and of that of each error inside
	maxStack      = 32 << 10
	maxErrorValue = 64 << 10  // of a registered error's JSON
	maxInside     = 128 << 10 // of the texts, stacks and values of all errors inside
	maxKnown      = 1000      // errors examined inside one; also ends one that wraps itself
)

// errorText returns an error's text, cut to what is stored.
func errorText(err error) string { return text.Cut(err.Error(), maxErrorText) }

// encodeFailure returns the stored form of an error: its text and kind, a panic's stack, and
// what is known of the errors inside. It calls methods of the error.
func encodeFailure(err error) (b []byte) {
	if p := guard.Call(func() { b = encodeError(err) }); p != nil {
		b = encodeError(&PanicError{Value: guard.Text(p.Value), Stack: p.Stack})
	}
	return b
}

func encodeError(err error) []byte {
	f := failure{Kind: kindError, Message: errorText(err)}
	var p *PanicError
	switch {
	case errors.As(err, &p):
		f.Kind, f.Stack = kindPanic, text.Cut(string(p.Stack), maxStack)
		if f.Message == errorText(p) {
			f.Message = text.Cut(guard.Text(p.Value), maxErrorText)
		}
	case errors.Is(err, ErrTimeout):
		f.Kind = kindTimeout
	case errors.Is(err, ErrCanceled):
		f.Kind = kindCanceled
	}
	if d := (*journal.Divergence)(nil); errors.As(err, &d) {
		f.Divergence = &Divergence{d.At.String(), d.Recorded, d.Asked, d.File, d.Line}
	}
	f.Inside = (&recorder{left: maxKnown, room: maxInside, stack: f.Stack}).inside(err, errorText(err))
	if len(f.Inside) == 1 && (f.Kind == kindTimeout && f.Inside[0].Is == "ErrTimeout" || f.Kind == kindCanceled &&
		f.Inside[0].Is == "ErrCanceled") {
		f.Inside = nil // the kind says it
	}
	b, _ := json.Marshal(f) // strings always encode
	return b
}

// A recorder collects what is known of the errors inside one.
type recorder struct {
	left  int    // errors that it may still examine
	room  int    // bytes that it may still add
	stack string // of the failure
}

// inside returns what is known of err. Its text, or that of the error around it, is outer.
func (r *recorder) inside(err error, outer string) (all []knownError) {
	err = original(err)
	if r.left--; err == nil || r.left < 0 {
		return nil
	}
	for _, s := range sentinels {
		if is, ok := err.(interface{ Is(error) bool }); err == s.err || ok && is.Is(s.err) {
			all = append(all, knownError{Is: s.name})
		}
	}
	k := knownError{}
	wraps := ""
	var within error
	switch e := err.(type) {
	case *nonRetryable:
		k.Is, within = markFinal, e.err
	case *retryAfter:
		k.Is, k.After, within = markAfter, e.d, e.err
	case *snooze:
		k.Is, k.After = markSnooze, e.d
	case *PanicError:
		k.Is, wraps = markPanic, text.Cut(guard.Text(e.Value), maxErrorText)
		within = e.Unwrap()
		if stack := text.Cut(string(e.Stack), maxStack); stack != r.stack {
			k.Stack = r.keep(stack)
		}
	case *TaskError:
		k.Is, k.Task, k.RunID, k.Attempt, within = markTask, e.Task, e.RunID, e.Attempt, e.Err
	case *WorkflowError:
		return append(all, r.workflow(e))
	case *entryError:
		k.Is, k.At, within = markEntry, &e.at, e.err
		if e.next.Seq > 0 {
			k.Next = &e.next
		}
		if e.step != nil && e.step.Size() <= r.room {
			k.Step = e.step
			r.room -= e.step.Size()
		}
	default:
		if k.Type, k.Value = registeredValue(err); len(k.Value) > r.room {
			k.Type, k.Value = "", nil
		}
		r.room -= len(k.Value)
		if k.Is = markType; k.Type == "" {
			return append(all, r.unwrapped(err, outer)...)
		}
		k.Inside = r.unwrapped(err, outer)
	}
	if within != nil {
		wraps = errorText(within)
		k.Inside = r.inside(within, wraps)
	}
	if wraps != outer {
		k.Text = r.keep(wraps)
	}
	return append(all, k)
}

// keep returns as much of a text as there is room for.
func (r *recorder) keep(s string) string {
	s = text.Cut(s, r.room)
	r.room -= len(s)
	return s
}

func (r *recorder) unwrapped(err error, text string) (all []knownError) {
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		return r.inside(e.Unwrap(), text)
	case interface{ Unwrap() []error }:
		for _, one := range e.Unwrap() {
			all = append(all, r.inside(one, text)...)
		}
	}
	return all
}

func (r *recorder) workflow(e *WorkflowError) knownError {
	k := knownError{Is: markWorkflow, Task: e.Workflow, RunID: e.RunID}
	for _, name := range e.names() {
		if r.left <= 0 {
			break
		}
		message := errorText(e.Tasks[name])
		k.Tasks = append(k.Tasks, name)
		k.Inside = append(k.Inside, knownError{Is: markText, Text: r.keep(message), Canceled: e.canceled[name],
			Inside: r.inside(e.Tasks[name], message)})
	}
	return k
}

// registeredValue returns the name and the JSON of an error of a registered type, if it can be
// read again from that.
func registeredValue(err error) (name string, value json.RawMessage) {
	registered.RLock()
	name = registered.names[reflect.TypeOf(err)]
	read := registered.reads[name]
	registered.RUnlock()
	if read == nil {
		return "", nil
	}
	merr := guarded(func() (merr error) {
		if value, merr = json.Marshal(err); merr == nil {
			_, merr = read(value)
		}
		return merr
	})
	if merr != nil || len(value) > maxErrorValue || string(value) == "null" {
		return "", nil
	}
	return name, value
}

func decodeFailure(b []byte) failure {
	var f failure
	if len(b) > 0 && json.Unmarshal(b, &f) != nil {
		f = failure{Kind: kindError, Message: string(b)} // edited by hand
	}
	return f
}

// A storedError is an error read from the database.
type storedError struct {
	text string
	is   []error
}

func (e *storedError) Error() string { return e.text }

func (e *storedError) Unwrap() []error { return e.is }

// err returns the failure as an error for errors.Is and errors.As.
func (f failure) err() error { return f.errOf(nil) }

// errOf is err, for the execution that recorded the failure: errors of its entries are
// recognized.
func (f failure) errOf(e *execution) error {
	text := f.Message
	if f.Kind == kindPanic {
		if len(f.Inside) == 0 {
			return &PanicError{Value: f.Message, Stack: []byte(f.Stack)}
		}
		if p := panicInside(f.Inside); p != nil && p.Text == f.Message {
			text = (&PanicError{Value: text}).Error()
		}
	}
	var is []error
	switch f.Kind {
	case kindTimeout:
		is = []error{ErrTimeout}
	case kindScheduleTimeout:
		is = []error{ErrCanceled, ErrTimeout}
	case kindCanceled, kindParent:
		is = []error{ErrCanceled}
	}
	is = append(is, f.errorsOf(e, f.Inside, text)...)
	return &storedError{text, is}
}

// panicInside returns the first panic among errors.
func panicInside(all []knownError) *knownError {
	for i := range all {
		if all[i].Is == markPanic {
			return &all[i]
		}
		if p := panicInside(all[i].Inside); p != nil {
			return p
		}
	}
	return nil
}

func (f *failure) errorsOf(e *execution, all []knownError, text string) []error {
	errs := make([]error, 0, len(all))
	for i := range all {
		errs = append(errs, f.known(e, &all[i], text))
	}
	return errs
}

// known returns an error inside one with that text.
func (f *failure) known(e *execution, k *knownError, text string) error {
	for _, s := range sentinels {
		if s.name == k.Is {
			return s.err
		}
	}
	if k.Text != "" {
		text = k.Text
	}
	within := &storedError{text, f.errorsOf(e, k.Inside, text)}
	switch k.Is {
	case markFinal:
		return &nonRetryable{within}
	case markAfter:
		return &retryAfter{k.After, within}
	case markSnooze:
		return &snooze{k.After}
	case markPanic:
		stack := k.Stack
		if stack == "" {
			stack = f.Stack
		}
		if len(k.Inside) > 0 {
			return &PanicError{Value: within, Stack: []byte(stack)}
		}
		return &PanicError{Value: text, Stack: []byte(stack)}
	case markTask:
		return &TaskError{Task: k.Task, RunID: k.RunID, Attempt: k.Attempt, Err: within}
	case markWorkflow:
		w := &WorkflowError{Workflow: k.Task, RunID: k.RunID, Tasks: map[string]error{}}
		for i, one := range within.is {
			if i < len(k.Tasks) {
				w.Tasks[k.Tasks[i]] = one
				w.noteCanceled(k.Tasks[i], k.Inside[i].Canceled)
			}
		}
		return w
	case markEntry:
		if e != nil && k.At != nil {
			known := &entryError{e: e, at: *k.At, step: k.Step, err: within}
			if k.Next != nil {
				known.next = *k.Next
			}
			return known
		}
	case markType:
		if err := readRegistered(k); err != nil {
			within.is = append([]error{err}, within.is...)
		}
	}
	return within
}

// readRegistered returns the value of a registered type; nil if this program cannot read it.
func readRegistered(k *knownError) error {
	registered.RLock()
	read := registered.reads[k.Type]
	registered.RUnlock()
	if read == nil {
		return nil
	}
	var value error
	err := guarded(func() (err error) {
		value, err = read(k.Value)
		return err
	})
	if err != nil {
		return nil
	}
	return value
}

// encode encodes v on the caller's goroutine. If that calls code of the app, a panic becomes
// an error.
func (c *Client) encode(v any) ([]byte, error) {
	if c.encodesPlainly(reflect.TypeOf(v)) {
		return c.marshal(v)
	}
	var b []byte // declared here: a variable that a closure sets is allocated
	err := guarded(func() (err error) {
		b, err = c.marshal(v)
		return err
	})
	return b, err
}

// decode is the inverse of encode.
func (c *Client) decode(b []byte, v any) error {
	if c.encodesPlainly(reflect.TypeOf(v)) {
		return c.unmarshal(b, v)
	}
	return guarded(func() error { return c.unmarshal(b, v) })
}

// marshal encodes v where panics are caught already: in a handler, or in guarded.
func (c *Client) marshal(v any) ([]byte, error) {
	b, err := c.cfg.codec.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode: %w", valueError(vet(err),
			func(err error) error { return jsonx.EncodeError(err, reflect.TypeOf(v)) }))
	}
	if len(b) > c.cfg.maxPayload {
		return nil, fmt.Errorf("%d bytes encoded: want at most %d (WithMaxPayload)", len(b), c.cfg.maxPayload)
	}
	if _, own := c.cfg.codec.(jsonCodec); !own && !json.Valid(b) {
		return nil, errors.New("the codec made something that is not JSON")
	}
	return b, nil
}

// marshalAs is marshal for a value that will be decoded as a T. If T is an interface with
// methods, like error, it cannot be decoded: that is an error here and not when it is read.
func marshalAs[T any](c *Client, v T) ([]byte, error) {
	b, err := c.marshal(v)
	if t := reflect.TypeFor[T](); err == nil && t.Kind() == reflect.Interface && t.NumMethod() > 0 && any(v) != nil {
		if err := c.unmarshal(b, new(T)); err != nil {
			return nil, fmt.Errorf("a %T can be stored, but not read again as a %v, an interface with methods: "+
				"want a type that is none: %w", v, t, err)
		}
	}
	return b, err
}

// unmarshal decodes b where panics are caught already.
func (c *Client) unmarshal(b []byte, v any) error {
	if len(b) == 0 {
		return errors.New("decode: empty")
	}
	return valueError(vet(c.cfg.codec.Unmarshal(b, v)), func(err error) error {
		text := b
		if _, ok := c.cfg.codec.(jsonCodec); !ok {
			text = nil
		}
		return jsonx.DecodeError(err, text, reflect.TypeOf(v).Elem())
	})
}

// valueError returns a codec's error, which was vetted, without the value it quotes. A panic
// is returned as it is.
func valueError(err error, from func(error) error) error {
	if _, ok := err.(*appError); !ok {
		return err
	}
	return from(original(err))
}

// decodesUnchanged reports whether decoding the encoding of *v would return *v, so that it can
// be left out.
func (c *Client) decodesUnchanged(v any) bool {
	if _, ok := c.cfg.codec.(jsonCodec); !ok {
		return false
	}
	switch v := v.(type) {
	case *bool, *int, *int8, *int16, *int32, *int64, *uint, *uint8, *uint16, *uint32, *uint64, *float32, *float64, *struct{}:
		return true
	case *string:
		return utf8.ValidString(*v)
	}
	return false
}

// encodesPlainly reports whether no code of the app is called to encode or decode a t. That
// saves a goroutine, 0.5 µs.
func (c *Client) encodesPlainly(t reflect.Type) bool {
	_, ok := c.cfg.codec.(jsonCodec)
	return ok && jsonx.Plain(t)
}
