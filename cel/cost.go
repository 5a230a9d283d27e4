package cel

import (
	"errors"
	"math"
	"regexp"
	"regexp/syntax"
	"strings"
	"unicode/utf8"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/functions"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
	"cel.dev/cel-go/interpreter"
)

// CEL adds the cost of a call after the call, and counts most functions of ext.Strings as one unit
// whatever their arguments: one indexOf in a payload of 4 MiB took 13 s. So the cost of each call
// is computed here, from its arguments and before the call.

const (
	maxRegexp     = 4096 // bytes of a pattern
	bytesPerUnit  = 100  // of text that is read once; an element of a list counts as much
	statesPerUnit = 320  // of a regular expression, each for one byte of text
)

// errCost is the error of a call, and so of its expression, that would cost too much.
var errCost = errors.New("the expression costs too much for this event")

// costs maps the name of a function to the cost of a call with arguments.
var costs = map[string]func(args []ref.Val) uint64{
	"size": length, "charAt": read, "lowerAscii": read, "upperAscii": read, "trim": read, "substring": read, "split": read,
	"reverse": read, "strings.quote": read, "string": read, "bytes": read, "int": read, "uint": read, "double": read,
	"bool": read, "timestamp": read, "duration": read, "contains": read, "indexOf": read, "lastIndexOf": read,
	"checksum": read, "replace": replaced, "join": joined, "format": read, operators.In: read,
	operators.Equals: compared, operators.NotEquals: compared,
	"matches": matched,
}

// read returns the cost of reading the arguments once.
func read(args []ref.Val) uint64 {
	n := 0
	for _, a := range args {
		if _, found := a.(traits.Mapper); !found { // not maps: a key is looked up
			n += weigh(a, maxWeight)
		}
	}
	return units(n)
}

// length returns the cost of size, which counts the characters of a text.
func length(args []ref.Val) uint64 {
	if _, text := args[0].(types.String); text {
		return read(args)
	}
	return 1
}

// replaced returns the cost of replace, by the size of its result.
func replaced(args []ref.Val) uint64 {
	s, old, by := weigh(args[0], maxWeight), weigh(args[1], maxWeight), weigh(args[2], maxWeight)
	return units(s) + units((s/max(old, 1)+1)*by)
}

// joined returns the cost of join, by the size of its result.
func joined(args []ref.Val) uint64 {
	list, ok := args[0].(traits.Lister)
	if !ok || len(args) < 2 {
		return read(args)
	}
	n, _ := list.Size().(types.Int)
	return read(args[:1]) + units(int(n)*weigh(args[1], maxWeight))
}

// compared returns the cost of comparing two values, by the size of the smaller one.
func compared(args []ref.Val) uint64 {
	return units(min(weigh(args[0], maxWeight), weigh(args[1], maxWeight)))
}

// matched returns the cost of a regular expression: its states times the bytes of text (RE2's bound).
func matched(args []ref.Val) uint64 {
	pattern, ok := args[1].(types.String)
	if !ok {
		return 1
	}
	return uint64(weigh(args[0], maxWeight))*uint64(states(string(pattern)))/statesPerUnit + 1
}

// states returns the number of instructions of a regular expression.
func states(pattern string) int {
	if len(pattern) > maxRegexp {
		return math.MaxInt32
	}
	parsed, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return 1 // the call returns the error
	}
	program, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		return 1
	}
	return len(program.Inst)
}

func units(weight int) uint64 { return uint64(weight)/bytesPerUnit + 1 }

// maxWeight is more than an expression may read.
const maxWeight = maxCost * bytesPerUnit * 2

// weigh returns the size of a value with all that it contains, at most bound. Without the bound, a
// value that an expression built of itself would take for ever: [x].map(y, [y, y]).map(z, [z, z])
// doubles with each step.
func weigh(v ref.Val, bound int) int {
	switch v := v.(type) {
	case types.String:
		return min(len(v), bound)
	case types.Bytes:
		return min(len(v), bound)
	case traits.Mapper:
		return weighAll(v.Iterator(), bound, func(key ref.Val, left int) int {
			value, _ := v.Find(key)
			return weigh(key, left) + weigh(value, left)
		})
	case traits.Lister:
		return weighAll(v.Iterator(), bound, weigh)
	}
	return 0
}

func weighAll(each traits.Iterator, bound int, one func(ref.Val, int) int) int {
	n := 0
	for n < bound && each.HasNext() == types.True {
		n += bytesPerUnit + one(each.Next(), bound-n)
	}
	return min(n, bound)
}

// An estimator tells CEL the same costs, for the sum of an expression.
type estimator struct{}

func (estimator) CallCost(function, _ string, args []ref.Val, _ ref.Val) *uint64 {
	if of := costs[function]; of != nil {
		n := of(args)
		return &n
	}
	return nil // CEL's own figure
}

