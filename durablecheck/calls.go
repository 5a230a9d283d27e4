package durablecheck

import (
	"go/ast"
	"go/types"
)

// enqueues are the calls that start runs, which a step may make only so that its next try starts no other.
var enqueues = map[string]bool{"Run": true, "Enqueue": true, "EnqueueMany": true, "Schedule": true, "EnqueueJSON": true}

// once are the options that make a call in a step start its runs once.
var once = map[string]bool{"WithIdempotencyKey": true, "WithChildKey": true, "WithTx": true}

// checkInStep reports a call in the function of a step that is refused there. undo: it is the function of a compensation.
func (c *checker) checkInStep(call *ast.CallExpr, undo bool) {
	fn := c.callee(call)
	if fn == nil || fn.Pkg() == nil || fn.Pkg().Path() != stintPath {
		return
	}
	switch method := fn.Signature().Recv() != nil; {
	case !method && fn.Name() == "Compensate":
		c.pass.Reportf(call.Pos(), "%s inside a step: it is refused there; call it after the step", c.name(call))
	case method && enqueues[fn.Name()] && recvName(fn) != "Worker" && !undo && !c.mayHave(call, once):
		c.pass.Reportf(call.Pos(), "%s inside a step: each try of the step would start a run; call it in the handler, "+
			"or with WithIdempotencyKey, WithChildKey or WithTx", c.name(call))
	}
}

// mayHave reports whether an argument of a call is one of the options, or could be: what is not a call here may hold any.
func (c *checker) mayHave(call *ast.CallExpr, options map[string]bool) bool {
	if call.Ellipsis.IsValid() {
		return true
	}
	for _, arg := range call.Args {
		switch option := c.optionOf(arg); {
		case options[option]:
			return true
		case option == "" && c.isOption(arg):
			return true
		}
	}
	return false
}

// optionOf returns the name of the function of package stint that an argument calls; "": it is no such call.
func (c *checker) optionOf(arg ast.Expr) string {
	call, ok := ast.Unparen(arg).(*ast.CallExpr)
	if !ok {
		return ""
	}
	if fn := c.callee(call); fn != nil && fn.Pkg() != nil && fn.Pkg().Path() == stintPath {
		return fn.Name()
	}
	return ""
}

// isOption reports whether the type of an argument is one of package stint, as those of options are.
func (c *checker) isOption(arg ast.Expr) bool {
	n, ok := types.Unalias(c.pass.TypesInfo.TypeOf(arg)).(*types.Named)
	return ok && n.Obj().Pkg() != nil && n.Obj().Pkg().Path() == stintPath
}

// checkTx reports WithTx in a durable function outside of a step.
func (c *checker) checkTx(call *ast.CallExpr) {
	if c.kind(call) != child {
		return
	}
	for _, arg := range call.Args {
		if c.optionOf(arg) == "WithTx" {
			c.pass.Reportf(arg.Pos(), "WithTx in a durable function: %s would do it anew at each replay; use the transaction in StepTx, "+
				"or in a step", c.name(call))
		}
	}
}

// waits are the calls that may wait for long.
var waits = map[string]bool{"Sleep": true, "SleepUntil": true, "WaitForEvent": true, "WaitFor": true, "All": true, "Any": true,
	"Wait": true, "Run": true}

// deadlines maps the functions of package context that limit a context.
var deadlines = map[string]bool{"WithTimeout": true, "WithDeadline": true, "WithTimeoutCause": true, "WithDeadlineCause": true}

// checkDeadlines reports waits whose context has a deadline of the function's own.
func (c *checker) checkDeadlines(body *ast.BlockStmt, calls []*ast.CallExpr) {
	limited := map[types.Object]*ast.CallExpr{}
	own(body, func(n ast.Node) {
		assign, ok := n.(*ast.AssignStmt)
		if !ok || len(assign.Rhs) != 1 {
			return
		}
		call, ok := ast.Unparen(assign.Rhs[0]).(*ast.CallExpr)
		if !ok {
			return
		}
		fn := c.callee(call)
		id, named := assign.Lhs[0].(*ast.Ident)
		if fn != nil && fn.Pkg() != nil && fn.Pkg().Path() == "context" && deadlines[fn.Name()] && named {
			limited[c.pass.TypesInfo.ObjectOf(id)] = call
		}
	})
	for _, call := range calls {
		fn := c.callee(call)
		if fn.Pkg().Path() != stintPath || !waits[fn.Name()] || len(call.Args) == 0 {
			continue
		}
		id, ok := ast.Unparen(call.Args[0]).(*ast.Ident)
		if !ok {
			continue
		}
		if made := limited[c.pass.TypesInfo.ObjectOf(id)]; made != nil && made.Pos() < call.Pos() {
			c.pass.Reportf(call.Pos(), "%s with a deadline of %s: it begins anew at each replay, so a long wait never meets it; "+
				"use WithWaitTimeout, or stint.Any with a branch that sleeps", c.name(call), c.name(made))
		}
	}
}
