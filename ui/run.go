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
	took              time.Duration // of the run, so far
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
	childrenDeep  = 5
	childrenBytes = 8 << 20
)

func runPage(h *handler, ctx context.Context, id string, q url.Values) (*view, error) {
	info, err := h.c.GetRun(ctx, id)
	if err != nil {
		return nil, err
	}
	h.redactRun(info)
	v := &runView{RunInfo: info, logLevel: q.Get("level"), logText: q.Get("text"), open: info.Finished.IsZero()}
	if err := h.journalOf(ctx, v, q.Get("journal")); err != nil {
		return nil, err
	}
	if !info.Workflow { // its tasks are shown as such
		if err := h.childrenOf(ctx, v, id, 1); err != nil {
			return nil, err
		}
	}
	if err := h.logsOf(ctx, v); err != nil {
		return nil, err
	}
	if !v.Started.IsZero() {
		v.took = time.Since(v.Started)
		if !v.open {
			v.took = v.Finished.Sub(v.Started)
		}
	}
	return &view{Title: info.Task + " " + id, Main: h.showRun(v), Up: "/runs"}, nil
}

// journalOf reads a page of what the run has recorded.
func (h *handler) journalOf(ctx context.Context, v *runView, cursor string) error {
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

// childrenOf gathers the tree of children, as they came, each before its own.
func (h *handler) childrenOf(ctx context.Context, v *runView, id string, depth int) error {
	if depth > childrenDeep || len(v.children) >= childrenShown || v.childBytes > childrenBytes {
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
		r.Input, r.Output = json.RawMessage(strings.Clone(short(70, string(r.Input)))), nil
	}
	for _, r := range slices.Backward(page.Runs) {
		if len(v.children) >= childrenShown || v.childBytes > childrenBytes && depth > 1 {
			v.childrenMore = true
			break
		}
		v.children = append(v.children, child{r, depth})
		if err := h.childrenOf(ctx, v, r.ID, depth+1); err != nil {
			return err
		}
	}
	return nil
}

func (h *handler) showRun(v *runView) node {
	graph, spans := drawGraph(h.base, v.Tasks, true), h.waterfall(v)
	return all(el("h1", data(v.Task), " ", stateBadge(v.State), only(v.Quarantined, " ", el("span.state.blocked", "quarantined")),
		only(v.Canceling, " ", el("span.state.canceled", "canceling"))),
		only(v.Blocked != "", el("p", el("b", "Waits:"), " ", data(v.Blocked))),
		showDivergence(v.Divergence),
		only(v.Error != "" && v.Divergence == nil, el("p.error", data(v.Error))),
		only(v.Stack != "", details("Stack", pre(v.Stack))),
		only(v.Progress.Total > 0, el("p", meter("progress", min(v.Progress.Done, v.Progress.Total), v.Progress.Total),
			fmt.Sprintf(" %s of %s ", count(v.Progress.Done), count(v.Progress.Total)), data(v.Progress.Message))),
		h.runActions(v),
		el("div.grid", el("section", h2("Facts"), h.showFacts(v)), el("section", h2("Input"), jsonTree(v.Input, wholeTree), h2("Output"), jsonTree(v.Output, wholeTree))),
		only(graph != nil, h2("Graph"), graph),
		only(len(v.Tasks) > 0, h2("Tasks"), h.showFlow(v.Tasks)),
		only(spans != nil, h2("Time"), spans),
		only(len(v.journal) > 0 || v.journalFrom != "", h2("Journal"), h.showJournal(v)),
		only(len(v.children) > 0, h2("Children"), h.showChildren(v.children), only(v.childrenMore, el("p.dim", "There are more: the list of runs with this parent has them."))),
		h2("Logs"), showLogs(v),
		only(v.stream != "", h2("Stream"), pre(v.stream)),
		only(len(v.Timeline) > 0, h2("History"), showHistory(v.Timeline)),
		h.runAgain(v))
}

// showDivergence has side by side what is recorded and what the code asked for.
func showDivergence(d *stint.Divergence) node {
	if d == nil {
		return nil
	}
	return table(head("Entry", "The journal has", "The code asks for", "Where"), el("tr", el("td.mono", d.Address), el("td", code(d.Recorded)), el("td.error", code(d.Asked)),
		el("td.mono", only(d.Line > 0, data(fmt.Sprintf("%s:%d", d.File, d.Line))))))
}

func (h *handler) runActions(v *runView) node {
	here, of := runPath(v.ID), "runs/"+v.ID+"/"
	return row(only(v.open, h.act("danger", "Cancel", of+"cancel", here)),
		only(!v.open || v.State == stint.StateBlocked, h.act("primary", "Replay", of+"replay", here)))
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
		return all("cron ", h.link("/schedules", data(v.Metadata[metaCron])))
	case v.Metadata[metaEvent] != "":
		return all("event ", h.link("/events?"+url.Values{"key": {v.Metadata[metaEventKey]}}.Encode(), data(v.Metadata[metaEventKey])))
	case v.ParentID != "":
		return all("run ", h.link(runPath(v.ParentID), attr("class", "mono"), v.ParentID))
	}
	return all("an enqueue")
}

