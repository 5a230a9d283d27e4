package stint_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A test that measures time fails on a machine with other work. What is meant is asserted
// otherwise: what came first, how many commits, the time of a testing/synctest bubble. Outside of
// a bubble a test may log how long something took, or report it as a benchmark's metric.
func TestNoWallTime(t *testing.T) {
	packages := map[string][]*ast.File{}
	fset := token.NewFileSet()
	eachFile(t, func(path string, src []byte) {
		if !strings.HasSuffix(path, "_test.go") || strings.HasPrefix(path, "bench/") {
			return
		}
		file, err := parser.ParseFile(fset, path, src, 0)
		if err != nil {
			t.Error(err)
			return
		}
		packages[filepath.Dir(path)] = append(packages[filepath.Dir(path)], file)
	})
	for _, files := range packages {
		for _, n := range wallTime(files) {
			t.Errorf("%s: measures the machine's time; see TestNoWallTime", fset.Position(n.Pos()))
		}
	}
}

// What TestNoWallTime finds, and what it lets pass.
func TestWallTimeIsFound(t *testing.T) {
	for code, want := range map[string]int{
		`began := time.Now(); if time.Since(began) > time.Second { t.Error() }`:       1,
		`began := time.Now(); d := time.Now().Sub(began); if d > 5 { t.Error() }`:     1,
		`var began = time.Now(); longest = max(longest, time.Since(began))`:           1,
		`until := time.Now().Add(time.Second); for time.Now().Before(until) {}`:       1,
		`until := time.Now().Add(time.Second); if other().After(until) { t.Error() }`: 1,
		`if b.Elapsed() > time.Second { b.Error() }`:                                  1,
		`slow()`: 1,
		`began := time.Now(); t.Logf("took %v", time.Since(began))`:                                           0,
		`b.ReportMetric(1/b.Elapsed().Seconds(), "runs/s")`:                                                   0,
		`synctest.Test(t, func(t *testing.T) { began := time.Now(); if time.Since(began) > 5 { t.Error() }})`: 0,
		`in(t, func(t *testing.T, c *stint.Client) { if virtual() > 5 { t.Error() }})`:                        0,
		`if later.Sub(earlier) > 5 { t.Error() }`:                                                             0,
		`task.Schedule(ctx, time.Now().Add(time.Hour), 1)`:                                                    0,
	} {
		src := fmt.Sprintf("package p\nfunc Test(t *testing.T) { %s }\nfunc virtual() int { return time.Since(began) }\n", code) +
			"func in(t *testing.T, f func(t *testing.T)) { synctest.Test(t, func(t *testing.T) { f(t) }) }\n"
		if code == "slow()" {
			src += "func slow() int { return time.Since(began) }\n"
		}
		if !strings.Contains(code, "virtual") {
			src += "func init() { synctest.Test(t, virtual) }\n"
		}
		file, err := parser.ParseFile(token.NewFileSet(), "", src, 0)
		if err != nil {
			t.Fatal(err)
		}
		if got := wallTime([]*ast.File{file}); len(got) != want {
			t.Errorf("%s: found %d, want %d", code, len(got), want)
		}
	}
}

// wallTime returns where the tests of a package measure the machine's time and do not only log it.
func wallTime(files []*ast.File) (found []ast.Node) {
	w := walls{bubbles: bubblesOf(files), now: map[string]bool{}}
	for _, f := range files {
		for _, d := range f.Decls {
			if !w.virtual(d.Pos()) {
				clear(w.now)
				ast.Inspect(d, w.look)
			}
		}
	}
	return w.found
}

// A stretch is a part of the source, from and to.
type stretch [2]token.Pos

type walls struct {
	bubbles []stretch
	now     map[string]bool // variables of the function that come from time.Now
	found   []ast.Node
}

func (w *walls) virtual(at token.Pos) bool {
	return slices.ContainsFunc(w.bubbles, func(s stretch) bool { return s[0] <= at && at < s[1] })
}

