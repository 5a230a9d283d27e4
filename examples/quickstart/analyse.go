package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/stint-dev/stint"
)

// A source is a file to analyse: the input of a run.
type source struct {
	Dir      string // absolute
	Path     string // below Dir
	Size     int64
	Modified int64 // Unix nanoseconds
}

func (s source) key() string {
	return fmt.Sprintf("%x", sha256.Sum256(fmt.Appendf(nil, "%q %q %d %d", s.Dir, s.Path, s.Size, s.Modified)))
}

// An analysis is the result for a file: the output of a run.
type analysis struct {
	Package string
	Lines   int
	Imports []string
	Longest []function // at most keep
}

type function struct {
	Name  string
	Line  int
	Lines int
}

const keep = 10

func goFiles(dir string) (files []source, err error) {
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || !strings.HasSuffix(path, ".go") {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		files = append(files, source{dir, filepath.ToSlash(rel), info.Size(), info.ModTime().UnixNano()})
		return err
	})
	return files, err
}

// analyseFile is the task's handler: a plain function.
func analyseFile(_ context.Context, s source) (analysis, error) {
	text, err := os.ReadFile(filepath.Join(s.Dir, filepath.FromSlash(s.Path)))
	if err != nil {
		return analysis{}, err
	}
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, s.Path, text, parser.SkipObjectResolution)
	if err != nil {
		return analysis{}, stint.NonRetryable(err) // it would not parse the next time either
	}
	a := analysis{Package: file.Name.Name, Lines: bytes.Count(text, []byte("\n"))}
	for _, i := range file.Imports {
		path, err := strconv.Unquote(i.Path.Value)
		if err != nil {
			return analysis{}, stint.NonRetryable(err)
		}
		a.Imports = append(a.Imports, path)
	}
	for _, d := range file.Decls {
		if f, ok := d.(*ast.FuncDecl); ok {
			from, to := set.PositionFor(f.Pos(), false).Line, set.PositionFor(f.End(), false).Line
			a.Longest = append(a.Longest, function{nameOf(f), from, to - from + 1})
		}
	}
	slices.SortStableFunc(a.Longest, func(x, y function) int { return cmp.Compare(y.Lines, x.Lines) })
	a.Longest = a.Longest[:min(len(a.Longest), keep)]
	return a, nil
}

// nameOf returns a function's name, with its receiver's type before it.
func nameOf(f *ast.FuncDecl) string {
	if f.Recv == nil || len(f.Recv.List) == 0 {
		return f.Name.Name
	}
	t := f.Recv.List[0].Type
	for {
		switch x := t.(type) {
		case *ast.StarExpr:
			t = x.X
		case *ast.IndexExpr:
			t = x.X
		case *ast.IndexListExpr:
			t = x.X
		case *ast.ParenExpr:
			t = x.X
		case *ast.Ident:
			return x.Name + "." + f.Name.Name
		default:
			return f.Name.Name
		}
	}
}
