package cel_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stint-dev/stint/store"
)

// An expression that would cost too much ends before that, whatever it is made of, and says so.
// Without the bound each of the first kind takes seconds to years.
func TestCost(t *testing.T) {
	a := strings.Repeat("a", 1<<20)
	large, err := json.Marshal(map[string]any{
		"s": a, "half": a[:len(a)/2] + "b", "regexp": "(.{500}){2}", "x": 1, "l": make([]int, 50_000), "words": make([]string, 50_000),
	})
	if err != nil {
		t.Fatal(err)
	}
	double := "[input.l]" + strings.Repeat(".map(x, [x, x, x, x, x, x, x, x])", 9) // of 8^9 lists
	for _, tc := range []struct {
		expr   string
		costly bool
	}{
		{`input.s.matches(input.regexp)`, true},
		{`input.s.matches("(a|b|c|d|e|f|g|h){200}x")`, true},
		{`input.s.replace("", input.s).size() > 0`, true},
		{`input.s.replace("a", "` + strings.Repeat("b", 100) + `").size() > 0`, true},
		{`input.words.join(input.s).size() > 0`, true},
		{`"%s%s%s".format([` + double + `, 1, 2]).size() > 0`, true},
		{double + ` == ` + double, true},
		{double + ` != ` + double, true},
		{`input.x in ` + double, true},
		{`input.l.exists(i, input.s.size() == 7)`, true},
		{`input.l.exists(i, input.s.upperAscii() == "B")`, true},
		{`input.l.exists(i, input.s.split("b").size() == 7)`, true},
		{`input.l.exists(i, input.l.exists(k, k + i > 0))`, true},

		{`input.s.indexOf(input.half) < 0 && input.s.lastIndexOf(input.half) < 0 && !input.s.contains(input.half)`, false},
		{`input.l.size() > 10`, false},
		{`input.s.size() > 10`, false},
		{`input.s.indexOf("b") < 0`, false},
		{`input.s.contains("b") == false`, false},
		{`input.s.startsWith("aaa")`, false},
		{`!input.s.matches("b+$")`, false},
		{`input.l == input.l`, false},
		{`!(1 in input.l)`, false},
		{`"%d items".format([input.l.size()]) == "50000 items"`, false},
		{`["a", "b"].join("-") == "a-b" && "a-b".replace("-", "+") == "a+b"`, false},
	} {
		f, err := store.CompileFilter(tc.expr)
		if err != nil {
			t.Errorf("%.60s: %v", tc.expr, err)
			continue
		}
		e := store.NewEvent{Key: "k", Payload: large}
		pass := f(&e, nil)
		if costly := slices.Contains(e.Costly, tc.expr); costly != tc.costly || pass == tc.costly {
			t.Errorf("%.60s: passes %v, costly %v; want costly %v", tc.expr, pass, costly, tc.costly)
		}
	}
}

// A payload is decoded once for all filters.
func TestDecodedOnce(t *testing.T) {
	e := store.NewEvent{Key: "k", Payload: []byte(`{"n": 1}`)}
	decoded := 0
	for i := range 200 {
		expr := fmt.Sprintf("input.n == %d", i)
		f, err := store.CompileFilter(expr)
		if err != nil {
			t.Fatal(err)
		}
		if got := f(&e, nil); got != (i == 1) {
			t.Errorf("%s: %v", expr, got)
		}
	}
	e.Decode(func(*store.NewEvent) (any, error) { decoded++; return nil, nil })
	if decoded != 0 {
		t.Error("the filters did not keep what they decoded")
	}
}

// indexOf and lastIndexOf count characters, as CEL says.
func TestIndexOf(t *testing.T) {
	for _, tc := range []struct {
		expr string
		want bool
	}{
		{`"héllo héllo".indexOf("llo") == 2`, true},
		{`"héllo héllo".indexOf("llo", 3) == 8`, true},
		{`"héllo héllo".indexOf("llo", 9) == -1`, true},
		{`"héllo".indexOf("", 2) == 2 && "héllo".indexOf("", 9) == 5`, true},
		{`"héllo".indexOf("l", 5) == -1`, true},
		{`"héllo".indexOf("x") == -1`, true},
		{`"héllo héllo".lastIndexOf("llo") == 8`, true},
		{`"héllo héllo".lastIndexOf("llo", 7) == 2`, true},
		{`"héllo héllo".lastIndexOf("llo", 8) == 8`, true},
		{`"héllo".lastIndexOf("") == 5 && "héllo".lastIndexOf("", 2) == 2`, true},
		{`"héllo".lastIndexOf("o", 5) == -1`, true},
		{`"lo".lastIndexOf("héllo") == -1`, true},
		{`"héllo".indexOf("l", -1) == 2`, false},
	} {
		f, err := store.CompileFilter(tc.expr)
		if err != nil {
			t.Fatal(err)
		}
		if got := f(&store.NewEvent{Key: "k", Payload: []byte("1")}, nil); got != tc.want {
			t.Errorf("%s is %v", tc.expr, got)
		}
	}
}
