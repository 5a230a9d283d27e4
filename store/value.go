package store

import (
	"fmt"
	"sync"

	"github.com/stint-dev/stint/internal/text"
)

// Vars are what an expression for a value reads. A field that is nil or empty is a variable without a
// value: an expression that reads it fails.
type Vars struct {
	Input    []byte            // JSON: input
	Metadata []byte            // a JSON object of strings: metadata, or additional_metadata; nil: it is empty
	Output   []byte            // JSON: output
	Payload  []byte            // JSON: payload
	Parents  map[string][]byte // JSON by name: parents
	Headers  map[string]string // of a request, with names in lower case: headers
	EventID  string            // event_id
	EventKey string            // event_key, or key
	RunID    string            // workflow_run_id

	decoded map[string]any
	err     error
}

// Decode returns decode(v), which it calls once: variables are decoded once for all expressions.
func (v *Vars) Decode(decode func(*Vars) (map[string]any, error)) (map[string]any, error) {
	if v.decoded == nil && v.err == nil {
		v.decoded, v.err = decode(v)
	}
	return v.decoded, v.err
}

// A Kind is the type of an expression's value.
type Kind uint8

// The kinds of values.
const (
	KindString Kind = iota // string
	KindNumber             // int64, uint64 or float64
	KindBool               // bool
)

// A Value computes an expression. Its error is that of the expression, such as that it reads a
// missing field or costs too much.
type Value func(*Vars) (any, error)

// A ValueCompiler compiles an expression. It also returns the names of the variables that it reads.
type ValueCompiler func(expr string, want Kind) (v Value, reads []string, err error)

var values struct {
	sync.RWMutex
	compile  ValueCompiler
	compiled map[valueKey]compiledValue
}

type valueKey struct {
	expr string
	want Kind
}

type compiledValue struct {
	value Value
	reads []string
}

// RegisterValues sets the language of expressions for values, for the whole process. Package cel calls
// it when it is imported.
func RegisterValues(compile ValueCompiler) {
	values.Lock()
	defer values.Unlock()
	values.compile, values.compiled = compile, map[valueKey]compiledValue{}
}

// CompileValue returns a compiled expression, which may read the named variables. If none is named
// it may read all. It returns ErrNoFilters if the program has no language of expressions.
func CompileValue(expr string, want Kind, vars ...string) (Value, error) {
	v, err := compileValue(valueKey{expr, want})
	if err != nil {
		return nil, err
	}
	if err := readsOnly("expression", expr, v.reads, vars); err != nil {
		return nil, err
	}
	return v.value, nil
}

func compileValue(key valueKey) (compiledValue, error) {
	values.RLock()
	v, compile := values.compiled[key], values.compile
	values.RUnlock()
	if v.value != nil {
		return v, nil
	}
	if compile == nil {
		return v, ErrNoFilters
	}
	f, reads, err := compile(key.expr, key.want)
	if err != nil {
		return v, fmt.Errorf("expression %q: %w", text.Cut(key.expr, 256), err)
	}
	v = compiledValue{func(vars *Vars) (any, error) {
		x, err := f(vars)
		if err != nil {
			return nil, fmt.Errorf("expression %q: %w", text.Cut(key.expr, 256), err)
		}
		return x, nil
	}, reads}
	values.Lock()
	defer values.Unlock()
	if len(values.compiled) >= maxFilters {
		clear(values.compiled)
	}
	values.compiled[key] = v
	return v, nil
}
