package store

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/stint-dev/stint/internal/text"
)

// A Predicate is a compiled filter expression over an event and the payload of a filter, which is
// JSON or nil. It does not match an event for which it cannot be computed, such as one whose
// payload lacks a field. If it would cost too much, it does not match either, and adds itself to
// the event's Costly.
type Predicate func(e *NewEvent, payload []byte) bool

// A FilterCompiler compiles a filter expression. It also returns the names of the variables that it
// reads.
type FilterCompiler func(expr string) (p Predicate, reads []string, err error)

// Names of the variables that filters of waits and of triggers may read. Filters of waits have no payload, and are computed
// before the event has an ID.
var (
	WaitVars    = []string{"input", "metadata", "additional_metadata", "key", "event_key"}
	TriggerVars = append(slices.Clip(WaitVars), varID)
)

// The variables on which the result for one event may depend.
const (
	varPayload = "payload"
	varID      = "event_id"
)

// A KeyOf computes the key of an event from its payload and the headers of the request that it came with.
type KeyOf func(e *NewEvent, headers map[string]string) (string, error)

// ErrNoFilters reports that the program has no language of filters.
var ErrNoFilters = errors.New(`filter expressions need CEL: import _ "github.com/stint-dev/stint/cel"`)

var filters struct {
	sync.RWMutex
	compile  FilterCompiler
	keys     func(expr string) (KeyOf, error)
	compiled map[string]*compiledFilter
}

type compiledFilter struct {
	passes  Predicate
	reads   []string
	payload bool // it reads the filter's payload
	id      bool // it reads the event's ID
}

// maxFilters is the highest number of compiled filters in the cache.
const maxFilters = 10_000

// RegisterFilters sets the language of filters, for the whole process. Package cel
// calls it when it is imported.
func RegisterFilters(compile FilterCompiler) {
	filters.Lock()
	defer filters.Unlock()
	filters.compile, filters.compiled = compile, map[string]*compiledFilter{}
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

// CompileFilter returns a compiled expression, which may read the named variables. If none is
// named it may read all. It returns ErrNoFilters if the program has no language of filters.
func CompileFilter(expr string, vars ...string) (Predicate, error) {
	f, err := compileFilter(expr)
	if err != nil {
		return nil, err
	}
	if err := readsOnly("filter", expr, f.reads, vars); err != nil {
		return nil, err
	}
	return f.passes, nil
}

// readsOnly returns an error if an expression reads a variable that is not among vars; none: it may read any.
func readsOnly(what, expr string, reads, vars []string) error {
	for _, name := range reads {
		if len(vars) > 0 && !slices.Contains(vars, name) {
			return fmt.Errorf("%s %q: %s has no value here: want %s", what, text.Cut(expr, 256), name, strings.Join(vars, ", "))
		}
	}
	return nil
}

func compileFilter(expr string) (*compiledFilter, error) {
	filters.RLock()
	f, compile := filters.compiled[expr], filters.compile
	filters.RUnlock()
	if f != nil {
		return f, nil
	}
	if compile == nil {
		return nil, ErrNoFilters
	}
	p, reads, err := compile(expr)
	if err != nil {
		return nil, fmt.Errorf("filter %q: %w", text.Cut(expr, 256), err)
	}
	f = &compiledFilter{p, reads, slices.Contains(reads, varPayload), slices.Contains(reads, varID)}
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

// A FilterCall is a filter expression with the payload of the filter, which is JSON or empty.
type FilterCall struct{ Expr, Payload string }

// passedKey is what the result of a filter for one event depends on.
type passedKey struct {
	FilterCall
	id ID
}

// key returns under which key an event has the filter's result.
func (f *compiledFilter) key(e *NewEvent, c FilterCall) passedKey {
	k := passedKey{FilterCall: FilterCall{Expr: c.Expr}}
	if f.payload {
		k.Payload = c.Payload
	}
	if f.id {
		k.id = e.Stored
	}
	return k
}

// Undecided reports whether a filter can be computed for the event and was not. It is false for a
// filter that does not compile, which is left for the transaction to report. It is false for one
// that reads the event's ID, which is computed in the transaction that gives the event its ID.
func (e *NewEvent) Undecided(c FilterCall) bool {
	if c.Expr == "" {
		return false
	}
	f, err := compileFilter(c.Expr)
	if err != nil || f.id {
		return false
	}
	_, known := e.passed[f.key(e, c)]
	return !known
}

// Decide computes filters for the event, so that the transaction need not.
func (e *NewEvent) Decide(calls []FilterCall) {
	for _, c := range calls {
		if e.Undecided(c) {
			passes(c, e)
		}
	}
}

// passes reports whether an event passes a filter, which it computes once. All events pass the
// empty filter.
func passes(c FilterCall, e *NewEvent) (bool, error) {
	if c.Expr == "" {
		return true, nil
	}
	f, err := compileFilter(c.Expr)
	if err != nil {
		return false, err
	}
	key := f.key(e, c)
	if pass, known := e.passed[key]; known {
		return pass, nil
	}
	if e.passed == nil {
		e.passed = map[passedKey]bool{}
	}
	var payload []byte
	if c.Payload != "" {
		payload = []byte(c.Payload)
	}
	pass := f.passes(e, payload)
	e.passed[key] = pass
	return pass, nil
}
