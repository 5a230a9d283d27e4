package failure

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"

	"github.com/stint-dev/stint/store"
)

// A named is an error of the caller's own types.
type named struct {
	name string
	err  error
}

func (e *named) Error() string { return e.name + ": " + e.err.Error() }

func (e *named) Unwrap() error { return e.err }

// A many is one that has others by name.
type many struct{ parts []Part }

func (e *many) Error() string { return "many" }

var language = Language{
	Sentinels: []Sentinel{{"io.EOF", io.EOF}},
	Describe: func(err error) (d Described, ok bool) {
		switch e := err.(type) {
		case *named:
			d.Is, d.Task, d.Within = "named", e.name, e.err
		case *many:
			d.Is, d.Parts = "many", e.parts
		default:
			return d, false
		}
		return d, true
	},
	Restore: func(k *Known, within *Stored) error {
		switch k.Is {
		case "named":
			return &named{k.Task, within}
		case "many":
			m := &many{}
			for i, err := range within.Is {
				m.parts = append(m.parts, Part{k.Tasks[i], err, k.Inside[i].Canceled})
			}
			return m
		}
		return nil
	},
}

// again returns an error as it is read after it was stored.
func again(t *testing.T, err error) error {
	t.Helper()
	f := Failure{Kind: KindError, Message: Text(err), Inside: language.Inside(err, "")}
	b, merr := json.Marshal(f)
	if merr != nil {
		t.Fatal(merr)
	}
	f = Decode(b)
	return &Stored{f.Message, language.Errors(&f, f.Message)}
}

func TestOwnTypes(t *testing.T) {
	got := again(t, fmt.Errorf("outer: %w", &named{"pay", fmt.Errorf("read: %w", io.EOF)}))
	var n *named
	if !errors.As(got, &n) || n.name != "pay" || n.Error() != "pay: read: EOF" || !errors.Is(n, io.EOF) {
		t.Errorf("got %v with %v", got, n)
	}
	if got.Error() != "outer: pay: read: EOF" || errors.Is(got, io.ErrUnexpectedEOF) {
		t.Errorf("got %v", got)
	}
}

func TestParts(t *testing.T) {
	var m *many
	got := again(t, &many{[]Part{{"a", io.EOF, false}, {"b", errors.New("stopped"), true}}})
	if !errors.As(got, &m) || len(m.parts) != 2 {
		t.Fatalf("got %v", got)
	}
	if a, b := m.parts[0], m.parts[1]; a.Name != "a" || !errors.Is(a.Err, io.EOF) || b.Err.Error() != "stopped" || !b.Canceled || a.Canceled {
		t.Errorf("got %+v", m.parts)
	}
}

type limit struct{ N int }

func (limit) Error() string { return "limit" }

type opaque struct{ F func() }

func (opaque) Error() string { return "opaque" }

func register[T error](t *testing.T, name string) error {
	t.Helper()
	return Register(reflect.TypeFor[T](), name, func(b []byte) (error, error) {
		var v T
		err := json.Unmarshal(b, &v)
		return v, err
	})
}

// A registered type survives; one that JSON cannot hold is its text.
func TestRegistered(t *testing.T) {
	for range 2 {
		if err := errors.Join(register[limit](t, "limit"), register[opaque](t, "opaque")); err != nil {
			t.Fatal(err)
		}
	}
	if register[limit](t, "other") == nil || register[*limit](t, "limit") == nil {
		t.Error("a name or a type is registered twice")
	}
	var l limit
	if got := again(t, fmt.Errorf("over: %w", limit{7})); !errors.As(got, &l) || l.N != 7 {
		t.Errorf("got %v with %+v", got, l)
	}
	var o opaque
	if got := again(t, fmt.Errorf("x: %w", opaque{})); errors.As(got, &o) || got.Error() != "x: opaque" {
		t.Errorf("got %v", got)
	}
}

type round struct{}

func (round) Error() string { return "round" }

func (e round) Unwrap() error { return e }

// However much an error has inside, what is stored of it is bounded.
func TestBounds(t *testing.T) {
	long := errors.New(strings.Repeat("x", MaxText+1))
	var all []error
	for range 100 {
		all = append(all, &named{"n", long})
	}
	for name, err := range map[string]error{"many long texts": errors.Join(all...), "round": &named{"n", round{}}} {
		b, _ := json.Marshal(language.Inside(err, ""))
		if len(b) > 2*maxInside {
			t.Errorf("%s: %d bytes are stored", name, len(b))
		}
	}
}

// What somebody edited is an error with that text.
func TestDecode(t *testing.T) {
	if f := Decode([]byte("by hand")); f.Kind != KindError || f.Message != "by hand" {
		t.Errorf("got %+v", f)
	}
	if f := Decode(nil); f.Message != "" {
		t.Errorf("got %+v", f)
	}
}

// Errors that differ in numbers alone are of one group, and a panic is of another than an error with its text.
func TestGroup(t *testing.T) {
	a, b := Group("pay", &Failure{Kind: KindError, Message: "order 1"}), Group("pay", &Failure{Kind: KindError, Message: "order 2\x00"})
	if a.Group != b.Group || a.Task != "pay" || a.Sample != "order 1" || b.Sample != "order 2\uFFFD" {
		t.Errorf("got %+v and %+v", a, b)
	}
	if p := Group("pay", &Failure{Kind: KindPanic, Message: "order 1"}); p.Group == a.Group || !strings.HasPrefix(p.Text, "panic: ") {
		t.Errorf("a panic: got %+v", p)
	}
	if g := Group("flow", &Failure{Kind: store.KindWorkflow}); g != nil {
		t.Errorf("a workflow's run: got %+v, want none: its tasks count", g)
	}
}
