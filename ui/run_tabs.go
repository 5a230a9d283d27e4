package ui

import (
	"context"
	"fmt"
	"net/url"

	"github.com/stint-dev/stint"
)

// A runTab is one view of a run. Only what the chosen one shows is read.
type runTab struct {
	name, title string
	of          func(*runView) bool // nil: every run has it
	count       func(*runView) int  // nil: not known without reading
	load        func(*handler, context.Context, *runView) error
	show        func(*handler, *runView) node
}

// runTabs returns the tabs in their order. The first that a run has is its default.
func runTabs() []runTab {
	workflow := func(v *runView) bool { return v.Workflow }
	plain := func(v *runView) bool { return !v.Workflow }
	return []runTab{
		{"graph", "Graph", workflow, func(v *runView) int { return len(v.Tasks) }, loadTimeline, showGraph},
		{"timeline", "Timeline", nil, nil, loadTimeline, showTimeline},
		{"journal", "Journal", plain, nil, loadJournal, showJournal},
		{"logs", "Logs", nil, nil, loadLogs, showLogs},
		{"stream", "Stream", nil, nil, loadStream, showStream},
		{"input", "Input, output", nil, nil, nil, showInput},
		{"attempts", "Attempts", nil, (*runView).attempts, loadAttempts, showAttempts},
		{"children", "Children", plain, nil, loadTree, showChildrenTab},
		{"compare", "Compare", nil, nil, loadCompare, showCompare},
	}
}

// chosenTab returns the tab that the query names, or that its other fields are for.
func (v *runView) chosenTab() (*runTab, error) {
	name := v.query.Get("tab")
	switch {
	case name != "":
	case v.logLevel+v.logText != "":
		name = "logs"
	case v.query.Get("journal") != "":
		name = "journal"
	}
	for _, t := range runTabs() {
		if (name == "" || name == t.name) && (t.of == nil || t.of(v)) {
			return &t, nil
		}
	}
	return nil, fmt.Errorf("tab %q: %w", name, errNoPage)
}

// at returns the path of a tab of this run, with fields of the query.
func (v *runView) at(tab string, pairs ...string) string {
	q := url.Values{}
	for _, name := range []string{"since", "until", "fold"} { // the range of the other pages, and how the graph is drawn
		if v.query.Get(name) != "" {
			q.Set(name, v.query.Get(name))
		}
	}
	q.Set("tab", tab)
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			q.Set(pairs[i], pairs[i+1])
		}
	}
	return runPath(v.ID) + "?" + q.Encode()
}

func (h *handler) showTabs(v *runView) node {
	return el("nav.tabs", attr("aria-label", "Views of this run"), each(runTabs(), func(t runTab) node {
		if t.of != nil && !t.of(v) {
			return nil
		}
		n := 0
		if t.count != nil {
			n = t.count(v)
		}
		return h.link(v.at(t.name), t.title, when(n > 0, el("span.n", formatNumber(n))),
			when(t.name == v.tab.name, attr("aria-current", "page")))
	}))
}

// attempts returns how many attempts have begun.
func (v *runView) attempts() (n int) {
	for _, e := range v.Timeline {
		if e.State == stint.StateRunning {
			n++
		}
	}
	return n
}

// showGraph shows a workflow's tasks with what each needs, the chosen one beside them. What led to a failure is lit.
func showGraph(h *handler, v *runView) node {
	gr := v.graph()
	gr.states, gr.chosen = true, v.query.Get("span")
	gr.path = func(key string) string { return h.base + v.at(v.tab.name, "span", key) + "#detail" }
	gr.light()
	return group(el("div.split.graphs", el("section.panel", gr.draw(),
		when(gr.folded, el("p.more", "Tasks with the same parents and children are one box. ",
			h.link(v.at(v.tab.name, "fold", "no"), attr("class", "link"), attr("data-soft"), "Show each")))), h.showDrawer(v)),
		h2("Tasks"), h.showFlow(v.Tasks))
}

// graph returns the graph of a workflow's tasks.
func (v *runView) graph() *graph { return newGraph(v.Tasks, v.query.Get("fold") != "no") }
