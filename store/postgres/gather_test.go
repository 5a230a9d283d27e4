package postgres

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
)

// A gatherTest is a gatherer whose reads wait until they are let go on.
type gatherTest struct {
	gatherer[string]
	began chan []int64
	goOn  chan error
	wg    sync.WaitGroup
}

func newGatherTest(ctx context.Context) *gatherTest {
	x := &gatherTest{began: make(chan []int64), goOn: make(chan error)}
	x.life = ctx
	x.read = func(_ context.Context, keys []int64) (map[int64]string, error) {
		x.began <- keys
		if err := <-x.goOn; err != nil {
			return nil, err
		}
		all := map[int64]string{}
		for _, k := range keys {
			if k != 99 {
				all[k] = string(rune('a' + k))
			}
		}
		return all, nil
	}
	return x
}

// call reads, and sends what it returns.
func (x *gatherTest) call(ctx context.Context, key int64) chan string {
	got := make(chan string, 1)
	x.wg.Go(func() {
		v, ok, err := x.get(ctx, key)
		switch {
		case err != nil:
			got <- err.Error()
		case !ok:
			got <- "none"
		default:
			got <- v
		}
	})
	return got
}

// waits waits until n calls wait to be read with others, and some reads are under way.
func (x *gatherTest) waits(t *testing.T, n, under int) {
	t.Helper()
	for {
		x.mu.Lock()
		is := len(x.queued) == n && x.under == under
		x.mu.Unlock()
		if is {
			return
		}
		if t.Context().Err() != nil {
			t.Fatal("the test ended")
		}
	}
}

// Calls that come while others read are read together, after they came. What one returns is of its own run.
func TestGather(t *testing.T) {
	x := newGatherTest(t.Context())
	first, second := x.call(t.Context(), 0), x.call(t.Context(), 1)
	if a, b := <-x.began, <-x.began; len(a) != 1 || len(b) != 1 {
		t.Errorf("read %v and %v at first, want each by itself", a, b)
	}
	ctx, cancel := context.WithCancel(t.Context())
	third, none, gone := x.call(t.Context(), 2), x.call(t.Context(), 99), x.call(ctx, 3)
	x.waits(t, 3, 2)
	cancel() // its caller gives up, and others do not wait for that
	if got := <-gone; got != context.Canceled.Error() {
		t.Errorf("a call whose context ended returned %q", got)
	}
	x.goOn <- nil
	together := <-x.began
	if slices.Sort(together); !slices.Equal(together, []int64{2, 3, 99}) {
		t.Errorf("read %v together, want what waited", together)
	}
	x.goOn <- nil
	x.goOn <- nil
	for got, want := range map[chan string]string{first: "a", second: "b", third: "c", none: "none"} {
		if s := <-got; s != want {
			t.Errorf("got %q, want %q", s, want)
		}
	}
	x.waits(t, 0, 0)
	again := x.call(t.Context(), 4)
	if keys := <-x.began; len(keys) != 1 {
		t.Errorf("read %v, want one by itself: nothing was under way", keys)
	}
	x.goOn <- nil
	if got := <-again; got != "e" {
		t.Errorf("got %q, want e", got)
	}
	x.waits(t, 0, 0)
	x.wg.Wait()
}

// What fails a read for several callers may concern one of them: each reads by itself.
func TestGatherFails(t *testing.T) {
	x := newGatherTest(t.Context())
	x.call(t.Context(), 0)
	x.call(t.Context(), 1)
	<-x.began
	<-x.began
	a, b := x.call(t.Context(), 2), x.call(t.Context(), 3)
	x.waits(t, 2, 2)
	x.goOn <- nil
	<-x.began
	x.goOn <- nil // of the other
	x.goOn <- errors.New("together")
	for range 2 {
		<-x.began
	}
	x.goOn <- nil
	x.goOn <- nil
	if got := [2]string{<-a, <-b}; got != [2]string{"c", "d"} {
		t.Errorf("got %v, want c and d", got)
	}
	x.wg.Wait()
}

// Who still waits when the store closes reads by itself, and so do later calls. Closing waits for what is read for several.
func TestGatherShuts(t *testing.T) {
	x := newGatherTest(t.Context())
	first, second := x.call(t.Context(), 0), x.call(t.Context(), 1)
	<-x.began
	<-x.began
	third := x.call(t.Context(), 2)
	x.waits(t, 1, 2)
	x.goOn <- nil
	if keys := <-x.began; !slices.Equal(keys, []int64{2}) {
		t.Errorf("read %v, want what waited", keys)
	}
	fourth := x.call(t.Context(), 3)
	x.waits(t, 1, 2)
	shut := make(chan bool)
	go func() { x.shut(); close(shut) }()
	if keys := <-x.began; !slices.Equal(keys, []int64{3}) {
		t.Errorf("read %v after closing, want the call that waited", keys)
	}
	select {
	case <-shut:
		t.Error("closed before what is read for a call has ended")
	default:
	}
	for range 3 {
		x.goOn <- nil
	}
	for i, got := range []chan string{first, second, third, fourth} {
		if s, want := <-got, string(rune('a'+i)); s != want {
			t.Errorf("got %q, want %q", s, want)
		}
	}
	<-shut
	last := x.call(t.Context(), 4)
	<-x.began
	x.goOn <- nil
	if s := <-last; s != "e" {
		t.Errorf("got %q after closing, want e", s)
	}
	x.wg.Wait()
}
