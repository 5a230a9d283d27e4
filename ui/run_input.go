package ui

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// showInput shows the run's values whole, with all that is known of it, and offers to run it again.
func showInput(h *handler, v *runView) node {
	return group(el("div.grid", el("section", h2("Input"), jsonTree(v.Input, wholeTree)),
		el("section", h2("Output"), jsonTree(v.Output, wholeTree))),
		h.runAgain(v), el("section", h2("Facts"), h.showAllFacts(v)))
}

func (h *handler) showAllFacts(v *runView) node {
	run := func(id string) node { return h.link(runPath(id), attr("class", "mono"), id) }
	return el("dl.facts",
		fact("Task", h.link(taskPath(v.Task), userText(v.Task))),
		fact("Attempt", v.Attempt, fmt.Sprintf(", of %d executions", v.Executions)),
		fact(dueLabel(v.State), timestamp(v.Scheduled)), fact("Started", timestamp(v.Started)), fact("Ended", timestamp(v.Finished)),
		when(v.ParentID != "", fact("Parent", run(v.ParentID))),
		when(v.RootID != "" && v.RootID != v.ParentID, fact("Root", run(v.RootID))),
		when(v.Key != "", fact("Idempotency key", userText(v.Key))),
		h.showMetadata(v.Metadata))
}

// shortMetadata returns the first keys of the run's metadata, without the library's own.
func (v *runView) shortMetadata() []string {
	keys := slices.DeleteFunc(slices.Sorted(maps.Keys(v.Metadata)), func(k string) bool { return namesInMetadata[k] })
	return keys[:min(len(keys), maxShortFacts)]
}

// showMetadata shows the first maxRows keys and their values.
func (h *handler) showMetadata(m map[string]string) node {
	keys := slices.Sorted(maps.Keys(m))
	return group(each(keys[:min(len(keys), maxRows)], func(k string) node { return fact(userText(k), userText(truncate(4096, m[k]))) }),
		when(len(keys) > maxRows, fact("More metadata", formatCount(len(keys)-maxRows)+" keys")))
}

// runAgain offers to enqueue the run again: with its input to edit, as a command, as Go.
func (h *handler) runAgain(v *runView) node {
	if h.readOnly || h.redact != nil || len(v.Input) > 4096 || strings.Contains(v.Task, ":") {
		return nil
	}
	body, err := json.Marshal(map[string]json.RawMessage{"input": v.Input})
	if err != nil {
		return nil
	}
	operation := "tasks/" + escapeSegment(v.Task) + "/runs"
	curl := fmt.Sprintf("curl -X POST 'http://localhost:8080%s/api/%s' -H 'Content-Type: application/json' -d '%s'",
		h.base, operation, strings.ReplaceAll(string(body), "'", `'\''`))
	asGo := fmt.Sprintf("client.EnqueueJSON(ctx, %q, json.RawMessage(%q))", v.Task, v.Input)
	copied := func(summary, id, text string) node {
		return details(summary, pre(text, attr("id", id)), el("button", attr("type", "button"), attr("data-copy", id), "Copy"))
	}
	edit := h.form("", operation, "", textArea("Input", "input", indented(v.Input)), row(button("primary", "Enqueue")))
	return group(h2("Run again"), details("With another input", edit), copied("As a command", "curl", curl), copied("As Go", "go", asGo))
}
