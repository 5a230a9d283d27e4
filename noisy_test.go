package stint_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/sqlite"
)

// Bounds of what one commit takes: the documented 256 KiB, where a line counts 512 bytes
// beside its texts, and four times that of runs that end together.
const (
	linesACommit  = 512
	linesOfEnds   = 5 * linesACommit
	chunksACommit = 64
	bytesACommit  = 256 << 10
)

// recordings counts what each call brings to the store of what handlers report.
type recordings struct {
	store.Store
	blocks chan struct{} // nil: records do not wait

	mu               sync.Mutex
	lines            int // in all
	most, mostOfEnds int // lines of a call
	chunks, bytes    int // on their way
	mostChunks       int
	mostBytes        int
}

func (s *recordings) Record(ctx context.Context, rs []store.Record) ([]bool, error) {
	if s.blocks != nil {
		<-s.blocks
	}
	chunks, bytes := 0, 0
	s.mu.Lock()
	for _, r := range rs {
		s.lines += len(r.Logs)
		s.most = max(s.most, len(r.Logs))
		for _, c := range r.Chunks {
			chunks, bytes = chunks+1, bytes+len(c.Data)
		}
	}
	s.chunks, s.bytes = s.chunks+chunks, s.bytes+bytes
	s.mostChunks, s.mostBytes = max(s.mostChunks, s.chunks), max(s.mostBytes, s.bytes)
	s.mu.Unlock()
	if chunks > 0 {
		time.Sleep(time.Millisecond) // in a bubble; all come that may
	}
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.chunks, s.bytes = s.chunks-chunks, s.bytes-bytes
	}()
	return s.Store.Record(ctx, rs)
}

func (s *recordings) Finish(ctx context.Context, now time.Time, os []store.Outcome) ([]bool, error) {
	s.mu.Lock()
	lines := 0
	for i := range os {
		lines += len(os[i].Record.Logs)
		s.most = max(s.most, len(os[i].Record.Logs))
	}
	s.lines += lines
	s.mostOfEnds = max(s.mostOfEnds, lines)
	s.mu.Unlock()
	return s.Store.Finish(ctx, now, os)
}

func (s *recordings) soFar() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lines
}

// recorded runs a test in a bubble, on a client whose store counts.
func recorded(t *testing.T, f func(t *testing.T, c *stint.Client, s *recordings)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &recordings{Store: must[*sqlite.Store](t)(sqlite.Open(":memory:", sqlite.Options{}))}
		c := must[*stint.Client](t)(stint.New(s, stint.WithLogger(slog.New(slog.DiscardHandler))))
		defer c.Close()
		f(t, c, s)
	})
}

func logLines(ctx context.Context, n int) {
	log := stint.Logger(ctx)
	for i := range n {
		log.Debug("not kept")
		log.Info(fmt.Sprint(i))
	}
}

// A run that logs without pause is slowed, so that no commit takes more of it than a
// portion, and others have theirs between; its last lines are all there.
func TestNoisyLogger(t *testing.T) {
	recorded(t, func(t *testing.T, c *stint.Client, s *recordings) {
		noisy := stint.NewTask(c, "noisy", func(ctx context.Context, n int) (int, error) { logLines(ctx, n); return n, nil })
		other := stint.NewTask(c, "other", func(ctx context.Context, n int) (int, error) { return n, nil })
		stop := working(t, c)
		defer stop()
		few := enqueue(t, noisy, 300) // control: it does not wait
		began := time.Now()
		output(t, few)
		if now := time.Now(); !now.Equal(began) {
			t.Errorf("300 lines took until %v, from %v", now, began)
		}
		run := enqueue(t, noisy, 20_000)
		for range 20 {
			before := s.soFar()
			o := enqueue(t, other, 1)
			output(t, o)
			if n := s.soFar() - before; n > 2*linesACommit {
				t.Errorf("another run waited for %d lines", n)
			}
			time.Sleep(90 * time.Millisecond)
		}
		output(t, run)
		if s.most > linesACommit || s.mostOfEnds > linesACommit {
			t.Errorf("%d lines in a record, %d in a commit of outcomes", s.most, s.mostOfEnds)
		}
		first := must[[]stint.LogLine](t)(c.Logs(t.Context(), run.ID(), 0, 1))
		last := must[[]stint.LogLine](t)(c.Logs(t.Context(), run.ID(), 19_999, 10))
		if len(first) != 1 || first[0].Message != "10000" || len(last) != 1 || last[0].Message != "19999" {
			t.Errorf("lines from %+v to %+v", first, last)
		}
	})
}

// Runs that end together bring their last lines in several commits.
func TestNoisyEnds(t *testing.T) {
	recorded(t, func(t *testing.T, c *stint.Client, s *recordings) {
		ready := make(chan struct{})
		noisy := stint.NewTask(c, "noisy", func(ctx context.Context, n int) (int, error) { <-ready; logLines(ctx, n); return n, nil })
		stop := working(t, c)
		defer stop()
		var runs []*stint.Run[int]
		for range 50 {
			runs = append(runs, enqueue(t, noisy, 400))
		}
		synctest.Wait()
		close(ready)
		for _, r := range runs {
			output(t, r)
		}
		if s.mostOfEnds > linesOfEnds || s.lines != 50*400 {
			t.Errorf("%d lines in a commit, %d in all", s.mostOfEnds, s.lines)
		}
	})
}

