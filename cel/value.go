package cel

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"github.com/stint-dev/stint/store"
)

var texts = cel.MapType(cel.StringType, cel.StringType)

// variables are those of expressions for values.
var variables = map[string]*cel.Type{
	"input": cel.DynType, "output": cel.DynType, "payload": cel.DynType, "parents": cel.MapType(cel.StringType, cel.DynType),
	"metadata": texts, "additional_metadata": texts, "headers": texts,
	"event_id": cel.StringType, "event_key": cel.StringType, "key": cel.StringType, "workflow_run_id": cel.StringType,
}

// checksum returns the SHA-256 digest of a text, in hexadecimal.
var checksum = cel.Function("checksum", cel.Overload("checksum_string", []*cel.Type{cel.StringType}, cel.StringType,
	cel.UnaryBinding(func(v ref.Val) ref.Val {
		s, ok := v.(types.String)
		if !ok {
			return types.MaybeNoSuchOverloadErr(v)
		}
		sum := sha256.Sum256([]byte(s))
		return types.String(hex.EncodeToString(sum[:]))
	})))

var valueEnv = func() *cel.Env {
	var all []cel.EnvOption
	for name, kind := range variables {
		all = append(all, cel.Variable(name, kind))
	}
	return newEnv(all...)
}()

// kinds has the types of each kind, and what an error says of them.
var kinds = map[store.Kind]struct {
	types []*cel.Type
	want  string
}{
	store.KindString: {[]*cel.Type{cel.StringType}, "a string"},
	store.KindNumber: {[]*cel.Type{cel.IntType, cel.UintType, cel.DoubleType}, "a number"},
	store.KindBool:   {[]*cel.Type{cel.BoolType}, "true or false"},
}

func compileValue(expr string, want store.Kind) (store.Value, []string, error) {
	kind := kinds[want]
	program, checked, err := newProgram(valueEnv, expr, kind.types, kind.want)
	if err != nil {
		return nil, nil, err
	}
	return func(vars *store.Vars) (any, error) {
		values, err := vars.Decode(decodeVars)
		if err != nil {
			return nil, err
		}
		out, _, err := program.Eval(values)
		if tooCostly(err) {
			return nil, errCost
		}
		if err != nil {
			return nil, err
		}
		return native(out, want)
	}, reads(checked), nil
}

// native returns a value as Go has it, if it is of the kind.
func native(v ref.Val, want store.Kind) (any, error) {
	x := v.Value()
	ok := false
	switch x.(type) {
	case string:
		ok = want == store.KindString
	case int64, uint64, float64:
		ok = want == store.KindNumber
	case bool:
		ok = want == store.KindBool
	}
	if !ok {
		return nil, fmt.Errorf("it is a %s: want %s", v.Type().TypeName(), kinds[want].want)
	}
	return x, nil
}

// reads returns the variables that an expression reads.
func reads(checked *cel.Ast) (names []string) {
	ast.PreOrderVisit(checked.NativeRep().Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		if e.Kind() != ast.IdentKind {
			return
		}
		if name := e.AsIdent(); variables[name] != nil && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}))
	return names
}

func decodeVars(v *store.Vars) (map[string]any, error) {
	m := map[string]any{}
	for name, text := range map[string][]byte{"input": v.Input, "output": v.Output, "payload": v.Payload} {
		if text == nil {
			continue
		}
		x, err := decode(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		m[name] = x
	}
	if v.Parents != nil {
		parents := map[string]any{}
		for name, text := range v.Parents {
			x, err := decode(text)
			if err != nil {
				return nil, fmt.Errorf("parents: %s: %w", name, err)
			}
			parents[name] = x
		}
		m["parents"] = parents
	}
	if v.Headers != nil {
		m["headers"] = v.Headers
	}
	metadata := map[string]string{}
	if v.Metadata != nil {
		if err := json.Unmarshal(v.Metadata, &metadata); err != nil {
			return nil, errors.New("metadata: it is not a JSON object of strings")
		}
	}
	m["metadata"], m["additional_metadata"] = metadata, metadata
	for name, text := range map[string]string{
		"event_id": v.EventID, "event_key": v.EventKey, "key": v.EventKey, "workflow_run_id": v.RunID,
	} {
		if text != "" {
			m[name] = text
		}
	}
	return m, nil
}