func (h *handler) showFacts(v *runView) node {
	run := func(id string) node { return h.link(runPath(id), attr("class", "mono"), id) }
	return el("dl.facts",
		fact("ID", el("span.mono", v.ID)), fact("Started by", h.trigger(v)),
		fact("Queue", h.link(runsPath("queue", v.Queue), data(v.Queue)), fmt.Sprintf(", priority %d", v.Priority)),
		fact("Task", h.link(taskPath(v.Task), data(v.Task))), fact("Attempt", v.Attempt, fmt.Sprintf(", of %d executions", v.Executions)),
		fact("Created", when(v.Created)), fact("Due", when(v.Scheduled)), fact("Started", when(v.Started)),
		fact("Ended", when(v.Finished), only(v.took > 0, " ("+took(v.took)+")")),
		only(v.Worker != "", fact("Worker", h.link("/workers", data(v.Worker)))),
		only(v.ParentID != "", fact("Parent", run(v.ParentID))),
		only(v.RootID != "" && v.RootID != v.ParentID, fact("Root", run(v.RootID))),
		only(v.Key != "", fact("Idempotency key", data(v.Key))),
		h.showMetadata(v.Metadata))
}

// showMetadata is a fact for each key, of the first listShown.
func (h *handler) showMetadata(m map[string]string) node {
	keys := slices.Sorted(maps.Keys(m))
	return all(each(keys[:min(len(keys), listShown)], func(k string) node { return fact(data(k), data(short(4096, m[k]))) }),
		only(len(keys) > listShown, fact("More metadata", count(len(keys)-listShown)+" keys")))
}

func (h *handler) showFlow(tasks []stint.TaskInfo) node {
	return table(head("State", "Task", "Waits for, or error", "Took.figure"), some(tasks, func(t stint.TaskInfo) node {
		cells := func(name node) node {
			return all(el("td", stateBadge(t.State)), el("td", name), el("td", data(short(160, t.Blocked)), " ", el("bdi.error", short(160, t.Error))), el("td.number", lasted(t.Started, t.Finished)))
		}
		if t.RunID == "" {
			return el("tr", cells(data(t.Name)))
		}
		return h.line(runPath(t.RunID), cells(h.link(runPath(t.RunID), data(t.Name))))
	}))
}