// endedBy checks that a handler that logs ended in time.
func endedBy(t *testing.T, s *recordings, latest time.Time) {
	t.Helper()
	if now := time.Now(); now.After(latest) {
		t.Errorf("ended at %v, want %v", now, latest)
	}
	if s.most > linesACommit {
		t.Errorf("%d lines in a record", s.most)
	}
}

// Whatever keeps lines from being stored, a handler that logs goes on.
func TestNoisyLoggerGoesOn(t *testing.T) {
	const lines = 20_000
	for name, begin := range map[string]func(context.Context){
		"canceled":                func(ctx context.Context) { <-ctx.Done() },
		"canceled while it waits": func(context.Context) {},
	} {
		t.Run(name, func(t *testing.T) {
			recorded(t, func(t *testing.T, c *stint.Client, s *recordings) {
				task := stint.NewTask(c, "t", func(ctx context.Context, _ int) (int, error) { begin(ctx); logLines(ctx, lines); return 0, ctx.Err() })
				defer working(t, c)()
				run := enqueue(t, task, 1)
				synctest.Wait()
				began := time.Now()
				must[int](t)(c.CancelRuns(t.Context(), stint.RunFilter{IDs: []string{run.ID()}}))
				if _, err := run.Wait(t.Context()); !errors.Is(err, stint.ErrCanceled) {
					t.Error(err)
				}
				endedBy(t, s, began)
			})
		})
	}
	t.Run("shutdown", func(t *testing.T) {
		recorded(t, func(t *testing.T, c *stint.Client, s *recordings) {
			task := stint.NewTask(c, "t", func(ctx context.Context, _ int) (int, error) { logLines(ctx, lines); return 0, ctx.Err() })
			stop := working(t, c, stint.WithDrainTimeout(0))
			enqueue(t, task, 1)
			synctest.Wait()
			began := time.Now()
			stop()
			endedBy(t, s, began)
		})
	})
	t.Run("unwound", func(t *testing.T) {
		recorded(t, func(t *testing.T, c *stint.Client, s *recordings) {
			task := stint.NewTask(c, "t", func(ctx context.Context, _ int) (int, error) {
				defer logLines(ctx, 3*linesACommit)
				return 1, stint.Sleep(ctx, time.Minute)
			})
			defer working(t, c)()
			run := enqueue(t, task, 1)
			began := time.Now()
			output(t, run)
			endedBy(t, s, began.Add(time.Minute+5*time.Second))
		})
	})
	t.Run("the store does not write", func(t *testing.T) {
		recorded(t, func(t *testing.T, c *stint.Client, s *recordings) {
			s.blocks = make(chan struct{})
			task := stint.NewTask(c, "t", func(ctx context.Context, _ int) (int, error) { logLines(ctx, lines); close(s.blocks); return 1, nil })
			defer working(t, c)()
			run := enqueue(t, task, 1)
			began := time.Now()
			output(t, run)
			endedBy(t, s, began.Add(2*time.Second))
			last := must[[]stint.LogLine](t)(c.Logs(t.Context(), run.ID(), 0, 20_000))
			if n := len(last); n != 10_000 || last[n-1].Message != fmt.Sprint(lines-1) {
				t.Errorf("%d lines", n)
			}
		})
	})
}

// Chunks of one run are on their way to the store a portion at a time, however many
// goroutines bring them; a chunk that is larger goes alone.
func TestNoisyStream(t *testing.T) {
	for size, chunks := range map[int]int{10: 150, 50_000: 150, 1 << 20: 20} {
		recorded(t, func(t *testing.T, c *stint.Client, s *recordings) {
			task := stint.NewTask(c, "t", func(ctx context.Context, n int) (int, error) {
				var wg sync.WaitGroup
				for range n {
					wg.Go(func() {
						if err := stint.Stream(ctx, make([]byte, size)); err != nil {
							t.Error(err)
						}
					})
				}
				wg.Wait()
				canceled, cancel := context.WithCancel(ctx)
				cancel()
				if err := stint.Stream(canceled, []byte("x")); !errors.Is(err, context.Canceled) {
					t.Errorf("with a context that is done: %v", err)
				}
				return n, nil
			})
			defer working(t, c)()
			run := enqueue(t, task, chunks)
			output(t, run)
			if s.mostChunks > chunksACommit || s.mostBytes > max(bytesACommit, size) {
				t.Errorf("of %d bytes each: %d chunks, %d bytes in a commit", size, s.mostChunks, s.mostBytes)
			}
			n := 0
			for chunk, err := range run.Stream(t.Context()) {
				if err != nil || len(chunk) != size {
					t.Fatalf("%d bytes, %v", len(chunk), err)
				}
				n++
			}
			if n != chunks {
				t.Errorf("%d chunks", n)
			}
		})
	}
}
