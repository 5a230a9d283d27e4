package stint

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"reflect"
	"slices"
	"unicode/utf8"

	"github.com/stint-dev/stint/internal/apperror"
	"github.com/stint-dev/stint/internal/failure"
	"github.com/stint-dev/stint/internal/guard"
	"github.com/stint-dev/stint/internal/journal"
	"github.com/stint-dev/stint/internal/jsonx"
	"github.com/stint-dev/stint/internal/text"
	"github.com/stint-dev/stint/store"
)

// A Codec encodes inputs and outputs. What it writes must be JSON. Errors of a codec, and of
// methods such as UnmarshalJSON, may quote the value, so the library's error texts show only
// types and field names; errors.As finds the original where the call itself failed.
type Codec interface {
	Marshal(v any) ([]byte, error)
	Unmarshal(data []byte, v any) error
}

type jsonCodec struct{}

func (jsonCodec) Marshal(v any) ([]byte, error) { return json.Marshal(v) }

func (jsonCodec) Unmarshal(data []byte, v any) error { return json.Unmarshal(data, v) }

// WithCodec sets how inputs, outputs, results of steps and payloads of events are encoded. The default is
// encoding/json. All programs on a database need the same codec.
//
// The library reads payloads itself in some places, and sees what the codec wrote: WithMatch finds the
// fields of that, filters in CEL have that as input, conditions and keys of Define read that, the page, its
// API and the command show that, and EnqueueJSON, the page and the command take that. With a codec that
// encrypts none of these can be used on the values within a payload; WithMatch with a codec that writes no JSON
// objects is an error. Use the event's key, its scope (WithScope) or its metadata in place of a field:
// these are not encoded.
func WithCodec(codec Codec) ClientOption {
	return clientOption(func(c *clientConfig) error {
		if codec == nil {
			return errors.New("stint: WithCodec(nil): want a codec")
		}
		c.codec = codec
		return nil
	})
}

