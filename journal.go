package stint

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/stint-dev/stint/internal/journal"
	"github.com/stint-dev/stint/internal/jsonx"
	"github.com/stint-dev/stint/store"
)

// A JournalEntry is a durable call of a run, and what came of it.
type JournalEntry struct {
	Address  string // scope and number: "3", and in the branch that it began "3/1"
	Kind     string // step, sleep, event, child, branch, any, version
	Name     string // of a step, branch, child's task, or change; the key of an event
	Done     bool
	Output   json.RawMessage // of a child: the IDs of the runs; of any: the index of the winner
	Error    string
	At       time.Time // when it was recorded
	Due      time.Time // a sleep's end, an event's timeout, a step's next attempt; zero: none
	Attempts int       // of a step
}

// A JournalFilter says which part of a journal JournalPage returns.
type JournalFilter struct {
	Limit int // how many entries a page has [100, at most 1,000]
	// Cursor is JournalPage.Next of the page before, or the Address of an entry: the page
	// begins behind it. "": with the first.
	Cursor string
}

// A JournalPage is a page of a run's journal, in the order of its scopes.
type JournalPage struct {
	Entries []JournalEntry
	Next    string // Cursor of the next page; "" on the last
}

// Journal returns what a run has done so far, in the order of its scopes. It is empty
// for a run without durable calls, and ErrNotFound for one that does not exist. It holds all
// of it in memory: a journal of more than 100,000 entries, or 256 MiB, is an error. JournalPage
// and WriteJournal read one of any length.
func (c *Client) Journal(ctx context.Context, runID string) ([]JournalEntry, error) {
	id, err := parseID(runID)
	if err != nil {
		return nil, err
	}
	all := []JournalEntry{}
	var whole wholeList
	for e, err := range c.entries(ctx, id) {
		if err != nil {
			return nil, wrapStoreErr("journal", err)
		}
		if err := whole.add(e.Size()); err != nil {
			return nil, fmt.Errorf("stint: journal of run %s: %w: read it with JournalPage, or WriteJournal", id, err)
		}
		all = append(all, journalEntry(&e))
	}
	if err := c.exists(ctx, id, len(all)); err != nil {
		return nil, err
	}
	return all, nil
}

// JournalPage returns a page of a run's journal. A page whose outputs would have more than
// 8 MiB ends earlier, with one entry at least. What the run does meanwhile may be on pages that
// are read later. It is ErrNotFound for a run that does not exist, and an error for a cursor
// that is none.
func (c *Client) JournalPage(ctx context.Context, runID string, f JournalFilter) (*JournalPage, error) {
	id, err := parseID(runID)
	if err != nil {
		return nil, err
	}
	limit, err := pageLimit(f.Limit)
	if err != nil {
		return nil, fmt.Errorf("stint: journal: %w", err)
	}
	var after journal.Address
	if f.Cursor != "" {
		if after, err = journal.ParseAddress(f.Cursor); err != nil {
			return nil, errorf("stint: journal: cursor: %w", err)
		}
	}
	stored, more, err := c.store.Entries(ctx, id, store.Address(after), limit, false)
	if err != nil {
		return nil, wrapStoreErr("journal", err)
	}
	page := &JournalPage{Entries: make([]JournalEntry, len(stored))}
	for i := range stored {
		page.Entries[i] = journalEntry(&stored[i])
	}
	if more {
		page.Next = page.Entries[len(stored)-1].Address
	}
	if err := c.exists(ctx, id, len(stored)); err != nil {
		return nil, err
	}
	return page, nil
}

// exists returns ErrNotFound if a run of whose journal so much was read does not exist.
func (c *Client) exists(ctx context.Context, id store.ID, entries int) error {
	if entries > 0 {
		return nil
	}
	_, err := c.store.Get(ctx, id)
	return wrapStoreErr("journal", err)
}

// entries yields a run's journal, without notes. No more than a page of the store is in memory.
func (c *Client) entries(ctx context.Context, id store.ID) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		for page, err := range c.pages(ctx, id, false) {
			if err != nil {
				yield(store.Entry{}, err)
				return
			}
			for i := range page {
				if !yield(page[i], nil) {
					return
				}
			}
		}
	}
}

