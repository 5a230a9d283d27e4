// Package recording is the JSON document that holds a run and its journal: what
// ExportJournal and WriteJournal write and ReplayJournal reads.
package recording

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/stint-dev/stint/internal/jsonx"
	"github.com/stint-dev/stint/store"
)

// Format is the version of the document.
const Format = 1

// A Run is a run with its journal, and what the journal only refers to.
type Run struct {
	Format   int               `json:"stint_journal"`
	Task     string            `json:"task"`
	Run      store.ID          `json:"run"`
	Parent   store.ID          `json:"parent,omitzero"`
	Root     store.ID          `json:"root,omitzero"`
	State    string            `json:"state"`
	Attempt  int               `json:"attempt"`
	Exported time.Time         `json:"exported"`
	Metadata map[string]string `json:"metadata,omitempty"`
	Input    json.RawMessage   `json:"input"`
	Entries  []Entry           `json:"entries,omitempty"`
	Runs     map[store.ID]End  `json:"runs,omitempty"`  // children that have ended
	Tasks    map[string]End    `json:"tasks,omitempty"` // of its workflow, that had ended
}

// An Entry is an entry of the journal.
type Entry struct {
	Scope    string          `json:"scope,omitempty"`
	Seq      int             `json:"seq"`
	Kind     string          `json:"kind"`
	Name     string          `json:"name,omitempty"`
	Done     bool            `json:"done"`
	Output   json.RawMessage `json:"output,omitempty"`
	Error    json.RawMessage `json:"error,omitempty"`
	Began    time.Time       `json:"began,omitzero"`
	At       time.Time       `json:"at"`
	Due      time.Time       `json:"due,omitzero"`
	Attempts int             `json:"attempts,omitempty"`
	Tries    json.RawMessage `json:"tries,omitempty"` // of a step: those that failed
}

// An End is how a run ended.
type End struct {
	Task    string          `json:"task,omitempty"`
	State   string          `json:"state"`
	Attempt int             `json:"attempt,omitempty"`
	Output  json.RawMessage `json:"output,omitempty"`
	Error   json.RawMessage `json:"error,omitempty"`
	Ended   time.Time       `json:"ended,omitzero"`
}

// EntryOf returns a stored entry as a document has it.
func EntryOf(e *store.Entry) *Entry {
	return &Entry{
		Scope: e.Scope, Seq: e.Seq, Kind: e.Kind.String(), Name: e.Name, Done: e.Done,
		Output: jsonx.Embed(e.Value), Error: jsonx.Embed(e.Error),
		Began: UTC(e.Began), At: e.At.UTC(), Due: UTC(e.Due), Attempts: e.Attempts, Tries: jsonx.Embed(e.Tries),
	}
}

// Stored returns the entry as a store has it. It returns an error if its kind is unknown.
func (e *Entry) Stored() (store.Entry, error) {
	kind, err := store.EntryKindNamed(e.Kind)
	return store.Entry{
		Address: store.Address{Scope: e.Scope, Seq: e.Seq}, Kind: kind, Name: e.Name, Done: e.Done, Value: e.Output,
		Error: e.Error, Began: e.Began, At: e.At, Due: e.Due, Attempts: e.Attempts, Tries: e.Tries,
	}, err
}

// UTC returns t in UTC. The zero time stays zero.
func UTC(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return t.UTC()
}

// A Writer writes a Run as json.MarshalIndent would, an item at a time.
type Writer struct {
	w       *bufio.Writer
	section string // of the last item
	closing string // what ends that section
}

// NewWriter returns a Writer to w.
func NewWriter(w io.Writer) *Writer { return &Writer{w: bufio.NewWriterSize(w, 64<<10)} }

// Begin writes the fields of a Run that has no entries, runs or tasks.
func (d *Writer) Begin(r *Run) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	_, err = d.w.Write(bytes.TrimSuffix(b, []byte("\n}")))
	return err
}

// Item writes the next item of a section: of a list, or, with a key, of an object.
func (d *Writer) Item(section, key string, v any) error {
	b, err := json.MarshalIndent(v, "    ", "  ")
	if err != nil {
		return err
	}
	lead, opening, closing := ",\n    ", "[", "\n  ]"
	if key != "" {
		opening, closing = "{", "\n  }"
	}
	if section != d.section {
		lead = fmt.Sprintf("%s,\n  %q: %s\n    ", d.closing, section, opening)
		d.section, d.closing = section, closing
	}
	if key != "" {
		name, err := json.Marshal(key)
		if err != nil {
			return err
		}
		lead += string(name) + ": "
	}
	if _, err := d.w.WriteString(lead); err != nil {
		return err
	}
	_, err = d.w.Write(b)
	return err
}

// End ends the document and flushes it to the underlying writer.
func (d *Writer) End() error {
	if _, err := d.w.WriteString(d.closing + "\n}"); err != nil {
		return err
	}
	return d.w.Flush()
}
