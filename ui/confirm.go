package ui

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/stint-dev/stint"
)

// A bulkAction is an action on all runs that a filter selects.
type bulkAction struct {
	operation, label, verb, past, class string
	// states are acted on if the filter names neither IDs nor states, as in the client.
	states []stint.State
	do     func(*stint.Client, context.Context, stint.RunFilter) (int, error)
	// move is do of an action that moves runs to a queue: see on.
	move func(c *stint.Client, ctx context.Context, f stint.RunFilter, queue string) (int, error)
}

var bulkActions = []bulkAction{
	{"runs.cancel", "Cancel", "Cancel", "canceled", "", allStates[:5], (*stint.Client).CancelRuns, nil},
	{"runs.replay", "Replay", "Replay", "replayed", "",
		[]stint.State{stint.StateFailed, stint.StateCanceled, stint.StateBlocked}, (*stint.Client).ReplayRuns, nil},
	{"runs.move", "Move to queue", "Move", "moved", "",
		[]stint.State{stint.StateScheduled, stint.StateQueued, stint.StateWaiting, stint.StateBlocked}, nil, (*stint.Client).MoveRuns},
	{"runs.delete", "Delete", "Delete", "deleted", "danger", allStates[5:], (*stint.Client).DeleteRuns, nil},
}

// on returns the action that a request asks for: with its queue, which must exist, if it moves runs to one.
func (h *handler) on(ctx context.Context, a bulkAction, in url.Values) (bulkAction, error) {
	if a.move == nil {
		return a, nil
	}
	queue, err := requiredParam(in, "to")
	if err != nil {
		return a, err
	}
	a.do = func(c *stint.Client, ctx context.Context, f stint.RunFilter) (int, error) {
		return a.move(c, ctx, f, queue)
	}
	return a, h.checkNames(ctx, in, nil, []string{queue})
}

func bulkActionOf(operation string) (bulkAction, bool) {
	i := slices.IndexFunc(bulkActions, func(a bulkAction) bool { return a.operation == operation })
	if i < 0 {
		return bulkAction{}, false
	}
	return bulkActions[i], true
}

// withDefaultStates returns f with the action's states if f names neither IDs nor states.
func (a bulkAction) withDefaultStates(f stint.RunFilter) stint.RunFilter {
	if f.IDs == nil && f.States == nil {
		f.States = a.states
	}
	return f
}

var errNothingSelected = errors.New("no run is selected: tick some, or use the buttons at \"All that match\"")

// confirmPage asks before a bulk action: it shows the filter in words, the exact count and some of
// the runs. The action is then done to the runs that were counted, not to newer ones.
func confirmPage(h *handler, ctx context.Context, arg string, q url.Values) (*view, error) {
	a, ok := bulkActionOf(q.Get("do"))
	if !ok {
		return nil, errNoPage
	}
	if selected, err := boolParam(q, "selected"); err != nil || selected && strings.Join(q["id"], "") == "" {
		return nil, errors.Join(err, errNothingSelected)
	}
	f, err := h.selectionOf(q)
	if err != nil {
		return nil, err
	}
	f.Cursor = ""
	if err := f.Selects(); err != nil {
		return nil, err
	}
	if a.move != nil && q.Get("to") == "" {
		return h.askQueue(ctx, a, q)
	}
	if a, err = h.on(ctx, a, q); err != nil {
		return nil, err
	}
	c := filterQuery(q)
	c.Del("do")
	c.Del("selected")
	if f, err = h.upToNow(ctx, a.withDefaultStates(f)); err != nil {
		return nil, err
	}
	dry := f
	dry.DryRun = true
	n, err := a.do(h.c, ctx, dry)
	if err != nil {
		return nil, err
	}
	f.Limit, f.Scan = 5, scanLimit
	page, err := h.list(ctx, f)
	if err != nil {
		return nil, err
	}
	back := h.link("/runs?"+backQuery(c).Encode(), attr("class", "btn"), "Back")
	where := when(a.move != nil, " to queue ", userText(c.Get("to")))
	for _, s := range f.States {
		if !slices.Contains(c["state"], s.String()) {
			c.Add("state", s.String())
		}
	}
	c.Set("through", f.Through)
	setTimes(c, &f)
	ask := h.form("", a.operation, "", h.hiddenFields(c, "", 0), row(button(a.buttonClass(), a.verb+" "+formatNumber(n)), back))
	if n == 0 {
		ask = group(emptyState("None of them can be ", a.past, where, "."), row(back))
	}
	return &view{Title: a.verb + " runs", Still: true, Up: "/runs", Main: group(
		el("h1", a.verb+" runs", where, "?"),
		el("p", attr("id", "filter"), el("b", formatNumber(n)), " of the runs that match will be "+a.past+": ",
			userText(describeFilter(f)), "."),
		h.runTable(page.Runs), ask)}, nil
}

