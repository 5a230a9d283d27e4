package ui

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/internal/wire"
)

// A logList is what the page of logs shows: lines of all runs, newest first.
type logList struct {
	timeRange
	lines  []stint.RunLogLine
	next   string // the cursor of older lines; "": none
	counts []stint.LogCount
}

// loadLogList reads the lines that match, and counts the lines of the range.
func (h *handler) loadLogList(ctx context.Context, q url.Values) (list logList, err error) {
	r, err := rangeOf(q, time.Now())
	f, err2 := logFilterOf(q)
	if err = cmp.Or(err, err2); err != nil {
		return list, err
	}
	list.timeRange, f.Limit = r, maxLogLines
	page, err := h.logPage(ctx, f)
	if err != nil {
		return list, err
	}
	list.lines, list.next = page.Lines, page.Next
	size := 0
	for i := range list.lines {
		if size += len(list.lines[i].Message) + len(list.lines[i].Attrs); size > maxLogBytes && i > 0 {
			list.lines, list.next = list.lines[:i], list.lines[i-1].Cursor()
			break
		}
	}
	f.Since, f.Until, f.Cursor = r.Since, r.Until, ""
	list.counts, err = h.c.CountLogs(ctx, f, r.step())
	return list, err
}

// logLevels are the series of the chart, from the bottom.
var logLevels = []struct {
	level slog.Level
	class string
}{{slog.LevelDebug, "f-idle"}, {slog.LevelInfo, "f-wait"}, {slog.LevelWarn, "f-warn"}, {slog.LevelError, "f-bad"}}

// chart returns how many lines of each level were logged over the range; nil: none.
func (list *logList) chart() node {
	g := gridOf(list.Since, list.Until, list.step())
	c := chart{title: "Lines", unit: "per " + formatSpan(g.step), grid: g, low: true, scale: countScale}
	counted := int64(0)
	for _, l := range logLevels {
		values, sum := make([]float64, g.n), int64(0)
		for _, n := range list.counts {
			if i := g.index(n.At); i >= 0 && n.Level == l.level {
				values[i], sum = values[i]+float64(n.Lines), sum+n.Lines
			}
		}
		if counted += sum; sum > 0 {
			c.all = append(c.all, series{l.level.String(), l.class, values})
		}
	}
	if counted == 0 {
		return nil
	}
	return group(el("section.panel.levels", c.show()), when(counted >= stint.MaxCountedLines, el("p.dim", fmt.Sprintf(
		"Of the newest %s lines in this time.", formatNumber(stint.MaxCountedLines)))))
}

func logsPage(h *handler, ctx context.Context, _ string, q url.Values) (*view, error) {
	list, err := h.loadLogList(ctx, q)
	if err != nil {
		return nil, err
	}
	fields := []any{attr("method", "get"), levelField(q.Get("level")), textField(q.Get("text")),
		input("Task", attr("name", "task"), attr("value", q.Get("task")), attr("data-keep")),
		input("Run", attr("name", "run"), attr("value", q.Get("run")), attr("data-keep")), button("", "Filter")}
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
	shown := emptyState("No lines. Handlers write them with ", code("stint.Logger(ctx)"), ".")
	switch {
	case len(list.lines) > 0:
		shown = el("ol.loglist.mono", each(list.lines, h.showRunLine))
	case list.next != "":
		shown = emptyState(fmt.Sprintf("None of the %s lines looked at matches.", formatNumber(scanLimit)))
	}
	return &view{Title: "Logs", timeRange: &list.timeRange, AllTime: true, Main: group(el("h1", "Logs"), el("form.filters", fields...),
		list.chart(), shown,
		row(when(q.Get("cursor") != "", h.link(at("/logs", ""), attr("class", "btn"), "Newest lines")),
			when(list.next != "", h.link(at("/logs", list.next), attr("class", "btn"), attr("rel", "next"), "Older lines")),
			when(len(list.lines) > 0, h.link(at("/logs.ndjson", q.Get("cursor")), attr("class", "btn"), attr("download"),
				"Download as NDJSON"), el("button.btn", attr("type", "button"), attr("data-scripted"), attr("data-copy-of",
				h.base+at("/logs.ndjson", q.Get("cursor"))), "Copy"))))}, nil
}

func (h *handler) showRunLine(l stint.RunLogLine) node {
	class := "span.level"
	if l.Level >= slog.LevelError {
		class = "span.level.error"
	} else if l.Level >= slog.LevelWarn {
		class = "span.level.warn"
	}
	return el("li", attr("id", fmt.Sprintf("l%s-%d", l.RunID, l.Seq)), el("span.dim", timestamp(l.At)), el(class, l.Level),
		h.link(runPath(l.RunID)+"?tab=logs", attr("class", "link cut"), userText(l.Task)),
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
	list, err := h.loadLogList(r.Context(), r.URL.Query())
	done()
	if err != nil {
		h.writeError(w, r, statusOf(err), err)
		return
	}
	var b bytes.Buffer
	out := json.NewEncoder(&b)
	for _, l := range slices.Backward(list.lines) { // as files of logs are: oldest first
		if err := out.Encode(wire.RunLineOf(&l)); err != nil {
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
	return func(l *stint.LogLine) bool {
		return l.Level >= least && (v.logText == "" || l.Has(v.logText))
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
