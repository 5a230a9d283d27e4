// Package guard calls the app's code where neither its panic nor its runtime.Goexit reaches
// the caller: a panic would end the process, a Goexit the goroutine of the engine's or the
// host's that made the call.
package guard

import (
	"errors"
	"fmt"
	"reflect"
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

// Text returns a panic's value as text. It returns the name of the type if a method of the value
// ends its goroutine, or if the value has more than maxParts parts: package fmt would end the
// process on a value that contains itself. Package fmt catches panics of methods.
func Text(v any) string {
	if s, ok := v.(string); ok {
		return s
	}
	text := fmt.Sprintf("%T", v)
	Call(func() {
		if left := maxParts; fits(reflect.ValueOf(v), true, &left) {
			text = fmt.Sprint(v)
		}
	})
	return text
}

const maxParts = 10_000

// fits reports whether v has no more parts than are left, as package fmt walks through them:
// it follows only the outermost pointer, and asks a value that has a text of its own.
func fits(v reflect.Value, outermost bool, left *int) bool {
	if *left--; *left < 0 {
		return false
	}
	if v.IsValid() && v.CanInterface() {
		switch v.Interface().(type) {
		case error, fmt.Stringer, fmt.Formatter:
			return true
		}
	}
	switch v.Kind() {
	case reflect.Pointer:
		return !outermost || fits(v.Elem(), false, left)
	case reflect.Interface:
		return fits(v.Elem(), false, left)
	case reflect.Struct:
		for _, f := range v.Fields() {
			if !fits(f, false, left) {
				return false
			}
		}
	case reflect.Map:
		for _, key := range v.MapKeys() {
			if !fits(key, false, left) || !fits(v.MapIndex(key), false, left) {
				return false
			}
		}
	case reflect.Slice, reflect.Array:
		switch v.Type().Elem().Kind() {
		case reflect.Interface, reflect.Struct, reflect.Map, reflect.Slice, reflect.Array:
			for i := range v.Len() {
				if !fits(v.Index(i), false, left) {
					return false
				}
			}
		}
	}
	return true
}

// Recovered makes a Panic of what recover returned in a deferred function, where the stack
// is still that of the panic. Nil means runtime.Goexit: recover returns it for no panic.
func Recovered(v any) *Panic {
	if v == nil {
		v = ErrGoexit
	}
	return &Panic{Value: v, Stack: debug.Stack()}
}
