package ui

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/stint-dev/stint"
)

const (
	perPage  = 50
	perQuery = 20_000 // runs that a page looks at, at most
)

// filterOf reads a filter from a query, as lists, bulk actions and the API take it.
func filterOf(q url.Values) (f stint.RunFilter, err error) {
	texts := func(key string) (all []string) {
		for _, v := range q[key] {
			if v = strings.TrimSpace(v); v != "" {
				all = append(all, v)
			}
		}
		return all
	}
	f.IDs, f.Tasks, f.Queues = texts("id"), texts("task"), texts("queue")
	for _, name := range texts("state") {
		var s stint.State
		if err := s.UnmarshalText([]byte(name)); err != nil {
			return f, err
		}
		f.States = append(f.States, s)
	}
	for _, pair := range texts("metadata") {
		k, v, ok := strings.Cut(pair, "=")
		if !ok {
			return f, fmt.Errorf("metadata %q: want KEY=VALUE", pair)
		}
		if f.Metadata == nil {
			f.Metadata = map[string]string{}
		}
		f.Metadata[k] = v
	}
	if f.Since, err = timeOf(q.Get("since")); err != nil {
		return f, err
	}
	if f.Until, err = timeOf(q.Get("until")); err != nil {
		return f, err
	}
	f.ParentID, f.Error, f.Cursor = q.Get("parent"), q.Get("error"), q.Get("cursor")
	f.TopLevel = q.Get("top") != ""
	return f, nil
}

// timeOf reads a time, or how long ago it was: 2026-01-31T12:00:00Z, 90m, 24h.
func timeOf(s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(s); err == nil {
		return time.Now().Add(-d), nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("time %q: want one like 2026-01-31T12:00:00Z, or how long ago, like 90m", s)
}

// list is ListRuns, with payloads as they may be shown.
func (h *handler) list(ctx context.Context, f stint.RunFilter) (*stint.RunPage, error) {
	page, err := h.c.ListRuns(ctx, f)
	if err != nil {
		return nil, err
	}
	for i := range page.Runs {
		h.redactRun(&page.Runs[i])
	}
	return page, nil
}

func (h *handler) redactRun(r *stint.RunInfo) {
	r.Input, r.Output = h.show("input", r.Task, r.Input), h.show("output", r.Task, r.Output)
}

type runsView struct {
	Runs   []stint.RunInfo
	Counts []stateCount
	Query  url.Values // without the cursor
	States []stint.State
	Tasks  []string
	Next   string // query of the next page, or ""
	First  bool
	Filter bool // something is selected
}

// Has reports whether a filter has a value.
func (v *runsView) Has(key string, value any) bool {
	return slices.Contains(v.Query[key], fmt.Sprint(value))
}

// Is is a filter's first value.
func (v *runsView) Is(key string) string { return v.Query.Get(key) }

// Without is the query with one state more or less.
func (v *runsView) Toggle(s stint.State) string {
	q := url.Values{}
	for k, vs := range v.Query {
		q[k] = slices.Clone(vs)
	}
	if i := slices.Index(q["state"], s.String()); i >= 0 {
		q["state"] = slices.Delete(q["state"], i, i+1)
	} else {
		q.Add("state", s.String())
	}
	return q.Encode()
}

func runsPage(h *handler, ctx context.Context, arg string, q url.Values) (*view, error) {
	if arg != "" {
		return runPage(h, ctx, arg, q)
	}
	f, err := filterOf(q)
	if err != nil {
		return nil, err
	}
	f.Limit, f.Scan = perPage, perQuery
	if len(f.IDs) == 1 && f.Cursor == "" && len(f.States)+len(f.Tasks) == 0 {
		if info, err := h.c.GetRun(ctx, f.IDs[0]); err == nil {
			return runPage(h, ctx, info.ID, q)
		}
	}
	page, err := h.list(ctx, f)
	if err != nil && !(errors.Is(err, stint.ErrNotFound) && len(f.IDs) > 0) {
		return nil, err
	}
	v := &runsView{Query: url.Values{}, First: f.Cursor == "", States: []stint.State{stint.StateScheduled, stint.StateQueued, stint.StateRunning,
		stint.StateWaiting, stint.StateBlocked, stint.StateSucceeded, stint.StateFailed, stint.StateCanceled, stint.StateSkipped}}
	for k, vs := range q {
		if k != "cursor" && strings.Join(vs, "") != "" {
			v.Query[k], v.Filter = vs, true
		}
	}
	if page != nil {
		v.Runs = page.Runs
		if page.Next != "" {
			next := url.Values{"cursor": {page.Next}}
			for k, vs := range v.Query {
				next[k] = vs
			}
			v.Next = next.Encode()
		}
	}
	counts, err := h.c.CountRuns(ctx)
	if err != nil {
		return nil, err
	}
	for _, s := range v.States[:5] {
		v.Counts = append(v.Counts, stateCount{s, counts[s]})
	}
	if v.Tasks, err = h.taskNames(ctx); err != nil {
		return nil, err
	}
	return &view{Title: "Runs", Name: "runs", Data: v}, nil
}

// namesFor is how long a list of names stands, which pages offer but do not depend on.
const namesFor = 10 * time.Second

// taskNames lists what has run in the last day, or is defined here.
func (h *handler) taskNames(ctx context.Context) (names []string, err error) {
	h.names.Lock()
	defer h.names.Unlock()
	if time.Since(h.names.at) < namesFor {
		return h.names.all, nil
	}
	totals, err := h.totals(ctx, windows[2])
	if err != nil {
		return nil, err
	}
	for _, t := range totals {
		names = append(names, t.Task)
	}
	for _, d := range h.c.ListTasks() {
		names = append(names, d.Name)
	}
	slices.Sort(names)
	h.names.all, h.names.at = slices.Compact(names), time.Now()
	return h.names.all, nil
}

// The actions that many runs take at once.
var bulkActions = map[string]struct{ Verb, What string }{
	"runs.cancel": {"Cancel", "have not ended"},
	"runs.replay": {"Replay", "have ended, or are blocked"},
	"runs.delete": {"Delete", "have ended"},
}

type confirmView struct {
	Action     string
	Verb, What string
	N          int
	More       bool // there are more than were counted
	Query      url.Values
	Sample     []stint.RunInfo
}

// confirmPage counts what a bulk action would touch, and asks.
func confirmPage(h *handler, ctx context.Context, arg string, q url.Values) (*view, error) {
	a, ok := bulkActions[q.Get("do")]
	if !ok {
		return nil, errNoPage
	}
	f, err := filterOf(q)
	if err != nil {
		return nil, err
	}
	v := &confirmView{Action: q.Get("do"), Verb: a.Verb, What: a.What, Query: url.Values{}}
	for k, vs := range q {
		if k != "do" && k != "cursor" && strings.Join(vs, "") != "" {
			v.Query[k] = vs
		}
	}
	f.Cursor, f.Limit, f.Scan = "", 1000, perQuery
	page, err := h.list(ctx, f)
	if err != nil {
		return nil, err
	}
	v.N, v.More, v.Sample = len(page.Runs), page.Next != "", page.Runs[:min(len(page.Runs), 5)]
	return &view{Title: a.Verb + " runs", Name: "confirm", Data: v, Still: true}, nil
}
