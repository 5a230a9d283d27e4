// Package durablecheck reports code that breaks the replay of stint's durable functions. A durable
// function runs again from the top after each crash or long wait, and must then make the same
// durable calls in the same order. So between durable calls it must not depend on values that
// differ each time: the clock, randomness, the order of a map, which case of a select is ready,
// goroutines that stint does not know. Its defers run each time that it is unwound, and it must
// not wait while it holds a lock. Results are encoded as JSON and decoded again, so their types
// must survive that: interfaces, unexported fields, functions and channels do not.
//
// A function is durable if it makes a durable call, or calls a durable function of any package.
// The body of a step is not durable: it may do anything except make durable calls, and start runs
// that its next try would start again. Outside of a step WithTx is refused, and a wait does not keep
// a deadline that the function gave its context.
package durablecheck

import (
	"go/ast"
	"go/token"
	"go/types"
	"strings"

	"golang.org/x/tools/go/analysis"
)

// Analyzer reports the mistakes. It has no flags.
var Analyzer = &analysis.Analyzer{
	Name:      "durablecheck",
	Doc:       "find what breaks the replay of durable functions",
	URL:       "https://pkg.go.dev/github.com/stint-dev/stint/durablecheck",
	Run:       run,
	FactTypes: []analysis.Fact{new(isDurable)},
}

// isDurable is the fact that a function makes durable calls.
type isDurable struct{}

func (*isDurable) AFact()         {}
func (*isDurable) String() string { return "durable" }

const stintPath = "github.com/stint-dev/stint"

// Durable calls of package stint. childCalls are durable only within a handler: they do not make
// the function that calls them durable.
var (
	durableFuncs = map[string]bool{"Step": true, "StepTx": true, "Sleep": true, "SleepUntil": true, "WaitForEvent": true, "WaitFor": true,
		"Go": true, "All": true, "Any": true, "Version": true}
	childCalls = map[string]bool{"Run": true, "Enqueue": true, "EnqueueMany": true, "Schedule": true, "Wait": true,
		"EnqueueJSON": true, "EnqueueJSONMany": true, "Publish": true, "PublishMany": true}
	stepFuncs = map[string]bool{"Step": true, "StepTx": true, "Compensate": true}
)

type checker struct {
	pass    *analysis.Pass
	durable map[types.Object]bool // functions of this package
}

func run(pass *analysis.Pass) (any, error) {
	c := &checker{pass: pass, durable: map[types.Object]bool{}}
	c.findDurable()
	for _, f := range pass.Files {
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				if n.Body != nil {
					c.check(n.Body)
				}
			case *ast.FuncLit:
				c.check(n.Body)
			case *ast.CallExpr:
				c.checkStepBody(n)
				c.checkResult(n)
			}
			return true
		})
	}
	return nil, nil
}

// findDurable finds the declared functions that make durable calls or call such functions.
func (c *checker) findDurable() {
	for again := true; again; {
		again = false
		for _, f := range c.pass.Files {
			for _, d := range f.Decls {
				fn, ok := d.(*ast.FuncDecl)
				if !ok || fn.Body == nil {
					continue
				}
				obj := c.pass.TypesInfo.Defs[fn.Name]
				if c.durable[obj] || !c.isDurableBody(fn.Body) {
					continue
				}
				c.durable[obj] = true
				c.pass.ExportObjectFact(obj, new(isDurable))
				again = true
			}
		}
	}
}

// isDurableBody reports whether a body makes a call that makes its function durable.
func (c *checker) isDurableBody(body *ast.BlockStmt) bool {
	found := false
	own(body, func(n ast.Node) {
		if call, ok := n.(*ast.CallExpr); ok && c.kind(call) == marks {
			found = true
		}
	})
	return found
}

// own calls f with the nodes of a function's body, without the bodies of function literals, except
// those that are called at once.
func own(body ast.Node, f func(ast.Node)) {
	atOnce := map[*ast.FuncLit]bool{}
	ast.Inspect(body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.DeferStmt, *ast.GoStmt:
			f(n)
			return false
		case *ast.CallExpr:
			if lit, ok := ast.Unparen(n.Fun).(*ast.FuncLit); ok {
				atOnce[lit] = true
			}
		case *ast.FuncLit:
			if !atOnce[n] {
				return false
			}
		}
		if n != nil {
			f(n)
		}
		return true
	})
}

type callKind int

const (
	plain callKind = iota
	child          // durable if the calling function is
	marks          // durable, and makes the calling function durable
)

