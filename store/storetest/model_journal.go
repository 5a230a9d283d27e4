package storetest

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/stint-dev/stint/store"
)

// A modelEntry is an entry with the event that resolved it.
type modelEntry struct {
	store.Entry
	event store.ID
}

func byAddress(a modelEntry, at store.Address) int {
	if c := strings.Compare(a.Scope, at.Scope); c != 0 {
		return c
	}
	return a.Seq - at.Seq
}

// Append implements store.Journal.
func (m *Model) Append(_ context.Context, now time.Time, c store.Call) (store.Entry, bool, error) {
	if err := m.lock(); err != nil {
		return c.Entry, false, err
	}
	defer m.unlock()
	m.advance(now)
	e, stale := m.call(now, &c)
	return e, stale, nil
}

func (m *Model) call(now time.Time, c *store.Call) (store.Entry, bool) {
	r := m.held(c.ID, c.Lease)
	if r == nil {
		return c.Entry, true
	}
	e := modelEntry{Entry: c.Entry}
	e.At = now
	i, there := slices.BinarySearchFunc(r.journal, e.Address, byAddress)
	if there && r.journal[i].Done {
		return r.journal[i].Entry, false
	}
	if e.Kind == store.EntryEvent && !e.Done {
		for _, ev := range m.events {
			had := slices.ContainsFunc(r.journal, func(j modelEntry) bool { return j.event == ev.id })
			if !had && ev.Key == e.Name && slices.Compare(ev.id[:], r.ID[:]) > 0 && matches(&e.Match, ev.NewEvent) {
				e.Done, e.Value, e.event = true, ev.Payload, ev.id
				m.woke(ev.id, r.ID)
				break
			}
		}
	}
	if there {
		if e.Due.IsZero() {
			e.Due = r.journal[i].Due
		}
		r.journal[i] = e
	} else {
		r.journal = slices.Insert(r.journal, i, e)
	}
	return e.Entry, false
}

// Load implements store.Journal.
func (m *Model) Load(_ context.Context, id store.ID) (all []store.Entry, err error) {
	if err := m.lock(); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	if r := m.runs[id]; r != nil {
		for _, e := range r.journal {
			all = append(all, e.Entry)
		}
	}
	return all, nil
}

// Entries implements store.Journal.
func (m *Model) Entries(
	ctx context.Context, id store.ID, after store.Address, limit int, notes bool,
) (page []store.Entry, more bool, err error) {
	all, err := m.Load(ctx, id)
	all = slices.DeleteFunc(all, func(e store.Entry) bool {
		return byAddress(modelEntry{Entry: e}, after) <= 0 || e.Kind == store.EntryNote && !notes
	})
	page, more = firstPage(all, limit, (*store.Entry).Size)
	return page, more, err
}

// AwaitEntry implements store.Journal.
func (m *Model) AwaitEntry(ctx context.Context, id store.ID, at store.Address) (e store.Entry, err error) {
	err = m.wait(ctx, func() (bool, time.Time) {
		r := m.runs[id]
		if r == nil {
			return true, time.Time{}
		}
		if i, there := slices.BinarySearchFunc(r.journal, at, byAddress); there {
			e = r.journal[i].Entry
		}
		return e.Done || r.State.Terminal(), time.Time{}
	})
	return e, err
}

func (r *modelRun) done(at store.Address) bool {
	i, there := slices.BinarySearchFunc(r.journal, at, byAddress)
	return there && r.journal[i].Done
}

// suspend makes a run wait, or queues it if one of the things that it waits for is there.
func (m *Model) suspend(r *modelRun, now time.Time, o *store.Outcome) {
	w := o.Waits
	over := !w.Until.IsZero() && !w.Until.After(now)
	for _, a := range w.Entries {
		over = over || r.done(a)
	}
	for _, c := range w.Children {
		over = over || m.runs[c] == nil || m.runs[c].State.Terminal()
	}
	r.Attempt--
	r.spent = o.Spent.Truncate(time.Millisecond)
	r.State, r.waits, r.wake, r.Due = store.Waiting, w, w.Until, r.Created
	if !w.Until.IsZero() {
		r.Due = w.Until
	}
	if over {
		r.State, r.Due = store.Queued, now
	}
}

// resume queues a run that waits.
func (r *modelRun) resume(now time.Time) {
	if r.State == store.Waiting && r.lease > 0 {
		r.State, r.Due = store.Queued, now
	}
}

// childEnded resumes the runs that wait for a run that has ended.
func (m *Model) childEnded(child *modelRun, now time.Time) {
	for _, id := range m.order {
		if r := m.runs[id]; r != nil && r.State == store.Waiting && slices.Contains(r.waits.Children, child.ID) {
			r.resume(now)
		}
	}
}

// resolve completes the durable calls that wait for an event.
func (m *Model) resolve(r *modelRun, e modelEvent) (some bool) {
	if r == nil {
		return false
	}
	for i := range r.journal {
		j := &r.journal[i]
		if j.Kind == store.EntryEvent && !j.Done && j.Name == e.Key && matches(&j.Match, e.NewEvent) {
			j.Done, j.Value, j.event, j.At = true, e.Payload, e.id, e.at
			r.resume(e.at)
			some = true
		}
	}
	return some
}

