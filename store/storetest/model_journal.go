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

// Append implements store.Runs.
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
		m.lookBack(r, &e)
	}
	if e.Kind == store.EntryWait && !e.Done {
		if !there {
			m.beginWait(r, e)
		}
		r.decideWait(e.Address, now)
		return r.at(e.Address).Entry, false
	}
	given := e.Entry
	switch {
	case !e.Began.IsZero():
	case there:
		e.Began = r.journal[i].Began
	default:
		e.Began = now
	}
	if there {
		if e.Due.IsZero() {
			e.Due = r.journal[i].Due
		}
		r.journal[i] = e
	} else {
		r.journal = slices.Insert(r.journal, i, e)
	}
	return given, false
}

// counts reports whether an event is not too old for a match of a run.
func (m *Model) counts(e *modelEvent, run store.ID, match *store.Match) bool {
	if match.Since != 0 {
		return e.at.UnixMilli() >= match.Since
	}
	return slices.Compare(e.id[:], run[:]) > 0
}

// lookBack completes an entry with the first event that is there already.
func (m *Model) lookBack(r *modelRun, e *modelEntry) {
	for _, ev := range m.events {
		had := slices.ContainsFunc(r.journal, func(j modelEntry) bool { return j.event == ev.id })
		if !e.Match.FromNow && !had && ev.Key == e.Name && m.counts(&ev, r.ID, &e.Match) && matches(&e.Match, ev.NewEvent) {
			e.Done, e.Value, e.event = true, ev.Payload, ev.id
			m.woke(ev.id, r.ID)
			return
		}
	}
}

// Entries implements store.History.
func (m *Model) Entries(
	_ context.Context, id store.ID, after store.Address, limit int, notes bool,
) (all []store.Entry, more bool, err error) {
	if err := m.lock(); err != nil {
		return nil, false, err
	}
	defer m.mu.Unlock()
	if r := m.runs[id]; r != nil {
		for _, e := range r.journal {
			if byAddress(e, after) > 0 && (notes || e.Kind != store.EntryNote) {
				all = append(all, e.Entry)
			}
		}
	}
	if limit >= 0 {
		all, more = firstPage(all, limit, (*store.Entry).Size)
	}
	return all, more, nil
}

func (r *modelRun) done(at store.Address) bool {
	i, there := slices.BinarySearchFunc(r.journal, at, byAddress)
	return there && r.journal[i].Done
}

// suspend makes a run wait, or queues it if one of the things that it waits for is there.
func (m *Model) suspend(r *modelRun, now time.Time, o *store.Outcome) {
	w := o.Waits
	over := false
	until := w.Until
	for _, a := range w.Entries {
		over = over || r.done(a)
		if e := r.at(a); e != nil && !e.Done && !e.Due.IsZero() && (until.IsZero() || e.Due.Before(until)) {
			until = e.Due
		}
	}
	over = over || !until.IsZero() && !until.After(now)
	for _, c := range w.Children {
		over = over || m.runs[c] == nil || m.runs[c].State.Terminal()
	}
	r.Attempt--
	r.spent = o.Spent.Truncate(time.Millisecond)
	r.State, r.waits, r.wake, r.Due = store.Waiting, w, until, r.Created
	if !until.IsZero() {
		r.Due = until
	}
	if over {
		r.State, r.Due = store.Queued, now
	}
}

// resume queues a run that waits.
func (r *modelRun) resume(now time.Time) {
	if r.State == store.Waiting && r.Lease != 0 {
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
	waits := map[store.Address]bool{}
	for i := range r.journal {
		j := &r.journal[i]
		if j.Kind == store.EntryEvent && !j.Done && j.Name == e.Key && matches(&j.Match, e.NewEvent) {
			j.Done, j.Value, j.event, j.At = true, e.Payload, e.id, e.at
			some = true
			if at, ok := store.WaitOf(j.Scope); ok {
				waits[at] = true
			} else {
				r.resume(e.at)
			}
		}
	}
	for at := range waits {
		if r.decideWait(at, e.at) {
			r.resume(e.at)
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
			e.Done, e.Error, e.Due, e.Attempts, e.Began, e.Tries = false, nil, time.Time{}, 0, e.At, nil
		case store.IsUndo(e.Scope) && e.Kind == store.EntryStep:
			e.Scope, e.Kind = store.UndoneScope+strings.TrimPrefix(e.Scope, store.UndoScope), store.EntryNote
			e.Done, e.Error, e.Due, e.Attempts, e.Began, e.Tries = true, nil, time.Time{}, 0, e.At, nil
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

// recordCall records the durable call that enqueued runs or published events.
func (m *Model) recordCall(now time.Time, c *store.Call, out []store.Enqueued) {
	ids := make([]string, len(out))
	for i, e := range out {
		ids[i] = e.ID.String()
	}
	c.Entry.Value, _ = json.Marshal(ids) // strings always encode
	m.call(now, c)
}

func (m *Model) changeRun(now time.Time, c *store.RunChange) error {
	if err := m.lock(); err != nil {
		return err
	}
	defer m.unlock()
	m.advance(now)
	switch r := m.runs[c.ID]; {
	case c.Kind == store.RunReschedule:
		return r.reschedule(now, c.Due)
	case c.Kind == store.RunWake:
		if r == nil || r.State != store.Waiting || r.Lease == 0 {
			return fmt.Errorf("run %s: %w, or it does not wait", c.ID, store.ErrNotFound)
		}
		r.resume(now)
		return nil
	case r == nil, c.Kind == store.RunFork && r.graph != nil, c.Kind == store.RunRestart && (r.Workflow || r.State < store.Blocked):
		return fmt.Errorf("run %s: %w, or it has not ended", c.ID, store.ErrNotFound)
	case c.Kind == store.RunFork:
		c.Fork = m.fork(r, now, c.At)
		return nil
	default:
		r.forget([]store.Address{c.At, {Scope: store.OnceScope, Seq: c.At.Seq}})
		m.requeue(r, now)
		return nil
	}
}

func (r *modelRun) reschedule(now, due time.Time) error {
	switch {
	case r == nil:
		return store.ErrNotFound
	case r.State != store.Scheduled || r.Lease != 0:
		return fmt.Errorf("it is %v: %w", r.State, store.ErrStarted)
	}
	if r.Due = due; due.Before(now) {
		r.Due = now
	}
	r.limitStart(r.Due)
	return nil
}

func (m *Model) fork(r *modelRun, now time.Time, at store.Address) store.ID {
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
	return e.ID
}

// matches reports whether an event of m's key matches; one whose filter cannot be compiled does not.
func matches(m *store.Match, e store.NewEvent) bool {
	ok, err := m.Matches(&e)
	return ok && err == nil
}
