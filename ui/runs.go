package ui

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/stint-dev/stint"
)

const (
	pageLimit = 50
	scanLimit = 20_000 // runs that one page may scan for matches
)

// filterOf reads a filter from a query: the same fields for lists, bulk actions and the API.
func (h *handler) filterOf(q url.Values) (f stint.RunFilter, err error) {
	texts := func(key string) (all []string) {
		for _, v := range q[key] {
			if v != "" { // not trimmed: names and values may begin and end with spaces
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
	if f.Metadata, err = metadataParam(texts("metadata")); err != nil {
		return f, err
	}
	if f.Since, err = agoParam(q, "since"); err != nil {
		return f, err
	}
	if f.Until, err = agoParam(q, "until"); err != nil {
		return f, err
	}
	f.ParentID, f.Error, f.Cursor = q.Get("parent"), q.Get("error"), q.Get("cursor")
	f.Event, f.Worker, f.Through, f.ErrorGroup = q.Get("event"), q.Get("worker"), q.Get("through"), q.Get("group")
	if f.Error != "" && h.redact != nil { // who can search a hidden text can guess all of it
		return f, errors.New("error: runs cannot be searched by their errors where WithRedact may hide these")
	}
	if f.TopLevel, err = boolParam(q, "top"); err != nil {
		return f, err
	}
	if f.Flat, err = boolParam(q, "flat"); err != nil {
		return f, err
	}
	if k := (stint.LimitKey{Name: q.Get("limit_name"), Key: q.Get("limit_key")}); k != (stint.LimitKey{}) {
		f.LimitKey = &k
	}
	return f, nil
}

func metadataParam(pairs []string) (metadata map[string]string, err error) {
	for _, pair := range pairs {
		if metadata == nil {
			metadata = map[string]string{}
		}
		if json.Unmarshal([]byte(pair), &metadata) == nil {
			continue
		}
		k, v, ok := strings.Cut(pair, "=")
		if !ok {
			return nil, errors.New("metadata: want KEY=VALUE, or a JSON object of texts")
		}
		metadata[k] = v
	}
	return metadata, nil
}

// selectionOf reads the filter of an action on all runs that match. A field that is present but
// empty is an error here, while a list ignores it.
func (h *handler) selectionOf(q url.Values) (f stint.RunFilter, err error) {
	if f, err = h.filterOf(q); err != nil {
		return f, err
	}
	for _, name := range filterParams {
		if vs, ok := q[name]; ok && strings.TrimSpace(strings.Join(vs, "")) == "" {
			return f, fmt.Errorf("%w: %s is empty: name something, or leave it out", stint.ErrNoFilter, name)
		}
	}
	if f.All, err = boolParam(q, "all"); err != nil {
		return f, err
	}
	f.DryRun, err = boolParam(q, "dry_run")
	return f, err
}

// list calls ListRuns and redacts what it returns.
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

// filterQuery returns a query without its cursor and its empty fields.
func filterQuery(q url.Values) url.Values {
	c := url.Values{}
	for k, vs := range q {
		if k != "cursor" && strings.Join(vs, "") != "" {
			c[k] = slices.Clone(vs)
		}
	}
	return c
}

// looks are the fields of a list's query that say how it is shown, not what.
var looks = []string{"cols", "sort"}

// allStates are the states of runs in the order of their life: first those of runs that have not
// ended, then those of runs that have.
var allStates = []stint.State{stint.StateScheduled, stint.StateQueued, stint.StateRunning, stint.StateWaiting, stint.StateBlocked,
	stint.StateSucceeded, stint.StateFailed, stint.StateCanceled, stint.StateSkipped}

func runsPage(h *handler, ctx context.Context, arg string, q url.Values) (*view, error) {
	if arg != "" {
		return runPage(h, ctx, arg, q)
	}
	if q.Has("columns") { // of the form that chooses columns
		return h.columnsChosen(q), nil
	}
	if q.Has("q") { // of the query field: the list's URL has the fields of the filter
		return h.queryTyped(q)
	}
	f, err := h.filterOf(q)
	if err != nil {
		return nil, err
	}
	r, err := rangeOf(q, time.Now())
	if err != nil {
		return nil, err
	}
	f.Limit, f.Scan = pageLimit, scanLimit
	if len(f.IDs) == 1 && f.Cursor == "" && len(f.States)+len(f.Tasks) == 0 {
		if info, err := h.c.GetRun(ctx, f.IDs[0]); err == nil {
			return runPage(h, ctx, info.ID, q)
		}
	}
	l, err := h.loadRunList(ctx, f, filterQuery(q))
	if err != nil {
		return nil, err
	}
	counts, err := h.c.CountRuns(ctx)
	if err != nil {
		return nil, err
	}
	ended, err := h.endedByFilter(ctx, &f, r)
	if err != nil {
		return nil, err
	}
	views, err := h.loadViews(ctx)
	if err != nil {
		return nil, err
	}
	side, err := h.runAside(ctx, l.query)
	if err != nil {
		return nil, err
	}
	list := group(h.showRuns(ctx, l, &f), h.listFooter(l, f.Cursor == ""))
	head := el("div.page-head", el("h1", "Runs"), h.matching(l.query, l.RunPage, f.Cursor == "" && l.by == nil),
		el("span.tools", h.viewsMenu(views, l.query), h.columnsMenu(l.query, l.Runs)))
	return &view{Title: "Runs", Main: group(head, h.showViews(views, l.query), stateChips(l.query, counts), h.queryField(l.query), ended,
		withAside(list, side)), timeRange: &r, AllTime: true}, nil
}

// A runList is a page of the list of runs, or its newest runs sorted.
type runList struct {
	*stint.RunPage
	query   url.Values // of the page, without its cursor
	columns []runColumn
	by      *runColumn // that it is sorted by; nil: the newest first
	words   node       // which runs are sorted
}

func (h *handler) loadRunList(ctx context.Context, f stint.RunFilter, c url.Values) (l *runList, err error) {
	l = &runList{query: c, columns: chosenColumns(c)}
	var ascending bool
	if l.by, ascending = sortOf(c); l.by != nil {
		l.RunPage, l.words, err = h.listSorted(ctx, f, l.by, ascending)
	} else {
		f.OldestFirst = c.Get("sort") == oldestFirst
		l.RunPage, err = h.list(ctx, f)
	}
	if errors.Is(err, stint.ErrNotFound) && len(f.IDs) > 0 {
		l.RunPage, err = &stint.RunPage{}, nil
	}
	return l, err
}

// showRuns returns the list with the buttons for what is ticked, or says why it is empty.
func (h *handler) showRuns(ctx context.Context, l *runList, f *stint.RunFilter) node {
	if len(l.Runs) == 0 {
		none := h.noRuns(len(filterOnly(l.query)) > 0, l.Next != "")
		if names, err := h.c.Names(ctx); err == nil {
			none = group(none, errorText(names.Unknown(f.Tasks, f.Queues)))
		}
		return none
	}
	return el("form", attr("method", "get"), attr("action", h.base+"/confirm"), hidden("selected", "true"), l.words, h.runList(l),
		when(!h.readOnly, row(el("span.dim", "Selected:"), each(bulkActions, func(a bulkAction) node {
			return button(a.class, a.label+"…", attr("name", "do"), attr("value", a.operation))
		}))))
}

// stateChips returns links that add a state to the filter or remove it, with the states' counts.
func stateChips(c url.Values, counts map[stint.State]int) node {
	return el("ul.chips", attr("aria-label", "States"), each(allStates, func(s stint.State) node {
		q := filterQuery(c)
		at := slices.Index(q["state"], s.String())
		if at >= 0 {
			q["state"] = slices.Delete(q["state"], at, at+1)
		} else {
			q.Add("state", s.String())
		}
		n, counted := counts[s]
		return el("li", el("a", attr("href", "?"+q.Encode()), when(at >= 0, attr("aria-current", "true")),
			stateBadge(s), when(counted, " "+formatCount(n))))
	}))
}

// queryTyped leads to the list with the filter that was typed into the query field.
func (h *handler) queryTyped(q url.Values) (*view, error) {
	typed, err := parseQuery(q.Get("q"))
	if err != nil {
		return nil, fmt.Errorf("the query: %w", err)
	}
	for _, name := range append(slices.Clone(looks), "since", "until", "limit_name", "limit_key", "group") {
		if q.Get(name) != "" {
			typed[name] = q[name]
		}
	}
	if _, err := h.filterOf(typed); err != nil {
		return nil, fmt.Errorf("the query: %w", err)
	}
	return &view{redirect: strings.TrimSuffix("/runs?"+typed.Encode(), "?")}, nil
}

// queryField returns the field that filters the list. app.js suggests keys and values.
func (h *handler) queryField(c url.Values) node {
	const hint = `state:failed task:charge tenant:acme error:"connection refused"`
	limitName, limitKey := c.Get("limit_name"), c.Get("limit_key")
	cleared := url.Values{}
	for _, name := range looks {
		if vs, ok := c[name]; ok {
			cleared[name] = vs
		}
	}
	states := make([]string, len(allStates))
	for i, s := range allStates {
		states[i] = s.String()
	}
	return el("form.query", attr("method", "get"), attr("action", h.base+"/runs"), attr("role", "search"), icon("search"),
		each(append(slices.Clone(looks), "since", "until"), func(name string) node {
			return each(c[name], func(v string) node { return hidden(name, v) })
		}),
		when(c.Has("limit_name") || c.Has("limit_key"), hidden("limit_name", limitName), hidden("limit_key", limitKey),
			el("span.pill", "at limit ", userText(strings.TrimSpace(limitName+" "+limitKey)))),
		when(c.Has("group"), hidden("group", c.Get("group")),
			h.link("/errors/"+url.PathEscape(c.Get("group")), attr("class", "pill"), "of one error")),
		el("input", attr("type", "search"), attr("name", "q"), attr("value", formatQuery(c)), attr("placeholder", hint),
			attr("aria-label", "Query"), attr("autocomplete", "off"), attr("spellcheck", "false"), attr("data-keep"),
			attr("data-states", strings.Join(states, " "))),
		el("ul.menu.suggest", attr("id", "suggestions"), attr("role", "listbox"), attr("aria-label", "Suggestions"), attr("data-keep"),
			attr("hidden")),
		button("sm.primary", "Show"), when(len(filterOnly(c)) > 0, h.link("/runs?"+cleared.Encode(), attr("class", "btn sm"), "Clear")))
}

// errorText returns the error's text, or nil.
func errorText(err error) node {
	if err == nil {
		return nil
	}
	return el("p.error", err)
}

func (h *handler) noRuns(filtered, more bool) node {
	switch {
	case !filtered:
		return emptyState("No runs yet. Start one with ", code("task.Enqueue(ctx, input)"), ".")
	case more:
		return emptyState("No match in the first " + formatCount(scanLimit) + " runs.")
	}
	return emptyState("No run matches.")
}

// runList returns the table of runs, with checkboxes that select them for an action. A click opens the panel beside the list
// (lists.js), or the run.
func (h *handler) runList(l *runList) node {
	all := el("th.w-c", el("input", attr("type", "checkbox"), attr("data-all"), attr("aria-label", "Select all on this page")))
	heads := el("thead", el("tr", when(!h.readOnly, all), el("th.w-l", "State"), el("th", "Task"),
		each(l.columns, func(c runColumn) node { return h.sortHead(l.query, &c) }), h.createdHead(l)))
	class := "runs"
	if len(l.columns) > 8 {
		class += ".many"
	}
	open := l.query.Get("run")
	return linesOf(class, heads, each(l.Runs, func(r stint.RunInfo) node {
		box := el("td.c-box", el("input", attr("type", "checkbox"), attr("name", "id"), attr("value", r.ID), attr("data-pick"),
			attr("aria-label", "Select run "+shortID(r.ID))))
		return h.linkedRow(runPath(r.ID), attr("id", "r"+r.ID), attr("data-beside", r.ID), when(r.ID == open, attr("class", "on")),
			when(!h.readOnly, box), el("td.c-state", stateBadge(r.State)),
			el("td.c-task", h.link(runPath(r.ID), el("b", userText(r.Task))), when(r.Quarantined, " ", el("span.pill.warn", "quarantined")),
				when(r.Canceling, " ", el("span.pill", "canceling"))),
			each(l.columns, func(c runColumn) node { return c.cell(h, &r) }), el("td.num.c-when", timestamp(r.Created)))
	}))
}

// createdHead returns the heading of the times by which a list is sorted unless another column is chosen: a link that turns the
// order around.
func (h *handler) createdHead(l *runList) node {
	to := filterQuery(l.query)
	to.Del("sort")
	title, order := "Created", ""
	switch {
	case l.query.Get("sort") == oldestFirst:
		title, order = "Created ↑", "ascending"
	case l.by == nil:
		title, order = "Created ↓", "descending"
		to.Set("sort", oldestFirst)
	}
	return el("th.w-l.num", when(order != "", attr("aria-sort", order)),
		el("a", attr("href", "?"+to.Encode()), attr("title", "Sort by this"), title))
}

// firstKeys returns the keys of metadata that a list shows.
func firstKeys(m map[string]string) []string {
	keys := slices.Sorted(maps.Keys(m))
	return keys[:min(len(keys), maxKeys)]
}

// elapsed returns the time between two times that are set, else nil.
func elapsed(from, to time.Time) node {
	return when(!from.IsZero() && !to.IsZero(), formatDuration(to.Sub(from)))
}

// listFooter returns links to other pages of the list, and to the actions on all that match.
func (h *handler) listFooter(l *runList, first bool) node {
	older, match := filterQuery(l.query), filterOnly(l.query)
	if len(match) == 0 {
		match.Set("all", "true")
	}
	older.Set("cursor", l.Next)
	begin, next := "Newest", "Older"
	if l.query.Get("sort") == oldestFirst {
		begin, next = "Oldest", "Newer"
	}
	return row(when(!first, h.link("/runs?"+l.query.Encode(), attr("class", "btn"), begin)),
		when(l.Next != "", h.link("/runs?"+older.Encode(), attr("class", "btn"), attr("rel", "next"), next)),
		when(len(l.Runs) > 0 && !h.readOnly, el("span.dim", "All that match:"), each(bulkActions, func(a bulkAction) node {
			return h.link("/confirm?do="+a.operation+"&"+match.Encode(), attr("class", "btn"), a.label+"…")
		})))
}

// runTable returns a short list of runs, for other pages.
func (h *handler) runTable(runs []stint.RunInfo) node {
	if len(runs) == 0 {
		return placeholder("none")
	}
	return table(tableHead("State", "Task", "Input.optional", "Created"), each(runs, func(r stint.RunInfo) node {
		return h.linkedRow(runPath(r.ID), attr("id", "r"+r.ID),
			el("td", stateBadge(r.State)), el("td", h.link(runPath(r.ID), userText(r.Task))),
			el("td.optional", el("bdi.dim.mono", truncate(70, string(r.Input)))), el("td", timestamp(r.Created)))
	}))
}
