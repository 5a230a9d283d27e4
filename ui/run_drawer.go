package ui

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/stint-dev/stint"
)

// A drawer stands beside a timeline or a graph, and shows one span of it, or the run itself.
type drawer struct {
	*span                // nil: the run itself
	gone  bool           // a span was asked for, and is not there
	run   *stint.RunInfo // of a child or a task
	group *graphNode     // tasks that are folded
}

// maxDrawerLogs is the number of log lines in a drawer.
const maxDrawerLogs = 10

// loadDrawer reads what the drawer shows of the span that the query names.
func (h *handler) loadDrawer(ctx context.Context, v *runView) error {
	p := &v.drawer
	key := v.query.Get("span")
	if i := slices.IndexFunc(v.spans, func(s span) bool { return s.Key == key }); key != "" && i >= 0 {
		p.span = &v.spans[i]
	} else if p.group = v.foldedTasks(key); p.group != nil {
		return nil
	} else if p.span = v.idleTask(key); p.span == nil {
		p.gone = key != ""
	}
	id, task := v.ID, v.Task
	if p.span != nil && p.RunID != "" {
		info, err := h.c.GetRun(ctx, p.RunID)
		if errors.Is(err, stint.ErrNotFound) {
			return nil // deleted meanwhile
		}
		if err != nil {
			return err
		}
		h.redactRun(info)
		p.run, id, task = info, info.ID, info.Task
	}
	tail := 0
	if p.span == nil || p.run != nil {
		tail = maxDrawerLogs
	}
	err := h.readLogs(ctx, v, id, task, tail, func(l *stint.LogLine) bool {
		return p.span == nil || p.run != nil || !l.At.Before(p.Start) && !l.At.After(p.End)
	})
	v.logs = v.logs[max(len(v.logs)-maxDrawerLogs, 0):]
	return err
}

// idleTask returns a span for a task that has not begun, and so is not in the timeline.
func (v *runView) idleTask(key string) *span {
	for i := range v.Tasks {
		if t := &v.Tasks[i]; key == taskKey(t.Name) {
			return &span{Key: key, Label: t.Name, Class: t.State.String(), RunID: t.RunID, Note: t.Blocked, failure: t.Error}
		}
	}
	return nil
}

// foldedTasks returns the tasks that are one box of the graph.
func (v *runView) foldedTasks(key string) *graphNode {
	for _, n := range v.graph().nodes {
		if len(n.tasks) > 1 && n.key() == key {
			return &n
		}
	}
	return nil
}

// showFolded lists folded tasks, the gravest first.
func (h *handler) showFolded(v *runView) node {
	n := v.drawer.group
	tasks := slices.Clone(n.tasks)
	slices.SortStableFunc(tasks, func(a, b stint.TaskInfo) int {
		return cmp.Compare(slices.Index(graver, a.State), slices.Index(graver, b.State))
	})
	return group(el("header", el("div.row", el("b", userText(fmt.Sprintf("%s ×%d", n.name(), len(n.tasks)))),
		el("span.more", h.link(v.at(v.tab.name), attr("class", "btn sm quiet"), attr("data-soft"), "Close"))), el("p.dim", n.about())),
		el("section", el("ul", each(tasks, func(t stint.TaskInfo) node {
			return el("li", stateSign(t.State), " ", h.link(v.at(v.tab.name, "span", taskKey(t.Name))+"#detail", attr("class", "link"),
				attr("data-soft"), userText(t.Name)), " ", el("span.dim", elapsed(t.Started, t.Finished)))
		}))))
}

// showDrawer shows what is known of the chosen span: its error, its result, its logs, and what can be done with it.
func (h *handler) showDrawer(v *runView) node {
	p := &v.drawer
	contents := []any{attr("id", "detail"), attr("aria-label", "Detail"), attr("tabindex", "0")}
	part := func(title string, shown ...any) {
		contents = append(contents, el("section", el("h3", title), group(shown...)))
	}
	switch {
	case p.group != nil:
		contents = append(contents, h.showFolded(v))
	case p.span == nil:
		contents = append(contents, el("header", el("b", "This run"),
			when(p.gone, el("p.dim", "What was chosen is not here any more."))))
		part("Input", jsonTree(v.Input, smallTree))
		if v.State == stint.StateSucceeded {
			part("Output", jsonTree(v.Output, smallTree))
		}
	default:
		contents = append(contents, h.drawerHead(v))
		h.spanParts(v, part)
	}
	title := "Logs of its time"
	if p.span == nil || p.run != nil {
		title = "Logs"
	}
	if len(v.logs) > 0 {
		cut := when(len(v.logs) == maxDrawerLogs, el("p.dim", fmt.Sprintf("The last %d lines:", maxDrawerLogs)))
		part(title, cut, logLines(v.logs))
	}
	contents = append(contents, h.drawerActions(v))
	return el("aside.side", contents...)
}