func (h *handler) showJournal(v *runView) node {
	of := "runs/" + v.ID + "/"
	entries := table(head("No.", "Kind", "Name", "Result", "Recorded", h.actions()), each(v.journal, func(e stint.JournalEntry) node {
		step := hidden("step", e.Name)
		return el("tr", el("td.mono", e.Address), el("td.state", e.Kind), el("td", data(e.Name), only(e.Attempts > 1, el("span.dim", fmt.Sprintf(" (%d attempts)", e.Attempts)))),
			el("td", h.showResult(e)), el("td", when(e.At)),
			el("td", only(e.Kind == "step" && e.Done, h.act("", "New run from here", of+"fork", "", step),
				only(!v.open, " ", h.act("", "Replay from here", of+"restart", runPath(v.ID), step)))))
	}))
	return all(entries, h.otherRows(runPath(v.ID), "journal", v.journalFrom, v.journalNext))
}

func (h *handler) showResult(e stint.JournalEntry) node {
	switch {
	case e.Error != "":
		return el("bdi.error", short(300, e.Error))
	case !e.Done:
		return all(el("span.state.waiting", "‖ waiting"), only(!e.Due.IsZero(), " until ", when(e.Due)))
	}
	return jsonTree(e.Output, smallTree)
}

func (h *handler) showChildren(children []child) node {
	return table(head("State", "Task", "Input.optional", "Took.figure", "Created"), each(children, func(c child) node {
		return h.line(runPath(c.ID), el("td", stateBadge(c.State)), el(fmt.Sprintf("td.in%d", min(c.depth-1, 4)), h.link(runPath(c.ID), data(c.Task))),
			el("td.optional", el("bdi.dim.mono", short(70, string(c.Input)))), el("td.number", lasted(c.Started, c.Finished)), el("td", when(c.Created)))
	}))
}

func showLogs(v *runView) node {
	levels := each([]string{"", "DEBUG", "INFO", "WARN", "ERROR"}, func(l string) node {
		return el("option", l, only(l == v.logLevel, attr("selected")))
	})
	form := el("form.filters", attr("method", "get"), el("label", "At least", el("select", attr("name", "level"), levels)), input("Text", attr("name", "text"), attr("value", v.logText)), button("", "Filter"))
	if len(v.logs) == 0 {
		if v.logLevel+v.logText != "" {
			return all(form, empty("No line matches."))
		}
		return all(form, empty("No line. A handler writes some with ", code("stint.Logger(ctx)"), "."))
	}
	return all(form, only(v.logsMore, el("p.dim", fmt.Sprintf("The last %d lines that match:", len(v.logs)))), el("dl.log.mono", each(v.logs, func(l stint.LogLine) node {
		level := el("dd", l.Level)
		if l.Level >= slog.LevelError {
			level = el("dd.error", l.Level)
		}
		return all(el("dt.dim", when(l.At)), level, el("dd", data(l.Message), only(len(l.Attrs) > 0, " ", el("bdi.dim", string(l.Attrs)))))
	})))
}

func showHistory(timeline []stint.TimelineEntry) node {
	return table(head("When", "State", "Attempt.figure", "Worker", "Error"), some(timeline, func(e stint.TimelineEntry) node {
		return el("tr", el("td", when(e.At)), el("td", stateBadge(e.State)), el("td.number", only(e.Attempt > 0, e.Attempt)), el("td", data(e.Worker)), el("td", el("bdi.error", short(300, e.Error))))
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
	curl := fmt.Sprintf("curl -X POST 'http://localhost:8080%s/api/tasks/%s/runs' -H 'Content-Type: application/json' -d '%s'", h.base, seg(v.Task), strings.ReplaceAll(string(body), "'", `'\''`))
	copied := func(summary, id, text string) node {
		return details(summary, pre(text, attr("id", id)), el("button", attr("type", "button"), attr("data-copy", id), "Copy"))
	}
	return all(h2("Run again"),
		details("With an input to edit", h.form("", "tasks/"+seg(v.Task)+"/runs", "", area("Input", "input", indented(v.Input)), row(button("primary", "Enqueue")))),
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

// logsOf reads what the handler logged and streamed.
func (h *handler) logsOf(ctx context.Context, v *runView) error {
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
	v.stream = text.Cut(h.showText("stream", v.Task, string(bytes.Join(chunks, nil))), streamShown)
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
