package recording

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stint-dev/stint/store"
)

// history is a store of runs whose journals have these pages.
type history struct {
	store.History
	runs  map[store.ID]*store.Run
	pages map[store.ID][][]store.Entry
	read  func() // called for each page
}

func (h *history) Get(_ context.Context, id store.ID) (*store.Run, error) {
	r := h.runs[id]
	if r == nil {
		return nil, store.ErrNotFound
	}
	is := *r
	return &is, nil
}

func (h *history) Entries(_ context.Context, id store.ID, after store.Address, limit int, notes bool) ([]store.Entry, bool, error) {
	if h.read != nil {
		h.read()
	}
	for i, page := range h.pages[id] {
		if page[0].Seq > after.Seq {
			return page, i+1 < len(h.pages[id]), nil
		}
	}
	return nil, false, nil
}

var parent, ended, gone = store.ID{1}, store.ID{2}, store.ID{3}

func withJournal(t *testing.T) *history {
	t.Helper()
	child, err := json.Marshal([]store.ID{ended, gone})
	if err != nil {
		t.Fatal(err)
	}
	return &history{
		runs: map[store.ID]*store.Run{
			parent: {ID: parent, Task: "order", State: store.Running, Attempt: 1, Input: []byte(`{"n":1}`), Metadata: []byte(`{"tenant":"acme"}`)},
			ended:  {ID: ended, Task: "pay", State: store.Succeeded, Attempt: 1, Output: []byte("7"), Ended: time.Unix(9, 0)},
		},
		pages: map[store.ID][][]store.Entry{parent: {
			{{Address: store.Address{Seq: 1}, Kind: store.EntryStep, Name: "charge", Done: true, Value: []byte("5")}},
			{{Address: store.Address{Seq: 2}, Kind: store.EntryChild, Name: "pay", Done: true, Value: child}},
		}},
	}
}

// A document has the entries of all pages, and the ends of the runs that they refer to and that are still there.
func TestExport(t *testing.T) {
	h := withJournal(t)
	var b bytes.Buffer
	if err := Export(t.Context(), h, h.runs[parent], time.Unix(10, 0), &b); err != nil {
		t.Fatal(err)
	}
	var r Run
	if err := json.Unmarshal(b.Bytes(), &r); err != nil {
		t.Fatalf("%v: %s", err, b.Bytes())
	}
	if r.Format != Format || r.Task != "order" || r.Metadata["tenant"] != "acme" || len(r.Entries) != 2 || r.Entries[0].Name != "charge" {
		t.Errorf("got %+v", r)
	}
	if end := r.Runs[ended]; len(r.Runs) != 1 || end.Task != "pay" || string(end.Output) != "7" {
		t.Errorf("runs: %+v, want the end of the one that is there", r.Runs)
	}
	e, err := r.Entries[1].Stored()
	if err != nil || e.Kind != store.EntryChild || e.Seq != 2 {
		t.Errorf("read back: %+v, %v", e, err)
	}
}

// Another attempt may have removed what was written already.
func TestExportDuringAnotherAttempt(t *testing.T) {
	h := withJournal(t)
	r := *h.runs[parent]
	h.read = func() { h.runs[parent].Attempts = append(h.runs[parent].Attempts, store.Attempt{Attempt: 1}) }
	err := Export(t.Context(), h, &r, time.Unix(10, 0), &bytes.Buffer{})
	if err == nil || !strings.Contains(err.Error(), "export it again") {
		t.Errorf("got %v, want an error", err)
	}
}
