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

// CEL counts the cost of a call after it, and that of most functions of ext.Strings as one
// unit, whatever they are given: one indexOf in a payload of 4 MiB took 13 s. So the cost of
// each call is computed here from its arguments, and before it.

const (
	maxRegexp     = 4096 // bytes of a pattern
	bytesPerUnit  = 100  // of text that is read once; an element of a list counts as so much
	statesPerUnit = 320  // of a regular expression, each for one byte of text
)

// errCost is the error of a call, and so of the expression, that would cost too much.
var errCost = errors.New("the expression costs too much for this event")

// costs has, by name, the functions whose cost follows from the size of their arguments.
var costs = map[string]func(args []ref.Val) uint64{
	"size": length, "charAt": read, "lowerAscii": read, "upperAscii": read, "trim": read, "substring": read, "split": read, "reverse": read,
	"strings.quote": read, "string": read, "bytes": read, "int": read, "uint": read, "double": read, "bool": read, "timestamp": read, "duration": read,
	"contains": read, "indexOf": read, "lastIndexOf": read,
	"replace": replaced, "join": joined, "format": read, operators.In: read,
	operators.Equals: compared, operators.NotEquals: compared,
	"matches": matched,
}

// read is the cost of looking once at all that the arguments hold.
func read(args []ref.Val) uint64 {
	n := 0
	for _, a := range args {
		if _, found := a.(traits.Mapper); !found { // a key is looked up
			n += weigh(a, maxWeight)
		}
	}
	return units(n)
}

// length is the cost of size: the characters of a text are counted.
func length(args []ref.Val) uint64 {
	if _, text := args[0].(types.String); text {
		return read(args)
	}
	return 1
}

// replaced is the cost of the text that replace makes.
func replaced(args []ref.Val) uint64 {
	s, old, by := weigh(args[0], maxWeight), weigh(args[1], maxWeight), weigh(args[2], maxWeight)
	return units(s) + units((s/max(old, 1)+1)*by)
}

// joined is the cost of the text that join makes.
func joined(args []ref.Val) uint64 {
	list, ok := args[0].(traits.Lister)
	if !ok || len(args) < 2 {
		return read(args)
	}
	n, _ := list.Size().(types.Int)
	return read(args[:1]) + units(int(n)*weigh(args[1], maxWeight))
}

// compared is the cost of comparing two values, which ends with the smaller one.
func compared(args []ref.Val) uint64 {
	return units(min(weigh(args[0], maxWeight), weigh(args[1], maxWeight)))
}

// matched is the cost of a regular expression: each of its states for each byte, as RE2 bounds it.
func matched(args []ref.Val) uint64 {
	pattern, ok := args[1].(types.String)
	if !ok {
		return 1
	}
	return uint64(weigh(args[0], maxWeight))*uint64(states(string(pattern)))/statesPerUnit + 1
}

// states returns how many instructions a regular expression has.
func states(pattern string) int {
	if len(pattern) > maxRegexp {
		return math.MaxInt32
	}
	parsed, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return 1 // the call says so
	}
	program, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		return 1
	}
	return len(program.Inst)
}

func units(weight int) uint64 { return uint64(weight)/bytesPerUnit + 1 }

// maxWeight is more than an expression may look at.
const maxWeight = maxCost * bytesPerUnit * 2

// weigh returns the size of a value, with all that is in it, up to a bound. The bound also ends
// the walk through a value that an expression built of itself, such as of
// [x].map(y, [y, y]).map(z, [z, z]), whose size doubles with each step.
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

// An estimator counts what calls have cost, with the same figures.
type estimator struct{}

func (estimator) CallCost(function, _ string, args []ref.Val, _ ref.Val) *uint64 {
	if of := costs[function]; of != nil {
		n := of(args)
		return &n
	}
	return nil // CEL's own figure
}

// anyOverload keeps CEL from counting a call by its overload, which goes before the estimator.
const anyOverload = ""

// costed makes an expression's calls fail, before they do anything, where they alone cost
// more than the expression may.
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

// implementation returns what is called in the place of CEL's own function; nil: that one.
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

// indexer returns indexOf or lastIndexOf, whose search, unlike CEL's, is linear. They count in
// characters, from a place that is the third argument, or none.
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

// lastIndexFrom finds the last sub that begins at the character from, or before it.
func lastIndexFrom(s, sub string, from int) int {
	return strings.LastIndex(s[:byteOf(s, from+utf8.RuneCountInString(sub))], sub)
}

// byteOf returns where the character of a number begins, or the end of s.
func byteOf(s string, n int) int {
	for i := range s {
		if n == 0 {
			return i
		}
		n--
	}
	return len(s)
}

// matcher compiles a pattern that is a literal once.
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

// dispatch returns the binding of a function that takes all its overloads.
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
