package postgres

import (
	"context"
	"testing"

	"github.com/stint-dev/stint/store"
)

func openBench(b *testing.B) *Store {
	b.Helper()
	set := noTables(b)
	s, err := Open(b.Context(), serverURL(b), set.Options)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close() })
	return s
}

func enqueueMany(b *testing.B, s *Store, n int) {
	b.Helper()
	for ; n > 0; n -= 1000 {
		runs := make([]store.NewRun, min(n, 1000))
		for i := range runs {
			runs[i] = store.NewRun{Task: "t", Queue: "q", Input: []byte(`{"n":1}`)}
		}
		if _, err := s.Enqueue(b.Context(), s.Now(), runs); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkDrain claims runs and ends them, 100 at a time, with the next claim waiting.
func BenchmarkDrain(b *testing.B) {
	s := openBench(b)
	enqueueMany(b, s, b.N)
	b.ResetTimer()
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	for done := 0; done < b.N; {
		got, err := s.Claim(ctx, any1(100))
		if err != nil {
			b.Fatal(err)
		}
		outcomes := make([]store.Outcome, len(got))
		for i, c := range got {
			outcomes[i] = store.Outcome{ID: c.ID, Lease: c.Lease, To: store.Succeeded, Output: []byte("null"), Queue: c.Queue, Task: c.Task, Started: c.Started}
		}
		if _, err := s.Finish(ctx, s.Now(), outcomes); err != nil {
			b.Fatal(err)
		}
		done += len(got)
	}
}

func BenchmarkEnqueue(b *testing.B) {
	s := openBench(b)
	for b.Loop() {
		if _, err := s.Enqueue(b.Context(), s.Now(), []store.NewRun{{Task: "t", Queue: "q", Input: []byte(`{"n":1}`)}}); err != nil {
			b.Fatal(err)
		}
	}
}
