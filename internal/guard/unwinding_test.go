package guard

import (
	"runtime"
	"testing"
)

// deep calls f with that many frames above.
func deep(n int, f func()) {
	if n > 0 {
		deep(n-1, f)
		return
	}
	f()
}

func TestUnwinding(t *testing.T) {
	var got []bool
	look := func() { got = append(got, Unwinding()) }
	look()
	func() { defer look() }()
	func() {
		defer func() { recover() }()
		defer deep(100, look)
		panic("x")
	}()
	func() {
		defer func() { recover() }()
		defer look()
		var p *int
		*p++
	}()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer look()
		runtime.Goexit()
	}()
	<-done
	func() {
		defer func() { recover(); look() }() // which cannot be told
		panic("x")
	}()
	look()
	for i, want := range []bool{false, false, true, true, true, true, false} {
		if got[i] != want {
			t.Errorf("place %d: %v, want %v", i, got[i], want)
		}
	}
}

func BenchmarkUnwinding(b *testing.B) {
	b.ReportAllocs()
	deep(8, func() {
		for b.Loop() {
			Unwinding()
		}
	})
}
