package outbox

import (
	"slices"
	"testing"
)

func size(n *int) int { return *n }

// Items come in the order in which they were posted, and a batch ends once it has the size.
func TestNext(t *testing.T) {
	b := New(size, 10)
	if b.Next() != nil || !b.Empty() {
		t.Error("a new one has items")
	}
	for _, n := range []int{4, 7, 1, 50, 2} {
		b.Post(n)
	}
	<-b.Posted()
	select {
	case <-b.Posted():
		t.Error("it receives once for each Post")
	default:
	}
	for _, want := range [][]int{{4, 7}, {1, 50}, {2}, nil} {
		got := b.Next()
		if !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		b.Reuse(got)
	}
	if !b.Empty() {
		t.Error("items are left")
	}
}

// A batch is not overwritten by what is posted while it is in use, and is empty once it is taken back.
func TestReuse(t *testing.T) {
	b := New(size, 10)
	for round := range 5 {
		for n := range 3 {
			b.Post(n + 1)
		}
		got := b.Next()
		b.Post(9)
		if !slices.Equal(got, []int{1, 2, 3}) {
			t.Fatalf("round %d: got %v", round, got)
		}
		b.Reuse(got)
		if !slices.Equal(got, []int{0, 0, 0}) {
			t.Errorf("round %d: what was taken back is kept: %v", round, got)
		}
		if got = b.Next(); !slices.Equal(got, []int{9}) {
			t.Fatalf("round %d: got %v", round, got)
		}
		b.Reuse(got)
	}
}

// What many items needed is not kept for ever.
func TestLargeBatch(t *testing.T) {
	b := New(func(*int) int { return 0 }, 10)
	for n := range maxSpare + 1 {
		b.Post(n)
	}
	b.Reuse(b.Next())
	if b.spare != nil {
		t.Errorf("room for %d items is kept", cap(b.spare))
	}
}