func (c *checker) kind(call *ast.CallExpr) callKind {
	fn := c.callee(call)
	if fn == nil {
		return plain
	}
	if c.durable[fn] {
		return marks
	}
	if fn.Pkg() == nil {
		return plain
	}
	if fn.Pkg().Path() == stintPath {
		method := fn.Signature().Recv() != nil
		switch {
		case method && recvName(fn) == "Future" && fn.Name() == "Wait", !method && durableFuncs[fn.Name()]:
			return marks
		case method && childCalls[fn.Name()] && recvName(fn) != "Worker":
			return child
		}
		return plain
	}
	if fn.Pkg() != c.pass.Pkg && c.pass.ImportObjectFact(fn, new(isDurable)) {
		return marks
	}
	return plain
}

// callee returns the function that a call names: of a generic function its declaration.
func (c *checker) callee(call *ast.CallExpr) *types.Func {
	fun := ast.Unparen(call.Fun)
	switch x := fun.(type) {
	case *ast.IndexExpr:
		fun = x.X
	case *ast.IndexListExpr:
		fun = x.X
	}
	var id *ast.Ident
	switch x := fun.(type) {
	case *ast.Ident:
		id = x
	case *ast.SelectorExpr:
		id = x.Sel
	default:
		return nil
	}
	fn, _ := c.pass.TypesInfo.Uses[id].(*types.Func)
	if fn == nil {
		return nil
	}
	return fn.Origin()
}

func recvName(fn *types.Func) string {
	t := fn.Signature().Recv().Type()
	if p, ok := t.(*types.Pointer); ok {
		t = p.Elem()
	}
	if n, ok := t.(*types.Named); ok {
		return n.Obj().Name()
	}
	return ""
}

// name returns the name of a call's function, such as "stint.Step".
func (c *checker) name(call *ast.CallExpr) string {
	fn := c.callee(call)
	if recv := fn.Signature().Recv(); recv != nil {
		return recvName(fn) + "." + fn.Name()
	}
	if fn.Pkg() == c.pass.Pkg {
		return fn.Name()
	}
	return fn.Pkg().Name() + "." + fn.Name()
}

// checkStepBody reports durable calls in the function of a step.
func (c *checker) checkStepBody(call *ast.CallExpr) {
	fn := c.callee(call)
	if fn == nil || fn.Pkg() == nil || fn.Pkg().Path() != stintPath || fn.Signature().Recv() != nil || !stepFuncs[fn.Name()] {
		return
	}
	for _, arg := range call.Args {
		lit, ok := ast.Unparen(arg).(*ast.FuncLit)
		if !ok {
			continue
		}
		ast.Inspect(lit.Body, func(n ast.Node) bool {
			inner, ok := n.(*ast.CallExpr)
			if ok && c.kind(inner) == marks {
				c.pass.Reportf(inner.Pos(), "%s inside a step: a step is recorded as a whole, and makes no durable calls", c.name(inner))
			} else if ok {
				c.checkInStep(inner, fn.Name() == "Compensate")
			}
			return true
		})
	}
}

// check reports the mistakes of one function, if it is durable.
func (c *checker) check(body *ast.BlockStmt) {
	if !c.isDurableBody(body) {
		return
	}
	calls := c.durableCalls(body)
	for _, call := range calls {
		c.checkTx(call)
	}
	c.checkDeadlines(body, calls)
	last := calls[len(calls)-1].End()
	own(body, func(n ast.Node) {
		if d, ok := n.(*ast.DeferStmt); ok {
			c.checkDefer(d)
			return
		}
		if n.Pos() > last && !inLoop(body, n, calls) {
			return // code after the last durable call cannot affect any
		}
		switch n := n.(type) {
		case *ast.RangeStmt:
			c.checkRange(n)
		case *ast.GoStmt:
			c.pass.Reportf(n.Pos(), "go statement in a durable function: "+
				"the goroutine is begun anew at each replay; use stint.Go, or a step")
		case *ast.SelectStmt:
			c.pass.Reportf(n.Pos(), "select in a durable function: which case is ready differs at each replay; use stint.Any, or a step")
		case *ast.CallExpr:
			c.checkCall(n)
		}
	})
	c.checkLocks(body, calls)
}

// durableCalls lists a body's own durable calls in the order of the source.
func (c *checker) durableCalls(body ast.Node) (calls []*ast.CallExpr) {
	own(body, func(n ast.Node) {
		if call, ok := n.(*ast.CallExpr); ok && c.kind(call) != plain {
			calls = append(calls, call)
		}
	})
	return calls
}

// inLoop reports whether n is in a loop together with a durable call.
func inLoop(body ast.Node, n ast.Node, calls []*ast.CallExpr) (in bool) {
	own(body, func(loop ast.Node) {
		switch loop.(type) {
		case *ast.ForStmt, *ast.RangeStmt:
			if within(n, loop) && within(calls[len(calls)-1], loop) {
				in = true
			}
		}
	})
	return in
}

