// Package guard calls the app's code where neither its panic nor its runtime.Goexit reaches
// the caller: a panic would end the process, a Goexit the goroutine of the engine's or the
// host's that made the call.
package guard

import (
	"errors"
	"fmt"
	"runtime/debug"
)

// A Panic is a panic, or a call of runtime.Goexit, of a function that was called here.
type Panic struct {
	Value any    // what was passed to panic; ErrGoexit
	Stack []byte // of the goroutine, as it was when it panicked
}

func (p *Panic) Error() string { return "panic: " + Text(p.Value) }

// ErrGoexit is the Value of a Panic that was a call of runtime.Goexit.
var ErrGoexit = errors.New("it ended its goroutine (runtime.Goexit)")

// Call calls f on a goroutine of its own, waits for it, and returns its panic or its call
// of runtime.Goexit; nil if it returned. The goroutine costs about 0.5 µs.
func Call(f func()) *Panic {
	done := make(chan *Panic, 1)
	go func() {
		returned := false
		defer func() {
			if returned {
				done <- nil
			} else {
				done <- Recovered(recover())
			}
		}()
		f()
		returned = true
	}()
	return <-done
}

// Text is a panic's value as text. It is the type's name where a method of the value ends
// its goroutine; package fmt catches the panic of one.
func Text(v any) string {
	if s, ok := v.(string); ok {
		return s
	}
	text := fmt.Sprintf("%T", v)
	Call(func() { text = fmt.Sprint(v) })
	return text
}

// Recovered makes a Panic of what recover returned in a deferred function, where the stack
// is still that of the panic. Nil means runtime.Goexit: recover returns it for no panic.
func Recovered(v any) *Panic {
	if v == nil {
		v = ErrGoexit
	}
	return &Panic{Value: v, Stack: debug.Stack()}
}
