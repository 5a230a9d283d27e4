package store

import (
	"errors"
	"fmt"
	"sync"

	"github.com/stint-dev/stint/internal/text"
)

// A Predicate is a compiled filter expression over an event. It does not match an event of which
// it cannot be computed, such as one whose payload lacks a field. If it would cost too much, it
// does not match either, and adds itself to the event's Costly.
type Predicate func(e *NewEvent) bool

// A KeyOf computes the key of an event from its payload and the headers that it came with.
type KeyOf func(e *NewEvent, headers map[string]string) (string, error)

// ErrNoFilters reports that the program has no language of filters.
var ErrNoFilters = errors.New(`filter expressions need CEL: import _ "github.com/stint-dev/stint/cel"`)

var filters struct {
	sync.RWMutex
	compile  func(expr string) (Predicate, error)
	keys     func(expr string) (KeyOf, error)
	compiled map[string]Predicate
}

// maxFilters is the highest number of compiled filters in the cache.
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

// CompileKey compiles an expression that returns the keys of events.
func CompileKey(expr string) (KeyOf, error) {
	filters.RLock()
	compile := filters.keys
	filters.RUnlock()
	if compile == nil {
		return nil, ErrNoFilters
	}
	f, err := compile(expr)
	if err != nil {
		return nil, fmt.Errorf("key %q: %w", text.Cut(expr, 256), err)
	}
	return f, nil
}

// CompileFilter returns a compiled expression. ErrNoFilters if the program has no language of
// filters.
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
		return nil, fmt.Errorf("filter %q: %w", text.Cut(expr, 256), err)
	}
	filters.Lock()
	defer filters.Unlock()
	if len(filters.compiled) >= maxFilters {
		clear(filters.compiled)
	}
	filters.compiled[expr] = f
	return f, nil
}

// Decode returns decode(e), which it calls once: an event is decoded once for all filters.
func (e *NewEvent) Decode(decode func(*NewEvent) (any, error)) (any, error) {
	if !e.viewed {
		e.view, e.viewErr = decode(e)
		e.viewed = true
	}
	return e.view, e.viewErr
}

// Decided reports whether a filter was computed for the event.
func (e *NewEvent) Decided(expr string) bool {
	_, known := e.passed[expr]
	return known || expr == ""
}

// Decide computes filters for the event, so that the transaction need not. An expression that
// does not compile is left for the transaction to report.
func (e *NewEvent) Decide(exprs []string) {
	for _, expr := range exprs {
		passes(expr, e)
	}
}

// passes reports whether an event passes a filter, which it computes once. All events pass the
// empty filter.
func passes(expr string, e *NewEvent) (bool, error) {
	if expr == "" {
		return true, nil
	}
	if pass, known := e.passed[expr]; known {
		return pass, nil
	}
	f, err := CompileFilter(expr)
	if err != nil {
		return false, err
	}
	if e.passed == nil {
		e.passed = map[string]bool{}
	}
	e.passed[expr] = f(e)
	return e.passed[expr], nil
}
