package ui

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/stint-dev/stint"
)

// A taskRow is a task or workflow with its statistics.
type taskRow struct {
	stint.Stats
	def *stint.TaskDefinition // nil: this program does not define it
}

// errorRate returns the share of failed runs among those that succeeded or failed, in percent.
func (r *taskRow) errorRate() string {
	if n := r.Succeeded + r.Failed; n > 0 {
		return fmt.Sprintf("%.1f %%", 100*float64(r.Failed)/float64(n))
	}
	return "–"
}

func tasksPage(h *handler, ctx context.Context, arg string, q url.Values) (*view, error) {
	r, err := rangeOf(q, time.Now())
	if err != nil {
		return nil, err
	}
	totals, err := h.taskTotals(ctx, r)
	if err != nil {
		return nil, err
	}
	if arg != "" {
		return taskPage(h, ctx, arg, r, totals)
	}
	var rows []taskRow
	defs, err := h.definedTasks(ctx)
	if err != nil {
		return nil, err
	}
	for _, t := range totals {
		rows = append(rows, taskRow{t.Stats, defined(defs, t.Task)})
	}
	for i, d := range defs {
		if !slices.ContainsFunc(totals, func(t taskTotal) bool { return t.Task == d.Name }) {
			rows = append(rows, taskRow{stint.Stats{Task: d.Name, Queue: d.Queue}, &defs[i]})
		}
	}
	slices.SortStableFunc(rows, func(a, b taskRow) int { return strings.Compare(a.Task, b.Task) })
	return &view{Title: "Tasks", Main: group(el("h1", "Tasks and workflows"), h.showTasks(rows)), timeRange: &r}, nil
}

// definedTasks returns what this program's code defines, and the definitions of the database, by name.
func (h *handler) definedTasks(ctx context.Context) ([]stint.TaskDefinition, error) {
	defs := h.c.ListTasks()
	stored, err := h.c.Definitions(ctx)
	for i := range stored {
		d := &stored[i].Task
		if stored[i].Error != "" {
			d = &stint.TaskDefinition{Name: stored[i].Name, Workflow: len(stored[i].Tasks) > 0}
		}
		if defined(defs, d.Name) == nil {
			defs = append(defs, *d)
		}
	}
	slices.SortFunc(defs, func(a, b stint.TaskDefinition) int { return strings.Compare(a.Name, b.Name) })
	return defs, err
}

func defined(defs []stint.TaskDefinition, name string) *stint.TaskDefinition {
	if i := slices.IndexFunc(defs, func(d stint.TaskDefinition) bool { return d.Name == name }); i >= 0 {
		return &defs[i]
	}
	return nil
}

func (h *handler) showTasks(rows []taskRow) node {
	if len(rows) == 0 {
		return emptyState("No task is defined, and none has run. Define one with ", code(`stint.NewTask(client, "name", fn)`), ".")
	}
	heads := tableHead("Name", "Queue.optional", "Succeeded.figure", "Failed.figure", "Retried.figure optional", "Error rate.figure",
		"p50.figure optional", "p95.figure")
	return table(heads, eachShown(rows, func(r taskRow) node {
		failed := "td.number"
		if r.Failed > 0 {
			failed += ".error"
		}
		return h.linkedRow(taskPath(r.Task),
			el("td", h.link(taskPath(r.Task), userText(r.Task)), when(r.def != nil && r.def.Workflow, " ", el("span.dim", "workflow"))),
			el("td.optional", userText(r.Queue)), el("td.number", formatCount(r.Succeeded)), el(failed, formatCount(r.Failed)),
			el("td.number.optional", formatCount(r.Retried)), el("td.number", r.errorRate()),
			el("td.number.optional", formatDuration(r.Duration(.5))), el("td.number", formatDuration(r.Duration(.95))))
	}))
}