// pages yields a run's journal in pages of the store, one at least.
func (c *Client) pages(ctx context.Context, id store.ID, notes bool) iter.Seq2[[]store.Entry, error] {
	return func(yield func([]store.Entry, error) bool) {
		for after := (store.Address{}); ; {
			page, more, err := c.store.Entries(ctx, id, after, maxPage, notes)
			if !yield(page, err) || err != nil || !more || len(page) == 0 {
				return
			}
			after = page[len(page)-1].Address
		}
	}
}

func journalEntry(e *store.Entry) JournalEntry {
	j := JournalEntry{
		Address: journal.Address(e.Address).String(), Kind: e.Kind.String(), Name: e.Name, Done: e.Done,
		Output: jsonx.Embed(e.Value), At: e.At, Due: e.Due, Attempts: e.Attempts,
	}
	if e.Error != nil {
		j.Error = decodeFailure(e.Error).Message
	}
	if store.IsUndo(e.Scope) { // whose value is the engine's
		j.Output = nil
	}
	return j
}

// RestartFrom runs a run that has ended, or is blocked, again from its first step of
// that name: what it recorded before stays, that step and all that follows it runs anew.
func (c *Client) RestartFrom(ctx context.Context, runID, stepName string) error {
	if err := c.writable("restart"); err != nil {
		return err
	}
	id, at, err := c.findStep(ctx, runID, stepName)
	if err != nil {
		return err
	}
	return wrapStoreErr("restart", c.store.Restart(ctx, time.Now(), id, at))
}

// Fork makes a new run of the same task with the same input, that begins with what the
// run recorded before its first step of that name, and returns its ID. The run itself
// is left as it is; children that it began before are not begun again.
func (c *Client) Fork(ctx context.Context, runID, stepName string) (string, error) {
	if err := c.writable("fork"); err != nil {
		return "", err
	}
	id, at, err := c.findStep(ctx, runID, stepName)
	if err != nil {
		return "", err
	}
	fork, err := c.store.Fork(ctx, time.Now(), id, at)
	if err != nil {
		return "", wrapStoreErr("fork", err)
	}
	return fork.String(), nil
}

// findStep is where the first step of that name stands in the handler's own scope.
func (c *Client) findStep(ctx context.Context, runID, name string) (id store.ID, at store.Address, err error) {
	if id, err = parseID(runID); err != nil {
		return id, at, err
	}
	if err := checkText("step name", name); err != nil {
		return id, at, wrapStoreErr("find the step", err)
	}
	for e, err := range c.entries(ctx, id) {
		if err != nil {
			return id, at, wrapStoreErr("read the journal", err)
		}
		if e.Scope != "" { // the handler's own comes first
			break
		}
		if e.Kind == store.EntryStep && e.Name == name {
			return id, e.Address, nil
		}
	}
	return id, at, fmt.Errorf("%w: run %s has no step %q of its own", ErrNotFound, runID, name)
}

// waitReason says what a waiting run waits for.
func (c *Client) waitReason(ctx context.Context, r *store.Run) (string, error) {
	var parts []string
	child := ""
	for e, err := range c.entries(ctx, r.ID) {
		if err != nil {
			return "", err
		}
		if len(parts) == maxWaits {
			parts = append(parts, "others")
			break
		}
		switch {
		case e.Kind == store.EntryEvent && !e.Done:
			parts = append(parts, conditionText(&store.Condition{Event: &e.Match}))
		case (e.Kind == store.EntrySleep || e.Kind == store.EntryStep && !e.Done) && e.Due.After(time.Now()):
			parts = append(parts, e.Kind.String()+" until "+e.Due.Format(time.RFC3339))
		case e.Kind == store.EntryChild:
			child = fmt.Sprintf("a run of task %q", e.Name)
		}
	}
	if len(parts) == 0 && child != "" {
		parts = append(parts, child)
	}
	if len(parts) > 0 || r.Parent == (store.ID{}) {
		return strings.Join(parts, " or "), nil
	}
	g, _, err := c.store.Workflow(ctx, r.Parent, []string{}) // a task of a workflow, before its start
	if err != nil {
		return "", err
	}
	_, name, _ := strings.Cut(r.Task, ":")
	if place, ok := g.Place(name); ok && place < g.End() {
		return conditionText(g.Tasks[place].WaitFor), nil
	}
	return "", nil
}
