package durablecheck

import (
	"go/ast"
	"go/types"
	"reflect"
	"strings"
)

// resultFuncs are functions whose last type argument is a result that is encoded as JSON and
// decoded again. Payloads of events and inputs are left out: whoever makes one does not go on to
// use the decoded copy.
var resultFuncs = map[string]bool{"Step": true, "StepTx": true, "Go": true, "NewTask": true, "AddTask": true, "NewBatchTask": true}

// checkResult reports a call whose result, or a task whose output, does not survive JSON.
func (c *checker) checkResult(call *ast.CallExpr) {
	fn := c.callee(call)
	if fn == nil || fn.Pkg() == nil || fn.Pkg().Path() != stintPath || fn.Signature().Recv() != nil || !resultFuncs[fn.Name()] {
		return
	}
	args := c.pass.TypesInfo.Instances[identOf(call)].TypeArgs
	if args == nil || args.Len() == 0 {
		return
	}
	result := args.At(args.Len() - 1)
	if lost := lossOf(result, map[types.Type]bool{}); lost != "" {
		of := types.TypeString(result, types.RelativeTo(c.pass.Pkg))
		c.pass.Reportf(call.Pos(), "%s of %s: %s: a result is encoded as JSON, and decoded again", c.name(call), of, lost)
	}
}

// identOf returns the identifier of the function that a call names.
func identOf(call *ast.CallExpr) *ast.Ident {
	fun := ast.Unparen(call.Fun)
	switch x := fun.(type) {
	case *ast.IndexExpr:
		fun = x.X
	case *ast.IndexListExpr:
		fun = x.X
	}
	switch x := fun.(type) {
	case *ast.Ident:
		return x
	case *ast.SelectorExpr:
		return x.Sel
	}
	return nil
}

// lossOf describes what encoding/json loses of a value of type t; "" if nothing. Types that encode
// themselves are trusted. seen holds the types that are being checked.
func lossOf(t types.Type, seen map[types.Type]bool) string {
	t = types.Unalias(t)
	if _, generic := t.(*types.TypeParam); generic || seen[t] || ownEncoding(t) {
		return ""
	}
	seen[t] = true
	switch u := t.Underlying().(type) {
	case *types.Interface:
		return "a value in an interface loses its type"
	case *types.Signature:
		return "a function is not encoded"
	case *types.Chan:
		return "a channel is not encoded"
	case *types.Basic:
		if u.Info()&types.IsComplex != 0 {
			return "a complex number is not encoded"
		}
	case *types.Pointer:
		return lossOf(u.Elem(), seen)
	case *types.Slice:
		return lossOf(u.Elem(), seen)
	case *types.Array:
		return lossOf(u.Elem(), seen)
	case *types.Map:
		if lost := lossOf(u.Key(), seen); lost != "" {
			return lost
		}
		return lossOf(u.Elem(), seen)
	case *types.Struct:
		for i := range u.NumFields() {
			if lost := fieldLoss(u.Field(i), u.Tag(i), seen); lost != "" {
				return lost
			}
		}
	}
	return ""
}

func fieldLoss(f *types.Var, tag string, seen map[types.Type]bool) string {
	if name, _, _ := strings.Cut(reflect.StructTag(tag).Get("json"), ","); name == "-" {
		return "" // left out on purpose
	}
	embedded := f.Embedded()
	if embedded { // the exported fields of an embedded struct are encoded
		t := f.Type()
		if p, ok := t.Underlying().(*types.Pointer); ok {
			t = p.Elem()
		}
		_, embedded = t.Underlying().(*types.Struct)
	}
	if f.Name() == "_" || !f.Exported() && !embedded {
		if f.Name() == "_" {
			return ""
		}
		return "the unexported field " + f.Name() + " is lost"
	}
	if lost := lossOf(f.Type(), seen); lost != "" {
		return "in " + f.Name() + " " + lost
	}
	return ""
}

// ownEncoding reports whether a type encodes itself, as time.Time does.
func ownEncoding(t types.Type) bool {
	for _, name := range []string{"MarshalJSON", "MarshalText"} {
		for _, t := range []types.Type{t, types.NewPointer(t)} {
			if types.IsInterface(t) {
				continue
			}
			if m, _, _ := types.LookupFieldOrMethod(t, true, nil, name); m != nil {
				if _, ok := m.(*types.Func); ok {
					return true
				}
			}
		}
	}
	return false
}
