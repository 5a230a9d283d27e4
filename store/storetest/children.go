package storetest

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/stint-dev/stint/store"
	"pgregory.net/rapid"
)

// childKey is a key within a parent.
type childKey struct {
	parent store.ID
	key    string
}

// existing returns the run that a new one's keys refer to.
func (m *Model) existing(n *store.NewRun, now time.Time) (store.ID, bool) {
	child := childKey{n.Parent, n.ChildKey}
	if id, held := m.children[child]; held && n.ChildKey != "" {
		return id, true
	}
	id, held := m.holder(n, now)
	if held && n.ChildKey != "" {
		m.children[child] = id
	}
	return id, held
}

// refuses returns why a run may not be enqueued. used are the keys of the runs before it in the bulk, to which it is
// added.
func (m *Model) refuses(n *store.NewRun, used map[childKey]bool) error {
	p := m.runs[n.Parent]
	key := childKey{n.Parent, n.ChildKey}
	_, held := m.children[key]
	if held = held || used[key]; n.ChildKey != "" {
		used[key] = true
	}
	if n.Parent != (store.ID{}) && p == nil {
		return fmt.Errorf("parent run %s: %w", n.Parent, store.ErrNotFound)
	} else if n.ParentNamed && !n.Detached && !held && (p.State == store.Canceled || !p.CancelAt.IsZero()) {
		return fmt.Errorf("parent run %s: %w", n.Parent, store.ErrParentCanceled)
	}
	return nil
}

// childOf is a run that names its parent.
func childOf(parent store.ID, task, key string) store.NewRun {
	r := run(task)
	r.Task, r.Parent, r.ParentNamed, r.ChildKey = task, parent, true, key
	return r
}

// add enqueues runs, and returns the results.
func (s *suite) add(runs ...store.NewRun) []store.Enqueued {
	s.Helper()
	got, err := s.Enqueue(s.Context(), time.Now(), runs)
	s.ok(err)
	return got
}

func childKeys(s *suite) {
	parents := s.enqueue(run("p"), run("q"))
	got := s.add(childOf(parents[0], "a", "1"), childOf(parents[1], "a", "1"), childOf(parents[0], "b", "1"), childOf(parents[0], "a", "2"),
		childOf(parents[0], "a", ""), childOf(parents[0], "a", ""))
	for i, existing := range []bool{2: true, 5: false} {
		if got[i].Existing != existing || existing && got[i].ID != got[0].ID {
			s.Errorf("in one bulk: %+v", got)
		}
	}
	if r := s.get(got[1].ID); r.Parent != parents[1] || r.Root != parents[1] {
		s.Errorf("a child of %s and %s, want %s", r.Parent, r.Root, parents[1])
	}
	keyed := childOf(parents[0], "k", "3") // both keys: the child key keeps what the other referred to
	keyed.Key, keyed.KeyTTL = "key", time.Minute
	first := s.add(keyed)[0]
	again := keyed
	again.ChildKey = "4"
	if e := s.add(again)[0]; !e.Existing || e.ID != first.ID {
		s.Errorf("an idempotency key under another child key: %+v, want %s", e, first.ID)
	}
	s.act(store.ActCancel, store.Filter{IDs: []store.ID{first.ID}})
	time.Sleep(2 * time.Minute)
	if n := s.act(store.ActDelete, store.Filter{IDs: []store.ID{first.ID}}); n != 0 {
		s.Errorf("deleted %d whose parent has not ended", n)
	}
	s.act(store.ActCancel, store.Filter{IDs: parents[:1]})
	if n := s.act(store.ActDelete, store.Filter{IDs: []store.ID{first.ID}}); n != 1 {
		s.Fatalf("deleted %d", n)
	}
	if e := s.add(again)[0]; !e.Existing || e.ID != first.ID {
		s.Errorf("a child key whose run is deleted: %+v, want %s", e, first.ID)
	}
	if again.Parent = parents[1]; s.add(again)[0].Existing {
		s.Error("parents share keys")
	}
}

