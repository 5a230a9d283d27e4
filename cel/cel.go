// Package cel provides the language of filter expressions: CEL, the Common Expression Language
// (https://cel.dev). A program that uses WithFilter, WithEventFilter, CreateFilter or a key of
// WebhookHandler imports it for its side effect:
//
//	import _ "github.com/stint-dev/stint/cel"
//
// An expression is true or false for an event. Its variables are:
//
//   - input, the event's payload
//   - metadata, a map of strings; also by Hatchet's name additional_metadata
//   - key, the event's key; also by Hatchet's name event_key
//   - scope, which is empty if the event has none; not in expressions of webhooks
//   - event_id, in expressions that decide which runs an event starts
//   - payload, that of the filter, in filters of a task; an empty object if it has none
//
// For example:
//
//	input.total > 100 && input.country in ["NO", "SE"] && metadata.source == "shop"
//
// A number in the payload is an int if it has no fraction (10, 10.0 and 1e1 are the same), a uint
// if it is too large for an int, and a double if it has a fraction. All three compare exactly with
// each other, and can be added, subtracted, multiplied and divided: an integer with a double gives
// a double. Dividing two numbers of the payload does not round: 10 by 4 is 2.5.
//
// An event does not match if the expression cannot be computed for it: if a field is missing or
// has another type, if it reads an integer of more than 64 bits, or if it costs too much. Each
// operator and function has a cost that follows from the size of its arguments. It is not called
// if its cost exceeds the limit of an expression, about 10 ms of work. The limit is a cost and not
// a time, so the result does not depend on how busy the machine is.
//
// This package adds about 14 MiB to a program; that is why it is separate.
package cel

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/ext"
	"cel.dev/cel-go/interpreter"
	"github.com/stint-dev/stint/store"
)

// Limits of an expression.
const (
	maxLength = 4096    // bytes
	maxCost   = 100_000 // of one evaluation, in CEL's units: about 10 ms
	maxLoops  = 20      // the time to check types is cubic in the nesting of loops: 2 s for 80
)

func init() {
	store.RegisterFilters(compile)
	store.RegisterKeys(compileKey)
	store.RegisterValues(compileValue)
}

// env is the environment of filters, keys that of the event keys of webhooks.
var (
	env  = newEnv(slices.Concat(ofEvents, ofFilters)...)
	keys = newEnv(append(slices.Clip(ofEvents), cel.Variable("headers", texts))...)
)

// ofEvents are the variables of filters.
var ofEvents = []cel.EnvOption{
	cel.Variable("input", cel.DynType),
	cel.Variable("metadata", texts), cel.Variable("additional_metadata", texts),
	cel.Variable("key", cel.StringType), cel.Variable("event_key", cel.StringType),
}

// ofFilters are those that keys lack.
var ofFilters = []cel.EnvOption{cel.Variable("payload", cel.DynType), cel.Variable("event_id", cel.StringType),
	cel.Variable("scope", cel.StringType)}

func newEnv(variables ...cel.EnvOption) *cel.Env {
	e, err := cel.NewEnv(append(slices.Clip(variables),
		checksum,
		cel.CrossTypeNumericComparisons(true),
		cel.OptionalTypes(),
		ext.Strings(),
	)...)
	if err != nil {
		panic(err) // impossible: the declarations above are constant
	}
	return e
}

func compile(expr string) (store.Predicate, []string, error) {
	program, checked, err := newProgram(env, expr, []*cel.Type{cel.BoolType}, "true or false")
	if err != nil {
		return nil, nil, err
	}
	names := reads(checked)
	return func(e *store.NewEvent, payload []byte) bool {
		more, err := filterVars(e, payload, names)
		if err != nil {
			return false
		}
		v, err := evaluate(program, e, more)
		if tooCostly(err) {
			e.Costly = append(e.Costly, expr)
		}
		ok, is := v.(bool)
		return err == nil && is && ok
	}, names, nil
}

// filterVars returns the variables beside those of the event which an expression reads.
func filterVars(e *store.NewEvent, payload []byte, reads []string) (map[string]any, error) {
	vars := map[string]any{}
	if e.Stored != (store.ID{}) {
		vars["event_id"] = e.Stored.String()
	}
	if !slices.Contains(reads, "payload") {
		return vars, nil
	}
	if payload == nil {
		payload = []byte("{}")
	}
	v, err := decode(payload)
	vars["payload"] = v
	return vars, err
}

func compileKey(expr string) (store.KeyOf, error) {
	program, _, err := newProgram(keys, expr, []*cel.Type{cel.StringType}, "a string")
	if err != nil {
		return nil, err
	}
	return func(e *store.NewEvent, headers map[string]string) (string, error) {
		v, err := evaluate(program, e, map[string]any{"headers": headers})
		if err != nil {
			return "", err
		}
		key, is := v.(string)
		if !is {
			return "", errors.New("not a string")
		}
		return key, nil
	}, nil
}

// newProgram compiles an expression whose value has one of the types; none: any.
func newProgram(env *cel.Env, expr string, types []*cel.Type, want string) (cel.Program, *cel.Ast, error) {
	if len(expr) > maxLength {
		return nil, nil, fmt.Errorf("%d bytes: want at most %d", len(expr), maxLength)
	}
	parsed, issues := env.Parse(expr)
	if issues.Err() != nil {
		return nil, nil, issues.Err()
	}
	if n := loops(parsed); n > maxLoops {
		return nil, nil, fmt.Errorf("%d of all, exists, exists_one, filter and map: want at most %d", n, maxLoops)
	}
	checked, issues := env.Check(parsed)
	if issues.Err() != nil {
		return nil, nil, issues.Err()
	}
	t := checked.OutputType()
	if len(types) > 0 && !slices.ContainsFunc(append(slices.Clip(types), cel.DynType), t.IsExactType) {
		return nil, nil, fmt.Errorf("it is a %s: want %s", t, want)
	}
	program, err := env.Program(checked, exactNumbers(checked), costed(env), cel.CostTracking(estimator{}), cel.CostLimit(maxCost))
	return program, checked, err
}

// A view is an event as expressions see it.
type view struct {
	input    any
	metadata map[string]string
}

func viewOf(e *store.NewEvent) (any, error) {
	input, err := decode(e.Payload)
	if err != nil {
		return nil, err
	}
	metadata := map[string]string{}
	if e.Metadata != nil {
		if err := json.Unmarshal(e.Metadata, &metadata); err != nil {
			return nil, err
		}
	}
	return &view{input, metadata}, nil
}

// loops returns the number of macros that iterate over a list.
func loops(parsed *cel.Ast) (n int) {
	ast.PreOrderVisit(parsed.NativeRep().Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		if e.Kind() == ast.ComprehensionKind {
			n++
		}
	}))
	return n
}

// evaluate computes an expression over an event, and more variables.
func evaluate(program cel.Program, e *store.NewEvent, more map[string]any) (any, error) {
	decoded, err := e.Decode(viewOf)
	if err != nil {
		return nil, err
	}
	v := decoded.(*view)
	vars := map[string]any{"input": v.input, "metadata": v.metadata, "additional_metadata": v.metadata, "key": e.Key, "event_key": e.Key,
		"scope": e.Scope}
	maps.Copy(vars, more)
	out, _, err := program.Eval(vars)
	if err != nil {
		return nil, err
	}
	return out.Value(), nil
}

// tooCostly reports whether err means that an expression costs too much.
func tooCostly(err error) bool {
	var canceled interpreter.EvalCancelledError
	return errors.Is(err, errCost) || errors.As(err, &canceled) && canceled.Cause == interpreter.CostLimitExceeded
}
