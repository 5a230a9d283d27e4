package ui

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/stint-dev/stint"
)

// A runView holds what a run's page shows: of what a run has, only what the chosen tab needs.
type runView struct {
	*stint.RunInfo
	tab               *runTab
	query             url.Values           // of the page
	journal           []stint.JournalEntry // a page of it
	journalFrom       string               // cursor of this page; "": the first
	journalNext       string               // cursor of the next page; "": none
	children          []child
	childrenMore      bool // there are more than these
	childBytes        int  // of the payloads read for them
	logs              []stint.LogLine
	logsMore          bool
	logLevel, logText string
	stream            streamView
	spans             []span
	drawer            drawer
	other             *runView      // to compare with; nil: none
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
	v := &runView{RunInfo: info, query: q, logLevel: q.Get("level"), logText: q.Get("text"), open: info.Finished.IsZero()}
	if v.tab, err = v.chosenTab(); err != nil {
		return nil, err
	}
	if !v.Started.IsZero() {
		v.elapsed = time.Since(v.Started)
		if !v.open {
			v.elapsed = v.Finished.Sub(v.Started)
		}
	}
	if v.tab.load != nil {
		if err := v.tab.load(h, ctx, v); err != nil {
			return nil, err
		}
	}
	return &view{Title: info.Task + " " + id, Main: h.showRun(v), Up: "/runs"}, nil
}

// showRun begins with what each tab has: what the run is, why it failed or waits, and what can be done.
func (h *handler) showRun(v *runView) node {
	return group(el("div.run-head", el("div.line", el("h1", userText(v.Task), " ", stateBadge(v.State),
		when(v.Quarantined, " ", el("span.pill.warn", "quarantined")), when(v.Canceling, " ", el("span.pill", "canceling"))),
		h.runActions(v)),
		when(v.Blocked != "", el("p", el("b", "Waits:"), " ", userText(v.Blocked))),
		h.publishForms(v.Awaits, runPath(v.ID)),
		showDivergence(v.Divergence),
		h.showError(v),
		when(v.Stack != "", details("Stack", pre(v.Stack))),
		showProgress(v.Progress),
		h.showFacts(v)),
		h.showTabs(v), v.tab.show(h, v))
}

// maxAwaited is the number of events that a run's page offers to publish.
const maxAwaited = 5

// publishForms offers to publish the events that a run waits for, with what they must have. Then next is shown.
func (h *handler) publishForms(awaits []stint.AwaitedEvent, next string) node {
	if h.readOnly {
		return nil
	}
	return each(awaits[:min(len(awaits), maxAwaited)], func(e stint.AwaitedEvent) node {
		payload := []byte("{}")
		if e.Field != "" {
			payload, _ = json.Marshal(map[string]json.RawMessage{e.Field: e.Value}) // Value is JSON
		}
		return details("Publish event "+strconv.Quote(e.Key), when(e.Filter != "", el("p.dim", "It must pass ", code(e.Filter))),
			h.form("", "events", next,
				row(input("Key", attr("name", "key"), attr("value", e.Key), attr("required"), attr("data-keep")),
					input("Scope", attr("name", "scope"), attr("value", e.Scope), attr("data-keep"))),
				textArea("Payload", "payload", indented(payload)), row(button("primary", "Publish"))))
	})
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
	moves := !h.readOnly && v.open && v.State != stint.StateRunning && len(v.Tasks) == 0
	return el("div.acts", when(v.open, h.actionButton("danger", "Cancel", path+"cancel", here)),
		when(moves, h.link("/confirm?do=runs.move&selected=true&id="+v.ID, attr("class", "btn"), "Move to queue…")),
		when(!v.open || v.State == stint.StateBlocked, h.actionButton("primary", "Replay", path+"replay", here)))
}

// showError returns why a run failed. For a workflow that is the error of the first task that failed: its own
// says only which task it was.
func (h *handler) showError(v *runView) node {
	if v.Error == "" || v.Divergence != nil {
		return nil
	}
	root := func(contents ...any) node {
		return el("div.root", icon("st-"+stint.StateFailed.String()), el("div", contents...))
	}
	first := v.firstFailed()
	if first == nil {
		return root(el("p.error", userText(v.Error)), when(v.ErrorGroup != "", el("p",
			h.smallButton("/errors/"+v.ErrorGroup, "All runs that failed so"))))
	}
	return root(el("p.error", h.link(runPath(first.RunID), "Task ", el("b", userText(first.Name)), " failed: ", userText(first.Error))),
		when(!strings.Contains(v.Error, first.Error), el("p.dim", userText(v.Error))))
}

// firstFailed returns the task of a workflow that failed first, or nil.
func (v *runView) firstFailed() (first *stint.TaskInfo) {
	for i := range v.Tasks {
		t := &v.Tasks[i]
		if t.State == stint.StateFailed && t.Error != "" && t.RunID != "" && (first == nil || t.Finished.Before(first.Finished)) {
			first = t
		}
	}
	return first
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
		return group("run ", h.link(runPath(v.ParentID), attr("class", "mono"), "…"+shortID(v.ParentID)))
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

// waited reports whether the run has started more than once in an attempt: of that only the last time is known.
func (v *runView) waited() bool { return v.Executions > v.attempts() }

// maxShortFacts is the number of keys of metadata under a run's name. The tab of its input has all.
const maxShortFacts = 4

// showFacts shows in a line or two what a run is.
func (h *handler) showFacts(v *runView) node {
	short := func(name any, value ...any) node { return el("div", fact(name, value...)) }
	return el("dl.factline",
		short("ID", el("span.mono", attr("id", "run-id"), v.ID), " ",
			el("button.btn.sm.quiet", attr("type", "button"), attr("data-copy", "run-id"), attr("data-scripted"), "Copy")),
		when(!v.Workflow && v.Attempt > 0, short("Attempt", v.Attempt,
			when(v.Executions > v.Attempt, fmt.Sprintf(", of %d executions", v.Executions)))),
		short("Queue", h.link(runsPath("queue", v.Queue), userText(v.Queue)), fmt.Sprintf(", priority %d", v.Priority)),
		short("Started by", h.startedBy(v)),
		when(v.Worker != "", short("Worker", h.link("/workers", userText(v.Worker)))),
		short("Created", timestamp(v.Created)),
		when(v.open && v.State != stint.StateRunning && v.Scheduled.After(v.Started), short(dueLabel(v.State), timestamp(v.Scheduled))),
		when(!v.Started.IsZero(), short("Started", timestamp(v.Started))),
		when(!v.open, short("Ended", timestamp(v.Finished))),
		when(v.elapsed > 0 && !v.waited(), short("Took", formatDuration(v.elapsed))),
		when(!v.open && v.waited(), short("In all, with waits", formatDuration(v.Finished.Sub(v.Created)))),
		each(v.shortMetadata(), func(k string) node { return short(userText(truncate(40, k)), userText(truncate(80, v.Metadata[k]))) }))
}

// cutPayload returns the beginning of a payload, without what it is cut from.
func cutPayload(p json.RawMessage) json.RawMessage {
	return json.RawMessage(strings.Clone(truncate(70, string(p))))
}