func childrenOfCanceled(s *suite) {
	ctx := s.Context()
	parents := s.enqueue(run("p"), run("q"))
	got := s.add(childOf(parents[0], "a", "1"), childOf(parents[1], "a", "1"), childOf(parents[0], "a", ""))
	if n := s.act(store.ActCancel, store.Filter{IDs: parents[:1]}); n == 0 {
		s.Error("the parent was not canceled")
	}
	s.state(got[0].ID, store.Canceled)
	s.state(got[2].ID, store.Canceled)
	s.state(got[1].ID, store.Queued)
	if e := s.add(childOf(parents[0], "a", "1"))[0]; !e.Existing || e.ID != got[0].ID {
		s.Errorf("a child key of a canceled parent: %+v", e)
	}
	detached := childOf(parents[0], "a", "5")
	detached.Detached = true
	s.add(detached)
	_, err := s.Enqueue(ctx, time.Now(), []store.NewRun{run("none"), childOf(parents[0], "a", "6")})
	if !errors.Is(err, store.ErrParentCanceled) {
		s.Errorf("a child of a canceled run: %v", err)
	}
	if n := s.act(store.ActDelete, store.Filter{IDs: parents[:1]}); n != 1 {
		s.Fatalf("deleted %d", n)
	}
	_, err = s.Enqueue(ctx, time.Now(), []store.NewRun{run("none"), childOf(parents[0], "a", "1")})
	if !errors.Is(err, store.ErrNotFound) {
		s.Errorf("a child of a deleted run: %v", err)
	}
	for _, r := range s.claim(100) {
		if string(r.Input) == "none" {
			s.Error("part of a bulk was enqueued")
		}
	}
}

// children enqueues children of runs that may have ended or be deleted, with and without keys.
func (p *pair) children(rt *rapid.T) {
	if len(p.ids) == 0 {
		return
	}
	runs := make([]store.NewRun, rapid.IntRange(1, 4).Draw(rt, "n"))
	twins := make([]store.NewRun, len(runs))
	for i := range runs {
		bits := rapid.Uint32().Draw(rt, "run")
		runs[i], twins[i] = p.newRun(bits)
		of := rapid.IntRange(0, len(p.ids)-1).Draw(rt, "parent")
		r, t := &runs[i], &twins[i]
		r.Parent, t.Parent = p.ids[of], p.twins[of]
		r.ParentNamed, t.ParentNamed = true, true
		if key := rapid.SampledFrom([]string{"", "1", "2", "3"}).Draw(rt, "key"); key != "" {
			r.ChildKey, t.ChildKey = key, key
		}
	}
	got, err := p.stores[p.side(rt)].Enqueue(p.t.Context(), p.now(), runs)
	want, modelErr := p.model.Enqueue(p.t.Context(), p.now(), twins)
	for _, class := range []error{nil, store.ErrNotFound, store.ErrParentCanceled} {
		if errors.Is(err, class) != errors.Is(modelErr, class) {
			rt.Fatalf("children: %v, want %v", err, modelErr)
		}
	}
	if err != nil {
		return
	}
	p.enqueued(rt, got, want)
}

// enqueued compares results, and adds the runs.
func (p *pair) enqueued(rt *rapid.T, got, want []store.Enqueued) {
	for i := range got {
		if got[i].Existing != want[i].Existing {
			rt.Fatalf("run %d: existing %v, want %v", i, got[i].Existing, want[i].Existing)
		}
		if got[i].Existing {
			if a, b := slices.Index(p.ids, got[i].ID), slices.Index(p.twins, want[i].ID); a != b {
				rt.Fatalf("key refers to run %d, want %d", a, b)
			}
			continue
		}
		p.ids, p.twins = append(p.ids, got[i].ID), append(p.twins, want[i].ID)
	}
}
