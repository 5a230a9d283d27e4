package outbox

import (
	"slices"
	"testing"
)

func size(n *int) int { return *n }

// Items come in the order in which they were posted, and a batch ends once it has the size.
func TestNext(t *testing.T) {
	b := New(size, 10)
	if b.Next() != nil {
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
}

// Only one goroutine takes items at a time. Whoever cannot is seen to by whoever does: by Release at the latest, which makes
// Posted receive.
func TestLead(t *testing.T) {
	b := New(size, 10)
	posted := func() bool {
		select {
		case <-b.Posted():
			return true
		default:
			return false
		}
	}
	b.Append(1)
	if posted() {
		t.Error("an appended item is for who appends it")
	}
	if !b.Lead() || b.Lead() {
		t.Error("want one to lead")
	}
	got := b.Next()
	b.Append(2)
	if b.Lead() {
		t.Error("two lead")
	}
	if b.Return(got); b.Close() {
		t.Error("closed while one leads")
	}
	if b.Release(); !posted() {
		t.Error("what was appended while one led is forgotten")
	}
	if b.Close() {
		t.Error("closed with items")
	}
	if !b.Lead() {
		t.Error("nobody can lead")
	}
	if got := b.Next(); !slices.Equal(got, []int{1, 2}) {
		t.Errorf("got %v, want what was put back, and then what came", got)
	}
	if b.Release(); !posted() {
		t.Error("the one that wants to close is not told")
	}
	if !b.Close() || b.Lead() {
		t.Error("want it closed, and nobody to lead after that")
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
