package postgres

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stint-dev/stint/store"
	"golang.org/x/sync/errgroup"
)

// Several processes count failures in the same groups at the same time, each in an order of its own: none waits for
// one that waits for it, and none is lost.
func TestProcessesFailAlike(t *testing.T) {
	set := noTables(t)
	const processes, rounds, runs, groups = 4, 10, 20, 7
	stores := make([]*Store, processes)
	for i := range stores {
		s, err := Open(t.Context(), serverURL(t), set.Options)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		stores[i] = s
	}
	g, ctx := errgroup.WithContext(t.Context())
	for i, s := range stores {
		task := fmt.Sprint("fails", i)
		g.Go(func() error { return failSome(ctx, s, task, rounds, runs, groups) })
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	list := store.ErrorGroupList{ErrorQuery: store.ErrorQuery{Span: time.Hour}, Limit: groups + 1}
	if err := stores[0].Read(t.Context(), &list); err != nil {
		t.Fatal(err)
	}
	var sum, counts int64
	for _, e := range list.Groups {
		sum += e.Count
		for _, c := range e.Counts {
			counts += c.N
		}
	}
	if want := int64(processes * rounds * runs); sum != want || counts != want || len(list.Groups) != groups {
		t.Errorf("%d failures in %d groups, %d by the hour; want %d in %d", sum, len(list.Groups), counts, want, groups)
	}
}

// failSome lets runs of a task fail with errors of the groups, in calls that have them in a random order.
func failSome(ctx context.Context, s *Store, task string, rounds, runs, groups int) error {
	worker, err := s.Register(ctx, store.WorkerInfo{Name: task})
	if err != nil {
		return err
	}
	for range rounds {
		if _, err := s.Enqueue(ctx, s.Now(), many(runs, store.NewRun{Task: task})); err != nil {
			return err
		}
		for left := runs; left > 0; {
			got, err := s.Claim(ctx, store.ClaimRequest{Worker: worker, Free: func() int { return left }, Tasks: func(n string) bool { return n == task }})
			if err == nil {
				err = failAll(ctx, s, got, left, groups)
			}
			if err != nil {
				return err
			}
			left -= len(got)
		}
	}
	return nil
}

// failAll lets runs fail with errors of the groups, from the nth on, in two calls at once.
func failAll(ctx context.Context, s *Store, got []store.Claimed, n, groups int) error {
	var outcomes []store.Outcome
	for i, c := range got {
		outcomes = append(outcomes, store.Outcome{ID: c.ID, Lease: c.Lease, To: store.Failed, Task: c.Task, Queue: c.Queue, Started: c.Started,
			Failure: &store.Failure{Group: int64((n+i)%groups) + 1, Task: "any", Text: "no"}})
	}
	rand.Shuffle(len(outcomes), func(i, j int) { outcomes[i], outcomes[j] = outcomes[j], outcomes[i] })
	var g errgroup.Group
	for part := range slices.Chunk(outcomes, (len(outcomes)+1)/2) {
		g.Go(func() error {
			stale, err := s.Finish(ctx, s.Now(), part)
			if err == nil && slices.Contains(stale, true) {
				err = errors.New("an outcome is stale")
			}
			return err
		})
	}
	return g.Wait()
}