// anyOverload stops CEL from taking the cost of a call's overload instead of the estimator's.
const anyOverload = ""

// costed makes a call fail, before it does anything, if it alone costs more than the expression may.
func costed(env *cel.Env) cel.ProgramOption {
	declared := env.Functions()
	return cel.CustomDecoratorV2(func(i interpreter.InterpretableV2) (interpreter.InterpretableV2, error) {
		call, ok := i.(interpreter.InterpretableCall)
		if !ok || costs[call.Function()] == nil {
			return i, nil
		}
		name := call.Function()
		do, err := implementation(name, call)
		if do == nil && err == nil {
			bindings, berr := declared[name].Bindings()
			do, err = dispatch(bindings, name), berr
		}
		if do == nil || err != nil {
			return i, err
		}
		of := costs[name]
		return interpreter.NewCall(call.ID(), name, anyOverload, call.Args(), func(args ...ref.Val) ref.Val {
			if of(args) > maxCost {
				return types.WrapErr(errCost)
			}
			return do(args...)
		}), nil
	})
}

// implementation returns the function to call in place of CEL's own, or nil for CEL's own.
func implementation(name string, call interpreter.InterpretableCall) (functions.FunctionOp, error) {
	switch name {
	case operators.Equals:
		return func(args ...ref.Val) ref.Val { return equal(args[0], args[1]) }, nil
	case operators.NotEquals:
		return func(args ...ref.Val) ref.Val { return not(equal(args[0], args[1])) }, nil
	case operators.In:
		return func(args ...ref.Val) ref.Val { return in(args[0], args[1]) }, nil
	case "matches":
		return matcher(call)
	case "indexOf":
		return indexer(0, indexFrom), nil
	case "lastIndexOf":
		return indexer(math.MaxInt32, lastIndexFrom), nil
	}
	return nil, nil
}

// indexer returns indexOf or lastIndexOf with a linear search, unlike CEL's. Positions are in
// characters. The search starts at the third argument, or without it at none.
func indexer(none int, search func(s, sub string, from int) int) functions.FunctionOp {
	return func(args ...ref.Val) ref.Val {
		s, ok := args[0].(types.String)
		sub, isText := args[1].(types.String)
		from := types.Int(none)
		if len(args) == 3 {
			from, _ = args[2].(types.Int)
		}
		switch {
		case !ok || !isText:
			return types.NewErr("no such overload: indexOf")
		case from < 0:
			return types.NewErr("index out of range: %d", from)
		}
		n := utf8.RuneCountInString(string(s))
		if sub == "" {
			return min(from, types.Int(n))
		}
		if len(args) == 3 && int64(from) >= int64(n) {
			return types.Int(-1)
		}
		i := search(string(s), string(sub), int(min(from, types.Int(n))))
		if i < 0 {
			return types.Int(-1)
		}
		return types.Int(utf8.RuneCountInString(string(s[:i])))
	}
}

func indexFrom(s, sub string, from int) int {
	start := byteOf(s, from)
	if i := strings.Index(s[start:], sub); i >= 0 {
		return start + i
	}
	return -1
}

// lastIndexFrom returns the byte position of the last sub that begins at or before the character
// from, or -1.
func lastIndexFrom(s, sub string, from int) int {
	return strings.LastIndex(s[:byteOf(s, from+utf8.RuneCountInString(sub))], sub)
}

// byteOf returns the byte position of the character n, or the length of s.
func byteOf(s string, n int) int {
	for i := range s {
		if n == 0 {
			return i
		}
		n--
	}
	return len(s)
}

// matcher returns matches. It compiles a literal pattern only once.
func matcher(call interpreter.InterpretableCall) (functions.FunctionOp, error) {
	var literal *regexp.Regexp
	if c, ok := call.Args()[1].(interpreter.InterpretableConst); ok {
		pattern, ok := c.Value().(types.String)
		if !ok {
			return nil, nil
		}
		var err error
		if literal, err = regexp.Compile(string(pattern)); err != nil {
			return nil, err
		}
	}
	return func(args ...ref.Val) ref.Val {
		text, ok := args[0].(types.String)
		if !ok {
			return types.MaybeNoSuchOverloadErr(args[0])
		}
		if literal == nil {
			return text.Match(args[1])
		}
		return types.Bool(literal.MatchString(string(text)))
	}, nil
}

// dispatch returns the binding that handles all overloads of a function.
func dispatch(bindings []*functions.Overload, name string) functions.FunctionOp {
	for _, b := range bindings {
		if b.Operator != name {
			continue
		}
		return func(args ...ref.Val) ref.Val {
			switch {
			case len(args) == 1 && b.Unary != nil:
				return b.Unary(args[0])
			case len(args) == 2 && b.Binary != nil:
				return b.Binary(args[0], args[1])
			case b.Function != nil:
				return b.Function(args...)
			}
			return types.NewErr("no such overload: %s", name)
		}
	}
	return nil
}
