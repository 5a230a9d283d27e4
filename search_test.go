package stint_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/stint-dev/stint"
)

// What is searched is the text of an error that a person sees, not how it is stored.
func TestSearchErrors(t *testing.T) {
	c := opened(t)
	texts := []string{
		`no "such" file`, "a < b && c > d", `C:\temp\new`, "first\nsecond", "tab\there", "naïve ÜBER Straße", "日本 €", "100% of_it", "it's", "plain", "bad \xff byte", "\u2028 line", "", "nul\x00nul",
	}
	if serverURL != "" { // a text of PostgreSQL has no NUL: an error with one is searched as it is stored
		texts[13] = "without"
	}
	failing := stint.NewTask(c, "failing", func(_ context.Context, i int) (int, error) {
		return 0, stint.NonRetryable(errors.New(texts[i]))
	})
	panicking := stint.NewTask(c, "panicking", func(context.Context, int) (int, error) { panic("broken pipe") })
	working(t, c)
	var ids []string
	for i := range texts {
		ids = append(ids, enqueue(t, failing, i).ID())
	}
	ids = append(ids, enqueue(t, panicking, 0).ID())
	drained(t, c)
	for _, tc := range []struct {
		text string
		want []int // places in ids
	}{
		{`"such"`, []int{0}}, {`"SUCH" FILE`, []int{0}}, {"a < b && c > d", []int{1}}, {`\temp\new`, []int{2}}, {"first\nsecond", []int{3}}, {"\t", []int{4}},
		{"über straße", []int{5}}, {"NAÏVE", []int{5}}, {"本 €", []int{6}}, {"%", []int{7}}, {"f_i", []int{7}}, {"100%", []int{7}}, {"it's", []int{8}},
		{"PLAIN", []int{9}}, {"bad \xff", []int{10}}, {"\u2028", []int{11}}, {"nul\x00nul", []int{13}}, {"broken pipe", []int{14}},
		// how it is stored is not found
		{"message", nil}, {"kind", nil}, {`\"`, nil}, {`\n`, []int{2}}, {`\u003c`, nil}, {"goroutine", nil}, {"{", nil}, {`\\`, nil}, {"panic", nil}, {"first_second", nil}, {"a%d", nil},
	} {
		if serverURL != "" && strings.Contains(tc.text, "\x00") {
			tc.want = nil
		}
		var want []string
		for _, i := range tc.want {
			want = append(want, ids[i])
		}
		page := listRuns(t, c, stint.RunFilter{Error: tc.text})
		var got []string
		for _, r := range page.Runs {
			got = append(got, r.ID)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q finds %d runs, %q; want %d", tc.text, len(got), got, len(want))
		}
	}
	if n, err := c.DeleteRuns(t.Context(), stint.RunFilter{Error: "message"}); n != 0 || err != nil {
		t.Errorf("deleted %d, %v", n, err)
	}
	if n, err := c.DeleteRuns(t.Context(), stint.RunFilter{Error: `no "such"`}); n != 1 || err != nil {
		t.Errorf("deleted %d, %v", n, err)
	}
}

// Metadata is found by its own value, whatever is in it, and by no other; what JSON cannot
// hold is an error where it is given.
func TestSearchMetadata(t *testing.T) {
	c := opened(t)
	task := stint.NewTask(c, "task", func(context.Context, int) (int, error) { return 0, nil })
	values := []string{`a"b`, `a\b`, "a\nb", "<&>", "ünï", "%", "a_b", "aXb", "", "1", "1.0", "true", "null", " x ", "\u2028", "A", "a", "日本", "é", "e\u0301", "x\x00y", "x"}
	if serverURL != "" { // a text of PostgreSQL has no NUL
		values = slices.DeleteFunc(values, func(v string) bool { return strings.Contains(v, "\x00") })
	}
	ids := map[string]string{}
	for _, v := range values {
		ids[v] = enqueue(t, task, 0, stint.WithMetadata(map[string]string{"k": v, "key " + v: "other"})).ID()
	}
	for _, v := range values {
		for _, by := range []map[string]string{{"k": v}, {"key " + v: "other"}} {
			page := listRuns(t, c, stint.RunFilter{Metadata: by})
			if len(page.Runs) != 1 || page.Runs[0].ID != ids[v] || page.Runs[0].Metadata["k"] != v {
				t.Errorf("by %q: %d runs", by, len(page.Runs))
			}
		}
	}
	for _, bad := range []map[string]string{{"k": "\xff"}, {"\xff": "v"}, {"k": "a\xc3"}} {
		if _, err := task.Enqueue(t.Context(), 0, stint.WithMetadata(bad)); err == nil {
			t.Errorf("enqueued with %q", bad)
		}
		if _, err := c.Publish(t.Context(), "e", 0, stint.WithMetadata(bad)); err == nil {
			t.Errorf("published with %q", bad)
		}
		if _, err := c.ListRuns(t.Context(), stint.RunFilter{Metadata: bad}); err == nil {
			t.Errorf("filtered by %q", bad)
		}
	}
}

// An error is found by any part of the text that RunInfo shows, and by nothing else.
func FuzzSearchErrors(f *testing.F) {
	for _, s := range []string{"plain", `"quoted"`, "a < b", "\\n", "\n", "é", "\xff", "message", "İ", "%_"} {
		f.Add(s, "ess")
	}
	var text string
	c := opened(f)
	task := stint.NewTask(c, "task", func(context.Context, int) (int, error) { return 0, stint.NonRetryable(errors.New(text)) })
	working(f, c)
	f.Fuzz(func(t *testing.T, shown, other string) {
		text = shown
		run, err := task.Enqueue(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		run.Wait(t.Context())
		info, err := c.GetRun(t.Context(), run.ID())
		if err != nil {
			t.Fatal(err)
		}
		for _, by := range []string{info.Error, other, shown} {
			page, err := c.ListRuns(t.Context(), stint.RunFilter{IDs: []string{run.ID()}, Error: by})
			if err != nil {
				t.Fatal(err)
			}
			if want := has(info.Error, by); (len(page.Runs) == 1) != want {
				t.Errorf("%q by %q: found %v, want %v", info.Error, by, !want, want)
			}
		}
	})
}

// has reports whether a text has another in it, in any case of letters.
func has(text, part string) bool {
	return strings.Contains(strings.ToLower(text), strings.ToLower(part))
}
