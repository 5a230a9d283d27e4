package ui

import (
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
	"unicode/utf8"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/internal/jsonx"
)

// A runView holds what a run's page shows.
type runView struct {
	*stint.RunInfo
	journal           []stint.JournalEntry
	journalFrom       string // cursor of this page of the journal; "": the first
	journalNext       string // cursor of the next page; "": none
	children          []child
	childrenMore      bool // there are more than these
	childBytes        int  // of the payloads read for them
	logs              []stint.LogLine
	logsMore          bool
	logLevel, logText string
	stream            string        // its end
	streamMore        bool          // there is more before it
	streamBytes       int64         // of the whole
	elapsed           time.Duration // from the run's start to its end, or to now
	open              bool          // it has not ended
}

// A child is a descendant of a run.
type child struct {
	stint.RunInfo
	depth int // 1: a child, 2: a child's child, ...
}

const (
	maxLogLines   = 500
	maxChildren   = 100
	maxChildDepth = 5
	maxChildBytes = 8 << 20
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
	if !info.Workflow { // a workflow's children are its tasks, shown as such
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

// loadJournal reads a page of the run's journal.
func (h *handler) loadJournal(ctx context.Context, v *runView, cursor string) error {
	page, err := h.c.JournalPage(ctx, v.ID, stint.JournalFilter{Limit: maxRows, Cursor: cursor})
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

// loadChildren reads the tree of children, oldest first, each before its own children.
func (h *handler) loadChildren(ctx context.Context, v *runView, id string, depth int) error {
	if depth > maxChildDepth || len(v.children) >= maxChildren || v.childBytes > maxChildBytes {
		return nil
	}
	page, err := h.list(ctx, stint.RunFilter{ParentID: id, Limit: maxChildren})
	if err != nil {
		return err
	}
	v.childrenMore = v.childrenMore || page.Next != ""
	for i := range page.Runs { // keep only what is shown
		r := &page.Runs[i]
		v.childBytes += len(r.Input) + len(r.Output)
		r.Input, r.Output = json.RawMessage(strings.Clone(truncate(70, string(r.Input)))), nil
	}
	for _, r := range slices.Backward(page.Runs) {
		if len(v.children) >= maxChildren || v.childBytes > maxChildBytes && depth > 1 {
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
	graph, spans := drawGraph(h.base, v.Tasks, true), h.showTimeline(v)
	return group(el("h1", userText(v.Task), " ", stateBadge(v.State), when(v.Quarantined, " ", el("span.pill.warn", "quarantined")),
		when(v.Canceling, " ", el("span.pill", "canceling"))),
		when(v.Blocked != "", el("p", el("b", "Waits:"), " ", userText(v.Blocked))),
		showDivergence(v.Divergence),
		h.showError(v),
		when(v.Stack != "", details("Stack", pre(v.Stack))),
		showProgress(v.Progress),
		h.runActions(v),
		el("div.grid", el("section", h2("Facts"), h.showFacts(v)),
			el("section", h2("Input"), jsonTree(v.Input, wholeTree), h2("Output"), jsonTree(v.Output, wholeTree))),
		when(graph != nil, h2("Graph"), graph),
		when(len(v.Tasks) > 0, h2("Tasks"), h.showFlow(v.Tasks)),
		when(spans != nil, h2("Timeline"), spans),
		when(len(v.journal) > 0 || v.journalFrom != "" || v.failedSteps(), h2("Journal"), h.showJournal(v)),
		when(len(v.children) > 0, h2("Children"), h.showChildren(v.children),
			when(v.childrenMore, el("p.dim", "There are more: filter the list of runs by this parent."))),
		h2("Logs"), showLogs(v),
		when(v.stream != "", h2("Stream"), when(v.streamMore,
			el("p.dim", fmt.Sprintf("The last %s of %s:", formatBytes(int64(len(v.stream))), formatBytes(v.streamBytes)))), pre(v.stream)),
		when(len(v.Timeline) > 0, h2("History"), showHistory(v.Timeline)),
		h.runAgain(v))
}

func showProgress(p stint.ProgressInfo) node {
	return when(p.Total > 0, el("p", progressBar("progress", min(p.Done, p.Total), p.Total),
		fmt.Sprintf(" %s of %s ", formatCount(p.Done), formatCount(p.Total)), userText(p.Message)))
}

// showDivergence shows what the journal records beside what the code asked for.
func showDivergence(d *stint.Divergence) node {
	if d == nil {
		return nil
	}
	return table(tableHead("Entry", "The journal has", "The code asks for", "Where"),
		el("tr", el("td.mono", d.Address), el("td", code(d.Recorded)), el("td.error", code(d.Asked)),
			el("td.mono", when(d.Line > 0, userText(fmt.Sprintf("%s:%d", d.File, d.Line))))))
}

func (h *handler) runActions(v *runView) node {
	here, path := runPath(v.ID), "runs/"+v.ID+"/"
	return row(when(v.open, h.actionButton("danger", "Cancel", path+"cancel", here)),
		when(!v.open || v.State == stint.StateBlocked, h.actionButton("primary", "Replay", path+"replay", here)))
}

// Metadata in which the library records what started a run.
const (
	metaCron     = "stint.cron"
	metaTick     = "stint.tick"
	metaEvent    = "stint.event"
	metaEventKey = "stint.event_key"
)

// startedBy returns what started a run.
func (h *handler) startedBy(v *runView) node {
	switch {
	case v.Metadata[metaCron] != "":
		return group("cron ", h.link("/schedules", userText(v.Metadata[metaCron])))
	case v.Metadata[metaEvent] != "":
		key := v.Metadata[metaEventKey]
		return group("event ", h.link("/events?"+url.Values{"key": {key}}.Encode(), userText(key)))
	case v.ParentID != "":
		return group("run ", h.link(runPath(v.ParentID), attr("class", "mono"), v.ParentID))
	}
	return group("an enqueue")
}

// dueLabel says what a run's time to start is in a state.
func dueLabel(s stint.State) string {
	if s == stint.StateWaiting {
		return "Goes on at the latest"
	}
	return "Due"
}

// showError returns why a run failed. For a workflow that is the error of the first task that failed: its own
// says only which task it was.
func (h *handler) showError(v *runView) node {
	if v.Error == "" || v.Divergence != nil {
		return nil
	}
	var first *stint.TaskInfo
	for i := range v.Tasks {
		t := &v.Tasks[i]
		if t.State == stint.StateFailed && t.Error != "" && t.RunID != "" && (first == nil || t.Finished.Before(first.Finished)) {
			first = t
		}
	}
	if first == nil {
		return el("p.error", userText(v.Error))
	}
	return group(el("p.error", h.link(runPath(first.RunID), "Task ", el("b", userText(first.Name)), " failed: ", userText(first.Error))),
		when(!strings.Contains(v.Error, first.Error), el("p.dim", userText(v.Error))))
}

func (h *handler) showFacts(v *runView) node {
	run := func(id string) node { return h.link(runPath(id), attr("class", "mono"), id) }
	return el("dl.facts",
		fact("ID", el("span.mono", v.ID)), fact("Started by", h.startedBy(v)),
		fact("Queue", h.link(runsPath("queue", v.Queue), userText(v.Queue)), fmt.Sprintf(", priority %d", v.Priority)),
		fact("Task", h.link(taskPath(v.Task), userText(v.Task))),
		fact("Attempt", v.Attempt, fmt.Sprintf(", of %d executions", v.Executions)),
		fact("Created", timestamp(v.Created)), fact(dueLabel(v.State), timestamp(v.Scheduled)), fact("Started", timestamp(v.Started)),
		fact("Ended", timestamp(v.Finished), when(v.elapsed > 0, " ("+formatDuration(v.elapsed)+")")),
		when(v.Worker != "", fact("Worker", h.link("/workers", userText(v.Worker)))),
		when(v.ParentID != "", fact("Parent", run(v.ParentID))),
		when(v.RootID != "" && v.RootID != v.ParentID, fact("Root", run(v.RootID))),
		when(v.Key != "", fact("Idempotency key", userText(v.Key))),
		h.showMetadata(v.Metadata))
}

// showMetadata shows the first maxRows keys and their values.
func (h *handler) showMetadata(m map[string]string) node {
	keys := slices.Sorted(maps.Keys(m))
	return group(each(keys[:min(len(keys), maxRows)], func(k string) node { return fact(userText(k), userText(truncate(4096, m[k]))) }),
		when(len(keys) > maxRows, fact("More metadata", formatCount(len(keys)-maxRows)+" keys")))
}

func (h *handler) showFlow(tasks []stint.TaskInfo) node {
	return table(tableHead("State", "Task", "Waits for, or error", "Took.figure"), eachShown(tasks, func(t stint.TaskInfo) node {
		cells := func(name node) node {
			why := group(userText(truncate(160, t.Blocked)), " ", el("bdi.error", truncate(160, t.Error)))
			return group(el("td", stateBadge(t.State)), el("td", name), el("td", why),
				el("td.number", elapsed(t.Started, t.Finished)))
		}
		if t.RunID == "" {
			return el("tr", cells(userText(t.Name)))
		}
		return h.linkedRow(runPath(t.RunID), cells(h.link(runPath(t.RunID), userText(t.Name))))
	}))
}

// failedSteps reports whether steps ended attempts.
func (v *runView) failedSteps() bool {
	return slices.ContainsFunc(v.Timeline, func(t stint.TimelineEntry) bool { return len(t.Failed) > 0 })
}

func (h *handler) showJournal(v *runView) node {
	path := "runs/" + v.ID + "/"
	entry := func(e stint.JournalEntry, place, actions node) node {
		return el("tr", el("td.mono", place), el("td", e.Kind),
			el("td", userText(e.Name), when(e.Attempts > 1, el("span.dim", fmt.Sprintf(" (%d tries)", e.Attempts)))),
			el("td", h.showResult(e), showTries(e)), el("td", timestamp(e.Began)), el("td.number", tookOf(e)), el("td", actions))
	}
	entries := each(v.journal, func(e stint.JournalEntry) node {
		step := hidden("step", e.Name)
		return entry(e, group(e.Address), when(e.Kind == "step" && e.Done, h.actionButton("", "New run from here", path+"fork", "", step),
			when(!v.open, " ", h.actionButton("", "Replay from here", path+"restart", runPath(v.ID), step))))
	})
	failed := each(v.Timeline, func(t stint.TimelineEntry) node {
		return each(t.Failed, func(e stint.JournalEntry) node {
			return entry(e, group(e.Address, el("span.failed", fmt.Sprintf(" ended attempt %d", t.Attempt))), nil)
		})
	})
	head := tableHead("No.", "Kind", "Name", "Result", "Began", "Took.figure", h.actions())
	return group(table(head, entries, when(v.journalNext == "", failed)),
		h.moreRowsLinks(runPath(v.ID), "journal", v.journalFrom, v.journalNext))
}

// tookOf returns how long a call took. Of children it is not known here.
func tookOf(e stint.JournalEntry) string {
	if !e.Done || e.Kind == "child" {
		return ""
	}
	return formatDuration(e.Ended().Sub(e.Began))
}

// showTries lists the tries of a step that was tried again.
func showTries(e stint.JournalEntry) node {
	return when(len(e.Tries) > 0, el("ul.tries", each(e.Tries, func(t stint.StepTry) node {
		what := group(el("bdi.error", truncate(300, t.Error)))
		if t.Error == "" {
			what = group("succeeded")
		}
		return el("li", timestamp(t.Began), " ", formatDuration(t.Ended.Sub(t.Began)), " ", what)
	})))
}

func (h *handler) showResult(e stint.JournalEntry) node {
	switch {
	case e.Error != "":
		return el("bdi.error", truncate(300, e.Error))
	case !e.Done:
		return group(stateBadge(stint.StateWaiting), when(!e.Due.IsZero(), " until ", timestamp(e.Due)))
	}
	return jsonTree(e.Output, smallTree)
}

func (h *handler) showChildren(children []child) node {
	return table(tableHead("State", "Task", "Input.optional", "Took.figure", "Created"), each(children, func(c child) node {
		return h.linkedRow(runPath(c.ID), el("td", stateBadge(c.State)),
			el(fmt.Sprintf("td.in%d", min(c.depth-1, 4)), h.link(runPath(c.ID), userText(c.Task))),
			el("td.optional", el("bdi.dim.mono", truncate(70, string(c.Input)))),
			el("td.number", elapsed(c.Started, c.Finished)), el("td", timestamp(c.Created)))
	}))
}

func showLogs(v *runView) node {
	levels := each([]string{"", "DEBUG", "INFO", "WARN", "ERROR"}, func(l string) node {
		return el("option", l, when(l == v.logLevel, attr("selected")))
	})
	form := el("form.filters", attr("method", "get"), el("label", "At least", el("select", attr("name", "level"), levels)),
		input("Text", attr("name", "text"), attr("value", v.logText)), button("", "Filter"))
	if len(v.logs) == 0 {
		if v.logLevel+v.logText != "" {
			return group(form, emptyState("No line matches."))
		}
		return group(form, emptyState("No lines. Handlers write them with ", code("stint.Logger(ctx)"), "."))
	}
	lines := each(v.logs, func(l stint.LogLine) node {
		level := el("dd", l.Level)
		if l.Level >= slog.LevelError {
			level = el("dd.error", l.Level)
		}
		attrs := when(len(l.Attrs) > 0, " ", el("bdi.dim", string(l.Attrs)))
		return group(el("dt.dim", timestamp(l.At)), level, el("dd", userText(l.Message), attrs))
	})
	return group(form, when(v.logsMore, el("p.dim", fmt.Sprintf("The last %d lines that match:", len(v.logs)))), el("dl.log.mono", lines))
}

func showHistory(timeline []stint.TimelineEntry) node {
	return table(tableHead("When", "State", "Attempt.figure", "Worker", "Error"), eachShown(timeline, func(e stint.TimelineEntry) node {
		return el("tr", el("td", timestamp(e.At)), el("td", stateBadge(e.State)), el("td.number", when(e.Attempt > 0, e.Attempt)),
			el("td", userText(e.Worker)), el("td", el("bdi.error", truncate(300, e.Error))))
	}))
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

// logText returns the text of a line to search: its message, its attributes as JSON, and the
// strings in them without JSON's escapes.
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

// loadLogs reads the run's log lines and its stream.
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
		h.redactLines(v.Task, lines) // before the search, so that a search finds nothing hidden
		for _, l := range lines {
			if l.Level >= least && (v.logText == "" || strings.Contains(strings.ToLower(logText(&l)), strings.ToLower(v.logText))) {
				v.logs = append(v.logs, l)
			}
		}
		v.cutLogs()
		after = lines[len(lines)-1].Seq
	}
	return h.loadStream(ctx, v)
}

// loadStream reads the end of the run's stream. More than is shown is redacted, so that no secret begins before that.
func (h *handler) loadStream(ctx context.Context, v *runView) error {
	const most = 8 * maxStreamBytes
	var end []byte
	for after := 0; ; {
		chunks, err := h.c.StreamChunks(ctx, v.ID, int64(after), 1000)
		if err != nil {
			return err
		}
		if len(chunks) == 0 {
			break
		}
		after += len(chunks)
		for _, c := range chunks {
			v.streamBytes += int64(len(c))
			if end = append(end, c[max(len(c)-most, 0):]...); len(end) > 2*most {
				end = append(end[:0], end[len(end)-most:]...)
			}
		}
	}
	shown := h.redactText("stream", v.Task, string(end))
	if from := len(shown) - maxStreamBytes; from > 0 {
		for from < len(shown) && !utf8.RuneStart(shown[from]) {
			from++
		}
		shown, v.streamMore = shown[from:], true
	}
	v.stream = shown
	return nil
}

// cutLogs drops all but the last lines that the page has room for.
func (v *runView) cutLogs() {
	n, size := 0, 0
	for n < min(len(v.logs), maxLogLines) && size <= maxLogBytes {
		n++
		l := &v.logs[len(v.logs)-n]
		size += len(l.Message) + len(l.Attrs)
	}
	if more := len(v.logs) - n; more > 0 {
		v.logs, v.logsMore = slices.Delete(v.logs, 0, more), true
	}
}