func (h *handler) drawerHead(v *runView) node {
	p := v.drawer
	took := ""
	if !p.Start.IsZero() {
		took = formatDuration(p.End.Sub(p.Start))
	}
	return el("header", el("div.row",
		el("span.st.st-"+p.Class, icon("st-"+p.Class), el("span", p.Class)), el("b", userText(truncate(200, p.Label))),
		el("span.more", took, " ", h.link(v.at(v.tab.name, "zoom", v.query.Get("zoom")), attr("class", "btn sm quiet"),
			attr("data-soft"), "Close"))),
		when(!p.Start.IsZero(), el("p.dim", timestamp(p.Start), " to ", timestamp(p.End))),
		when(p.Note != "" && p.failure != p.Note, el("p.ink2", userText(p.Note))))
}

// spanParts shows the parts of a span, if it has them.
func (h *handler) spanParts(v *runView, part func(title string, shown ...any)) {
	p := v.drawer
	if p.failure != "" {
		part("Error", el("p.error.mono", userText(p.failure)))
	}
	if p.last && v.Stack != "" {
		part("Stack", pre(v.Stack))
	}
	if e := p.entry; e != nil {
		if len(e.Tries) > 0 && p.part == 0 {
			part("Tries", showTries(*e))
		}
		if e.Done && e.Error == "" && len(e.Output) > 0 {
			part("Result", jsonTree(e.Output, wholeTree))
		} else if !e.Done && !e.Due.IsZero() {
			part("Goes on", timestamp(e.Due))
		}
	}
	if r := p.run; r != nil {
		if !r.Workflow && r.Attempt > 0 {
			part("Attempt", r.Attempt, when(r.Worker != "", ", on ", userText(r.Worker)))
		}
		if r.Blocked != "" {
			part("Waits", userText(r.Blocked), h.publishForms(r.Awaits, v.at(v.tab.name, "span", p.Key)))
		}
		part("Input", jsonTree(r.Input, smallTree))
		if r.State == stint.StateSucceeded {
			part("Output", jsonTree(r.Output, smallTree))
		}
		if r.Stack != "" {
			part("Stack", pre(r.Stack))
		}
	}
}

// drawerActions offers what can be done with the chosen span.
func (h *handler) drawerActions(v *runView) node {
	p := v.drawer
	if p.span == nil {
		return nil
	}
	path := "runs/" + v.ID + "/"
	var acts []any
	if e := p.entry; e != nil && e.Kind == "step" && e.Done && p.part == 0 && !p.lost {
		step := hidden("step", e.Name)
		acts = append(acts, when(!v.open, h.actionButton("", "Replay from here", path+"restart", runPath(v.ID), step)),
			h.actionButton("", "New run from here", path+"fork", "", step))
	}
	if p.RunID != "" {
		acts = append(acts, h.link(runPath(p.RunID), attr("class", "btn"), "Open the run"))
	}
	if v.tab.name == "timeline" && p.End.Sub(p.Start) > time.Millisecond {
		zoom := v.at(v.tab.name, "span", p.Key, "zoom", v.zoomTo(p.Start, p.End))
		acts = append(acts, h.link(zoom, attr("class", "btn"), attr("data-soft"), "Zoom to it"))
	}
	return when(len(acts) > 0, el("section", row(acts...)))
}

func taskKey(name string) string { return "t" + name }

// spanPath is where the drawer shows a span.
func (v *runView) spanPath(s *span) string {
	return v.at(v.tab.name, "span", s.Key, "zoom", v.query.Get("zoom")) + "#detail"
}

// zoomTo returns the part of a timeline as the query has it, in milliseconds from the timeline's begin.
func (v *runView) zoomTo(from, to time.Time) string {
	begin := beginOf(v.spans)
	return fmt.Sprintf("%d-%d", from.Sub(begin).Milliseconds(), to.Sub(begin).Milliseconds()+1)
}

// zoomed returns the part of a timeline that the query asks for, or all.
func (v *runView) zoomed(first, last time.Time) (time.Time, time.Time) {
	var from, to int64
	text := strings.TrimSpace(v.query.Get("zoom"))
	if n, err := fmt.Sscanf(text, "%d-%d", &from, &to); n != 2 || err != nil || from < 0 || to <= from || to > maxZoom.Milliseconds() {
		return first, last
	}
	return first.Add(time.Duration(from) * time.Millisecond), first.Add(time.Duration(to) * time.Millisecond)
}

// maxZoom is the longest time from a run's begin that a timeline shows a part of.
const maxZoom = 100 * 365 * 24 * time.Hour
