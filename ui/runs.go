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
	if f.Since, err = timeParam(q.Get("since")); err != nil {
		return f, err
	}
	if f.Until, err = timeParam(q.Get("until")); err != nil {
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

// allStates are the states of runs in the order of their life: first those of runs that have not
// ended, then those of runs that have.
var allStates = []stint.State{stint.StateScheduled, stint.StateQueued, stint.StateRunning, stint.StateWaiting, stint.StateBlocked,
	stint.StateSucceeded, stint.StateFailed, stint.StateCanceled, stint.StateSkipped}

func runsPage(h *handler, ctx context.Context, arg string, q url.Values) (*view, error) {
	if arg != "" {
		return runPage(h, ctx, arg, q)
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
	page, err := h.list(ctx, f)
	if errors.Is(err, stint.ErrNotFound) && len(f.IDs) > 0 {
		page, err = &stint.RunPage{}, nil
	}
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
	c := filterQuery(q)
	list := h.noRuns(len(c) > 0, page.Next != "")
	if len(page.Runs) == 0 {
		if names, err := h.c.Names(ctx); err == nil {
			list = group(list, errorText(names.Unknown(f.Tasks, f.Queues)))
		}
	}
	if len(page.Runs) > 0 {
		list = el("form", attr("method", "get"), attr("action", h.base+"/confirm"), hidden("selected", "true"), h.runList(page.Runs),
			when(!h.readOnly, row(el("span.dim", "Selected:"), each(bulkActions, func(a bulkAction) node {
				return button(a.class, a.verb+"…", attr("name", "do"), attr("value", a.operation))
			}))))
	}
	return &view{Title: "Runs", Main: group(el("div.page-head", el("h1", "Runs"), h.matching(c, page, f.Cursor == "")),
		stateChips(c, counts), h.queryField(c), ended, list, h.listFooter(c, page, f.Cursor == "")), timeRange: &r, AllTime: true}, nil
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
	for _, name := range []string{"since", "until", "limit_name", "limit_key", "group"} {
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
	states := make([]string, len(allStates))
	for i, s := range allStates {
		states[i] = s.String()
	}
	return el("form.query", attr("method", "get"), attr("action", h.base+"/runs"), attr("role", "search"), icon("search"),
		each([]string{"since", "until"}, func(name string) node { return when(c.Has(name), hidden(name, c.Get(name))) }),
		when(c.Has("limit_name") || c.Has("limit_key"), hidden("limit_name", limitName), hidden("limit_key", limitKey),
			el("span.pill", "at limit ", userText(strings.TrimSpace(limitName+" "+limitKey)))),
		when(c.Has("group"), hidden("group", c.Get("group")),
			h.link("/errors/"+url.PathEscape(c.Get("group")), attr("class", "pill"), "of one error")),
		el("input", attr("type", "search"), attr("name", "q"), attr("value", formatQuery(c)), attr("placeholder", hint),
			attr("aria-label", "Query"), attr("autocomplete", "off"), attr("spellcheck", "false"), attr("data-keep"),
			attr("data-states", strings.Join(states, " "))),
		el("ul.menu.suggest", attr("id", "suggestions"), attr("role", "listbox"), attr("aria-label", "Suggestions"), attr("data-keep"),
			attr("hidden")),
		button("sm.primary", "Show"), when(len(c) > 0, h.link("/runs", attr("class", "btn sm"), "Clear")))
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

// runList returns the table of runs, with checkboxes that select them for an action.
func (h *handler) runList(runs []stint.RunInfo) node {
	all := el("th.w-c", el("input", attr("type", "checkbox"), attr("data-all"), attr("aria-label", "Select all on this page")))
	heads := el("thead", el("tr", when(!h.readOnly, all), el("th.w-l", "State"), el("th", "Task"), el("th", "Error, wait or input"),
		el("th.w-q.opt.opt3", "Queue"), el("th.w-x.opt.opt3", "Metadata"), el("th.w-n.num.opt", "Attempt"),
		el("th.w-m.num.opt", "Took"), el("th.w-l.num", "Created")))
	return linesOf("runs", heads, each(runs, func(r stint.RunInfo) node {
		box := el("td.c-box", el("input", attr("type", "checkbox"), attr("name", "id"), attr("value", r.ID), attr("data-pick"),
			attr("aria-label", "Select run "+shortID(r.ID))))
		pair := func(k string) node { return group(el("bdi.dim", truncate(20, k)+"="+truncate(24, r.Metadata[k])), " ") }
		about := el("bdi.dim.mono", truncate(100, string(r.Input)))
		switch {
		case r.Error != "":
			about = el("bdi.error", truncate(160, r.Error))
		case r.Blocked != "":
			about = el("bdi.dim", truncate(160, r.Blocked))
		}
		return h.linkedRow(runPath(r.ID), attr("id", "r"+r.ID), when(!h.readOnly, box),
			el("td.c-state", stateBadge(r.State)),
			el("td.c-task", h.link(runPath(r.ID), el("b", userText(r.Task))), when(r.Quarantined, " ", el("span.pill.warn", "quarantined")),
				when(r.Canceling, " ", el("span.pill", "canceling"))),
			el("td.c-about", about), el("td.opt.opt3", userText(truncate(30, r.Queue))),
			el("td.opt.opt3", each(firstKeys(r.Metadata), pair)),
			el("td.num.opt", when(r.Attempt > 0, r.Attempt)),
			el("td.num.opt", elapsed(r.Started, r.Finished)), el("td.num.c-when", timestamp(r.Created)))
	}))
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
func (h *handler) listFooter(c url.Values, page *stint.RunPage, first bool) node {
	older, match := filterQuery(c), filterQuery(c)
	if len(c) == 0 {
		match.Set("all", "true")
	}
	older.Set("cursor", page.Next)
	return row(when(!first, h.link("/runs?"+c.Encode(), attr("class", "btn"), "Newest")),
		when(page.Next != "", h.link("/runs?"+older.Encode(), attr("class", "btn"), attr("rel", "next"), "Older")),
		when(len(page.Runs) > 0 && !h.readOnly, el("span.dim", "All that match:"), each(bulkActions, func(a bulkAction) node {
			return h.link("/confirm?do="+a.operation+"&"+match.Encode(), attr("class", "btn"), a.verb+"…")
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
