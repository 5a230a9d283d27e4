package stint

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/stint-dev/stint/internal/jsonx"
	"github.com/stint-dev/stint/store"
)

// ExportJournal returns a run, its journal, and how the runs ended that it refers to, as
// indented JSON: for ReplayJournal, and to keep beside the code's tests. It holds
// inputs and outputs as they are stored; what is not JSON there is a string that says so.
// A document of more than 256 MiB is an error: WriteJournal writes one of any length.
func (c *Client) ExportJournal(ctx context.Context, runID string) ([]byte, error) {
	var b wholeDocument
	if err := c.WriteJournal(ctx, runID, &b); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// A wholeDocument is a document in memory, which has a bound.
type wholeDocument struct{ bytes.Buffer }

// Write implements io.Writer.
func (b *wholeDocument) Write(p []byte) (int, error) {
	if b.Len()+len(p) > maxWholeBytes {
		return 0, fmt.Errorf("more than %d MiB: write it with WriteJournal", maxWholeBytes>>20)
	}
	return b.Buffer.Write(p)
}

// WriteJournal writes what ExportJournal returns to w, an entry at a time: of a journal of any
// length it holds a few MiB, and the IDs of the runs that it refers to. An error of w ends it,
// and is in the error that it returns; what was written by then is no document. So it is if the
// run began another attempt meanwhile, which may have taken back what was written. What a run
// that goes on records meanwhile may be in the document.
func (c *Client) WriteJournal(ctx context.Context, runID string, w io.Writer) error {
	id, err := parseID(runID)
	if err != nil {
		return err
	}
	r, err := c.store.Get(ctx, id)
	if err != nil {
		return wrapStoreErr("export a journal", err)
	}
	d := &document{w: bufio.NewWriterSize(w, 64<<10)}
	if err := c.writeJournal(ctx, r, d); err != nil {
		return wrapStoreErr("export a journal", err)
	}
	return wrapStoreErr("export a journal", d.w.Flush())
}

func (c *Client) writeJournal(ctx context.Context, r *store.Run, d *document) error {
	err := d.open(&recording{
		Format: recordingFormat, Task: r.Task, Run: r.ID, Parent: r.Parent, Root: r.Root, State: r.State.String(), Attempt: r.Attempt,
		Exported: time.Now().UTC(), Metadata: decodeMetadata(r.Metadata), Input: jsonx.Embed(r.Input),
	})
	if err != nil {
		return err
	}
	children, err := c.writeEntries(ctx, r, d)
	if err != nil {
		return err
	}
	if err := c.writeChildren(ctx, children, d); err != nil {
		return err
	}
	if err := c.writeTasks(ctx, r.Parent, d); err != nil {
		return err
	}
	return d.close()
}

// writeEntries writes the journal, and returns the runs that it refers to.
func (c *Client) writeEntries(ctx context.Context, r *store.Run, d *document) (children []store.ID, err error) {
	pages := 0
	for page, err := range c.pages(ctx, r.ID, true) {
		if err != nil {
			return nil, err
		}
		pages++
		for i := range page {
			e := &page[i]
			var ids []store.ID
			if e.Kind == store.EntryChild && json.Unmarshal(e.Value, &ids) == nil { // else edited by hand; the entry is exported as it can be
				children = append(children, ids...)
			}
			if err := d.item("entries", "", recordedOf(e)); err != nil {
				return nil, err
			}
		}
	}
	if pages == 1 { // as of one moment
		return children, nil
	}
	now, err := c.store.Get(ctx, r.ID)
	if err != nil {
		return nil, err
	}
	if len(now.Attempts) != len(r.Attempts) { // each attempt that is over has taken back what it may have to do anew
		return nil, errors.New("the run began another attempt meanwhile: export it again")
	}
	return children, nil
}

func recordedOf(e *store.Entry) *recordedEntry {
	return &recordedEntry{
		Scope: e.Scope, Seq: e.Seq, Kind: e.Kind.String(), Name: e.Name, Done: e.Done, Output: jsonx.Embed(e.Value), Error: jsonx.Embed(e.Error),
		At: e.At.UTC(), Due: utc(e.Due), Attempts: e.Attempts,
	}
}

func utc(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return t.UTC()
}

// writeChildren writes how runs ended that a journal refers to, in the order of their IDs.
func (c *Client) writeChildren(ctx context.Context, ids []store.ID, d *document) error {
	slices.SortFunc(ids, func(a, b store.ID) int { return bytes.Compare(a[:], b[:]) })
	for _, id := range slices.Compact(ids) {
		r, err := c.store.Get(ctx, id)
		if errors.Is(err, store.ErrNotFound) {
			continue // its retention is over
		}
		if err != nil {
			return err
		}
		if !r.State.Terminal() {
			continue
		}
		end := recordedEnd{Task: r.Task, State: r.State.String(), Attempt: r.Attempt, Output: jsonx.Embed(r.Output), Error: jsonx.Embed(r.Error), Ended: utc(r.Ended)}
		if r.Workflow && r.State == store.Succeeded {
			o, err := c.outputs(ctx, id, nil)
			if err != nil {
				return err
			}
			if end.Output, err = json.Marshal(o); err != nil {
				return err
			}
		}
		if err := d.item("runs", id.String(), &end); err != nil {
			return err
		}
	}
	return nil
}

// writeTasks writes how the other tasks of a workflow's run ended, if the run is of one, in the
// order of their names.
func (c *Client) writeTasks(ctx context.Context, parent store.ID, d *document) error {
	if parent == (store.ID{}) {
		return nil
	}
	p, err := c.store.Get(ctx, parent)
	if err != nil || !p.Workflow {
		return err
	}
	g, _, err := c.store.Workflow(ctx, parent, []string{})
	if err != nil {
		return err
	}
	names := make([]string, len(g.Tasks))
	for i := range g.Tasks {
		names[i] = g.Tasks[i].Name
	}
	slices.Sort(names)
	for _, name := range names {
		o, err := c.outputs(ctx, parent, []string{name})
		if err != nil {
			return err
		}
		t := o.tasks[name]
		if t == nil || !t.State.Terminal() {
			continue
		}
		end := recordedEnd{State: t.State.String(), Attempt: t.Attempt, Output: jsonx.Embed(t.Output), Error: jsonx.Embed(t.Error)}
		if err := d.item("tasks", name, &end); err != nil {
			return err
		}
	}
	return nil
}

// A document writes a recording as json.MarshalIndent would, an item at a time.
type document struct {
	w       *bufio.Writer
	section string // that the last item was of
	closing string // that section
}

// open writes what stands before the entries of a recording, which has none.
func (d *document) open(rec *recording) error {
	b, err := json.MarshalIndent(rec, "", "  ")
	if err != nil {
		return err
	}
	_, err = d.w.Write(bytes.TrimSuffix(b, []byte("\n}")))
	return err
}

// item writes the next item of a section: of a list, or of an object with a key for each.
func (d *document) item(section, key string, v any) error {
	b, err := json.MarshalIndent(v, "    ", "  ")
	if err != nil {
		return err
	}
	lead, opens, closes := ",\n    ", "[", "\n  ]"
	if key != "" {
		opens, closes = "{", "\n  }"
	}
	if section != d.section {
		lead = fmt.Sprintf("%s,\n  %q: %s\n    ", d.closing, section, opens)
		d.section, d.closing = section, closes
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

func (d *document) close() error {
	_, err := d.w.WriteString(d.closing + "\n}")
	return err
}
