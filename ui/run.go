package ui

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/internal/jsonx"
	"github.com/stint-dev/stint/internal/text"
)

// What a page of a run shows.
type runView struct {
	*stint.RunInfo
	journal           []stint.JournalEntry
	journalFrom       string // cursor of the page of it; "": the first
	journalNext       string // cursor of the next page; "": there is none
	children          []child
	childrenMore      bool // than these
	childBytes        int  // of payloads that were read for them
	logs              []stint.LogLine
	logsMore          bool
	logLevel, logText string
	stream            string
	elapsed           time.Duration // of the run, so far
	open              bool          // it has not ended
}

// A child is a run that another asked for, itself or through another.
type child struct {
	stint.RunInfo
	depth int // 1: itself
}

const (
	logsShown     = 500
	childrenShown = 100
	childrenDepth = 5
	childrenBytes = 8 << 20
)

func runPage(h *handler, ctx context.Context, id string, q url.Values) (*view, error) {
	info, err := h.c.GetRun(ctx, id)
	if err != nil {
		return nil, err
	}
	h.redactRun(info)
	v := &runView{RunInfo: info, logLevel: q.Get("level"), logText: q.Get("text"), open: info.Finished.IsZero()}
	if err := h.loadJournal(ctx, v, q.Get("journal")); err != nil {
		return nil, err
	}
	if !info.Workflow { // its tasks are shown as such
		if err := h.loadChildren(ctx, v, id, 1); err != nil {
			return nil, err
		}
	}
	if err := h.loadLogs(ctx, v); err != nil {
		return nil, err
	}
	if !v.Started.IsZero() {
		v.elapsed = time.Since(v.Started)
		if !v.open {
			v.elapsed = v.Finished.Sub(v.Started)
		}
	}
	return &view{Title: info.Task + " " + id, Main: h.showRun(v), Up: "/runs"}, nil
}

// loadJournal reads a page of what the run has recorded.
func (h *handler) loadJournal(ctx context.Context, v *runView, cursor string) error {
	page, err := h.c.JournalPage(ctx, v.ID, stint.JournalFilter{Limit: listShown, Cursor: cursor})
	if errors.Is(err, stint.ErrNotFound) {
		return nil // deleted meanwhile
	}
	if err != nil {
		return err
	}
	h.redactEntries(v.Task, page.Entries)
	v.journal, v.journalFrom, v.journalNext = page.Entries, cursor, page.Next
	return nil
}

// loadChildren gathers the tree of children, as they came, each before its own.
func (h *handler) loadChildren(ctx context.Context, v *runView, id string, depth int) error {
	if depth > childrenDepth || len(v.children) >= childrenShown || v.childBytes > childrenBytes {
		return nil
	}
	page, err := h.list(ctx, stint.RunFilter{ParentID: id, Limit: childrenShown})
	if err != nil {
		return err
	}
	v.childrenMore = v.childrenMore || page.Next != ""
	for i := range page.Runs { // what is shown of them is kept, and no more
		r := &page.Runs[i]
		v.childBytes += len(r.Input) + len(r.Output)
		r.Input, r.Output = json.RawMessage(strings.Clone(truncate(70, string(r.Input)))), nil
	}
	for _, r := range slices.Backward(page.Runs) {
		if len(v.children) >= childrenShown || v.childBytes > childrenBytes && depth > 1 {
			v.childrenMore = true
			break
		}
		v.children = append(v.children, child{r, depth})
		if err := h.loadChildren(ctx, v, r.ID, depth+1); err != nil {
			return err
		}
	}
	return nil
}

func (h *handler) showRun(v *runView) node {
	graph, spans := drawGraph(h.base, v.Tasks, true), h.waterfall(v)
	return group(el("h1", userText(v.Task), " ", stateBadge(v.State), when(v.Quarantined, " ", el("span.state.blocked", "quarantined")),
		when(v.Canceling, " ", el("span.state.canceled", "canceling"))),
		when(v.Blocked != "", el("p", el("b", "Waits:"), " ", userText(v.Blocked))),
		showDivergence(v.Divergence),
		when(v.Error != "" && v.Divergence == nil, el("p.error", userText(v.Error))),
		when(v.Stack != "", details("Stack", pre(v.Stack))),
		when(v.Progress.Total > 0, el("p", progressBar("progress", min(v.Progress.Done, v.Progress.Total), v.Progress.Total),
			fmt.Sprintf(" %s of %s ", formatCount(v.Progress.Done), formatCount(v.Progress.Total)), userText(v.Progress.Message))),
		h.runActions(v),
		el("div.grid", el("section", h2("Facts"), h.showFacts(v)), el("section", h2("Input"), jsonTree(v.Input, wholeTree), h2("Output"), jsonTree(v.Output, wholeTree))),
		when(graph != nil, h2("Graph"), graph),
		when(len(v.Tasks) > 0, h2("Tasks"), h.showFlow(v.Tasks)),
		when(spans != nil, h2("Time"), spans),
		when(len(v.journal) > 0 || v.journalFrom != "", h2("Journal"), h.showJournal(v)),
		when(len(v.children) > 0, h2("Children"), h.showChildren(v.children), when(v.childrenMore, el("p.dim", "There are more: the list of runs with this parent has them."))),
		h2("Logs"), showLogs(v),
		when(v.stream != "", h2("Stream"), pre(v.stream)),
		when(len(v.Timeline) > 0, h2("History"), showHistory(v.Timeline)),
		h.runAgain(v))
}

