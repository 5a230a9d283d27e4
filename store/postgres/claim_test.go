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