func (w *walls) look(n ast.Node) bool {
	if n == nil || w.virtual(n.Pos()) {
		return false
	}
	switch n := n.(type) {
	case *ast.AssignStmt:
		w.assign(n.Lhs, n.Rhs)
	case *ast.ValueSpec:
		for i, name := range n.Names {
			if i < len(n.Values) {
				w.now[name.Name] = w.now[name.Name] || w.isNow(n.Values[i])
			}
		}
	case *ast.CallExpr:
		switch called(n) {
		case "t.Log", "t.Logf", "b.ReportMetric":
			return false
		}
		if w.measures(n) {
			w.found = append(w.found, n)
			return false
		}
	}
	return true
}

func (w *walls) assign(to, from []ast.Expr) {
	for i, e := range to {
		if id, ok := e.(*ast.Ident); ok && len(to) == len(from) {
			w.now[id.Name] = w.now[id.Name] || w.isNow(from[i])
		}
	}
}

// measures reports whether a call compares the machine's time with another.
func (w *walls) measures(c *ast.CallExpr) bool {
	s, ok := c.Fun.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	switch s.Sel.Name {
	case "Since", "Until":
		return called(c) == "time."+s.Sel.Name
	case "Elapsed":
		return len(c.Args) == 0
	case "Sub", "Before", "After", "Compare":
		return len(c.Args) == 1 && (w.isNow(s.X) || w.isNow(c.Args[0]))
	}
	return false
}

// isNow reports whether an expression is time.Now(), or derived from it by Add and the like.
func (w *walls) isNow(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.Ident:
		return w.now[e.Name]
	case *ast.CallExpr:
		if called(e) == "time.Now" {
			return true
		}
		s, ok := e.Fun.(*ast.SelectorExpr)
		return ok && w.isNow(s.X)
	}
	return false
}

// called is the name of the function of a call, if it is written as a name, or as two with a dot.
func called(c *ast.CallExpr) string {
	switch f := c.Fun.(type) {
	case *ast.Ident:
		return f.Name
	case *ast.SelectorExpr:
		if x, ok := f.X.(*ast.Ident); ok {
			return x.Name + "." + f.Sel.Name
		}
	}
	return ""
}

// bubblesOf returns the parts of a package's tests in which time is virtual: what is given to
// synctest.Test, or to a function that gives it on, and functions that are used in such parts only.
func bubblesOf(files []*ast.File) (bubbles []stretch) {
	functions, uses, makers := map[string]stretch{}, map[string][]token.Pos{}, map[string]bool{"synctest.Test": true}
	for _, f := range files {
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok {
				functions[fn.Name.Name] = stretch{fn.Pos(), fn.End()}
				makers[fn.Name.Name] = makesBubble(fn)
			}
		}
	}
	for _, f := range files {
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr:
				if makers[called(n)] {
					bubbles = append(bubbles, stretch{n.Lparen, n.Rparen})
				}
			case *ast.Ident:
				uses[n.Name] = append(uses[n.Name], n.Pos())
			}
			return true
		})
	}
	for grown := true; grown; {
		grown = false
		for name, body := range functions {
			outside := func(at token.Pos) bool {
				inside := body[0] <= at && at < body[1] // its own name, or a call of itself
				return !inside && !slices.ContainsFunc(bubbles, func(s stretch) bool { return s[0] <= at && at < s[1] })
			}
			if len(uses[name]) > 1 && !slices.ContainsFunc(uses[name], outside) {
				bubbles, grown = append(bubbles, body), true
				delete(functions, name)
			}
		}
	}
	return bubbles
}

// makesBubble reports whether a function calls one that it is given in a bubble.
func makesBubble(fn *ast.FuncDecl) (makes bool) {
	given := map[string]bool{}
	for _, p := range fn.Type.Params.List {
		if _, ok := p.Type.(*ast.FuncType); ok {
			for _, name := range p.Names {
				given[name.Name] = true
			}
		}
	}
	ast.Inspect(fn, func(n ast.Node) bool {
		if c, ok := n.(*ast.CallExpr); ok && called(c) == "synctest.Test" {
			ast.Inspect(c, func(n ast.Node) bool {
				c, ok := n.(*ast.CallExpr)
				makes = makes || ok && given[called(c)]
				return true
			})
		}
		return true
	})
	return makes
}
