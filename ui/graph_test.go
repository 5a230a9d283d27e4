package ui_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/stinttest"
)

// In the graph of a run that failed the path to the failure is lit, and what it kept from starting is dashed. Where
// many tasks are alike they are one box, whose drawer lists them.
func TestGraph(t *testing.T) {
	c, h := opened(t)
	flow := stint.NewWorkflow[int](c, "etl")
	add := func(name string, fails bool, parents ...stint.AnyNode) *stint.Node[int] {
		return stint.AddTask(flow, name, func(context.Context, int) (int, error) {
			if fails {
				return 0, stint.NonRetryable(errors.New("unexpected EOF"))
			}
			return 1, nil
		}, stint.WithParents(parents...))
	}
	discover := add("discover", false)
	other := add("other", false, discover)
	var parts []stint.AnyNode
	for i := range 36 {
		parts = append(parts, add(fmt.Sprintf("parse-%02d", i), i == 7, discover))
	}
	add("merge", false, parts...)
	add("report", false, other)
	run, err := flow.Enqueue(t.Context(), 1)
	if err = cmp.Or(err, stinttest.Drain(t.Context(), c)); err != nil {
		t.Fatal(err)
	}
	page := func(query string) string {
		w, _ := asked(t, h, "/runs/"+run.ID()+query, "Accept", "text/html")
		return w.Body.String()
	}
	count := func(text string, of string) int { return len(regexp.MustCompile(of).FindAllString(text, -1)) }
	folded := page("")
	for of, want := range map[string]int{`class="node`: 5, `parse ×36`: 2, `1 failed, 35 succeeded`: 2, `edge lit`: 1, `edge dead`: 1, `failing`: 2, `span=gparse-00`: 1} {
		if got := count(folded, of); got != want {
			t.Errorf("the graph has %q %d times, want %d", of, got, want)
		}
	}
	whole := page("?fold=no&span=tparse-07")
	for of, want := range map[string]int{`class="node`: 40, `edge lit`: 1, `edge dead`: 36, `failing chosen`: 1, `failing`: 2, `fold=no`: 40} {
		if got := count(whole, of); got != want && (of != `fold=no` || got < want) {
			t.Errorf("the graph with each task has %q %d times, want %d", of, got, want)
		}
	}
	for query, want := range map[string]string{
		"?span=gparse-00": "parse ×36 Close 1 failed, 35 succeeded failed parse-07", "?span=tparse-07": "failed parse-07",
		"?span=tmerge": "canceled merge", "?span=tdiscover": "Open the run", "?span=gmerge": "not here any more",
	} {
		if text := mainOf(t, h, "/runs/"+run.ID()+query); !strings.Contains(text, want) {
			t.Errorf("%s does not show %q: %s", query, want, text)
		}
	}
}

// The event that a workflow's task waits for can be published beside the graph.
func TestPublishForTask(t *testing.T) {
	c, h := opened(t)
	flow := stint.NewWorkflow[int](c, "site")
	stint.AddTask(flow, "upload", func(_ context.Context, n int) (int, error) { return n, nil },
		stint.WithWaitFor(stint.UserEvent("approved", stint.WithMatch("id", 7))))
	run, err := flow.Enqueue(t.Context(), 1)
	if err = cmp.Or(err, stinttest.Drain(t.Context(), c)); err != nil {
		t.Fatal(err)
	}
	path := "/runs/" + run.ID() + "?span=tupload"
	w, _ := asked(t, h, path, "Accept", "text/html")
	for _, part := range []string{`action="/api/events"`, `value="approved"`, `&#34;id&#34;: 7`} {
		if !strings.Contains(w.Body.String(), part) {
			t.Errorf("no %s beside the graph", part)
		}
	}
	if _, err := c.Publish(t.Context(), "approved", map[string]int{"id": 7}); err != nil {
		t.Fatal(err)
	}
	if err := stinttest.Drain(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if w, _ := asked(t, h, path, "Accept", "text/html"); strings.Contains(w.Body.String(), `action="/api/events"`) {
		t.Error("the form stays when the task has gone on")
	}
}
