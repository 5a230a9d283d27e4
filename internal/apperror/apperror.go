// Package apperror reads the errors that the app's code returns where a panic of their methods is caught: later they
// are compared and shown where one would end the process.
package apperror

import (
	"errors"
	"fmt"
	"reflect"

	"github.com/stint-dev/stint/internal/guard"
)

// An Error is an error that the app's code returned. Its text and the errors it wraps are
// read once, and its methods are called only where a panic is caught. errors.Is and
// errors.As work as on the error itself.
type Error struct {
	err     error
	text    string
	tree    []error // err and what it wraps, in the order of errors.Is
	methods bool    // an error in tree has a method Is or As
}

// maxTree is the highest number of errors that an error may wrap. An error with more wraps itself.
const maxTree = 1 << 16

// Read reads an error. The panic is that of its methods, if they panic, end their goroutine, or do not end.
func Read(err error) (a *Error, p *guard.Panic) {
	p = guard.Call(func() { a = read(err) })
	return a, p
}

// Original returns the error as the app returned it.
func Original(err error) error {
	if a, ok := err.(*Error); ok {
		return a.err
	}
	return err
}

// errProbe is an error that no other is.
var errProbe = errors.New("probe")

func read(err error) *Error {
	a := &Error{err: err, text: err.Error()}
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
	if a.methods { // so that they panic here if they do
		a.is(errProbe)
		a.as(new(*Error))
	}
	return a
}

// Tree returns the error and what it wraps, in the order of errors.Is.
func (a *Error) Tree() []error { return a.tree }

func (a *Error) Error() string { return a.text }

// Is implements the interface of errors.Is.
func (a *Error) Is(target error) (is bool) {
	if !a.methods {
		return a.is(target)
	}
	guard.Call(func() { is = a.is(target) })
	return is
}

func (a *Error) is(target error) bool {
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

// As implements the interface of errors.As.
func (a *Error) As(target any) (as bool) {
	if !a.methods {
		return a.as(target)
	}
	guard.Call(func() { as = a.as(target) })
	return as
}

func (a *Error) as(target any) bool {
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
