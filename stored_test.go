package stint

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/stint-dev/stint/internal/failure"
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
		e := storedError(failure.Decode(b))
		if e == nil {
			t.Fatal("no error")
		}
		if again := storedError(failure.Decode(encodeFailure(e))); again.Error() != e.Error() && json.Valid(b) {
			t.Errorf("%q reads as %q, and stored again as %q", b, e, again)
		}
		jsonx.Texts(b)
	})
}

// What an error is survives the file.
func TestStoredErrors(t *testing.T) {
	var p *PanicError
	for _, is := range []error{ErrTimeout, ErrCanceled} {
		if got := storedError(failure.Decode(encodeFailure(is))); !errors.Is(got, is) {
			t.Errorf("%v came back as %v", is, got)
		}
	}
	if got := storedError(failure.Decode(encodeFailure(&PanicError{"boom", []byte("stack")}))); !errors.As(got, &p) || string(p.Stack) != "stack" {
		t.Errorf("a panic came back as %#v", got)
	}
}