// showDivergence has side by side what is recorded and what the code asked for.
func showDivergence(d *stint.Divergence) node {
	if d == nil {
		return nil
	}
	return table(tableHead("Entry", "The journal has", "The code asks for", "Where"), el("tr", el("td.mono", d.Address), el("td", code(d.Recorded)), el("td.error", code(d.Asked)),
		el("td.mono", when(d.Line > 0, userText(fmt.Sprintf("%s:%d", d.File, d.Line))))))
}

func (h *handler) runActions(v *runView) node {
	here, of := runPath(v.ID), "runs/"+v.ID+"/"
	return row(when(v.open, h.actionButton("danger", "Cancel", of+"cancel", here)),
		when(!v.open || v.State == stint.StateBlocked, h.actionButton("primary", "Replay", of+"replay", here)))
}

// Keys of metadata by which the library says what started a run.
const (
	metaCron     = "stint.cron"
	metaTick     = "stint.tick"
	metaEvent    = "stint.event"
	metaEventKey = "stint.event_key"
)

// trigger is what started a run.
func (h *handler) trigger(v *runView) node {
	switch {
	case v.Metadata[metaCron] != "":
		return group("cron ", h.link("/schedules", userText(v.Metadata[metaCron])))
	case v.Metadata[metaEvent] != "":
		return group("event ", h.link("/events?"+url.Values{"key": {v.Metadata[metaEventKey]}}.Encode(), userText(v.Metadata[metaEventKey])))
	case v.ParentID != "":
		return group("run ", h.link(runPath(v.ParentID), attr("class", "mono"), v.ParentID))
	}
	return group("an enqueue")
}

func (h *handler) showFacts(v *runView) node {
	run := func(id string) node { return h.link(runPath(id), attr("class", "mono"), id) }
	return el("dl.facts",
		fact("ID", el("span.mono", v.ID)), fact("Started by", h.trigger(v)),
		fact("Queue", h.link(runsPath("queue", v.Queue), userText(v.Queue)), fmt.Sprintf(", priority %d", v.Priority)),
		fact("Task", h.link(taskPath(v.Task), userText(v.Task))), fact("Attempt", v.Attempt, fmt.Sprintf(", of %d executions", v.Executions)),
		fact("Created", timestamp(v.Created)), fact("Due", timestamp(v.Scheduled)), fact("Started", timestamp(v.Started)),
		fact("Ended", timestamp(v.Finished), when(v.elapsed > 0, " ("+formatDuration(v.elapsed)+")")),
		when(v.Worker != "", fact("Worker", h.link("/workers", userText(v.Worker)))),
		when(v.ParentID != "", fact("Parent", run(v.ParentID))),
		when(v.RootID != "" && v.RootID != v.ParentID, fact("Root", run(v.RootID))),
		when(v.Key != "", fact("Idempotency key", userText(v.Key))),
		h.showMetadata(v.Metadata))
}

// showMetadata is a fact for each key, of the first listShown.
func (h *handler) showMetadata(m map[string]string) node {
	keys := slices.Sorted(maps.Keys(m))
	return group(each(keys[:min(len(keys), listShown)], func(k string) node { return fact(userText(k), userText(truncate(4096, m[k]))) }),
		when(len(keys) > listShown, fact("More metadata", formatCount(len(keys)-listShown)+" keys")))
}

func (h *handler) showFlow(tasks []stint.TaskInfo) node {
	return table(tableHead("State", "Task", "Waits for, or error", "Took.figure"), eachShown(tasks, func(t stint.TaskInfo) node {
		cells := func(name node) node {
			return group(el("td", stateBadge(t.State)), el("td", name), el("td", userText(truncate(160, t.Blocked)), " ", el("bdi.error", truncate(160, t.Error))), el("td.number", elapsed(t.Started, t.Finished)))
		}
		if t.RunID == "" {
			return el("tr", cells(userText(t.Name)))
		}
		return h.linkedRow(runPath(t.RunID), cells(h.link(runPath(t.RunID), userText(t.Name))))
	}))
}

