package ui

import (
	"encoding/json"
	"log/slog"
	"strings"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/internal/guard"
	"github.com/stint-dev/stint/internal/jsonx"
)

// A Payload is a value that the app's code stored, and that may be private.
type Payload struct {
	// Of says what the value is.
	//
	// JSON of the app: "input" and "output" of a run, "journal" (the result of a durable call),
	// "event" (its payload), "filter" (its payload), "cron" (its input), "log" (the attributes
	// of a log line, an object).
	//
	// Text, as a JSON string: "error" (of a run, an attempt, a task, a durable call or a cron, or
	// why a webhook was refused), "stack" (of a panic), "blocked" (what a run waits for: a
	// condition with its values, the key of a limit, an error), "progress" (its message),
	// "message" (of a log line), "stream" (one chunk, or all on a page), "metadata" (one value,
	// of a run or an event), "key" (the idempotency key of a run), "limit_key" (the key of a
	// limit), "scope" (of an event or a filter), "expression" (of a filter made at run time).
	Of string
	// Name is the task; the event's key if the value is of an event; the limit if it is a limit_key.
	Name string
	JSON json.RawMessage
}

// WithRedact shows the result of f in place of each payload, on every page and in every answer of
// the API. An empty result hides the payload, and so does a panic of f. For a text, f returns a
// JSON string; anything else is shown as it is. f is called at each view, by several goroutines.
//
// Not redacted are names (of tasks, queues, steps, changes of Version, crons, limits, workers and
// webhooks), keys of events and of metadata, IDs, states, times and counts. WithRedact also disables the
// search of runs by the text of their errors, and the form that runs a run again with its input.
func WithRedact(f func(Payload) json.RawMessage) Option { return func(c *config) { c.redact = f } }

// hiddenText is shown in place of a hidden text.
const hiddenText = "(hidden)"

// redactJSON returns a payload as it may be shown. It is always JSON, whatever WithRedact's
// function returns.
func (h *handler) redactJSON(of, name string, payload json.RawMessage) json.RawMessage {
	return jsonx.Embed(h.redacted(of, name, payload))
}

// redacted returns what WithRedact's function makes of a payload.
func (h *handler) redacted(of, name string, payload json.RawMessage) json.RawMessage {
	if h.redact == nil || payload == nil {
		return payload
	}
	var shown json.RawMessage
	if !callApp("WithRedact", func() { shown = h.redact(Payload{of, name, payload}) }) {
		return json.RawMessage(`"(hidden: the program's WithRedact panicked)"`)
	}
	return shown
}

// redactText returns a text as it may be shown.
func (h *handler) redactText(of, name, s string) string {
	if h.redact == nil || s == "" {
		return s
	}
	b, _ := json.Marshal(s) // never fails
	shown := h.redacted(of, name, b)
	if len(shown) == 0 {
		return hiddenText
	}
	var text string
	if json.Unmarshal(shown, &text) != nil {
		text = strings.ToValidUTF8(string(shown), "\ufffd")
	}
	return text
}

// redactRun redacts a run in place.
func (h *handler) redactRun(r *stint.RunInfo) {
	r.Input, r.Output = h.redactJSON("input", r.Task, r.Input), h.redactJSON("output", r.Task, r.Output)
	if h.redact == nil {
		return
	}
	text := func(of string, s *string) { *s = h.redactText(of, r.Task, *s) }
	text("error", &r.Error)
	text("stack", &r.Stack)
	text("blocked", &r.Blocked)
	text("key", &r.Key)
	text("progress", &r.Progress.Message)
	h.redactMetadata(r.Task, r.Metadata)
	h.redactAwaits(r)
	for i := range r.Timeline {
		text("error", &r.Timeline[i].Error)
		h.redactEntries(r.Task, r.Timeline[i].Failed)
	}
	for i := range r.Tasks {
		text("blocked", &r.Tasks[i].Blocked)
		text("error", &r.Tasks[i].Error)
		r.Tasks[i].Output = h.redactJSON("output", r.Task, r.Tasks[i].Output)
	}
}

// redactAwaits leaves out what may not be seen of the events that a run waits for: a form sends it back.
func (h *handler) redactAwaits(r *stint.RunInfo) {
	hidden := func(of, key, s string) bool { return h.redactText(of, key, s) != s }
	for i := range r.Awaits {
		e := &r.Awaits[i]
		if hidden("scope", e.Key, e.Scope) {
			e.Scope = ""
		}
		whole, _ := json.Marshal(map[string]json.RawMessage{e.Field: e.Value}) // Value is JSON
		if string(h.redactJSON("event", e.Key, whole)) != string(whole) {
			e.Field, e.Value = "", nil
		}
		if hidden("blocked", r.Task, e.Filter) {
			e.Filter = ""
		}
	}
}

// namesInMetadata are keys of metadata whose values are names, IDs and times of the library.
var namesInMetadata = map[string]bool{metaCron: true, metaTick: true, metaEvent: true, metaEventKey: true}

func (h *handler) redactMetadata(name string, m map[string]string) {
	for k, v := range m {
		if !namesInMetadata[k] {
			m[k] = h.redactText("metadata", name, v)
		}
	}
}

func (h *handler) redactEntries(task string, all []stint.JournalEntry) {
	for i := range all {
		all[i].Output, all[i].Error = h.redactJSON("journal", task, all[i].Output), h.redactText("error", task, all[i].Error)
		for j := range all[i].Tries {
			all[i].Tries[j].Error = h.redactText("error", task, all[i].Tries[j].Error)
		}
	}
}

func (h *handler) redactLines(task string, all []stint.LogLine) {
	for i := range all {
		h.redactLine(task, &all[i])
	}
}

func (h *handler) redactLine(task string, l *stint.LogLine) {
	l.Message, l.Attrs = h.redactText("message", task, l.Message), h.redactJSON("log", task, l.Attrs)
}

func (h *handler) redactEvents(all []stint.EventInfo) {
	for i := range all {
		e := &all[i]
		e.Payload, e.Scope = h.redactJSON("event", e.Key, e.Payload), h.redactText("scope", e.Key, e.Scope)
		if h.redact != nil {
			h.redactMetadata(e.Key, e.Metadata)
		}
	}
}

func (h *handler) redactFilters(all []stint.TriggerFilter) {
	for i := range all {
		f := &all[i]
		payload, _ := f.Payload.(json.RawMessage)
		f.Payload = h.redactJSON("filter", f.Task, payload)
		f.Scope, f.Expression = h.redactText("scope", f.Task, f.Scope), h.redactText("expression", f.Task, f.Expression)
	}
}

func (h *handler) redactCrons(all []stint.CronInfo) {
	for i := range all {
		all[i].Input, all[i].Error = h.redactJSON("cron", all[i].Task, all[i].Input), h.redactText("error", all[i].Task, all[i].Error)
	}
}

// callApp calls a function of the app. If f panics, callApp logs that and returns false.
func callApp(option string, f func()) bool {
	p := guard.Call(f)
	if p != nil {
		slog.Error("stint/ui: the app's function panicked", "option", option, "panic", p.Error(), "stack", string(p.Stack))
	}
	return p == nil
}
