package ui_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/stinttest"
	"github.com/stint-dev/stint/ui"
)

// A definition has its row, its page with graph and form, and its place in the API, before any run of it.
func TestDefinitionsAreTasks(t *testing.T) {
	c := stinttest.New(t)
	stint.NewTask(c, "control", func(_ context.Context, in int) (int, error) { return in, nil })
	if _, err := c.Define(t.Context(), stint.Definition{Name: "build", TaskOptions: stint.TaskOptions{Queue: "builds"},
		InputSchema: json.RawMessage(`{"type":"object","properties":{"branch":{"type":"string"}}}`),
		Tasks:       []stint.TaskSpec{{Name: "compile"}, {Name: "link", Parents: []string{"compile"}}}}); err != nil {
		t.Fatal(err)
	}
	h := ui.Handler(c, ui.WithLocalAccess())
	for path, shows := range map[string][]string{
		"/tasks":       {"<bdi>build</bdi>", "builds", "<bdi>control</bdi>"},
		"/tasks/build": {"workflow, executed by another program", "compile", "link", `data-field="branch"`},
		"/api/tasks":   {`"name":"build","workflow":true`, `"branch"`, `"name":"control"`},
	} {
		page := bodyOf(t, h, path)
		for _, text := range shows {
			if !strings.Contains(page, text) {
				t.Errorf("%s does not show %q", path, text)
			}
		}
	}
}
