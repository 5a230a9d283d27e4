package ui

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/stint-dev/stint"
)

type runView struct {
	*stint.RunInfo
	Graph     template.HTML
	Waterfall template.HTML
	Journal   []stint.JournalEntry
	Children  []stint.RunInfo
	Logs      []stint.LogLine
	LogLevel  string
	LogText   string
	LogsMore  bool
	Stream    string
	Took      time.Duration // of the run, so far
	Open      bool          // it has not ended
	Curl      string
	Go        string
	Pretty    string // the input, for editing
}

// Replays reports whether the run can be replayed.
func (v *runView) Replays() bool { return !v.Open || v.State == stint.StateBlocked }

// Percent is its progress, 0 to 100; negative: it has none.
func (v *runView) Percent() int64 {
	if v.Progress.Total <= 0 {
		return -1
	}
	return min(100*v.Progress.Done/v.Progress.Total, 100)
}

const (
	logsShown     = 500
	childrenShown = 100
)

func runPage(h *handler, ctx context.Context, id string, q url.Values) (*view, error) {
	info, err := h.c.GetRun(ctx, id)
	if err != nil {
		return nil, err
	}
	v := &runView{RunInfo: info, LogLevel: q.Get("level"), LogText: q.Get("text"), Open: info.Finished.IsZero()}
	if v.Journal, err = h.c.Journal(ctx, id); err != nil && !errors.Is(err, stint.ErrNotFound) {
		return nil, err
	}
	for i := range v.Journal {
		v.Journal[i].Output = h.show("journal", info.Task, v.Journal[i].Output)
	}
	children, err := h.list(ctx, stint.RunFilter{ParentID: id, Limit: childrenShown})
	if err != nil {
		return nil, err
	}
	v.Children = children.Runs
	slices.Reverse(v.Children)
	if err := h.logsOf(ctx, v); err != nil {
		return nil, err
	}
	if !v.Started.IsZero() {
		v.Took = time.Since(v.Started)
		if !v.Open {
			v.Took = v.Finished.Sub(v.Started)
		}
	}
	v.Graph = drawGraph(h.base, info.Tasks, true)
	v.Waterfall = h.waterfall(v)
	h.copies(v)
	h.redactRun(info)
	if pretty, err := json.MarshalIndent(v.Input, "", "  "); err == nil {
		v.Pretty = string(pretty)
	}
	return &view{Title: info.Task + " " + id, Name: "run", Data: v}, nil
}

// logsOf reads what the handler logged and streamed.
func (h *handler) logsOf(ctx context.Context, v *runView) error {
	var least slog.Level
	if v.LogLevel == "" || least.UnmarshalText([]byte(v.LogLevel)) != nil {
		least = slog.Level(-1 << 20)
	}
	for after := int64(0); ; {
		lines, err := h.c.Logs(ctx, v.ID, after, 1000)
		if err != nil {
			return err
		}
		for _, l := range lines {
			l.Attrs = h.show("log", v.Task, l.Attrs)
			if l.Level >= least && (v.LogText == "" || strings.Contains(strings.ToLower(l.Message+string(l.Attrs)), strings.ToLower(v.LogText))) {
				v.Logs = append(v.Logs, l)
			}
		}
		if len(lines) < 1000 {
			break
		}
		after = lines[len(lines)-1].Seq
	}
	if n := len(v.Logs); n > logsShown {
		v.Logs, v.LogsMore = v.Logs[n-logsShown:], true
	}
	chunks, err := h.c.StreamChunks(ctx, v.ID, 0, 1000)
	if err != nil {
		return err
	}
	var b strings.Builder
	for _, c := range chunks {
		b.Write(c)
	}
	v.Stream = visible(strings.ToValidUTF8(b.String(), "\uFFFD"))
	if s := h.show("stream", v.Task, json.RawMessage(v.Stream)); h.redact != nil {
		v.Stream = string(s)
	}
	return nil
}

// waterfall draws what took how long: attempts, tasks, durable calls and children.
func (h *handler) waterfall(v *runView) template.HTML {
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
	for _, e := range v.Journal {
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
		for _, c := range v.Children {
			if !c.Started.IsZero() {
				bars = append(bars, bar{"child " + c.Task, h.base + "/runs/" + c.ID, c.State.String(), c.Started, until(c.Finished), 1})
			}
		}
	}
	return waterfall(bars[:min(len(bars), 300)])
}

// copies writes the run as a command and as Go, for somebody to start it anew.
func (h *handler) copies(v *runView) {
	if len(v.Input) > 4096 || h.redact != nil || strings.Contains(v.Task, ":") {
		return
	}
	body, err := json.Marshal(map[string]json.RawMessage{"input": v.Input})
	if err != nil {
		return
	}
	v.Curl = fmt.Sprintf("curl -X POST http://localhost:8080%s/api/tasks/%s/runs -H 'Content-Type: application/json' -d '%s'", h.base, url.PathEscape(v.Task), strings.ReplaceAll(string(body), "'", `'\''`))
	v.Go = fmt.Sprintf("client.EnqueueJSON(ctx, %q, json.RawMessage(%q))", v.Task, v.Input)
}