// setTimes writes the times of a filter into its query: "24h" would later mean another time.
func setTimes(c url.Values, f *stint.RunFilter) {
	for name, at := range map[string]time.Time{"since": f.Since, "until": f.Until} {
		if !at.IsZero() {
			c.Set(name, at.UTC().Format(time.RFC3339Nano))
		}
	}
}

// askQueue asks to which queue an action is to move runs, and then leads to confirmPage.
func (h *handler) askQueue(ctx context.Context, a bulkAction, q url.Values) (*view, error) {
	names, err := h.c.Names(ctx)
	if err != nil {
		return nil, err
	}
	c := filterQuery(q)
	fields := each(slices.Sorted(maps.Keys(c)), func(name string) node {
		return each(c[name], func(v string) node { return hidden(name, v) })
	})
	return &view{Title: a.verb + " runs", Still: true, Up: "/runs", Main: group(
		el("h1", a.verb+" runs to which queue?"),
		el("p.dim", "Runs that wait are moved, and stay there with their retries and replays."),
		el("form.stack", attr("method", "get"), attr("action", h.base+"/confirm"), fields,
			el("label.field", "Queue ", el("select", attr("name", "to"), each(names.Queues, func(name string) node {
				return el("option", attr("value", name), userText(name))
			}))),
			row(button("primary", "Go on"), h.link("/runs?"+backQuery(q).Encode(), attr("class", "btn"), "Back"))))}, nil
}

// backQuery returns the query of the list with the runs that an action's query selects.
func backQuery(c url.Values) url.Values {
	c = filterQuery(c)
	for _, name := range []string{"do", "selected", "to", "all"} {
		c.Del(name)
	}
	return c
}

// upToNow returns f limited to runs that exist now.
func (h *handler) upToNow(ctx context.Context, f stint.RunFilter) (stint.RunFilter, error) {
	if f.Through != "" {
		return f, nil
	}
	newest, err := h.c.ListRuns(ctx, stint.RunFilter{Limit: 1})
	if err == nil && len(newest.Runs) > 0 {
		f.Through = newest.Runs[0].ID
	}
	return f, err
}

// describeFilter says in words which runs a filter selects.
func describeFilter(f stint.RunFilter) string {
	or := func(list []string) string { return strings.Join(list, " or ") }
	quoted := func(list []string) (all []string) {
		for _, s := range list {
			all = append(all, fmt.Sprintf("%q", s))
		}
		return all
	}
	var parts []string
	add := func(format string, args ...any) { parts = append(parts, fmt.Sprintf(format, args...)) }
	if f.Tasks != nil {
		add("of task %s", or(quoted(f.Tasks)))
	}
	if f.Queues != nil {
		add("in queue %s", or(quoted(f.Queues)))
	}
	if f.States != nil {
		var names []string
		for _, s := range f.States {
			names = append(names, s.String())
		}
		add("in state %s", or(names))
	}
	for _, k := range slices.Sorted(maps.Keys(f.Metadata)) {
		add("with metadata %s=%s", k, f.Metadata[k])
	}
	if f.Error != "" {
		add("whose error has %q", f.Error)
	}
	if f.LimitKey != nil {
		add("at limit %q with key %q", f.LimitKey.Name, f.LimitKey.Key)
	}
	parts = append(parts, describeOrigin(f)...)
	if !f.Since.IsZero() {
		add("created since %s", f.Since.UTC().Format(time.RFC3339))
	}
	if !f.Until.IsZero() {
		add("created before %s", f.Until.UTC().Format(time.RFC3339))
	}
	what := "all runs"
	if f.IDs != nil {
		what = "the runs that you selected (" + formatNumber(len(f.IDs)) + ")"
	}
	return strings.TrimSpace(what + " " + strings.Join(parts, ", "))
}

