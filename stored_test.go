package stint

import (
	"encoding/json"
	"errors"
	"math"
	"testing"
	"time"

	"github.com/stint-dev/stint/internal/jsonx"
)

// Whatever a file holds where an error or metadata should be, it is read without a
// panic, and an error has a text.
func FuzzStored(f *testing.F) {
	f.Add([]byte(`{"kind":"panic","message":"m","stack":"s"}`))
	f.Add([]byte(`{"kind":"timeout"}`))
	f.Add([]byte(`{"kind":7}`))
	f.Add([]byte("\xff\x00"))
	f.Add([]byte(`{"a":"b"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		e := decodeFailure(b).err()
		if e == nil {
			t.Fatal("no error")
		}
		if again := decodeFailure(encodeFailure(e)).err(); again.Error() != e.Error() && json.Valid(b) {
			t.Errorf("%q reads as %q, and stored again as %q", b, e, again)
		}
		jsonx.Texts(b)
	})
}

// What an error is survives the file.
func TestStoredErrors(t *testing.T) {
	var p *PanicError
	for _, is := range []error{ErrTimeout, ErrCanceled} {
		if got := decodeFailure(encodeFailure(is)).err(); !errors.Is(got, is) {
			t.Errorf("%v came back as %v", is, got)
		}
	}
	if got := decodeFailure(encodeFailure(&PanicError{"boom", []byte("stack")})).err(); !errors.As(got, &p) || string(p.Stack) != "stack" {
		t.Errorf("a panic came back as %#v", got)
	}
}

// Delay before attempt k+1: min(max, factor^k seconds), give or take 10%.
func TestBackoff(t *testing.T) {
	for _, c := range []struct {
		factor float64
		max    time.Duration
		k      int
		want   time.Duration
	}{
		{0, 0, 1, 0},
		{1, time.Minute, 9, time.Second},
		{2, time.Hour, 1, 2 * time.Second},
		{2, time.Hour, 10, 1024 * time.Second},
		{2, time.Hour, 12, time.Hour},
		{2, time.Hour, 2000, time.Hour},
		{1.5, time.Hour, 2, 2250 * time.Millisecond},
		{math.MaxFloat64, time.Hour, 1000, time.Hour},
		{10, math.MaxInt64, 100, math.MaxInt64},
	} {
		b := backoff{c.factor, c.max}
		if got := b.delay(c.k); got != c.want {
			t.Errorf("factor %v, max %v: delay before attempt %d is %v, want %v", c.factor, c.max, c.k+1, got, c.want)
		}
		for range 100 {
			if got := b.jittered(c.k); float64(got) < 0.89*float64(c.want) || got > c.max || float64(got) > 1.11*float64(c.want) {
				t.Fatalf("factor %v, max %v: jittered to %v, want about %v", c.factor, c.max, got, c.want)
			}
		}
	}
}
