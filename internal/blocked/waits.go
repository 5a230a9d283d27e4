package blocked

import (
	"encoding/json"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/stint-dev/stint/internal/check"
	"github.com/stint-dev/stint/internal/journal"
	"github.com/stint-dev/stint/store"
)

// Waits are what a waiting run goes on with.
type Waits struct {
	parts  []string
	Events []*store.Match // those among them
}

// In returns what the run with a journal waits for: its open calls, or else the last run that it has enqueued.
func In(entries iter.Seq2[store.Entry, error], now time.Time) (w Waits, err error) {
	child := ""
	for e, err := range entries {
		if err != nil {
			return w, err
		}
		if len(w.parts) == check.MaxWaits {
			w.parts = append(w.parts, "others")
			break
		}
		switch {
		case store.IsLeaf(e.Scope):
		case e.Kind == store.EntryWait && !e.Done:
			var wait store.Wait
			if err := json.Unmarshal(e.Value, &wait); err != nil { // somebody edited it
				return w, fmt.Errorf("what entry %v waits for cannot be read: %w", journal.Address(e.Address), err)
			}
			w.Add(&wait.Cond)
		case e.Kind == store.EntryEvent && !e.Done:
			w.Add(&store.Condition{Event: &e.Match})
		case (e.Kind == store.EntrySleep || e.Kind == store.EntryStep && !e.Done) && e.Due.After(now):
			w.parts = append(w.parts, e.Kind.String()+" until "+e.Due.Format(time.RFC3339))
		case e.Kind == store.EntryChild:
			child = fmt.Sprintf("a run of task %q", e.Name)
		}
	}
	if len(w.parts) == 0 && child != "" {
		w.parts = append(w.parts, child)
	}
	return w, nil
}

// Add adds a condition; nil: one that is not known.
func (w *Waits) Add(c *store.Condition) {
	w.parts = append(w.parts, Condition(c))
	w.addEvents(c)
}

func (w *Waits) addEvents(c *store.Condition) {
	if c == nil {
		return
	}
	for _, parts := range [][]store.Condition{c.Any, c.All} {
		for i := range parts {
			w.addEvents(&parts[i])
		}
	}
	if c.Event != nil {
		w.Events = append(w.Events, c.Event)
	}
}

// String describes the waits; "": there are none.
func (w *Waits) String() string { return strings.Join(w.parts, " or ") }
