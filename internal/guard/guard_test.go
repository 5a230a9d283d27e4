package guard

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"
)

func panics()  { panic("oh") }
func derefs()  { var p *int; *p++ }
func ends()    { runtime.Goexit() }
func returns() {}

func TestCall(t *testing.T) {
	for _, test := range []struct {
		name        string
		f           func()
		value, from string
	}{
		{"panic", panics, "oh", "guard.panics"},
		{"panic(nil)", func() { panic(nil) }, "nil", "guard.TestCall"},
		{"nil dereference", derefs, "nil pointer", "guard.derefs"},
		{"Goexit", ends, "runtime.Goexit", "guard.ends"},
		{"panic while a panic unwinds", func() { defer panics(); derefs() }, "oh", "guard.derefs"},
		{"Goexit while a panic unwinds", func() { defer ends(); panics() }, "runtime.Goexit", "guard.ends"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := Call(test.f)
			if p == nil || !strings.Contains(p.Error(), test.value) || !strings.Contains(string(p.Stack), test.from) {
				t.Errorf("Call = %v, want %q and a stack with %s", p, test.value, test.from)
				if p != nil {
					t.Logf("%s", p.Stack)
				}
			}
		})
	}
	if p := Call(returns); p != nil {
		t.Errorf("Call of a function that returns = %v", p)
	}
}

func BenchmarkCall(b *testing.B) {
	for b.Loop() {
		Call(returns)
	}
}

// A value that is in itself has its type as text; others have what package fmt says.
func TestText(t *testing.T) {
	m := map[string]any{}
	m["m"] = m
	s := []any{nil}
	s[0] = s
	var twice any = 1
	for range 30 { // of 2^30 parts
		twice = []any{twice, twice}
	}
	type node struct{ next any }
	ring := &node{}
	ring.next = *ring
	inStruct := node{m}
	for _, test := range []struct {
		v    any
		want string
	}{
		{m, "map[string]interface {}"}, {&m, "*map[string]interface {}"}, {s, "[]interface {}"}, {[]map[string]any{m}, "[]map[string]interface {}"},
		{inStruct, "guard.node"}, {&inStruct, "*guard.node"}, {[1]node{inStruct}, "[1]guard.node"}, {twice, "[]interface {}"},
		{ring, "&{{<nil>}}"}, {nil, "<nil>"}, {(*node)(nil), "<nil>"}, {7, "7"}, {[]byte("ab"), "[97 98]"}, {map[string]int{"a": 1}, "map[a:1]"},
		{fmt.Errorf("in %w", errors.ErrUnsupported), "in unsupported operation"}, {make([]int, 3), "[0 0 0]"}, {[]any{1, "a", nil}, "[1 a <nil>]"},
		{map[any]int{[1]any{keysOf(m)}: 1}, "map[[[m]]:1]"}, {time.Minute, "1m0s"}, {struct{ d time.Duration }{1}, "{1}"},
	} {
		if got := Text(test.v); got != test.want {
			t.Errorf("%T: %.100s, want %s", test.v, got, test.want)
		}
	}
	if got := Text(make([]int, 100_000)); len(got) < 200_000 {
		t.Errorf("many numbers: %d bytes", len(got))
	}
}

func keysOf(m map[string]any) (s [1]string) {
	for k := range m {
		s[0] = k
	}
	return s
}
