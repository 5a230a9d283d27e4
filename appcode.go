package stint

import (
	"fmt"
	"reflect"

	"github.com/stint-dev/stint/internal/guard"
)

// What the app gives the engine to call, and the errors that it returns, may panic or end
// its goroutine. A handler, and what it calls, runs on a goroutine of the engine's that
// expects both: see execution.execute and future.run. All else is called through here.

// guarded calls f, which calls code of the app's, on a goroutine of its own. A panic, or a
// call of runtime.Goexit, is a *PanicError.
func guarded(f func() error) (err error) {
	if p := guard.Call(func() { err = f() }); p != nil {
		return vet(panicOf(p))
	}
	return err
}

func panicOf(p *guard.Panic) *PanicError { return &PanicError{Value: p.Value, Stack: p.Stack} }

// panicError makes an error of what recover returned in a deferred function; nil means
// runtime.Goexit.
func panicError(v any) error { return vet(panicOf(guard.Recovered(v))) }

// An appError is an error of the app's as the engine deals with it: its text and what it
// wraps were read once, where a panic is caught, and its methods are called there alone.
// It answers errors.Is and errors.As as the error does.
type appError struct {
	err     error
	text    string
	tree    []error // err and what it wraps, in the order of errors.Is
	methods bool    // some of tree have a method Is or As
}

// maxTree is how many errors one may wrap. One with more wraps itself.
const maxTree = 1 << 16

// vet returns err, which code of the app's returned, as an *appError, or as a *PanicError if
// its methods panic, end their goroutine, or find no end.
func vet(err error) error {
	switch err.(type) {
	case nil, *appError:
		return err
	}
	var a *appError
	p := guard.Call(func() { a = inspect(err) })
	if p == nil {
		return a
	}
	bad := &PanicError{Value: guard.Text(p.Value), Stack: p.Stack}
	if of, ok := err.(*PanicError); ok && of != nil { // its value is an error that does
		bad = &PanicError{Value: fmt.Sprintf("%T, of which: %v", of.Value, bad), Stack: of.Stack}
	}
	return bad
}

// original returns the error of the app's as the app knows it.
func original(err error) error {
	if a, ok := err.(*appError); ok {
		return a.err
	}
	return err
}

func inspect(err error) *appError {
	a := &appError{err: err, text: err.Error()}
	for todo := []error{err}; len(todo) > 0; {
		e := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if e == nil {
			continue
		}
		if len(a.tree) == maxTree {
			panic(fmt.Sprintf("an error of type %T whose Unwrap finds no end: %s", err, a.text))
		}
		a.tree = append(a.tree, e)
		switch x := e.(type) {
		case interface{ Unwrap() error }:
			todo = append(todo, x.Unwrap())
		case interface{ Unwrap() []error }:
			all := x.Unwrap()
			for i := len(all) - 1; i >= 0; i-- {
				todo = append(todo, all[i])
			}
		}
	}
	for _, e := range a.tree {
		_, is := e.(interface{ Is(error) bool })
		_, as := e.(interface{ As(any) bool })
		a.methods = a.methods || is || as
	}
	if a.methods { // if they panic, now is the time
		a.is(ErrTimeout)
		a.is(ErrCanceled)
		a.as(new(*nonRetryable))
	}
	return a
}

func (a *appError) Error() string { return a.text }

// Is implements what errors.Is asks.
func (a *appError) Is(target error) (is bool) {
	if !a.methods {
		return a.is(target)
	}
	guard.Call(func() { is = a.is(target) })
	return is
}

func (a *appError) is(target error) bool {
	same := reflect.TypeOf(target).Comparable()
	for _, e := range a.tree {
		if same && e == target {
			return true
		}
		if x, ok := e.(interface{ Is(error) bool }); ok && x.Is(target) {
			return true
		}
	}
	return false
}

// As implements what errors.As asks.
func (a *appError) As(target any) (as bool) {
	if !a.methods {
		return a.as(target)
	}
	guard.Call(func() { as = a.as(target) })
	return as
}

func (a *appError) as(target any) bool {
	into := reflect.ValueOf(target).Elem()
	for _, e := range a.tree {
		if reflect.TypeOf(e).AssignableTo(into.Type()) {
			into.Set(reflect.ValueOf(e))
			return true
		}
		if x, ok := e.(interface{ As(any) bool }); ok && x.As(target) {
			return true
		}
	}
	return false
}
