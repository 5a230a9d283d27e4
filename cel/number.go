package cel

import (
	"encoding/json"
	"math"
	"math/big"
	"strconv"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
	"cel.dev/cel-go/interpreter"
	"github.com/stint-dev/stint/internal/jsonx"
)

// decode decodes a payload for expressions: like json.Unmarshal, except for numbers.
func decode(payload []byte) (any, error) {
	v, err := jsonx.Decode(payload)
	return exact(v), err
}

// exact replaces each json.Number in v by the result of number.
func exact(v any) any {
	switch v := v.(type) {
	case json.Number:
		return number(string(v))
	case []any:
		for i := range v {
			v[i] = exact(v[i])
		}
	case map[string]any:
		for k, x := range v {
			v[k] = exact(x)
		}
	}
	return v
}

// number returns a JSON number as an int64 or uint64 if it is an integer, however it is written,
// and as a float64 if it has a fraction. An integer of more than 64 bits, and a fraction that
// rounds to an integer, become errors when an expression reads them: they must not equal a
// neighbouring number.
func number(text string) any {
	if i, err := strconv.ParseInt(text, 10, 64); err == nil {
		return i
	}
	n, ok, whole := jsonx.Integer(text)
	switch {
	case ok && n.IsInt64():
		return n.Int64()
	case ok && n.IsUint64():
		return n.Uint64()
	case whole:
		return types.NewErr("a number of the input is an integer of more than 64 bits")
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || f == math.Trunc(f) {
		return types.NewErr("a number of the input has more digits than a double")
	}
	return f
}

// exactNumbers lets operators take an integer of a payload together with a double: they compute
// with doubles and compare exactly. CEL itself only compares such a pair, and rounds.
func exactNumbers(ast *cel.Ast) cel.ProgramOption {
	kinds := ast.NativeRep()
	return cel.CustomDecoratorV2(func(i interpreter.InterpretableV2) (interpreter.InterpretableV2, error) {
		call, ok := i.(interpreter.InterpretableCall)
		if !ok || len(call.Args()) != 2 {
			return i, nil
		}
		f := binary[call.Function()]
		if f == nil {
			return i, nil
		}
		dynamic := false
		for _, arg := range call.Args() {
			dynamic = dynamic || kinds.GetType(arg.ID()).Kind() == types.DynKind
		}
		if !dynamic {
			return i, nil
		}
		return interpreter.NewCall(call.ID(), call.Function(), call.OverloadID(), call.Args(), func(args ...ref.Val) ref.Val {
			return f(args[0], args[1])
		}), nil
	})
}

// binary holds the operators whose operands may be numbers of a payload, except those that costed
// replaces.
var binary = map[string]func(a, b ref.Val) ref.Val{
	operators.Less:          order(func(c types.Int) bool { return c < 0 }),
	operators.LessEquals:    order(func(c types.Int) bool { return c <= 0 }),
	operators.Greater:       order(func(c types.Int) bool { return c > 0 }),
	operators.GreaterEquals: order(func(c types.Int) bool { return c >= 0 }),
	operators.Add:           arithmetic((*big.Int).Add, traits.Adder.Add),
	operators.Subtract:      arithmetic((*big.Int).Sub, traits.Subtractor.Subtract),
	operators.Multiply:      arithmetic((*big.Int).Mul, traits.Multiplier.Multiply),
	operators.Modulo:        arithmetic(remainder, traits.Modder.Modulo),
	operators.Divide:        arithmetic(quotient, traits.Divider.Divide),
}

func not(v ref.Val) ref.Val {
	if b, ok := v.(types.Bool); ok {
		return !b
	}
	return v
}

// equal compares two values, also within lists and maps. The result is an error if a value is one.
func equal(a, b ref.Val) ref.Val {
	if c, ok := compareExactly(a, b); ok {
		return types.Bool(c == 0)
	}
	switch x := a.(type) {
	case traits.Lister:
		if y, ok := b.(traits.Lister); ok {
			return equalLists(x, y)
		}
	case traits.Mapper:
		if y, ok := b.(traits.Mapper); ok {
			return equalMaps(x, y)
		}
	}
	return types.Equal(a, b)
}

func equalLists(a, b traits.Lister) ref.Val {
	if a.Size() != b.Size() {
		return types.False
	}
	for i, j := a.Iterator(), b.Iterator(); i.HasNext() == types.True; {
		if v := equal(i.Next(), j.Next()); v != types.True {
			return v
		}
	}
	return types.True
}

func equalMaps(a, b traits.Mapper) ref.Val {
	if a.Size() != b.Size() {
		return types.False
	}
	for keys := a.Iterator(); keys.HasNext() == types.True; {
		key := keys.Next()
		x, _ := a.Find(key)
		y, found := b.Find(key)
		if !found {
			return types.False
		}
		if v := equal(x, y); v != types.True {
			return v
		}
	}
	return types.True
}

// in reports whether a list contains a value, or a map a key. CEL finds keys by exact integers.
func in(v, of ref.Val) ref.Val {
	list, ok := of.(traits.Lister)
	if !ok {
		container, ok := of.(traits.Container)
		if !ok {
			return types.MaybeNoSuchOverloadErr(of)
		}
		return container.Contains(v)
	}
	for i := list.Iterator(); i.HasNext() == types.True; {
		if equal(v, i.Next()) == types.True {
			return types.True
		}
	}
	return types.False
}

func order(holds func(types.Int) bool) func(a, b ref.Val) ref.Val {
	return func(a, b ref.Val) ref.Val {
		if c, ok := compareExactly(a, b); ok {
			return types.Bool(holds(types.Int(c)))
		}
		comparer, ok := a.(traits.Comparer)
		if !ok {
			return types.MaybeNoSuchOverloadErr(a)
		}
		v := comparer.Compare(b)
		if c, ok := v.(types.Int); ok {
			return types.Bool(holds(c))
		}
		return v
	}
}

// compareExactly compares an integer with a double. ok is false for other pairs.
func compareExactly(a, b ref.Val) (c int, ok bool) {
	sign := 1
	if _, is := a.(types.Double); is {
		a, b, sign = b, a, -1
	}
	n := integer(a)
	d, is := b.(types.Double)
	if !is || n == nil || math.IsNaN(float64(d)) {
		return 0, false
	}
	return sign * new(big.Float).SetInt(n).Cmp(big.NewFloat(float64(d))), true
}

// integer returns v if it is an integer, else nil.
func integer(v ref.Val) *big.Int {
	switch v := v.(type) {
	case types.Int:
		return big.NewInt(int64(v))
	case types.Uint:
		return new(big.Int).SetUint64(uint64(v))
	}
	return nil
}

// arithmetic returns an operator. It applies whole to two integers. If that returns nil, or if one
// operand is a double, it applies native to them as doubles; to other values, native as they are.
func arithmetic[T any](whole func(z, a, b *big.Int) *big.Int, native func(T, ref.Val) ref.Val) func(a, b ref.Val) ref.Val {
	return func(a, b ref.Val) ref.Val {
		m, n := integer(a), integer(b)
		if m != nil && n != nil {
			if z := whole(new(big.Int), m, n); z != nil {
				return fitting(z)
			}
		}
		_, first := a.(types.Double)
		if _, second := b.(types.Double); m != nil && n != nil || m != nil && second || n != nil && first {
			a, b = double(a), double(b)
		}
		operand, ok := a.(T)
		if !ok {
			return types.MaybeNoSuchOverloadErr(a)
		}
		return native(operand, b)
	}
}

func double(v ref.Val) ref.Val {
	switch v := v.(type) {
	case types.Int:
		return types.Double(v)
	case types.Uint:
		return types.Double(v)
	}
	return v
}

func fitting(z *big.Int) ref.Val {
	switch {
	case z.IsInt64():
		return types.Int(z.Int64())
	case z.IsUint64():
		return types.Uint(z.Uint64())
	}
	return types.NewErr("a result is an integer of more than 64 bits")
}

// remainder returns nil for a division by zero.
func remainder(z, a, b *big.Int) *big.Int {
	if b.Sign() == 0 {
		return nil
	}
	return z.Rem(a, b)
}

// quotient returns nil if the result is not an integer: numbers of payloads are not rounded.
func quotient(z, a, b *big.Int) *big.Int {
	if b.Sign() == 0 {
		return nil
	}
	if _, rest := z.QuoRem(a, b, new(big.Int)); rest.Sign() != 0 {
		return nil
	}
	return z
}
