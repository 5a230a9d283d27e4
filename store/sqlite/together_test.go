package sqlite

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stint-dev/stint/store"
)

// UseListSizes makes statements for several runs have so many, so that tests with few runs use them too.
func UseListSizes(sizes [len(listSizes)]int) {
	listSizes = sizes
	startListSQL, endListSQL = listTexts()
	recordListSQL = recordTexts()
}

// executing has n runs that a worker of a new store executes, and their outcomes: all succeed.
func executing(t *testing.T, n int) (s *Store, outcomes []store.Outcome) {
	s, err := Open(filepath.Join(t.TempDir(), "together.db"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	ok := failing(t)
	worker, err := s.Register(t.Context(), store.WorkerInfo{Name: "w"})
	ok(err)
	_, err = s.Enqueue(t.Context(), time.Now(), slices.Repeat([]store.NewRun{{Task: "t", Queue: "q"}}, n))
	ok(err)
	got, err := s.Claim(t.Context(), store.ClaimRequest{Worker: worker, Free: func() int { return n }, Tasks: func(string) bool { return true }})
	ok(err)
	for i, c := range got {
		outcomes = append(outcomes, store.Outcome{ID: c.ID, Lease: c.Lease, To: store.Succeeded, Output: fmt.Append(nil, i), Queue: "q", Task: "t",
			Started: c.Started})
	}
	if len(got) != n {
		t.Fatalf("claimed %d runs, want %d", len(got), n)
	}
	return s, outcomes
}

// R2: of outcomes that are stored together, those that are late change nothing, and a run that was asked to cancel is canceled. All
// others are stored, each with its own output, and counted once.
func TestR2EndedTogether(t *testing.T) {
	const n, late, twice, asked = 30, 5, 11, 17
	for _, tt := range []struct {
		name   string
		change func(s *Store, outcomes []store.Outcome) ([]store.Outcome, error)
		stale  []int
		states map[int]store.State
	}{
		{"usual", func(_ *Store, all []store.Outcome) ([]store.Outcome, error) { return all, nil }, nil, nil},
		{"late", func(s *Store, all []store.Outcome) ([]store.Outcome, error) {
			_, err := s.Finish(context.Background(), time.Now(), []store.Outcome{{ID: all[late].ID, Lease: all[late].Lease, To: store.Failed}})
			return all, err
		}, []int{late}, map[int]store.State{late: store.Failed}},
		{"twice", func(_ *Store, all []store.Outcome) ([]store.Outcome, error) { return append(all, all[twice]), nil }, []int{n}, nil},
		{"other lease", func(_ *Store, all []store.Outcome) ([]store.Outcome, error) {
			all[late].Lease++
			return all, nil
		}, []int{late}, map[int]store.State{late: store.Running}},
		{"asked to cancel", func(s *Store, all []store.Outcome) ([]store.Outcome, error) {
			_, err := s.Act(context.Background(), time.Now(), store.Action{Kind: store.ActCancel}, store.Filter{IDs: []store.ID{all[asked].ID}})
			return all, err
		}, nil, map[int]store.State{asked: store.Canceled}},
		{"unknown", func(_ *Store, all []store.Outcome) ([]store.Outcome, error) {
			all[late].ID[15]++
			return all, nil
		}, []int{late}, map[int]store.State{late: 0}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, outcomes := executing(t, n)
			ids := make([]store.ID, n)
			for i := range ids {
				ids[i] = outcomes[i].ID
			}
			ok := failing(t)
			outcomes, err := tt.change(s, outcomes)
			ok(err)
			stale, err := s.Finish(t.Context(), time.Now(), outcomes)
			ok(err)
			for i := range stale {
				if stale[i] != slices.Contains(tt.stale, i) {
					t.Errorf("outcome %d: stale is %t", i, stale[i])
				}
			}
			succeeded := 0
			for i, id := range ids {
				want, other := tt.states[i]
				if !other {
					want = store.Succeeded
					succeeded++
				}
				r, err := s.Get(t.Context(), id)
				ok(err)
				if want == 0 {
					want = store.Running
				}
				if r.State != want || want == store.Succeeded && string(r.Output) != fmt.Sprint(i) {
					t.Errorf("run %d is %v with output %q, want %v", i, r.State, r.Output, want)
				}
			}
			ok(s.do(t.Context(), func(u *unit) error { u.counters.Last(); return nil }))
			list := store.CounterList{Span: time.Hour, Since: time.Now().Add(-time.Hour), Of: store.PerTask}
			ok(s.Read(t.Context(), &list))
			if len(list.Counters) == 0 || list.Counters[0].Succeeded != int64(succeeded) {
				t.Errorf("counted %+v, want %d that succeeded", list.Counters, succeeded)
			}
		})
	}
}

// A statement that leaves a run of several as it was makes its group be committed by statements for one run each. Its other changes are
// made once.
func TestGroupAgainApart(t *testing.T) {
	s, outcomes := executing(t, 20)
	ok := failing(t)
	tries := 0
	ok(s.do(t.Context(), func(u *unit) error {
		if tries++; u.apart != (tries > 1) {
			t.Errorf("try %d: apart is %t", tries, u.apart)
		}
		if err := u.exec("INSERT INTO stint_settings (key, value) VALUES ('k', x'')"); err != nil {
			return err
		}
		return u.runs.finish(u.now, append(outcomes, outcomes...), make([]bool, 40))
	}))
	if s.w.apart || tries != 2 {
		t.Errorf("apart is %t after %d tries", s.w.apart, tries)
	}
	// A group that fails for another reason has its changes made alone, and apart.
	failed := errors.New("no")
	err := s.do(t.Context(), func(u *unit) error { return failed })
	if !errors.Is(err, failed) || s.w.apart {
		t.Errorf("error %v, apart is %t", err, s.w.apart)
	}
}
