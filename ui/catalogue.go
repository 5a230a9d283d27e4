package ui

import (
	"context"
	"encoding/json"
	"html/template"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/stint-dev/stint"
)

// The pages of what is defined, and of what works it.

type taskRow struct {
	stint.Stats
	Def *stint.TaskDefinition // nil: of another program
}

// Rate is how many of those that ended failed, in percent; negative: none ended.
func (r taskRow) Rate() float64 {
	if n := r.Succeeded + r.Failed; n > 0 {
		return 100 * float64(r.Failed) / float64(n)
	}
	return -1
}

type tasksView struct {
	Windows []window
	Window  window
	Rows    []taskRow
}

func tasksPage(h *handler, ctx context.Context, arg string, q url.Values) (*view, error) {
	w := windowOf(q)
	totals, err := h.totals(ctx, w)
	if err != nil {
		return nil, err
	}
	if arg != "" {
		return taskPage(h, ctx, arg, w, totals)
	}
	v := &tasksView{Windows: windows, Window: w}
	defs := h.c.ListTasks()
	known := map[string]bool{}
	for _, t := range totals {
		row := taskRow{Stats: t}
		if i := slices.IndexFunc(defs, func(d stint.TaskDefinition) bool { return d.Name == t.Task }); i >= 0 {
			row.Def = &defs[i]
		}
		known[t.Task] = true
		v.Rows = append(v.Rows, row)
	}
	for i := range defs {
		if !known[defs[i].Name] {
			v.Rows = append(v.Rows, taskRow{Def: &defs[i], Stats: stint.Stats{Task: defs[i].Name, Queue: defs[i].Queue}})
		}
	}
	slices.SortStableFunc(v.Rows, func(a, b taskRow) int { return strings.Compare(a.Task, b.Task) })
	return &view{Title: "Tasks", Name: "tasks", Data: v}, nil
}

type taskView struct {
	taskRow
	Windows []window
	Window  window
	Graph   template.HTML
	Schema  json.RawMessage
	Fields  []field
	Example string
	Recent  []stint.RunInfo
}

// A field is one of the form that starts a run: of an input that is an object with
// simple fields.
type field struct {
	Name, Type, Input string // Input is the kind of its element
	Step              string
	Required          bool
}

func taskPage(h *handler, ctx context.Context, name string, w window, totals []stint.Stats) (*view, error) {
	v := &taskView{Windows: windows, Window: w}
	v.Task = name
	for i := range totals {
		if totals[i].Task == name {
			v.Add(&totals[i])
			v.Task, v.Queue = name, totals[i].Queue
		}
	}
	defs := h.c.ListTasks()
	if i := slices.IndexFunc(defs, func(d stint.TaskDefinition) bool { return d.Name == name }); i >= 0 {
		v.Def = &defs[i]
		v.Graph = drawGraph(h.base, v.Def.Tasks, false)
		v.Schema, v.Fields = v.Def.Input, fieldsOf(v.Def.Input)
		if pretty, err := json.MarshalIndent(v.Def.Example, "", "  "); err == nil {
			v.Example = string(pretty)
		}
	}
	page, err := h.list(ctx, stint.RunFilter{Tasks: []string{name}, Limit: 10, Scan: perQuery})
	if err != nil {
		return nil, err
	}
	v.Recent = page.Runs
	if v.Def == nil && len(v.Recent) == 0 && v.Started+v.Ended() == 0 {
		return nil, errNoPage
	}
	return &view{Title: name, Name: "task", Data: v}, nil
}

// fieldsOf makes a form of a schema, if each of its fields is simple.
func fieldsOf(schema json.RawMessage) (all []field) {
	var s struct {
		Type       string
		Properties map[string]struct {
			Type, Format, ContentEncoding string
		}
		Required []string
	}
	if json.Unmarshal(schema, &s) != nil || s.Type != "object" {
		return nil
	}
	for name, p := range s.Properties {
		f := field{Name: name, Type: p.Type, Required: slices.Contains(s.Required, name)}
		switch p.Type {
		case "string":
			f.Input = "text"
		case "integer":
			f.Input, f.Step = "number", "1"
		case "number":
			f.Input, f.Step = "number", "any"
		case "boolean":
			f.Input = "checkbox"
		default:
			return nil
		}
		all = append(all, f)
	}
	slices.SortFunc(all, func(a, b field) int { return strings.Compare(a.Name, b.Name) })
	return all
}

type queueRow struct {
	stint.QueueInfo
	Out stint.Stats // in the last hour
}

func queuesPage(h *handler, ctx context.Context, arg string, q url.Values) (*view, error) {
	queues, err := h.c.ListQueues(ctx)
	if err != nil {
		return nil, err
	}
	totals, err := h.totals(ctx, windows[0])
	if err != nil {
		return nil, err
	}
	var rows []queueRow
	for _, info := range queues {
		row := queueRow{QueueInfo: info}
		for i := range totals {
			if totals[i].Queue == info.Name {
				row.Out.Add(&totals[i])
			}
		}
		rows = append(rows, row)
	}
	return &view{Title: "Queues", Name: "queues", Data: rows}, nil
}

