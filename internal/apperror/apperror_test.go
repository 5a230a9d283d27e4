package apperror

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"runtime"
	"strings"
	"testing"
)

// errors.Is and errors.As find in an Error what they find in the error itself.
func TestTree(t *testing.T) {
	path := &fs.PathError{Op: "open", Path: "x", Err: fs.ErrNotExist}
	err := fmt.Errorf("both: %w", errors.Join(io.EOF, fmt.Errorf("file: %w", path)))
	a, p := Read(err)
	if p != nil {
		t.Fatal(p)
	}
	if a.Error() != err.Error() || Original(a) != err || Original(err) != err {
		t.Errorf("got %q of %v", a, Original(a))
	}
	if !errors.Is(a, io.EOF) || !errors.Is(a, fs.ErrNotExist) || errors.Is(a, io.ErrClosedPipe) {
		t.Error("errors.Is does not find what the error wraps")
	}
	var found *fs.PathError
	if !errors.As(a, &found) || found != path {
		t.Errorf("errors.As found %v", found)
	}
	if tree := a.Tree(); tree[0] != err || len(tree) != 6 {
		t.Errorf("the tree has %d errors: %v", len(tree), tree)
	}
}

type bad struct{ error func() string }

func (e bad) Error() string { return e.error() }

type badIs struct{ error }

func (badIs) Is(error) bool { panic("Is") }

type badAs struct{ error }

func (badAs) As(any) bool { panic("As") }

type endless struct{ error }

func (e endless) Unwrap() error { return e }

type picky struct{ error }

func (picky) Is(target error) bool {
	if target == io.EOF {
		panic("Is(EOF)")
	}
	return target == io.ErrUnexpectedEOF
}

// A method that does not return is found when the error is read.
func TestBadMethods(t *testing.T) {
	for name, err := range map[string]error{
		"Error panics":      bad{func() string { panic("Error") }},
		"Error never ends":  bad{func() string { runtime.Goexit(); return "" }},
		"Is":                badIs{io.EOF},
		"As, wrapped":       fmt.Errorf("wrapped: %w", badAs{io.EOF}),
		"Unwrap is endless": endless{io.EOF},
	} {
		if a, p := Read(err); p == nil || a != nil {
			t.Errorf("%s: got %v, %v, want a panic", name, a, p)
		}
	}
	if _, p := Read(endless{io.EOF}); p != nil && !strings.Contains(p.Error(), "finds no end") {
		t.Errorf("got %v", p)
	}
}

// One that panics only later is caught there.
func TestLatePanic(t *testing.T) {
	a, p := Read(picky{errors.New("picky")})
	if p != nil {
		t.Fatal(p)
	}
	if errors.Is(a, io.EOF) || !errors.Is(a, io.ErrUnexpectedEOF) {
		t.Error("errors.Is does not ask the method")
	}
}
