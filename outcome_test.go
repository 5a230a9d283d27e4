package stint_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/sqlite"
)

// A refusingStore refuses outcomes with the output "poison": the first times, or for ever if times is negative.
type refusingStore struct {
	store.Store
	times int
}

func (s *refusingStore) Finish(ctx context.Context, now time.Time, all []store.Outcome) ([]bool, error) {
	for _, o := range all {
		if string(o.Output) == `"poison"` && s.times != 0 {
			s.times--
			return nil, errors.New("a constraint of the database")
		}
	}
	return s.Store.Finish(ctx, now, all)
}

// An outcome that the store refuses is tried again, and delays no other. After five times the attempt fails, with the
// reason, if the store takes that.
func TestRefusedOutcome(t *testing.T) {
	for name, tt := range map[string]struct {
		times int
		fails bool
	}{"for a while": {4, false}, "always": {-1, true}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				file := must[*sqlite.Store](t)(sqlite.Open(":memory:", sqlite.Options{}))
				c := must[*stint.Client](t)(stint.New(&refusingStore{file, tt.times}, stint.WithLogger(slog.New(slog.DiscardHandler))))
				defer c.Close()
				task := stint.NewTask(c, "t", func(_ context.Context, s string) (string, error) { return s, nil })
				runs := enqueueMany(t, task, []string{"one", "poison", "two"})
				stop := working(t, c)
				defer stop()
				began := time.Now()
				for _, i := range []int{0, 2} {
					output(t, runs[i])
				}
				output(t, enqueue(t, task, "three"))
				if took := time.Since(began); took >= time.Second {
					t.Errorf("the others waited for it, for %v", took)
				}
				out, err := runs[1].Wait(t.Context())
				if tt.fails && (err == nil || !strings.Contains(err.Error(), "the outcome cannot be stored: a constraint of the database")) {
					t.Errorf("%q, %v; want an error that says why", out, err)
				} else if !tt.fails && (err != nil || out != "poison") {
					t.Errorf("%q, %v; want what the handler returned", out, err)
				}
			})
		})
	}
}

// A slowStore commits an outcome only once it is let to, and notes which it has.
type slowStore struct {
	store.Store
	began, goOn chan struct{}
	mu          sync.Mutex
	committed   map[string]int
}

func (s *slowStore) Finish(ctx context.Context, now time.Time, all []store.Outcome) ([]bool, error) {
	s.began <- struct{}{}
	<-s.goOn
	stale, err := s.Store.Finish(ctx, now, all)
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, late := range stale {
		if !late {
			s.committed[all[i].ID.String()]++
		}
	}
	return stale, err
}

// A worker that stops while the outcome of a run is committed waits for that, also if it gives up on another handler: the outcome is
// recorded once. What that handler returns after that is not recorded, since its run is queued again.
func TestStopWhileOutcomeIsCommitted(t *testing.T) {
	for name, ignoring := range map[string]bool{"drained": false, "a handler ignores its context": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				file := must[*sqlite.Store](t)(sqlite.Open(":memory:", sqlite.Options{}))
				s := &slowStore{Store: file, began: make(chan struct{}), goOn: make(chan struct{}), committed: map[string]int{}}
				c := must[*stint.Client](t)(stint.New(s, stint.WithLogger(slog.New(slog.DiscardHandler))))
				defer c.Close()
				calls, end := 0, make(chan struct{})
				task := stint.NewTask(c, "t", func(context.Context, int) (int, error) { calls++; return 1, nil })
				stuck := stint.NewTask(c, "stuck", func(context.Context, int) (int, error) { <-end; return 1, nil })
				w := must[*stint.Worker](t)(c.NewWorker(stint.WithDrainTimeout(time.Second)))
				ctx, cancel := context.WithCancel(t.Context())
				stopped := make(chan error, 1)
				go func() { stopped <- w.Run(ctx) }()
				var other *stint.Run[int]
				if ignoring {
					other = enqueue(t, stuck, 0)
					synctest.Wait()
				}
				run := enqueue(t, task, 0)
				<-s.began
				cancel()
				<-time.After(time.Minute) // of the fake clock
				select {
				case err := <-stopped:
					t.Errorf("it stopped before the outcome was committed: %v", err)
				default:
				}
				close(s.goOn)
				if err := <-stopped; (err != nil) != ignoring {
					t.Errorf("the worker stopped with %v", err)
				}
				close(end)
				synctest.Wait()
				if info := infoOf(t, run); info.State != stint.StateSucceeded || info.Executions != 1 || calls != 1 || s.committed[run.ID()] != 1 {
					t.Errorf("%v after %d executions and %d calls, committed %d times; want it once", info.State, info.Executions, calls,
						s.committed[run.ID()])
				}
				if other != nil {
					if info := infoOf(t, other); info.State != stint.StateQueued || len(s.committed) != 1 {
						t.Errorf("the run that was given back is %v, and %d outcomes are committed", info.State, len(s.committed))
					}
				}
			})
		})
	}
}