// hasUndo reports whether there are pending compensations.
func (r *modelRun) hasUndo() bool {
	return slices.ContainsFunc(r.journal, func(e modelEntry) bool { return store.IsUndo(e.Scope) && !e.Done })
}

// forget deletes entries, the later ones of their scopes, and the scopes of branches among them.
func (r *modelRun) forget(from []store.Address) {
	for _, a := range from {
		if i, there := slices.BinarySearchFunc(r.journal, a, byAddress); there && r.journal[i].Kind == store.EntryBranch &&
			r.journal[i].Error != nil {
			r.journal = slices.Delete(r.journal, i, i+1)
			continue
		}
		r.journal = slices.DeleteFunc(r.journal, func(e modelEntry) bool {
			if e.Scope == a.Scope {
				return e.Seq >= a.Seq
			}
			inside, ok := strings.CutPrefix("/"+e.Scope, strings.TrimSuffix("/"+a.Scope, "/")+"/")
			return ok && firstNumber(inside) >= a.Seq
		})
	}
}

// firstNumber returns the number that a path begins with; -1: none.
func firstNumber(path string) int {
	first, _, _ := strings.Cut(path, "/")
	n, err := strconv.Atoi(first)
	if err != nil {
		return -1
	}
	return n
}

// resetUndo turns compensations into notes, except for those of branches that have ended, which become pending
// again.
func (r *modelRun) resetUndo() {
	var kept, notes []modelEntry
	for _, e := range r.journal {
		ended := store.IsUndo(e.Scope) && r.branchEnded(e.Scope)
		switch {
		case ended:
			e.Done, e.Error, e.Due, e.Attempts = false, nil, time.Time{}, 0
		case store.IsUndo(e.Scope) && e.Kind == store.EntryStep:
			e.Scope, e.Kind = store.UndoneScope+strings.TrimPrefix(e.Scope, store.UndoScope), store.EntryNote
			e.Done, e.Error, e.Due, e.Attempts = true, nil, time.Time{}, 0
			notes = append(notes, e)
			continue
		case store.IsUndo(e.Scope):
			continue
		}
		kept = append(kept, e)
	}
	r.journal = kept
	for _, note := range notes {
		i, there := slices.BinarySearchFunc(r.journal, note.Address, byAddress)
		if there {
			r.journal[i] = note
		} else {
			r.journal = slices.Insert(r.journal, i, note)
		}
	}
}

// branchEnded reports whether a scope's compensations are those of a branch that has ended, or within one.
func (r *modelRun) branchEnded(undo string) bool {
	path, _ := strings.CutPrefix(undo, store.UndoScope+"/")
	return slices.ContainsFunc(r.journal, func(e modelEntry) bool {
		branch := strings.TrimPrefix(e.Scope+"/"+strconv.Itoa(e.Seq), "/")
		return e.Kind == store.EntryBranch && e.Done && (path == branch || strings.HasPrefix(path, branch+"/"))
	})
}

// recordCall records the durable call that enqueued runs.
func (m *Model) recordCall(now time.Time, c *store.Call, out []store.Enqueued) {
	ids := make([]string, len(out))
	for i, e := range out {
		ids[i] = e.ID.String()
	}
	c.Entry.Value, _ = json.Marshal(ids) // strings always encode
	m.call(now, c)
}

// Restart implements store.Journal.
func (m *Model) Restart(_ context.Context, now time.Time, id store.ID, at store.Address) error {
	if err := m.lock(); err != nil {
		return err
	}
	defer m.unlock()
	m.advance(now)
	r := m.runs[id]
	if r == nil || r.Workflow || r.State < store.Blocked {
		return fmt.Errorf("run %s: %w, or it has not ended", id, store.ErrNotFound)
	}
	r.forget([]store.Address{at})
	m.requeue(r, now)
	return nil
}

// Fork implements store.Journal.
func (m *Model) Fork(_ context.Context, now time.Time, id store.ID, at store.Address) (store.ID, error) {
	if err := m.lock(); err != nil {
		return store.ID{}, err
	}
	defer m.unlock()
	m.advance(now)
	r := m.runs[id]
	if r == nil || r.graph != nil {
		return store.ID{}, fmt.Errorf("run %s: %w, or it has not ended", id, store.ErrNotFound)
	}
	e := m.enqueue(now, store.NewRun{Task: r.Task, Queue: r.Queue, Priority: r.Priority, AgeEvery: r.ageEvery, Input: r.Input,
		Metadata: r.Metadata, Detached: r.detached, StartIn: r.startIn})
	fork := m.runs[e.ID]
	for _, j := range r.journal {
		branch, _ := strconv.Atoi(strings.Split(j.Scope, "/")[0])
		if store.IsUndo(j.Scope) {
			path, _ := strings.CutPrefix(j.Scope, store.UndoScope+"/")
			if j.Kind == store.EntryStep && firstNumber(path) < at.Seq {
				fork.journal = append(fork.journal, j)
			}
			continue
		}
		if j.Done && (j.Scope == "" && j.Seq < at.Seq || j.Scope != "" && branch < at.Seq) {
			fork.journal = append(fork.journal, j)
		}
	}
	fork.resetUndo()
	return e.ID, nil
}

// matches reports whether an event of m's key matches; one whose filter cannot be compiled does not.
func matches(m *store.Match, e store.NewEvent) bool {
	ok, err := m.Matches(&e)
	return ok && err == nil
}