type limitsView struct {
	Keys  []stint.ConcurrencyInfo
	Rates []stint.RateLimitInfo
}

func limitsPage(h *handler, ctx context.Context, arg string, q url.Values) (*view, error) {
	keys, err := h.c.ListConcurrency(ctx)
	if err != nil {
		return nil, err
	}
	rates, err := h.c.ListRateLimits(ctx)
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(keys, func(a, b stint.ConcurrencyInfo) int { return b.Waiting - a.Waiting })
	return &view{Title: "Limits", Name: "limits", Data: &limitsView{keys[:min(len(keys), 500)], rates[:min(len(rates), 500)]}}, nil
}

type workersView struct {
	Workers []stint.WorkerInfo
	Running []stint.RunInfo
}

// Of lists the runs that a worker has.
func (v *workersView) Of(name string) (runs []stint.RunInfo) {
	for _, r := range v.Running {
		if r.WorkerID == name {
			runs = append(runs, r)
		}
	}
	return runs
}

func workersPage(h *handler, ctx context.Context, arg string, q url.Values) (*view, error) {
	workers, err := h.c.ListWorkers(ctx)
	if err != nil {
		return nil, err
	}
	page, err := h.list(ctx, stint.RunFilter{States: []stint.State{stint.StateRunning}, Limit: 200})
	if err != nil {
		return nil, err
	}
	return &view{Title: "Workers", Name: "workers", Data: &workersView{workers, page.Runs}}, nil
}

type schedulesView struct {
	Crons     []cronRow
	Scheduled []stint.RunInfo
	More      bool
}

type cronRow struct {
	stint.CronInfo
	Reading string
	Ticks   []time.Time
}

func schedulesPage(h *handler, ctx context.Context, arg string, q url.Values) (*view, error) {
	crons, err := h.c.ListCrons(ctx)
	if err != nil {
		return nil, err
	}
	v := &schedulesView{}
	for _, c := range crons[:min(len(crons), 500)] {
		row := cronRow{CronInfo: c, Reading: readSpec(c.Spec)}
		row.Input = h.show("cron", c.Task, row.Input)
		if !c.Paused {
			row.Ticks, _ = stint.CronTicks(c.Spec, time.Now(), 5) // its spec was read when it was made
		}
		v.Crons = append(v.Crons, row)
	}
	page, err := h.list(ctx, stint.RunFilter{States: []stint.State{stint.StateScheduled}, Limit: 100, Scan: perQuery})
	if err != nil {
		return nil, err
	}
	v.Scheduled, v.More = page.Runs, page.Next != ""
	slices.SortStableFunc(v.Scheduled, func(a, b stint.RunInfo) int { return a.Scheduled.Compare(b.Scheduled) })
	return &view{Title: "Schedules", Name: "schedules", Data: v}, nil
}

type eventsView struct {
	Events []stint.EventInfo
	Key    string
	Next   string
	First  bool
}

func eventsPage(h *handler, ctx context.Context, arg string, q url.Values) (*view, error) {
	page, err := h.c.ListEvents(ctx, stint.EventFilter{Key: q.Get("key"), Limit: perPage, Cursor: q.Get("cursor")})
	if err != nil {
		return nil, err
	}
	for i := range page.Events {
		page.Events[i].Payload = h.show("event", page.Events[i].Key, page.Events[i].Payload)
	}
	v := &eventsView{Events: page.Events, Key: q.Get("key"), First: q.Get("cursor") == ""}
	if page.Next != "" {
		v.Next = url.Values{"cursor": {page.Next}, "key": {v.Key}}.Encode()
	}
	return &view{Title: "Events", Name: "events", Data: v}, nil
}

type healthView struct {
	*stint.DatabaseInfo
	Problem string // "": it can be written
	Hour    stint.Stats
}

// PerCommit is how many calls a commit answered.
func (v *healthView) PerCommit() float64 {
	return float64(v.Hour.Changes) / float64(max(v.Hour.Commits, 1))
}

func healthPage(h *handler, ctx context.Context, arg string, q url.Values) (*view, error) {
	d, err := h.c.Database(ctx)
	if err != nil {
		return nil, err
	}
	v := &healthView{DatabaseInfo: d}
	if err := h.c.Healthy(); err != nil {
		v.Problem = err.Error()
	}
	spans, err := h.c.Stats(ctx, stint.StatsFilter{Since: time.Now().Add(-time.Hour)})
	if err != nil {
		return nil, err
	}
	for i := range spans {
		v.Hour.Add(&spans[i])
	}
	return &view{Title: "Health", Name: "health", Data: v}, nil
}
