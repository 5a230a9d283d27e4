package store_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stint-dev/stint/store"
)

func leafNamed(name string) store.Condition { return store.Condition{Name: name, Sleep: 1} }

func TestEvaluate(t *testing.T) {
	all := func(cs ...store.Condition) store.Condition { return store.Condition{All: cs} }
	any := func(cs ...store.Condition) store.Condition { return store.Condition{Any: cs} }
	named := func(name string, c store.Condition) store.Condition { c.Name = name; return c }
	a, b, c := leafNamed("a"), leafNamed("b"), leafNamed("c")
	for _, x := range []struct {
		cond   store.Condition
		truths []int64 // 0: unknown
		want   string
	}{
		{a, []int64{5}, "5: a=5"},
		{a, []int64{0}, "-"},
		{any(a, b), []int64{5, 3}, "3: b=3"},
		{any(a, b), []int64{3, 3}, "3: a=3"},
		{any(a, b), []int64{0, 3}, "3: b=3"},
		{any(a, b), []int64{0, 0}, "-"},
		{all(a, b), []int64{5, 3}, "5: a=5 b=3"},
		{all(a, b), []int64{5, 0}, "-"},
		{any(all(a, b), c), []int64{5, 0, 9}, "9: c=9"},
		{any(all(a, b), c), []int64{5, 8, 9}, "8: a=5 b=8"},
		{all(any(a, b), c), []int64{5, 4, 9}, "9: b=4 c=9"},
		{named("n", all(a, named("m", any(b, c)))), []int64{1, 4, 2}, "2: a=1 c=2 m=2 n=2"},
		{named("n", any(a)), []int64{0}, "-"},
	} {
		truths := make([]time.Time, len(x.truths))
		for i, at := range x.truths {
			if at > 0 {
				truths[i] = time.UnixMilli(at)
			}
		}
		since, fired := store.Evaluate(&x.cond, truths)
		got := "-"
		if !since.IsZero() {
			var words []string
			for _, f := range fired {
				words = append(words, fmt.Sprintf("%s=%d", f.Name, f.Since.UnixMilli()))
			}
			got = fmt.Sprintf("%d: %s", since.UnixMilli(), strings.Join(words, " "))
		}
		if got != x.want {
			t.Errorf("%+v of %v: got %s, want %s", x.cond, x.truths, got, x.want)
		}
	}
}

func TestFiredValues(t *testing.T) {
	data := map[int]string{0: "1", 1: `"x"`, 2: ""}
	b, err := store.FiredValues([]store.Fired{{Name: "late", Leaf: 0, Since: time.UnixMilli(2)}, {Name: "late", Leaf: 1, Since: time.UnixMilli(1)},
		{Name: "none", Leaf: 2}, {Name: "joined", Leaf: -1}, {Leaf: 0}}, func(leaf int) []byte { return []byte(data[leaf]) })
	if want := `{"joined":null,"late":"x","none":null}`; err != nil || string(b) != want {
		t.Errorf("%s, %v, want %s", b, err, want)
	}
	if b, err = store.FiredValues(nil, nil); err != nil || string(b) != "{}" {
		t.Errorf("%s, %v", b, err)
	}
}