func taskPage(h *handler, ctx context.Context, name string, in timeRange, totals []taskTotal) (*view, error) {
	defs, err := h.definedTasks(ctx)
	if err != nil {
		return nil, err
	}
	r := taskRow{def: defined(defs, name)}
	for i := range totals {
		if totals[i].Task == name {
			r.Add(&totals[i].Stats)
		}
	}
	page, err := h.list(ctx, stint.RunFilter{Tasks: []string{name}, Limit: 10, Scan: scanLimit})
	if err != nil {
		return nil, err
	}
	if r.def == nil && len(page.Runs) == 0 && r.Started+r.Ended() == 0 {
		return nil, errNoPage
	}
	l, err := h.loadErrors(ctx, in, stint.ErrorFilter{Tasks: []string{name}, Limit: 5})
	if err != nil {
		return nil, err
	}
	trends, err := h.taskTrends(ctx, name, in)
	if err != nil {
		return nil, err
	}
	slow, err := h.slowestRuns(ctx, name, in)
	if err != nil {
		return nil, err
	}
	card := func(figure, what string) node { return el("div.card", el("b", figure), what) }
	duration := func(d time.Duration, what string) node { return card(formatDuration(d), what) }
	main := group(el("h1", userText(name)),
		el("div.cards",
			h.link(runsPath("task", name, "state", "succeeded"), attr("class", "card"), el("b", formatCount(r.Succeeded)), "succeeded"),
			h.link(runsPath("task", name, "state", "failed"), attr("class", "card"), el("b", formatCount(r.Failed)), "failed"),
			card(r.errorRate(), "error rate"), card(formatCount(r.Retried), "attempts retried"),
			duration(r.Duration(.5), "p50"), duration(r.Duration(.95), "p95"), duration(r.Wait(.99), "p99 wait to start")),
		trends,
		when(len(l.groups) > 0, h2("Errors"), h.showErrors(l),
			el("p", h.link("/errors?"+pathQuery("task", name), "All errors of the task"))),
		when(len(slow) > 0, h2("Slowest runs"), h.showSlowest(slow, in)),
		h.showDefinition(r.def), h.runNow(r.def),
		h2("Newest runs"), h.runTable(page.Runs))
	return &view{Title: name, Main: main, Up: "/tasks", timeRange: &in}, nil
}

// runNow returns the form that starts a run. It has a field for the input as JSON; if the input
// is an object of simple fields, also one for each. The operation checks the input's type.
func (h *handler) runNow(d *stint.TaskDefinition) node {
	if d == nil || h.readOnly {
		return nil
	}
	operation, fields := "tasks/"+escapeSegment(d.Name)+"/runs", fieldsOf(d.Input)
	asJSON := h.form("", operation, "", textArea("Input", "input", indented(d.Example)), row(button("primary", "Enqueue")))
	if len(fields) > 0 {
		asJSON = details("As JSON", asJSON)
	}
	return group(h2("Run now"),
		when(len(fields) > 0, h.form("", operation, "", attr("data-compose"), attr("data-keep"), hidden("input", "{}"),
			row(each(fields, field.show), button("primary", "Enqueue")))),
		asJSON, details("Schema of the input", jsonTree(d.Input, wholeTree)))
}

func indented(payload json.RawMessage) string {
	b, err := json.MarshalIndent(payload, "", "  ")
	if err != nil {
		return string(payload)
	}
	return string(b)
}

// A field is a field of an input, in the form that starts a run.
type field struct {
	name, input string // input is the type of its element
	step        string
	required    bool
}

// show returns the field with its label. Of required fields only numbers must be filled in: a
// text may be empty.
func (f field) show() node {
	if f.input == "checkbox" {
		return el("label.check", el("input", attr("type", f.input), attr("data-field", f.name)), f.name)
	}
	return input(f.name, attr("type", f.input), attr("data-field", f.name), when(f.step != "", attr("step", f.step)),
		when(f.required && f.input == "number", attr("required")))
}

// fieldsOf returns the fields of a JSON schema, or nil if one is not simple.
func fieldsOf(schema json.RawMessage) (fields []field) {
	var s struct {
		Type       string
		Properties map[string]struct{ Type string }
		Required   []string
	}
	if json.Unmarshal(schema, &s) != nil || s.Type != "object" {
		return nil
	}
	for name, p := range s.Properties {
		f := field{name: name, required: slices.Contains(s.Required, name)}
		switch p.Type {
		case "string":
			f.input = "text"
		case "integer":
			f.input, f.step = "number", "1"
		case "number":
			f.input, f.step = "number", "any"
		case "boolean":
			f.input = "checkbox"
		default:
			return nil
		}
		fields = append(fields, f)
	}
	slices.SortFunc(fields, func(a, b field) int { return strings.Compare(a.name, b.name) })
	return fields
}

// namesTTL is how long the names that forms suggest are cached.
const namesTTL = 10 * time.Second

// taskNames returns the tasks that ran in the last day or that this program defines.
func (h *handler) taskNames(ctx context.Context) (names []string, err error) {
	h.names.Lock()
	defer h.names.Unlock()
	if time.Since(h.names.at) < namesTTL {
		return h.names.all, nil
	}
	now := time.Now()
	totals, err := h.taskTotals(ctx, timeRange{Since: now.Add(-24 * time.Hour), Until: now})
	if err != nil {
		return nil, err
	}
	for _, t := range totals {
		names = append(names, t.Task)
	}
	defs, err := h.definedTasks(ctx)
	if err != nil {
		return nil, err
	}
	for _, d := range defs {
		names = append(names, d.Name)
	}
	slices.Sort(names)
	h.names.all, h.names.at = slices.Compact(names), time.Now()
	return h.names.all, nil
}