func within(n, outer ast.Node) bool { return outer.Pos() <= n.Pos() && n.End() <= outer.End() }

func (c *checker) checkRange(r *ast.RangeStmt) {
	t := c.pass.TypesInfo.TypeOf(r.X)
	if t == nil {
		return
	}
	if _, ok := t.Underlying().(*types.Map); ok && len(c.durableCalls(r.Body)) > 0 {
		c.pass.Reportf(r.Pos(), "durable calls in a range over a map: its order differs at each replay; sort the keys first")
	}
}

const uuidPath = "github.com/google/uuid"

// instead names the replacements of functions whose results differ each time.
var instead = map[string]string{
	"time.Now": "stint.Now", "time.Since": "stint.Now", "time.Until": "stint.Now",
	"time.Sleep": "stint.Sleep", "time.After": "stint.Sleep",
	uuidPath + ".New": "stint.NewID", uuidPath + ".NewString": "stint.NewID", uuidPath + ".NewRandom": "stint.NewID",
	uuidPath + ".NewV7": "stint.NewID", uuidPath + ".NewUUID": "stint.NewID", uuidPath + ".NewV6": "stint.NewID",
}

func (c *checker) checkCall(call *ast.CallExpr) {
	fn := c.callee(call)
	if fn == nil || fn.Pkg() == nil {
		return
	}
	path := fn.Pkg().Path()
	use := instead[path+"."+fn.Name()]
	if fn.Signature().Recv() != nil {
		use = ""
	}
	if path == "math/rand" || path == "math/rand/v2" || path == "crypto/rand" {
		use = "a step"
	}
	if use != "" {
		c.pass.Reportf(call.Pos(), "%s in a durable function: it differs at each replay; use %s", c.name(call), use)
	}
}

// outside holds the packages whose calls have effects outside the process.
var outside = map[string]bool{"net/http": true, "database/sql": true, "os/exec": true, "net/smtp": true, "os": true}

// harmless holds calls of these packages that only release memory or read.
var harmless = map[string]bool{"Close": true, "Rollback": true, "CloseIdleConnections": true, "Getenv": true}

func (c *checker) checkDefer(d *ast.DeferStmt) {
	report := func(call *ast.CallExpr) {
		switch fn := c.callee(call); {
		case c.kind(call) != plain:
			c.pass.Reportf(call.Pos(), "%s in a defer of a durable function: defers run at each unwinding; "+
				"use stint.Compensate", c.name(call))
		case fn != nil && fn.Pkg() != nil && outside[fn.Pkg().Path()] && !harmless[fn.Name()]:
			c.pass.Reportf(call.Pos(), "%s in a defer of a durable function: defers run at each unwinding, "+
				"so they are for memory only; use stint.Compensate", c.name(call))
		}
	}
	lit, ok := ast.Unparen(d.Call.Fun).(*ast.FuncLit)
	if !ok {
		report(d.Call)
		return
	}
	ast.Inspect(lit.Body, func(n ast.Node) bool {
		if call, ok := n.(*ast.CallExpr); ok {
			report(call)
		}
		return true
	})
}

// checkLocks reports durable calls between a Lock and its Unlock, in the order of the source.
func (c *checker) checkLocks(body *ast.BlockStmt, calls []*ast.CallExpr) {
	held := map[string]token.Pos{}
	report := func(lock string, from, to token.Pos) {
		for _, call := range calls {
			if from < call.Pos() && call.Pos() < to {
				c.pass.Reportf(call.Pos(), "%s while %s is locked: a wait may last for months, and unwinds; unlock first",
					c.name(call), lock)
				return
			}
		}
	}
	own(body, func(n ast.Node) {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return
		}
		lock, locks := c.lockCall(call)
		if lock == "" {
			return
		}
		if locks {
			held[lock] = call.Pos()
			return
		}
		if from, ok := held[lock]; ok {
			report(lock, from, call.Pos())
			delete(held, lock)
		}
	})
	for lock, from := range held { // held until the end, or until a defer
		report(lock, from, body.End())
	}
}

// lockCall returns the lock of a call of Lock, RLock, Unlock or RUnlock of package sync, as source
// text, and whether the call locks it.
func (c *checker) lockCall(call *ast.CallExpr) (lock string, locks bool) {
	fn := c.callee(call)
	sel, ok := ast.Unparen(call.Fun).(*ast.SelectorExpr)
	if fn == nil || !ok || fn.Pkg() == nil || fn.Pkg().Path() != "sync" {
		return "", false
	}
	switch name := fn.Name(); {
	case strings.HasSuffix(name, "Unlock"):
		return types.ExprString(sel.X), false
	case strings.HasSuffix(name, "Lock") && name != "TryLock" && name != "TryRLock":
		return types.ExprString(sel.X), true
	}
	return "", false
}
