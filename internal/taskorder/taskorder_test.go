package taskorder

import (
	"slices"
	"testing"
)

func TestParentsFirst(t *testing.T) {
	for _, test := range []struct {
		name  string
		tasks []Task
		want  []int
		err   string
	}{
		{"none", nil, nil, ""},
		{"in order", []Task{{"a", nil}, {"b", []string{"a"}}}, []int{0, 1}, ""},
		{"children first", []Task{{"c", []string{"b", "a"}}, {"b", []string{"a"}}, {"a", nil}}, []int{2, 1, 0}, ""},
		{"a diamond", []Task{{"d", []string{"b", "c"}}, {"b", []string{"a"}}, {"c", []string{"a"}}, {"a", nil}}, []int{3, 1, 2, 0}, ""},
		{"a parent twice", []Task{{"b", []string{"a", "a"}}, {"a", nil}}, []int{1, 0}, ""},
		{"two of a name", []Task{{"a", nil}, {"b", nil}, {"a", nil}}, nil, `there are two "a"`},
		{"an unknown parent", []Task{{"a", nil}, {"b", []string{"x"}}}, nil, `"b": parents: the workflow has no task "x"`},
		{"its own parent", []Task{{"a", []string{"a"}}}, nil, `"a": parents: a cycle: a, a`},
		{"a cycle behind a task", []Task{{"a", []string{"b"}}, {"b", []string{"c"}}, {"c", []string{"b"}}}, nil,
			`"b": parents: a cycle: b, c, b`},
	} {
		got, err := ParentsFirst(test.tasks)
		text := ""
		if err != nil {
			text = err.Error()
		}
		if !slices.Equal(got, test.want) || text != test.err {
			t.Errorf("%s: got %v, %q, want %v, %q", test.name, got, text, test.want, test.err)
		}
	}
}
