package postgres

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stint-dev/stint/store"
)

// Runs that another transaction has locked hold up a claim, and nothing else: it may wait for what the claim's has
// locked.
func TestClaimOfLockedRuns(t *testing.T) {
	set := noTables(t)
	s := openStore(t, set)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	enqueue := func(task string) {
		t.Helper()
		if _, err := s.Enqueue(ctx, s.Now(), []store.NewRun{{Task: task, Queue: "q", Input: []byte("1")}}); err != nil {
			t.Fatal(err)
		}
	}
	enqueue("t")
	enqueue("u") // in another lane: the claim chooses among both
	other, err := dial(t, set).Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Exec(ctx, qualify("SELECT 1 FROM stint.runs FOR UPDATE", set.Schema)); err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	r := any1(2)
	r.Free = sync.OnceValue(func() int { close(served); return 2 })
	claimed := make(chan []store.Claimed, 1)
	go func() {
		got, err := s.Claim(ctx, r)
		if err != nil {
			t.Error(err)
		}
		claimed <- got
	}()
	<-served
	enqueue("later")
	if err := other.Rollback(ctx); err != nil {
		t.Fatal(err)
	}
	if got := <-claimed; len(got) == 0 {
		t.Error("the claim got nothing")
	}
}

// Claims begin where the last one ended. A run that was locked when they passed it is found all the same.
func TestClaimsPassLockedRuns(t *testing.T) {
	set := noTables(t)
	s := openStore(t, set)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	runs := make([]store.NewRun, 6)
	for i := range runs {
		runs[i] = store.NewRun{Task: "t", Queue: "q", Input: []byte("1")}
	}
	made, err := s.Enqueue(ctx, s.Now(), runs)
	if err != nil {
		t.Fatal(err)
	}
	other, err := dial(t, set).Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	first, _ := s.ids.Key(made[0].ID)
	if _, err := other.Exec(ctx, qualify("SELECT 1 FROM stint.runs WHERE id = $1 FOR UPDATE", set.Schema), first); err != nil {
		t.Fatal(err)
	}
	claim := func(want ...int) {
		t.Helper()
		got, err := s.Claim(ctx, any1(2))
		if err != nil || len(got) != len(want) {
			t.Fatalf("claimed %d runs, %v, want %d", len(got), err, len(want))
		}
		for i, n := range want {
			if got[i].ID != made[n].ID {
				t.Errorf("claimed run %d of %d is another than run %d", i, len(got), n)
			}
		}
	}
	claim(1, 2)
	claim(3, 4)
	if err := other.Rollback(ctx); err != nil {
		t.Fatal(err)
	}
	s.sweeper.sweep(ctx)
	claim(0, 5)
}