// describeOrigin says which runs a filter selects by where they come from and who executes them.
func describeOrigin(f stint.RunFilter) (parts []string) {
	for _, p := range []struct{ format, value string }{{"whose parent is run %s", f.ParentID}, {"that event %s started", f.Event},
		{"of worker %q", f.Worker}, {"that failed with error %s", f.ErrorGroup}} {
		if p.value != "" {
			parts = append(parts, fmt.Sprintf(p.format, p.value))
		}
	}
	if f.TopLevel {
		parts = append(parts, "that have no parent")
	}
	if f.Flat {
		parts = append(parts, "that are no task of a workflow")
	}
	return parts
}

// buttonClass returns the class of the button that confirms the action.
func (a bulkAction) buttonClass() string {
	if a.class != "" {
		return a.class
	}
	return "primary"
}

// hiddenFields returns the fields of a form that continues a paced action: its filter, the cursor
// to continue from, and the number of runs done so far.
func (h *handler) hiddenFields(c url.Values, cursor string, done int) node {
	fields := []any{hidden("paced", "true"), hidden("done", fmt.Sprint(done)), when(cursor != "", hidden("cursor", cursor))}
	for _, k := range slices.Sorted(maps.Keys(c)) {
		for _, v := range c[k] {
			fields = append(fields, hidden(k, v))
		}
	}
	return group(fields...)
}

const (
	paceRuns = 500             // runs at a time
	paceFor  = time.Second / 2 // between two pages that show the progress
)

// paced does a bulk action for paceFor and returns the cursor to continue from, so that the page
// can show progress. It goes from newer to older runs, so it does not touch runs that are
// enqueued meanwhile.
func (h *handler) paced(ctx context.Context, a bulkAction, f stint.RunFilter) (wireCount, error) {
	var out wireCount
	asked := f
	asked.Cursor = ""
	if err := asked.Selects(); err != nil {
		return out, err
	}
	f = a.withDefaultStates(f)
	f.Limit, f.Scan = paceRuns, scanLimit
	for until := time.Now().Add(paceFor); ; {
		page, err := h.c.ListRuns(ctx, f)
		if err != nil {
			return out, err
		}
		some := stint.RunFilter{States: f.States}
		for _, r := range page.Runs {
			some.IDs = append(some.IDs, r.ID)
		}
		if len(some.IDs) > 0 {
			n, err := a.do(h.c, ctx, some)
			if out.Changed += n; err != nil {
				return out, err
			}
		}
		if out.Next = page.Next; out.Next == "" || time.Now().After(until) {
			return out, nil
		}
		f.Cursor = page.Next
	}
}

// progressPage shows the progress of a paced action. app.js continues it; without scripts the
// user presses a button.
func (h *handler) progressPage(a bulkAction, in url.Values, w wireCount) *view {
	c := filterQuery(in)
	for _, k := range []string{"paced", "done", "next"} {
		c.Del(k)
	}
	done, _ := intParam(in, "done", 0) // from the form of the page before
	done += w.Changed
	status := func(text string) node {
		return el("p", attr("role", "status"), el("b", formatNumber(done)), " runs were "+a.past+text)
	}
	v := &view{Title: a.verb + " runs", Still: true, Up: "/runs"}
	if w.Next == "" {
		v.Main = group(el("h1", "Done"), status("."), el("p", h.link("/runs?"+backQuery(c).Encode(), "To the list")))
		return v
	}
	v.Main = group(el("h1", "In progress…"), status(" so far. Leave this page to stop."),
		el("progress", attr("aria-label", "progress")),
		h.form("", a.operation, "", attr("data-continue"), h.hiddenFields(c, w.Next, done), button("primary", "Continue")))
	return v
}
