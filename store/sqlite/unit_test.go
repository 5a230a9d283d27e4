package sqlite

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/stint-dev/stint/internal/graphcache"
)

// Every participant that there is has its part in commits, and every subsystem works in the unit.
func TestEverySubsystemIsRegistered(t *testing.T) {
	u := newUnit(&txn{}, &graphcache.Cache{})
	all := map[uintptr]bool{}
	for _, p := range u.all {
		all[reflect.ValueOf(p).Pointer()] = true
	}
	participants := 0
	fields := reflect.ValueOf(u.subsystems).Elem()
	for i := range fields.NumField() {
		f, name := fields.Field(i), fields.Type().Field(i).Name
		if name == "all" {
			continue
		}
		if f.Elem().FieldByName("unit").Pointer() != reflect.ValueOf(u).Pointer() {
			t.Errorf("%s is of another unit", name)
		}
		if f.Type().Implements(reflect.TypeFor[participant]()) {
			participants++
			if !all[f.Pointer()] {
				t.Errorf("%s is not in all", name)
			}
		}
	}
	if len(u.all) != participants {
		t.Errorf("all has %d participants, want %d", len(u.all), participants)
	}
}

// The transaction runs statements, and knows no subsystem.
func TestTransactionIsSmall(t *testing.T) {
	files, err := filepath.Glob("[a-z]*.go")
	if err != nil {
		t.Fatal(err)
	}
	methods := 0
	for _, name := range files {
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			if d, ok := d.(*ast.FuncDecl); ok && d.Recv != nil {
				if p, ok := d.Recv.List[0].Type.(*ast.StarExpr); ok && p.X.(*ast.Ident).Name == "txn" {
					methods++
				}
			}
		}
	}
	if methods == 0 || methods > 10 {
		t.Errorf("txn has %d methods, want 1 to 10: a subsystem owns the others", methods)
	}
}
