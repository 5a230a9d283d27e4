package postgres

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"testing"
	"time"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/reading"
	"github.com/stint-dev/stint/store/storetest"
)

func openStore(t *testing.T, set *settings) *Store {
	t.Helper()
	s, err := Open(t.Context(), serverURL(t), set.Options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// openBubble opens the tables of a directory, in a bubble of synctest. They are dropped after the test.
func openBubble(t testing.TB, dir string) *Store { return openBubbleAt(t, serverURL(t), dir) }

// openBubbleAt is openBubble with a URL of its own.
func openBubbleAt(t testing.TB, url, dir string) *Store {
	t.Helper()
	set := bubbleSettings(t, dir)
	through, err := parse(url)
	if err != nil {
		t.Fatal(err)
	}
	set.pool, set.direct = through, through
	s, err := open(t.Context(), set)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c := dial(t, bubbleSettings(t, dir))
		if _, err := c.Exec(context.Background(), "SET client_min_messages = warning; DROP SCHEMA IF EXISTS "+set.Schema+" CASCADE"); err != nil {
			t.Error(err)
		}
	})
	return s
}

// bubbleSettings returns the settings for a directory.
func bubbleSettings(t testing.TB, dir string) *settings {
	t.Helper()
	sum := sha256.Sum256([]byte(dir))
	set, err := newSettings(serverURL(t), Options{Schema: "d_" + hex.EncodeToString(sum[:8])})
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func TestStore(t *testing.T) {
	serverURL(t)
	storetest.Run(t, func(t testing.TB, dir string) store.Store { return openBubble(t, dir) })
}

func TestDamage(t *testing.T) {
	serverURL(t)
	storetest.Damage(t, func(t testing.TB, dir string) store.Store { return openBubble(t, dir) }, func(t testing.TB, dir, statement string) {
		set := bubbleSettings(t, dir)
		if _, err := dial(t, set).Exec(t.Context(), reading.Rewrite(statement, set.Schema)); err != nil {
			t.Fatal(err)
		}
	})
}

func any1(n int) store.ClaimRequest {
	return store.ClaimRequest{Worker: 1, Free: func() int { return n }, Tasks: func(string) bool { return true }}
}

func TestRunsEnd(t *testing.T) {
	s := openStore(t, noTables(t))
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	made, err := s.Enqueue(ctx, s.Now(), []store.NewRun{{Task: "t", Queue: "q", Input: []byte("1")}, {Task: "u", Queue: "q", Input: []byte("2")}})
	if err != nil {
		t.Fatal(err)
	}
	got, err := s.Claim(ctx, any1(10))
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || got[0].ID != made[0].ID || string(got[1].Input) != "2" || got[0].Task != "t" {
		t.Fatalf("claimed %+v, want both runs, in order", got)
	}
	outcomes := make([]store.Outcome, len(got))
	for i, c := range got {
		outcomes[i] = store.Outcome{ID: c.ID, Lease: c.Lease, To: store.Succeeded, Output: []byte("3")}
	}
	stale, err := s.Finish(ctx, s.Now(), outcomes)
	if err != nil || stale[0] || stale[1] {
		t.Fatalf("finish: %v, %v", stale, err)
	}
	if stale, err = s.Finish(ctx, s.Now(), outcomes); err != nil || !stale[0] || !stale[1] {
		t.Errorf("finish again: %v, %v; want stale", stale, err)
	}
}

func TestRandom(t *testing.T) {
	serverURL(t)
	storetest.Random(t, func(t testing.TB, dir string) storetest.Crasher { return openBubble(t, dir) })
}
