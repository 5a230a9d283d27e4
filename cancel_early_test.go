package stint_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/sqlite"
)

// lateClaim gives what it claimed when it is told to, after the commit.
type lateClaim struct {
	store.Store
	goOn chan struct{}
}

func (s *lateClaim) Claim(ctx context.Context, r store.ClaimRequest) ([]store.Claimed, error) {
	all, err := s.Store.Claim(ctx, r)
	if len(all) > 0 {
		<-s.goOn
	}
	return all, err
}

// A cancel that comes between the commit of a claim and the start of its run is not lost,
// though the store tells of it only once; neither is one that comes later.
func TestCancelBeforeStart(t *testing.T) {
	for _, early := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			s := &lateClaim{must[*sqlite.Store](t)(sqlite.Open(":memory:", sqlite.Options{})), make(chan struct{})}
			c := must[*stint.Client](t)(stint.New(s))
			defer c.Close()
			task := stint.NewTask(c, "t", func(ctx context.Context, _ int) (int, error) {
				select {
				case <-ctx.Done():
					return 0, context.Cause(ctx)
				case <-time.After(time.Hour):
					return 0, errors.New("the cancel was lost")
				}
			})
			stop := working(t, c)
			defer stop()
			run := enqueue(t, task, 1)
			synctest.Wait() // it is claimed, and not known to the worker
			if !early {
				s.goOn <- struct{}{}
			}
			must[int](t)(c.CancelRuns(t.Context(), stint.RunFilter{IDs: []string{run.ID()}}))
			synctest.Wait() // the worker was told
			if early {
				s.goOn <- struct{}{}
			}
			began := time.Now()
			if _, err := run.Wait(t.Context()); !errors.Is(err, stint.ErrCanceled) {
				t.Errorf("early %v: %v", early, err)
			}
			if now := time.Now(); !now.Equal(began) { // in the bubble
				t.Errorf("early %v: it ended at %v, canceled at %v", early, now, began)
			}
		})
	}
}

// A cancel that was told too late, when its run had ended or executed again, is not one of the run's replay.
func TestCancelBeforeReplay(t *testing.T) {
	for name, executes := range map[string]bool{"ended": false, "executes again": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &lateWatch{must[*sqlite.Store](t)(sqlite.Open(":memory:", sqlite.Options{})), make(chan struct{})}
				c := must[*stint.Client](t)(stint.New(s))
				defer c.Close()
				goOn := make(chan struct{}, 2)
				task := stint.NewTask(c, "t", func(ctx context.Context, _ int) (int, error) { <-goOn; return 1, ctx.Err() })
				stop := working(t, c)
				defer stop()
				run := enqueue(t, task, 1)
				synctest.Wait()
				must[int](t)(c.CancelRuns(t.Context(), stint.RunFilter{IDs: []string{run.ID()}}))
				synctest.Wait() // the signal is on its way
				goOn <- struct{}{}
				if _, err := run.Wait(t.Context()); !errors.Is(err, stint.ErrCanceled) {
					t.Fatal(err)
				}
				synctest.Wait()
				replay := func() { must[int](t)(c.ReplayRuns(t.Context(), stint.RunFilter{IDs: []string{run.ID()}})) }
				if executes {
					replay()
					synctest.Wait()
				}
				close(s.goOn)
				synctest.Wait()
				if !executes {
					replay()
				}
				goOn <- struct{}{}
				if v, err := run.Wait(t.Context()); v != 1 || err != nil {
					t.Errorf("replay: %d, %v", v, err)
				}
			})
		})
	}
}

// lateWatch gives its signals late.
type lateWatch struct {
	store.Store
	goOn chan struct{}
}

func (s *lateWatch) Watch(ctx context.Context, worker int64) (store.Signals, error) {
	sig, err := s.Store.Watch(ctx, worker)
	if len(sig.Cancel) > 0 {
		<-s.goOn
	}
	return sig, err
}
