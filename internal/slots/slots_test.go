package slots

import (
	"context"
	"testing"
	"testing/synctest"
)

// Slots are taken and given back, once each.
func TestTake(t *testing.T) {
	p := New(3, func() { t.Error("a run was passed over, though none was") })
	var a, b Held
	p.Take(&a, 2)
	p.Take(&b, 1)
	if p.Holding() != 2 || p.free() != 0 {
		t.Errorf("%d runs have slots, %d are free, want 2 and 0", p.Holding(), p.free())
	}
	p.Release(&a)
	p.Release(&a)
	if n := p.Free(); n != 2 || p.Holding() != 1 {
		t.Errorf("%d slots are free, want 2", n)
	}
	<-p.Freed()
}

// Who found too few slots is told, once, when some are free.
func TestPassedOver(t *testing.T) {
	told := 0
	p := New(2, func() { told++ })
	if p.Fits(3) || !p.Fits(2) {
		t.Error("a run fits that needs more than all slots, or one does not that needs them")
	}
	var a, b Held
	p.Take(&a, 1)
	p.Take(&b, 1)
	if p.Free() != 0 || !p.Fits(2) {
		t.Error("slots are free, or a run does not fit that only waits")
	}
	p.Release(&a)
	p.Release(&b)
	if told != 1 {
		t.Errorf("told %d times, want once", told)
	}
}

// A run that goes on precedes those that start, in the order in which they wait.
func TestReacquire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New(2, func() {})
		var a, b, c Held
		p.Take(&a, 2)
		p.Release(&a)
		p.Take(&b, 2)
		back := make(chan *Held, 2)
		wait := func(h *Held) {
			go func() { p.Reacquire(t.Context(), h); back <- h }()
			synctest.Wait()
		}
		wait(&a)
		p.Take(&c, 1) // it had started before
		p.Release(&c)
		wait(&c)
		if n := p.Free(); n != -3 {
			t.Errorf("%d slots are free, want -3: two runs wait for 3", n)
		}
		p.Release(&b)
		if h := <-back; h != &a || p.Holding() != 1 {
			t.Error("the first to wait is not the first to go on")
		}
		p.Release(&a)
		if h := <-back; h != &c || p.Free() != 1 {
			t.Error("the second does not go on")
		}
		p.Reacquire(t.Context(), &c) // it has them
		if p.Free() != 1 {
			t.Error("slots are taken twice")
		}
	})
}

// One whose context ends goes on without slots, and has none to give back.
func TestReacquireCanceled(t *testing.T) {
	p := New(1, func() {})
	var a, b Held
	p.Take(&a, 1)
	p.Release(&a)
	p.Take(&b, 1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	p.Reacquire(ctx, &a)
	p.Release(&a)
	if p.Holding() != 1 || p.Free() != 0 {
		t.Errorf("%d runs have slots, %d are free, want 1 and 0", p.Holding(), p.Free())
	}
	p.Release(&b)
	if p.Free() != 1 {
		t.Errorf("%d slots are free, want 1", p.Free())
	}
}
