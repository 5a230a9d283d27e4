package ui

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/internal/wire"
)

// A runLine is a log line with the run that logged it.
type runLine struct {
	Run  string `json:"run"`
	Task string `json:"task"`
	wire.Line
	level slog.Level
}

// A logList is the lines of several runs, newest first.
type logList struct {
	lines []runLine
	more  bool      // some that match are left out
	since time.Time // when the oldest of the runs that were read was created; zero: none was
	next  string    // the cursor of older runs; "": none
	bytes int
}

// maxLoggedRuns is the number of runs whose lines a list has: lines are found by their runs.
const maxLoggedRuns = 50

// loadLogList reads the lines that match of the newest runs that may have some.
func (h *handler) loadLogList(ctx context.Context, q url.Values) (*logList, timeRange, error) {
	r, err := rangeOf(q, time.Now())
	if err != nil {
		return nil, r, err
	}
	f := stint.RunFilter{Limit: maxLoggedRuns, Cursor: q.Get("cursor")}
	if task := q.Get("task"); task != "" {
		f.Tasks = []string{task}
	}
	var from, to time.Time
	if len(r.query) > 0 {
		from, to, f.Until = r.Since, r.Until, r.Until
	}
	page, err := h.c.ListRuns(ctx, f)
	if err != nil {
		return nil, r, err
	}
	list := &logList{next: page.Next}
	for i := range page.Runs {
		info := &page.Runs[i]
		list.since = info.Created
		if info.Workflow || !info.Finished.IsZero() && info.Finished.Before(from) { // a workflow's tasks log, it does not
			continue
		}
		v := &runView{RunInfo: info, logLevel: q.Get("level"), logText: q.Get("text")}
		wanted, tail := v.wantedLines(), 0
		if v.logLevel+v.logText == "" && to.IsZero() {
			tail = maxLogLines
		}
		err := h.readLogs(ctx, v, info.ID, info.Task, tail, func(l *stint.LogLine) bool {
			return !l.At.Before(from) && (to.IsZero() || l.At.Before(to)) && wanted(l)
		})
		if err != nil {
			return nil, r, err
		}
		list.add(v)
	}
	return list, r, nil
}

// add adds a run's lines, and drops the oldest of those that the page has no room for.
func (list *logList) add(v *runView) {
	for i := range v.logs {
		l := &v.logs[i]
		list.lines = append(list.lines, runLine{v.ID, v.Task, wire.LineOf(l), l.Level})
		list.bytes += len(l.Message) + len(l.Attrs)
	}
	slices.SortStableFunc(list.lines, func(a, b runLine) int { return b.At.Compare(a.At) })
	list.more = list.more || v.logsMore
	for n := len(list.lines); n > maxLogLines || list.bytes > maxLogBytes && n > 1; n-- {
		last := &list.lines[n-1]
		list.bytes -= len(last.Message) + len(last.Attrs)
		list.lines, list.more = list.lines[:n-1], true
	}
}

func logsPage(h *handler, ctx context.Context, _ string, q url.Values) (*view, error) {
	list, r, err := h.loadLogList(ctx, q)
	if err != nil {
		return nil, err
	}
	fields := []any{attr("method", "get"), levelField(q.Get("level")), textField(q.Get("text")),
		input("Task", attr("name", "task"), attr("value", q.Get("task")), attr("data-keep")), button("", "Filter")}
	for _, name := range []string{"since", "until"} {
		if q.Get(name) != "" {
			fields = append(fields, hidden(name, q.Get(name)))
		}
	}
	at := func(path, cursor string) string {
		next := filterQuery(q)
		if next.Del("cursor"); cursor != "" {
			next.Set("cursor", cursor)
		}
		return path + "?" + next.Encode()
	}
	var about node
	if !list.since.IsZero() {
		about = el("p.dim", fmt.Sprintf("Lines of %d runs at most, the newest that match; the oldest of them was created ", maxLoggedRuns),
			timestamp(list.since), when(list.more, fmt.Sprintf(". Their last %s lines:", formatNumber(len(list.lines)))))
	}
	shown := emptyState("No lines. Handlers write them with ", code("stint.Logger(ctx)"), ".")
	if len(list.lines) > 0 {
		shown = el("ol.loglist.mono", each(list.lines, h.showRunLine))
	}
	return &view{Title: "Logs", timeRange: &r, AllTime: true, Main: group(el("h1", "Logs"), el("form.filters", fields...), about, shown,
		row(when(q.Get("cursor") != "", h.link(at("/logs", ""), attr("class", "btn"), "Newest runs")),
			when(list.next != "", h.link(at("/logs", list.next), attr("class", "btn"), attr("rel", "next"), "Older runs")),
			when(len(list.lines) > 0, h.link(at("/logs.ndjson", q.Get("cursor")), attr("class", "btn"), attr("download"),
				"Download as NDJSON"), el("button.btn", attr("type", "button"), attr("data-scripted"), attr("data-copy-of",
				h.base+at("/logs.ndjson", q.Get("cursor"))), "Copy"))))}, nil
}

func (h *handler) showRunLine(l runLine) node {
	class := "span.level"
	if l.level >= slog.LevelError {
		class = "span.level.error"
	} else if l.level >= slog.LevelWarn {
		class = "span.level.warn"
	}
	return el("li", attr("id", fmt.Sprintf("l%s-%d", l.Run, l.Seq)), el("span.dim", timestamp(l.At)), el(class, l.Level),
		h.link(runPath(l.Run)+"?tab=logs", attr("class", "link cut"), userText(l.Task)),
		el("span", userText(l.Message), when(len(l.Attrs) > 0, " ", el("bdi.dim", string(l.Attrs)))))
}

// downloadLogs answers with the lines of the page as JSON, one a line.
func (h *handler) downloadLogs(w http.ResponseWriter, r *http.Request) {
	if !h.authorize(w, r, Action{Name: "view"}) {
		return
	}
	done, err := h.acquireSlot(r.Context())
	if err != nil {
		h.writeError(w, r, statusOf(err), err)
		return
	}
	list, _, err := h.loadLogList(r.Context(), r.URL.Query())
	done()
	if err != nil {
		h.writeError(w, r, statusOf(err), err)
		return
	}
	var b bytes.Buffer
	out := json.NewEncoder(&b)
	for _, l := range slices.Backward(list.lines) { // as files of logs are: oldest first
		if err := out.Encode(l); err != nil {
			h.writeError(w, r, http.StatusInternalServerError, err)
			return
		}
	}
	w.Header().Set("Content-Disposition", `attachment; filename="logs.ndjson"`)
	h.send(w, http.StatusOK, "application/x-ndjson", b.Bytes())
}

// wantedLines returns the filter of lines by level and text.
func (v *runView) wantedLines() func(*stint.LogLine) bool {
	var least slog.Level
	if v.logLevel == "" || least.UnmarshalText([]byte(v.logLevel)) != nil {
		least = slog.Level(-1 << 20)
	}
	text := strings.ToLower(v.logText)
	return func(l *stint.LogLine) bool {
		return l.Level >= least && (text == "" || strings.Contains(strings.ToLower(logText(l)), text))
	}
}

// levelField is the choice of the lowest level.
func levelField(chosen string) node {
	levels := each([]string{"", "DEBUG", "INFO", "WARN", "ERROR"}, func(l string) node {
		return el("option", l, when(l == chosen, attr("selected")))
	})
	return el("label", "At least", el("select", attr("name", "level"), attr("data-keep"), levels))
}

func textField(value string) node {
	return input("Text", attr("name", "text"), attr("value", value), attr("data-keep"))
}
