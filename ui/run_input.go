package ui

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
)

// showInput shows the run's values whole, with all that is known of it, and offers to run it again.
func showInput(h *handler, v *runView) node {
	return group(el("div.grid", h.showPayload(v.ID, "Input", v.Input), h.showPayload(v.ID, "Output", v.Output)),
		h.runAgain(v), el("section", h2("Facts"), h.showAllFacts(v)))
}

// showPayload shows a run's input or output as a tree, and offers the whole of it to copy and to download.
func (h *handler) showPayload(id, title string, payload json.RawMessage) node {
	at := "/payload.json?" + pathQuery("id", id, "of", strings.ToLower(title))
	return el("section", h2(title), jsonTree(payload, wholeTree), when(len(payload) > 0,
		row(h.link(at, attr("class", "btn sm"), attr("download"), "Download"),
			el("button.btn.sm", attr("type", "button"), attr("data-scripted"), attr("data-copy-of", h.base+at), "Copy"))))
}

// downloadPayload answers with the whole of a run's input or output, as it may be shown.
func (h *handler) downloadPayload(w http.ResponseWriter, r *http.Request) {
	if !h.authorize(w, r, Action{Name: "view"}) {
		return
	}
	done, err := h.acquireSlot(r.Context())
	if err != nil {
		h.writeError(w, r, statusOf(err), err)
		return
	}
	id, of := r.URL.Query().Get("id"), r.URL.Query().Get("of")
	info, err := h.c.GetRun(r.Context(), id)
	done()
	if err == nil && of != "input" && of != "output" {
		err = fmt.Errorf("of %q: want input or output", of)
	}
	if err != nil {
		h.writeError(w, r, statusOf(err), err)
		return
	}
	h.redactRun(info)
	payload := map[string]json.RawMessage{"input": info.Input, "output": info.Output}[of]
	w.Header().Set("Content-Disposition", `attachment; filename="`+of+"-"+shortID(info.ID)+`.json"`)
	h.send(w, http.StatusOK, "application/json", payload)
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
		return details(summary, pre(text, attr("id", id)), el("button", attr("type", "button"), attr("data-copy", id),
			attr("data-scripted"), "Copy"))
	}
	edit := h.form("", operation, "", textArea("Input", "input", indented(v.Input)), row(button("primary", "Enqueue")))
	return group(h2("Run again"), details("With another input", edit), copied("As a command", "curl", curl), copied("As Go", "go", asGo))
}
