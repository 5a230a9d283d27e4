package ui_test

import (
	"cmp"
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/stinttest"
)

// mainOf returns the text of a page's content, without markup.
func mainOf(t *testing.T, h http.Handler, path string) string {
	t.Helper()
	w, _ := asked(t, h, path, "Accept", "text/html")
	if w.Code != http.StatusOK {
		t.Fatalf("GET %s: %d: %.300s", path, w.Code, w.Body)
	}
	_, text, _ := strings.Cut(w.Body.String(), "<main")
	return strings.Join(strings.Fields(markup.ReplaceAllString(text, " ")), " ")
}

// A run's page reads and shows only what its tab is for. The timeline has a drawer with the chosen span.
func TestRunTabs(t *testing.T) {
	c, h := opened(t)
	child := stint.NewTask(c, "child", func(ctx context.Context, s string) (string, error) {
		stint.Logger(ctx).Info("log of the child")
		return "output of the child", nil
	})
	task := stint.NewTask(c, "parent", func(ctx context.Context, in string) (string, error) {
		stint.Logger(ctx).Info("log of the parent")
		if err := stint.Stream(ctx, []byte("streamed")); err != nil {
			return "", err
		}
		if _, err := stint.Step(ctx, "reserve", func(context.Context) (string, error) { return "result of the step", nil }); err != nil {
			return "", err
		}
		_, err := child.Run(ctx, "input of the child")
		return "output of " + in, err
	})
	run, err := task.Enqueue(t.Context(), "all")
	if err = cmp.Or(err, stinttest.Drain(t.Context(), c)); err != nil {
		t.Fatal(err)
	}
	children, err := c.ListRuns(t.Context(), stint.RunFilter{ParentID: run.ID()})
	if err != nil || len(children.Runs) != 1 {
		t.Fatalf("%v, %+v", err, children)
	}
	path := "/runs/" + run.ID()
	for query, want := range map[string]string{
		"": "step reserve", "?tab=journal": "result of the step", "?tab=logs": "log of the parent", "?text=parent": "log of the parent",
		"?tab=stream": "streamed", "?tab=input": "As Go", "?tab=attempts": "When State", "?tab=children": "input of the child",
		"?tab=timeline&span=e1": "result of the step", "?tab=timeline&span=c" + children.Runs[0].ID: "output of the child",
	} {
		text := mainOf(t, h, path+query)
		if !strings.Contains(text, want) {
			t.Errorf("%s%s does not show %q: %s", path, query, want, text)
		}
		for _, other := range []string{"streamed", "As Go", "When State"} {
			if other != want && strings.Contains(text, other) {
				t.Errorf("%s%s shows %q too", path, query, other)
			}
		}
	}
	for query, want := range map[string]string{"?span=e99": "not here any more", "?tab=timeline&zoom=0-1": "Show all", "?zoom=9-1": "step reserve"} {
		if text := mainOf(t, h, path+query); !strings.Contains(text, want) {
			t.Errorf("%s%s does not show %q: %s", path, query, want, text)
		}
	}
	for _, tab := range []string{"graph", "no"} { // it is no workflow
		if w, _ := asked(t, h, path+"?tab="+tab, "Accept", "text/html"); w.Code != http.StatusNotFound {
			t.Errorf("tab %s: %d", tab, w.Code)
		}
	}
}
