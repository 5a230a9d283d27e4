package sqlite_test

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/sqlite"
)

// BenchmarkHistory is one life (enqueue, claim and finish of 100 runs) beside a history
// of finished runs and a backlog of pending ones, which cost nothing (R9).
func BenchmarkHistory(b *testing.B) {
	for _, n := range []int{0, 200_000} {
		b.Run(fmt.Sprintf("finished=%d,pending=%d", n, n), func(b *testing.B) { history(b, n) })
	}
}

func history(b *testing.B, n int) {
	s, err := sqlite.Open(filepath.Join(b.TempDir(), "bench.db"), sqlite.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	worker, err := s.Register(b.Context(), store.WorkerInfo{Name: "bench"})
	if err != nil {
		b.Fatal(err)
	}
	runs := make([]store.NewRun, 100)
	for i := range runs {
		runs[i] = store.NewRun{Task: "t", Queue: "q", Priority: 2,
			Input: []byte(`{"some":"input of a usual size, which is about a hundred bytes of JSON or so"}`)}
	}
	req := store.ClaimRequest{Worker: worker, Free: func() int { return len(runs) }, Tasks: func(string) bool { return true }}
	enqueue := func() {
		if _, err := s.Enqueue(b.Context(), time.Now(), runs); err != nil {
			b.Fatal(err)
		}
	}
	life := func() {
		enqueue()
		got, err := s.Claim(b.Context(), req)
		if err != nil || len(got) != len(runs) {
			b.Fatal(len(got), err)
		}
		outcomes := make([]store.Outcome, len(got))
		for i, c := range got {
			outcomes[i] = store.Outcome{ID: c.ID, Lease: c.Lease, To: store.Succeeded, Output: []byte("1")}
		}
		if _, err := s.Finish(b.Context(), time.Now(), outcomes); err != nil {
			b.Fatal(err)
		}
	}
	for range n / len(runs) {
		life()
		enqueue()
	}
	b.ReportAllocs()
	for b.Loop() {
		life()
	}
	b.ReportMetric(float64(len(runs)*b.N)/b.Elapsed().Seconds(), "lives/s")
}

// BenchmarkLoad reads a journal of 10,000 entries, as each replay does.
func BenchmarkLoad(b *testing.B) {
	s, err := sqlite.Open(filepath.Join(b.TempDir(), "bench.db"), sqlite.Options{Normal: true})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	worker, err := s.Register(b.Context(), store.WorkerInfo{Name: "bench"})
	if err != nil {
		b.Fatal(err)
	}
	if _, err := s.Enqueue(b.Context(), time.Now(), []store.NewRun{{Task: "t", Queue: "q", Input: []byte("1")}}); err != nil {
		b.Fatal(err)
	}
	got, err := s.Claim(b.Context(), store.ClaimRequest{Worker: worker, Free: func() int { return 1 },
		Tasks: func(string) bool { return true }})
	if err != nil {
		b.Fatal(err)
	}
	const n = 10_000
	for i := range n {
		e := store.Entry{Address: store.Address{Seq: i + 1}, Kind: store.EntryStep, Name: "step", Done: true,
			Value: fmt.Appendf(nil, `"the result of step %d"`, i), Attempts: 1}
		if _, _, err := s.Append(b.Context(), time.Now(), store.Call{ID: got[0].ID, Lease: got[0].Lease, Entry: e}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		all, _, err := s.Entries(b.Context(), got[0].ID, store.Address{}, -1, true)
		if err != nil || len(all) != n {
			b.Fatal(len(all), err)
		}
	}
}
