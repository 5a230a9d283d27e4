package stint

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
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

// Journal returns what a run has done so far, in the order of its scopes. It is empty
// for a run without durable calls, and ErrNotFound for one that does not exist.
func (c *Client) Journal(ctx context.Context, runID string) ([]JournalEntry, error) {
	id, err := parseID(runID)
	if err != nil {
		return nil, err
	}
	if _, err := c.store.Get(ctx, id); err != nil {
		return nil, public("journal", err)
	}
	stored, err := c.store.Load(ctx, id)
	if err != nil {
		return nil, public("journal", err)
	}
	stored = slices.DeleteFunc(stored, func(e store.Entry) bool { return e.Kind == store.EntryNote })
	all := make([]JournalEntry, len(stored))
	for i, e := range stored {
		all[i] = JournalEntry{
			Address: journal.Address(e.Address).String(), Kind: e.Kind.String(), Name: e.Name, Done: e.Done,
			Output: jsonx.Embed(e.Value), At: e.At, Due: e.Due, Attempts: e.Attempts,
		}
		if e.Error != nil {
			all[i].Error = decodeFailure(e.Error).Message
		}
		if store.IsUndo(e.Scope) { // whose value is the engine's
			all[i].Output = nil
		}
	}
	return all, nil
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
	return public("restart", c.store.Restart(ctx, time.Now(), id, at))
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
		return "", public("fork", err)
	}
	return fork.String(), nil
}

// findStep is where the first step of that name stands in the handler's own scope.
func (c *Client) findStep(ctx context.Context, runID, name string) (id store.ID, at store.Address, err error) {
	if id, err = parseID(runID); err != nil {
		return id, at, err
	}
	if err := checkText("step name", name); err != nil {
		return id, at, public("find the step", err)
	}
	entries, err := c.store.Load(ctx, id)
	if err != nil {
		return id, at, public("load the journal", err)
	}
	for _, e := range entries {
		if e.Kind == store.EntryStep && e.Name == name && e.Scope == "" {
			return id, e.Address, nil
		}
	}
	return id, at, fmt.Errorf("%w: run %s has no step %q of its own", ErrNotFound, runID, name)
}

// waitsFor says what a waiting run waits for.
func (c *Client) waitsFor(ctx context.Context, r *store.Run) (string, error) {
	entries, err := c.store.Load(ctx, r.ID)
	if err != nil {
		return "", err
	}
	var parts []string
	child := ""
	for _, e := range entries {
		switch {
		case e.Kind == store.EntryEvent && !e.Done:
			parts = append(parts, waitsFor(&store.Condition{Event: &e.Match}))
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
	g, _, err := c.store.Flow(ctx, r.Parent, []string{}) // a task of a workflow, before its start
	if err != nil {
		return "", err
	}
	_, name, _ := strings.Cut(r.Task, ":")
	if place, ok := g.Place(name); ok && place < g.End() {
		return waitsFor(g.Tasks[place].WaitFor), nil
	}
	return "", nil
}
