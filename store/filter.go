package store

import (
	"errors"
	"fmt"
	"sync"
)

// A Predicate is a compiled filter expression over an event. One that cannot be computed of an
// event, such as for a field that its payload lacks, does not match it.
type Predicate func(e *NewEvent) bool

// A KeyOf makes the key of an event of its payload and of the headers that it came with.
type KeyOf func(e *NewEvent, headers map[string]string) (string, error)

// ErrNoFilters: the program lacks a language of filters.
var ErrNoFilters = errors.New(`filter expressions need CEL: import _ "github.com/stint-dev/stint/cel"`)

var filters struct {
	sync.RWMutex
	compile  func(expr string) (Predicate, error)
	keys     func(expr string) (KeyOf, error)
	compiled map[string]Predicate
}

// maxFilters is how many compiled filters are kept.
const maxFilters = 10_000

// RegisterFilters sets the language of filters, for the whole process. Package cel
// calls it when it is imported.
func RegisterFilters(compile func(expr string) (Predicate, error)) {
	filters.Lock()
	defer filters.Unlock()
	filters.compile, filters.compiled = compile, map[string]Predicate{}
}

// RegisterKeys sets the language of CompileKey's expressions. Package cel calls it.
func RegisterKeys(compile func(expr string) (KeyOf, error)) {
	filters.Lock()
	defer filters.Unlock()
	filters.keys = compile
}

// CompileKey compiles an expression that gives the keys of events.
func CompileKey(expr string) (KeyOf, error) {
	filters.RLock()
	compile := filters.keys
	filters.RUnlock()
	if compile == nil {
		return nil, ErrNoFilters
	}
	f, err := compile(expr)
	if err != nil {
		return nil, fmt.Errorf("key %q: %w", expr, err)
	}
	return f, nil
}

// CompileFilter compiles an expression, or finds it compiled. It is ErrNoFilters if
// there is no language of filters.
func CompileFilter(expr string) (Predicate, error) {
	filters.RLock()
	f, compile := filters.compiled[expr], filters.compile
	filters.RUnlock()
	if f != nil {
		return f, nil
	}
	if compile == nil {
		return nil, ErrNoFilters
	}
	f, err := compile(expr)
	if err != nil {
		return nil, fmt.Errorf("filter %q: %w", expr, err)
	}
	filters.Lock()
	defer filters.Unlock()
	if len(filters.compiled) >= maxFilters {
		clear(filters.compiled)
	}
	filters.compiled[expr] = f
	return f, nil
}

// passes reports whether an event passes a filter; an empty one passes all.
func passes(expr string, e *NewEvent) (bool, error) {
	if expr == "" {
		return true, nil
	}
	f, err := CompileFilter(expr)
	return err == nil && f(e), err
}
