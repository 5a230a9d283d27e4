package batch

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// calls records the inputs of each call, and doubles them.
type calls struct {
	mu  sync.Mutex
	all [][]int
}

func (c *calls) double(_ context.Context, ins []int) ([]int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all = append(c.all, ins)
	outs := make([]int, len(ins))
	for i, in := range ins {
		outs[i] = 2 * in
	}
	return outs, nil
}

// A batch is called when it is full or old, by key, with its inputs in order; each caller
// gets its own output.
func TestDo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c calls
		g := Group[int, int]{Call: c.double, Interval: time.Second}
		var wg sync.WaitGroup
		began := time.Now()
		for _, in := range []int{3, 1, 2, 4} {
			wg.Go(func() {
				out, err := g.Do(t.Context(), "full", 4, []byte{byte(in)}, in)
				if out != 2*in || err != nil || time.Since(began) > 0 {
					t.Errorf("Do(%d) = %d, %v after %v", in, out, err, time.Since(began))
				}
			})
		}
		wg.Go(func() {
			if out, err := g.Do(t.Context(), "old", 4, nil, 9); out != 18 || err != nil || time.Since(began) != time.Second {
				t.Errorf("Do(9) = %d, %v after %v", out, err, time.Since(began))
			}
		})
		wg.Wait()
		if want := [][]int{{1, 2, 3, 4}, {9}}; !slices.EqualFunc(c.all, want, slices.Equal) {
			t.Errorf("called with %v, want %v", c.all, want)
		}
	})
}

// A member whose context ends leaves a batch that is not full, and ends nothing for those that
// come later. The context of a call ends when those of all members have.
func TestCancel(t *testing.T) {
	gone, over, called := errors.New("gone"), errors.New("over"), make(chan context.Context)
	g := Group[int, int]{Interval: time.Hour, Call: func(ctx context.Context, ins []int) ([]int, error) {
		called <- ctx
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}}
	alone, leave := context.WithCancelCause(t.Context())
	leave(gone)
	if _, err := g.Do(alone, "", 2, nil, 0); !errors.Is(err, gone) {
		t.Errorf("left with %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			if _, err := g.Do(ctx, "", 2, nil, 1); !errors.Is(err, over) {
				t.Errorf("Do = %v, want the cause", err)
			}
		})
	}
	if err := (<-called).Err(); err != nil {
		t.Errorf("the call began with a context that is done: %v", err)
	}
	cancel(over)
	wg.Wait()
}