func (h *handler) showJournal(v *runView) node {
	of := "runs/" + v.ID + "/"
	entries := table(tableHead("No.", "Kind", "Name", "Result", "Recorded", h.actions()), each(v.journal, func(e stint.JournalEntry) node {
		step := hidden("step", e.Name)
		return el("tr", el("td.mono", e.Address), el("td.state", e.Kind), el("td", userText(e.Name), when(e.Attempts > 1, el("span.dim", fmt.Sprintf(" (%d attempts)", e.Attempts)))),
			el("td", h.showResult(e)), el("td", timestamp(e.At)),
			el("td", when(e.Kind == "step" && e.Done, h.actionButton("", "New run from here", of+"fork", "", step),
				when(!v.open, " ", h.actionButton("", "Replay from here", of+"restart", runPath(v.ID), step)))))
	}))
	return group(entries, h.otherRows(runPath(v.ID), "journal", v.journalFrom, v.journalNext))
}

func (h *handler) showResult(e stint.JournalEntry) node {
	switch {
	case e.Error != "":
		return el("bdi.error", truncate(300, e.Error))
	case !e.Done:
		return group(el("span.state.waiting", "‖ waiting"), when(!e.Due.IsZero(), " until ", timestamp(e.Due)))
	}
	return jsonTree(e.Output, smallTree)
}

func (h *handler) showChildren(children []child) node {
	return table(tableHead("State", "Task", "Input.optional", "Took.figure", "Created"), each(children, func(c child) node {
		return h.linkedRow(runPath(c.ID), el("td", stateBadge(c.State)), el(fmt.Sprintf("td.in%d", min(c.depth-1, 4)), h.link(runPath(c.ID), userText(c.Task))),
			el("td.optional", el("bdi.dim.mono", truncate(70, string(c.Input)))), el("td.number", elapsed(c.Started, c.Finished)), el("td", timestamp(c.Created)))
	}))
}

func showLogs(v *runView) node {
	levels := each([]string{"", "DEBUG", "INFO", "WARN", "ERROR"}, func(l string) node {
		return el("option", l, when(l == v.logLevel, attr("selected")))
	})
	form := el("form.filters", attr("method", "get"), el("label", "At least", el("select", attr("name", "level"), levels)), input("Text", attr("name", "text"), attr("value", v.logText)), button("", "Filter"))
	if len(v.logs) == 0 {
		if v.logLevel+v.logText != "" {
			return group(form, emptyState("No line matches."))
		}
		return group(form, emptyState("No line. A handler writes some with ", code("stint.Logger(ctx)"), "."))
	}
	return group(form, when(v.logsMore, el("p.dim", fmt.Sprintf("The last %d lines that match:", len(v.logs)))), el("dl.log.mono", each(v.logs, func(l stint.LogLine) node {
		level := el("dd", l.Level)
		if l.Level >= slog.LevelError {
			level = el("dd.error", l.Level)
		}
		return group(el("dt.dim", timestamp(l.At)), level, el("dd", userText(l.Message), when(len(l.Attrs) > 0, " ", el("bdi.dim", string(l.Attrs)))))
	})))
}

func showHistory(timeline []stint.TimelineEntry) node {
	return table(tableHead("When", "State", "Attempt.figure", "Worker", "Error"), eachShown(timeline, func(e stint.TimelineEntry) node {
		return el("tr", el("td", timestamp(e.At)), el("td", stateBadge(e.State)), el("td.number", when(e.Attempt > 0, e.Attempt)), el("td", userText(e.Worker)), el("td", el("bdi.error", truncate(300, e.Error))))
	}))
}

// runAgain offers the run for another go: with an input to edit, as a command, as Go.
func (h *handler) runAgain(v *runView) node {
	if h.readOnly || h.redact != nil || len(v.Input) > 4096 || strings.Contains(v.Task, ":") {
		return nil
	}
	body, err := json.Marshal(map[string]json.RawMessage{"input": v.Input})
	if err != nil {
		return nil
	}
	curl := fmt.Sprintf("curl -X POST 'http://localhost:8080%s/api/tasks/%s/runs' -H 'Content-Type: application/json' -d '%s'", h.base, escapeSegment(v.Task), strings.ReplaceAll(string(body), "'", `'\''`))
	copied := func(summary, id, text string) node {
		return details(summary, pre(text, attr("id", id)), el("button", attr("type", "button"), attr("data-copy", id), "Copy"))
	}
	return group(h2("Run again"),
		details("With an input to edit", h.form("", "tasks/"+escapeSegment(v.Task)+"/runs", "", textArea("Input", "input", indented(v.Input)), row(button("primary", "Enqueue")))),
		copied("As a command", "curl", curl), copied("As Go", "go", fmt.Sprintf("client.EnqueueJSON(ctx, %q, json.RawMessage(%q))", v.Task, v.Input)))
}

