package postgres

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/stint-dev/stint/store"
)

// BenchmarkMove moves a file while a program enqueues and works: runs that have ended, and a tenth that are to come.
func BenchmarkMove(b *testing.B) {
	for _, n := range []int{100_000, 1_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				opts, path := newTarget(b), filepath.Join(b.TempDir(), "app.db")
				fillFile(b, path, n)
				s, err := FollowWith(path, serverURL(b), opts)
				if err != nil {
					b.Fatal(err)
				}
				p := newProgram(b, s)
				runs := p.begun(b, 3)
				p.enqueue(b, 0)
				b.StartTimer()
				r, err := Move(context.Background(), path, serverURL(b), MoveOptions{Options: opts,
					Progress: func(text string) { b.Log(text) }})
				b.StopTimer()
				if err != nil {
					b.Fatal(err)
				}
				p.mu.Lock()
				worked := len(p.told)
				p.mu.Unlock()
				p.finish(b, runs)
				b.ReportMetric(float64(r.Pause.Microseconds())/1000, "ms-pause")
				b.ReportMetric(float64(worked), "runs-meanwhile")
				b.StartTimer()
			}
		})
	}
}

// fillFile makes a file with n runs.
func fillFile(b *testing.B, path string, n int) {
	s := openedFile(b, path)
	defer s.Close()
	ctx := b.Context()
	ok := func(err error) {
		if err != nil {
			b.Fatal(err)
		}
	}
	worker, err := s.Register(ctx, store.WorkerInfo{Name: "filler", Slots: 1000})
	ok(err)
	const part = 1000
	for i := 0; i < n; i += part {
		runs := make([]store.NewRun, part)
		for j := range runs {
			runs[j] = store.NewRun{Task: fmt.Sprint("task", i/part%20), Queue: "default", Input: fmt.Appendf(nil, `{"order":%d,"to":"ann@example.org"}`, i+j),
				Metadata: []byte(`{"tenant":"acme"}`)}
			if i/part%10 == 9 {
				runs[j].RunAt = time.Now().Add(24 * time.Hour)
			}
		}
		_, err := s.Enqueue(ctx, time.Now(), runs)
		ok(err)
		if i/part%10 == 9 {
			continue
		}
		for left := part; left > 0; {
			got, err := s.Claim(ctx, store.ClaimRequest{Worker: worker, Free: func() int { return left }, Tasks: func(string) bool { return true }})
			ok(err)
			outcomes := make([]store.Outcome, len(got))
			for k, c := range got {
				outcomes[k] = store.Outcome{ID: c.ID, Lease: c.Lease, To: store.Succeeded, Output: []byte(`"sent"`)}
			}
			_, err = s.Finish(ctx, time.Now(), outcomes)
			ok(err)
			left -= len(got)
		}
	}
}