// canMatch returns an error if no payload that the client encodes can have the field that a match asks for.
func (c *Client) canMatch(m *store.Match) error {
	_, field, _ := m.Parts()
	if _, plain := c.cfg.codec.(jsonCodec); plain || field == "" {
		return nil
	}
	if b, err := c.encode(map[string]string{field: ""}); err == nil && b[0] != '{' {
		return fmt.Errorf("WithMatch(%q): the client's codec writes no JSON objects, so no payload has the field: use WithScope", field)
	}
	return nil
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
	if _, ok := err.(*apperror.Error); !ok {
		return err
	}
	return from(apperror.Original(err))
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

// language is which errors are known beside those of RegisterError.
var language = failure.Language{
	Sentinels: []failure.Sentinel{
		{Name: "ErrCanceled", Err: ErrCanceled}, {Name: "ErrTimeout", Err: ErrTimeout}, {Name: "ErrSkipped", Err: ErrSkipped},
		{Name: "ErrShutdown", Err: ErrShutdown}, {Name: "ErrMaybeRan", Err: ErrMaybeRan}, {Name: "ErrDurable", Err: ErrDurable},
		{Name: "ErrDiverged", Err: ErrDiverged}, {Name: "ErrNotFound", Err: ErrNotFound}, {Name: "ErrClosed", Err: ErrClosed},
		{Name: "ErrTaken", Err: ErrTaken}, {Name: "ErrStarted", Err: ErrStarted}, {Name: "ErrBusy", Err: ErrBusy},
		{Name: "context.Canceled", Err: context.Canceled}, {Name: "context.DeadlineExceeded", Err: context.DeadlineExceeded},
		{Name: "io.EOF", Err: io.EOF}, {Name: "io.ErrUnexpectedEOF", Err: io.ErrUnexpectedEOF},
		{Name: "os.ErrDeadlineExceeded", Err: os.ErrDeadlineExceeded}, {Name: "fs.ErrNotExist", Err: fs.ErrNotExist},
		{Name: "fs.ErrExist", Err: fs.ErrExist}, {Name: "fs.ErrPermission", Err: fs.ErrPermission},
		{Name: "sql.ErrNoRows", Err: errNoRows}, {Name: "errors.ErrUnsupported", Err: errors.ErrUnsupported},
	},
	Describe: describe,
}

// Marks of errors inside a stored one.
const (
	markFinal    = "final"    // NonRetryable
	markAfter    = "after"    // RetryAfter
	markSnooze   = "snooze"   // Snooze
	markPanic    = "panic"    // PanicError
	markTask     = "task"     // TaskError
	markCanceled = "canceled" // TaskError of a run that was canceled
	markWorkflow = "workflow" // WorkflowError
	markEntry    = "entry"    // an entryError
)

// encodeFailure returns the stored form of an error: its text and kind, a panic's stack, and
// what is known of the errors inside. It calls methods of the error.
func encodeFailure(err error) (b []byte) {
	if p := guard.Call(func() { b = encodeError(err) }); p != nil {
		b = encodeError(&PanicError{Value: guard.Text(p.Value), Stack: p.Stack})
	}
	return b
}

func encodeError(err error) []byte {
	f := failure.Failure{Kind: failure.KindError, Message: failure.Text(err)}
	var p *PanicError
	switch {
	case errors.As(err, &p):
		f.Kind, f.Stack = failure.KindPanic, text.Cut(string(p.Stack), failure.MaxStack)
		if f.Message == failure.Text(p) {
			f.Message = text.Cut(guard.Text(p.Value), failure.MaxText)
		}
	case errors.Is(err, ErrTimeout):
		f.Kind = failure.KindTimeout
	case errors.Is(err, ErrCanceled):
		f.Kind = failure.KindCanceled
	}
	if d := (*journal.Divergence)(nil); errors.As(err, &d) {
		f.Divergence = &failure.Divergence{Address: d.At.String(), Recorded: d.Recorded, Asked: d.Asked, File: d.File, Line: d.Line}
	}
	f.Inside = language.Inside(err, f.Stack)
	if len(f.Inside) == 1 && (f.Kind == failure.KindTimeout && f.Inside[0].Is == "ErrTimeout" || f.Kind == failure.KindCanceled &&
		f.Inside[0].Is == "ErrCanceled") {
		f.Inside = nil // the kind says it
	}
	b, _ := json.Marshal(f) // strings always encode
	return b
}

// failureKind returns the kind of an error in a word.
func failureKind(err error) string { return failure.Decode(encodeFailure(err)).Kind }

// describe returns what is to be stored of an error of this package.
func describe(err error) (d failure.Described, ok bool) {
	switch e := err.(type) {
	case *nonRetryable:
		d.Is, d.Within = markFinal, e.err
	case *retryAfter:
		d.Is, d.After, d.Within = markAfter, e.d, e.err
	case *snooze:
		d.Is, d.After = markSnooze, e.d
	case *PanicError:
		d.Is, d.Stack, d.Within = markPanic, string(e.Stack), e.Unwrap()
		d.Wraps = text.Cut(guard.Text(e.Value), failure.MaxText)
	case *TaskError:
		d.Is, d.Task, d.RunID, d.Attempt, d.Within = markTask, e.Task, e.RunID, e.Attempt, e.Err
		if e.canceled {
			d.Is = markCanceled
		}
	case *WorkflowError:
		d.Is, d.Task, d.RunID = markWorkflow, e.Workflow, e.RunID
		for _, name := range e.names() {
			d.Parts = append(d.Parts, failure.Part{Name: name, Err: e.Tasks[name], Canceled: e.canceled[name]})
		}
	case *entryError:
		d.Is, d.At, d.Step, d.Within = markEntry, &e.at, e.step, e.err
		if e.next.Seq > 0 {
			d.Next = &e.next
		}
	default:
		return d, false
	}
	return d, true
}

// storedError returns a stored failure as an error for errors.Is and errors.As.
func storedError(f failure.Failure) error { return storedErrorOf(f, nil) }

// storedErrorOf is storedError, for the execution that recorded the failure: errors of its entries are
// recognized.
func storedErrorOf(f failure.Failure, e *execution) error {
	text := f.Message
	if f.Kind == failure.KindPanic {
		if len(f.Inside) == 0 {
			return &PanicError{Value: f.Message, Stack: []byte(f.Stack)}
		}
		if p := panicInside(f.Inside); p != nil && p.Text == f.Message {
			text = (&PanicError{Value: text}).Error()
		}
	}
	var is []error
	switch f.Kind {
	case failure.KindTimeout:
		is = []error{ErrTimeout}
	case failure.KindScheduleTimeout:
		is = []error{ErrCanceled, ErrTimeout}
	case failure.KindCanceled, failure.KindParent:
		is = []error{ErrCanceled}
	}
	own := language
	own.Restore = func(k *failure.Known, within *failure.Stored) error { return restore(e, k, within) }
	return &failure.Stored{Text: text, Is: append(is, own.Errors(&f, text)...)}
}

// panicInside returns the first panic among errors.
func panicInside(all []failure.Known) *failure.Known {
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

// restore is the inverse of describe; nil: within stands for the error.
func restore(e *execution, k *failure.Known, within *failure.Stored) error {
	switch k.Is {
	case markFinal:
		return &nonRetryable{within}
	case markAfter:
		return &retryAfter{k.After, within}
	case markSnooze:
		return &snooze{k.After}
	case markPanic:
		if len(k.Inside) > 0 {
			return &PanicError{Value: within, Stack: []byte(k.Stack)}
		}
		return &PanicError{Value: within.Text, Stack: []byte(k.Stack)}
	case markTask, markCanceled:
		return &TaskError{Task: k.Task, RunID: k.RunID, Attempt: k.Attempt, Err: within, canceled: k.Is == markCanceled}
	case markWorkflow:
		w := &WorkflowError{Workflow: k.Task, RunID: k.RunID, Tasks: map[string]error{}}
		for i, one := range within.Is {
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
	}
	return nil
}

// encode returns a definition as it is stored, and its version: a digest that does not depend on the
// order of lists, nor on how JSON is written.
func (d *Definition) encode() (body []byte, version string, err error) {
	if body, err = json.Marshal(d); err != nil {
		return nil, "", err
	}
	var v any
	if err := json.Unmarshal(body, &v); err != nil {
		return nil, "", err
	}
	var own Definition // not the caller's
	if err := json.Unmarshal(body, &own); err != nil {
		return nil, "", err
	}
	own.sort()
	sorted, err := json.Marshal(&own)
	if err != nil {
		return nil, "", err
	}
	text, _ := jsonx.Canonical(sorted)
	sum := sha256.Sum256([]byte(text))
	return body, hex.EncodeToString(sum[:16]), nil
}

// sort orders the lists whose order does not count.
func (d *Definition) sort() {
	d.TaskOptions.sort()
	for i := range d.Tasks {
		d.Tasks[i].sort()
	}
	slices.SortStableFunc(d.Tasks, func(a, b TaskSpec) int { return cmp.Compare(a.Name, b.Name) })
	if d.OnFailure != nil {
		d.OnFailure.sort()
	}
}

func (o *TaskOptions) sort() {
	slices.Sort(o.Events)
	o.Events = slices.Compact(o.Events)
	sortByText(o.Concurrency)
	sortByText(o.RateLimits)
	sortByText(o.Affinity)
	sortByText(o.Crons)
	sortByText(o.EventFilters)
}

func (t *TaskSpec) sort() {
	slices.Sort(t.Parents)
	t.Parents = slices.Compact(t.Parents)
	for _, s := range []*ConditionSpec{t.WaitFor, t.SkipIf, t.CancelIf} {
		if s != nil {
			s.sort()
		}
	}
	t.TaskOptions.sort()
}

func (s *ConditionSpec) sort() {
	for _, list := range [][]ConditionSpec{s.AllOf, s.AnyOf} {
		for i := range list {
			list[i].sort()
		}
		sortByText(list)
	}
}

func sortByText[T any](list []T) {
	slices.SortFunc(list, func(a, b T) int {
		x, _ := json.Marshal(a) // both were JSON
		y, _ := json.Marshal(b)
		return cmp.Compare(string(x), string(y))
	})
}