// logText is what a person may look for in a line: its message, its attributes as they are
// shown, and the texts in them as they were before they were encoded.
func logText(l *stint.LogLine) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n%s", l.Message, l.Attrs)
	attrs, err := jsonx.Decode(l.Attrs)
	if err != nil {
		return b.String()
	}
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case string:
			b.WriteString("\n" + v)
		case []any:
			for _, x := range v {
				walk(x)
			}
		case map[string]any:
			for k, x := range v {
				walk(k)
				walk(x)
			}
		}
	}
	walk(attrs)
	return b.String()
}

// loadLogs reads what the handler logged and streamed.
func (h *handler) loadLogs(ctx context.Context, v *runView) error {
	var least slog.Level
	if v.logLevel == "" || least.UnmarshalText([]byte(v.logLevel)) != nil {
		least = slog.Level(-1 << 20)
	}
	for after := int64(0); ; {
		lines, err := h.c.Logs(ctx, v.ID, after, 1000)
		if err != nil {
			return err
		}
		if len(lines) == 0 {
			break
		}
		h.redactLines(v.Task, lines) // before they are searched: see filterOf
		for _, l := range lines {
			if l.Level >= least && (v.logText == "" || strings.Contains(strings.ToLower(logText(&l)), strings.ToLower(v.logText))) {
				v.logs = append(v.logs, l)
			}
		}
		v.cutLogs()
		after = lines[len(lines)-1].Seq
	}
	chunks, err := h.c.StreamChunks(ctx, v.ID, 0, 1000)
	if err != nil {
		return err
	}
	v.stream = text.Cut(h.redactText("stream", v.Task, string(bytes.Join(chunks, nil))), streamShown)
	return nil
}

// cutLogs keeps the last lines that the page has room for.
func (v *runView) cutLogs() {
	n, size := 0, 0
	for n < min(len(v.logs), logsShown) && size <= logsBytes {
		n++
		l := &v.logs[len(v.logs)-n]
		size += len(l.Message) + len(l.Attrs)
	}
	if more := len(v.logs) - n; more > 0 {
		v.logs, v.logsMore = slices.Delete(v.logs, 0, more), true
	}
}

// waterfall draws what took how long: attempts, tasks, durable calls and children.
func (h *handler) waterfall(v *runView) node {
	now := time.Now()
	until := func(t time.Time) time.Time {
		if t.IsZero() {
			return now
		}
		return t
	}
	var bars []bar
	if !v.Scheduled.IsZero() && v.Scheduled.Before(now) && v.Started.After(v.Scheduled) {
		bars = append(bars, bar{Label: "waits to start", Class: "queued", Start: v.Scheduled, End: v.Started})
	}
	var began time.Time
	for _, e := range v.Timeline {
		switch {
		case e.State == stint.StateRunning:
			began = e.At
		case !began.IsZero():
			bars = append(bars, bar{Label: fmt.Sprintf("attempt %d", max(e.Attempt, 1)), Class: e.State.String(), Start: began, End: e.At})
			began = time.Time{}
		}
	}
	if !began.IsZero() {
		bars = append(bars, bar{Label: fmt.Sprintf("attempt %d", max(v.Attempt, 1)), Class: "running", Start: began, End: until(v.Finished)})
	}
	for _, t := range v.Tasks {
		if !t.Started.IsZero() {
			bars = append(bars, bar{t.Name, h.base + "/runs/" + t.RunID, t.State.String(), t.Started, until(t.Finished), 1})
		}
	}
	before := v.Started
	if v.journalFrom != "" && len(v.journal) > 0 { // what came before is not known
		before = v.journal[0].At
	}
	for _, e := range v.journal {
		b := bar{Label: e.Kind + " " + e.Name, Class: "succeeded", Start: before, End: e.At, Depth: 1 + strings.Count(e.Address, "/")}
		switch {
		case !e.Done:
			b.Class, b.Start, b.End = "waiting", e.At, now
		case e.Kind == "sleep" || e.Kind == "event":
			b.Class = "waiting"
		case e.Error != "":
			b.Class = "failed"
		}
		if b.Start.IsZero() || b.Start.After(b.End) {
			b.Start = b.End
		}
		bars = append(bars, b)
		before = e.At
	}
	if len(v.Tasks) == 0 {
		for _, c := range v.children {
			if !c.Started.IsZero() {
				bars = append(bars, bar{"child " + c.Task, h.base + "/runs/" + c.ID, c.State.String(), c.Started, until(c.Finished), 1})
			}
		}
	}
	return waterfall(bars[:min(len(bars), 300)])
}
