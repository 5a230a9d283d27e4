package guard

import (
	"runtime"
	"strings"
	"testing"
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
