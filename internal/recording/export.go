package recording

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"time"

	"github.com/stint-dev/stint/internal/jsonx"
	"github.com/stint-dev/stint/store"
)

// Export writes a run with its journal, as they are now, to w. It holds a page of the store in memory, and the IDs
// of the runs that the journal refers to.
func Export(ctx context.Context, s store.History, r *store.Run, now time.Time, w io.Writer) error {
	d := NewWriter(w)
	err := d.Begin(&Run{
		Format: Format, Task: r.Task, Run: r.ID, Parent: r.Parent, Root: r.Root, State: r.State.String(), Attempt: r.Attempt,
		Exported: now.UTC(), Metadata: jsonx.Texts(r.Metadata), Input: jsonx.Embed(r.Input),
	})
	if err != nil {
		return err
	}
	children, err := writeEntries(ctx, s, r, d)
	if err != nil {
		return err
	}
	if err := writeChildren(ctx, s, children, d); err != nil {
		return err
	}
	if err := writeTasks(ctx, s, r.Parent, d); err != nil {
		return err
	}
	return d.End()
}

// writeEntries writes the journal, and returns the runs that it refers to.
func writeEntries(ctx context.Context, s store.History, r *store.Run, d *Writer) (children []store.ID, err error) {
	read := 0
	for page, err := range pages(ctx, s, r.ID, true) {
		if err != nil {
			return nil, err
		}
		read++
		for i := range page {
			e := &page[i]
			if e.Kind == store.EntryChild {
				all, _ := store.DecodeEnqueued(e.Value) // one that was edited by hand is exported as far as it can be
				for _, child := range all {
					children = append(children, child.ID)
				}
			}
			if err := d.Item("entries", "", EntryOf(e)); err != nil {
				return nil, err
			}
		}
	}
	if read == 1 { // as of one moment
		return children, nil
	}
	now, err := s.Get(ctx, r.ID)
	if err != nil {
		return nil, err
	}
	if len(now.Attempts) != len(r.Attempts) { // the end of an attempt removes entries
		return nil, errors.New("the run began another attempt meanwhile: export it again")
	}
	return children, nil
}

// writeChildren writes how the runs ended that a journal refers to, ordered by ID.
func writeChildren(ctx context.Context, s store.History, ids []store.ID, d *Writer) error {
	slices.SortFunc(ids, func(a, b store.ID) int { return bytes.Compare(a[:], b[:]) })
	for _, id := range slices.Compact(ids) {
		r, err := s.Get(ctx, id)
		if errors.Is(err, store.ErrNotFound) {
			continue // expired
		}
		if err != nil {
			return err
		}
		if !r.State.Terminal() {
			continue
		}
		end := End{Task: r.Task, State: r.State.String(), Attempt: r.Attempt, Output: jsonx.Embed(r.Output),
			Error: jsonx.Embed(r.Error), Ended: UTC(r.Ended)}
		if r.Workflow && r.State == store.Succeeded {
			if end.Output, err = outputs(ctx, s, id); err != nil {
				return err
			}
		}
		if err := d.Item("runs", id.String(), &end); err != nil {
			return err
		}
	}
	return nil
}

// writeTasks writes how the other tasks of the workflow's run ended, if the run belongs to
// one, ordered by name.
func writeTasks(ctx context.Context, s store.History, parent store.ID, d *Writer) error {
	if parent == (store.ID{}) {
		return nil
	}
	p, err := s.Get(ctx, parent)
	if err != nil || !p.Workflow {
		return err
	}
	g, _, err := s.Workflow(ctx, parent, []string{})
	if err != nil {
		return err
	}
	names := make([]string, len(g.Tasks))
	for i := range g.Tasks {
		names[i] = g.Tasks[i].Name
	}
	slices.Sort(names)
	for _, name := range names {
		tasks, err := tasksOf(ctx, s, parent, []string{name})
		if err != nil {
			return err
		}
		t := tasks[name]
		if t == nil || !t.State.Terminal() {
			continue
		}
		end := End{State: t.State.String(), Attempt: t.Attempt, Output: jsonx.Embed(t.Output), Error: jsonx.Embed(t.Error)}
		if err := d.Item("tasks", name, &end); err != nil {
			return err
		}
	}
	return nil
}

// outputs returns the outputs of the tasks of a workflow's run that succeeded, by name.
func outputs(ctx context.Context, s store.History, id store.ID) ([]byte, error) {
	tasks, err := tasksOf(ctx, s, id, nil)
	if err != nil {
		return nil, err
	}
	all := map[string]json.RawMessage{}
	for name, t := range tasks {
		if t.State == store.Succeeded {
			all[name] = jsonx.Embed(t.Output)
		}
	}
	return json.Marshal(all)
}

// tasksOf returns tasks of a workflow's run by name; nil names: all.
func tasksOf(ctx context.Context, s store.History, id store.ID, names []string) (map[string]*store.WorkflowTask, error) {
	g, tasks, err := s.Workflow(ctx, id, names)
	if err != nil {
		return nil, fmt.Errorf("outputs of a workflow: %w", err)
	}
	all := make(map[string]*store.WorkflowTask, len(tasks))
	for i := range tasks {
		if tasks[i].Place < g.End() {
			all[g.Name(tasks[i].Place)] = &tasks[i]
		}
	}
	return all, nil
}

// Entries yields a run's journal without notes, holding one page of the store in memory.
func Entries(ctx context.Context, s store.History, id store.ID) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		for page, err := range pages(ctx, s, id, false) {
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

// maxPage is the number of entries of a page.
const maxPage = 1000

// pages yields a run's journal in pages of the store, at least one.
func pages(ctx context.Context, s store.History, id store.ID, notes bool) iter.Seq2[[]store.Entry, error] {
	return func(yield func([]store.Entry, error) bool) {
		for after := (store.Address{}); ; {
			page, more, err := s.Entries(ctx, id, after, maxPage, notes)
			if !yield(page, err) || err != nil || !more || len(page) == 0 {
				return
			}
			after = page[len(page)-1].Address
		}
	}
}
