// Package failure is the form in which errors are stored: a text and a kind, and what is known of the errors inside, as far
// as errors.Is and errors.As are to find them again. Which errors are known is up to the caller, who describes and restores
// those of its own types; the package knows sentinels, and the types that programs register.
package failure

import (
	"encoding/json"
	"time"

	"github.com/stint-dev/stint/internal/journal"
	"github.com/stint-dev/stint/internal/text"
	"github.com/stint-dev/stint/store"
)

// A Failure is a stored error.
type Failure struct {
	Kind    string `json:"kind"` // one of the kinds below
	Message string `json:"message"`
	Stack   string `json:"stack,omitempty"`
	// Divergence has the parts of the error if it is a divergence.
	Divergence *Divergence `json:"divergence,omitempty"`
	// Inside has the errors that the error wraps, as far as errors.Is and errors.As find them again.
	Inside []Known `json:"inside,omitempty"`
}

// Kinds of failures.
const (
	KindError           = "error"
	KindPanic           = "panic"
	KindTimeout         = "timeout"
	KindScheduleTimeout = "schedule_timeout" // written by stores too
	KindCanceled        = "canceled"
	KindParent          = store.KindParent
)

// A Divergence is a call that code makes where its run's journal has another.
type Divergence struct {
	Address  string `json:"address"`
	Recorded string `json:"recorded"`
	Asked    string `json:"asked"`
	File     string `json:"file,omitempty"`
	Line     int    `json:"line,omitempty"`
}

// A Known is an error inside a stored one. The fields that are set depend on its kind.
type Known struct {
	Is       string          `json:"is"`                 // the name of a sentinel, or a mark
	Text     string          `json:"text,omitempty"`     // its text; empty: the text of the error around it
	After    time.Duration   `json:"after,omitempty"`    // of a RetryAfter or Snooze
	Stack    string          `json:"stack,omitempty"`    // of a panic; empty: the failure's own
	Task     string          `json:"task,omitempty"`     // of a TaskError; for a WorkflowError, its Workflow
	RunID    string          `json:"run,omitempty"`      // as Task
	Attempt  int             `json:"attempt,omitempty"`  // of a TaskError
	Tasks    []string        `json:"tasks,omitempty"`    // of a WorkflowError: the names of the tasks in Inside
	Canceled bool            `json:"canceled,omitempty"` // in a WorkflowError: the task was canceled
	At       *store.Address  `json:"at,omitempty"`       // of the error of an entry
	Next     *store.Address  `json:"next,omitempty"`     // of the error of an entry, if it has one
	Step     *journal.Failed `json:"step,omitempty"`     // of the error of an entry, if it is a step's
	Type     string          `json:"type,omitempty"`     // the name of a registered type
	Value    json.RawMessage `json:"value,omitempty"`    // the JSON of a registered type
	Inside   []Known         `json:"inside,omitempty"`   // what it wraps
}

// Marks of the package's own. Others are up to who describes errors.
const (
	markType = "type" // of a registered type
	markText = "text" // only its text
)

// Bounds of a stored error, in bytes. A text that is cut says so at its end.
const (
	MaxText   = 16 << 10 // of its text, and of that of each error inside
	MaxStack  = 32 << 10
	maxValue  = 64 << 10  // of a registered error's JSON
	maxInside = 128 << 10 // of the texts, stacks and values of all errors inside
	maxKnown  = 1000      // errors examined inside one; also ends one that wraps itself
)

// Text returns the stored part of an error's text.
func Text(err error) string { return text.Cut(err.Error(), MaxText) }

// Decode returns a stored failure.
func Decode(b []byte) Failure {
	var f Failure
	if len(b) > 0 && json.Unmarshal(b, &f) != nil {
		f = Failure{Kind: KindError, Message: string(b)} // edited by hand
	}
	return f
}

// A Sentinel is an error that errors.Is finds again, with the name under which it is stored.
type Sentinel struct {
	Name string
	Err  error
}

// A Stored is an error read from the database.
type Stored struct {
	Text string
	Is   []error
}

func (e *Stored) Error() string { return e.Text }

func (e *Stored) Unwrap() []error { return e.Is }
