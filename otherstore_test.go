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

// What the engine takes from a store that is not SQLite's.

// otherLeases gives leases that neither count executions nor rise.
type otherLeases struct{ store.Store }

func (s otherLeases) Claim(ctx context.Context, r store.ClaimRequest) ([]store.Claimed, error) {
	all, err := s.Store.Claim(ctx, r)
	for i := range all {
		all[i].Lease ^= -1
	}
	return all, err
}

func (s otherLeases) Get(ctx context.Context, id store.ID) (*store.Run, error) {
	r, err := s.Store.Get(ctx, id)
	if err == nil {
		r.Lease ^= -1
	}
	return r, err
}

func (s otherLeases) Enqueue(ctx context.Context, now time.Time, runs []store.NewRun) ([]store.Enqueued, error) {
	if c := runs[0].Call; c != nil {
		call := *c
		call.Lease ^= -1
		runs[0].Call = &call
		defer func() { runs[0].Call = c }()
	}
	return s.Store.Enqueue(ctx, now, runs)
}

func (s otherLeases) Append(ctx context.Context, now time.Time, c store.Call) (store.Entry, bool, error) {
	c.Lease ^= -1
	return s.Store.Append(ctx, now, c)
}

func (s otherLeases) Finish(ctx context.Context, now time.Time, all []store.Outcome) ([]bool, error) {
	own := make([]store.Outcome, len(all))
	for i := range all {
		own[i] = all[i]
		own[i].Lease ^= -1
	}
	return s.Store.Finish(ctx, now, own)
}

// The engine does not care which leases a store gives: retries, durable calls, children, cancels and what
// Info says of the execution are as ever.
func TestLeasesAreOpaque(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		late := &lateClaim{otherLeases{must[*sqlite.Store](t)(sqlite.Open(":memory:", sqlite.Options{}))}, make(chan struct{}, 100)}
		c := must[*stint.Client](t)(stint.New(late))
		defer c.Close()
		child := stint.NewTask(c, "child", double)
		task := stint.NewTask(c, "t", func(ctx context.Context, _ int) (int, error) {
			n, err := child.Run(ctx, 4)
			if info, _ := stint.Info(ctx); err == nil && info.Attempt == 1 {
				return 0, errors.New("again")
			} else if err == nil {
				n += info.Executions
			}
			return n, err
		}, stint.WithRetries(1))
		waits := stint.NewTask(c, "waits", func(ctx context.Context, _ int) (int, error) {
			<-ctx.Done()
			return 0, context.Cause(ctx)
		})
		for range 10 {
			late.goOn <- struct{}{}
		}
		defer working(t, c)()
		run := enqueue(t, task, 1)
		n, err := run.Wait(t.Context())
		if info := infoOf(t, run); err != nil || n != 8+info.Executions {
			t.Errorf("%d, %v after %d executions", n, err, info.Executions)
		}
		synctest.Wait()
		for len(late.goOn) > 0 {
			<-late.goOn
		}
		stuck := enqueue(t, waits, 1)
		synctest.Wait() // it is claimed, and the worker does not know yet
		must[int](t)(c.CancelRuns(t.Context(), stint.RunFilter{IDs: []string{stuck.ID()}}))
		synctest.Wait()
		late.goOn <- struct{}{}
		if _, err := stuck.Wait(t.Context()); !errors.Is(err, stint.ErrCanceled) {
			t.Errorf("canceled before its start: %v", err)
		}
	})
}
