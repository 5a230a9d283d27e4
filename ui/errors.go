package ui

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"time"

	g "maragu.dev/gomponents"

	"github.com/stint-dev/stint"
)

// What the list of errors says of each.
const (
	newFor     = 24 * time.Hour // since it was first seen: it is new
	quietAfter = 24 * time.Hour // since it was last seen: it is quiet
	// minutesUpTo is the longest range whose trend is by the minute.
	minutesUpTo = 6 * time.Hour
	// splitRuns is how many runs are looked at for what they have in common.
	splitRuns = 200
)

// An errorList is the groups of errors that a page shows, over a range.
type errorList struct {
	timeRange
	grid
	groups []stint.ErrorGroup
	next   string
	span   time.Duration  // of the trends' counts
	text   string         // that the groups have
	show   string         // which: see errorShows
	counts map[string]int // of groups, by what shows them
	all    bool           // no range was chosen: the list covers all time, and its trends a day
}

// newErrorList returns an empty list of errors over a range. Without a range it covers all time.
func newErrorList(r timeRange) *errorList {
	l := &errorList{timeRange: r, all: len(r.query) == 0, span: time.Hour}
	if l.all {
		l.Since = r.Until.Add(-newFor)
	}
	if l.length() <= minutesUpTo && resolution(l.Since) == time.Minute {
		l.span = time.Minute
	}
	l.grid = gridOf(l.Since, l.Until, max(l.span, l.timeRange.step()))
	return l
}

// loadErrors lists the groups of errors with failed runs in a range.
func (h *handler) loadErrors(ctx context.Context, r timeRange, f stint.ErrorFilter) (*errorList, error) {
	l := newErrorList(r)
	if f.Span = l.span; !l.all {
		f.Since, f.Until = l.Since, l.Until
	}
	page, err := h.c.ListErrors(ctx, f)
	if err != nil {
		return nil, err
	}
	l.groups, l.next = page.Groups, page.Next
	if !l.all {
		l.groups = slices.DeleteFunc(l.groups, func(e stint.ErrorGroup) bool { return e.InRange() == 0 })
		slices.SortStableFunc(l.groups, func(a, b stint.ErrorGroup) int { return cmp.Compare(b.InRange(), a.InRange()) })
	}
	h.redactErrors(l.groups)
	return l, nil
}

// redactErrors redacts the texts of groups in place.
func (h *handler) redactErrors(all []stint.ErrorGroup) {
	for i := range all {
		e := &all[i]
		e.Text, e.Sample = h.redactText("error", e.Task, e.Text), h.redactText("error", e.Task, e.Sample)
	}
}

// count returns how often a run failed so, in the list's time.
func (l *errorList) count(e *stint.ErrorGroup) int64 {
	if l.all {
		return e.Count
	}
	return e.InRange()
}

// trend returns how often a run failed so in each span of the list's grid.
func (l *errorList) trend(e *stint.ErrorGroup) []float64 {
	values := make([]float64, l.n)
	for _, c := range e.Trend {
		if i := l.index(c.At); i >= 0 {
			values[i] += float64(c.Count)
		}
	}
	return values
}

func errorsPage(h *handler, ctx context.Context, arg string, q url.Values) (*view, error) {
	r, err := rangeOf(q, time.Now())
	if err != nil {
		return nil, err
	}
	if arg != "" {
		return h.errorPage(ctx, arg, r)
	}
	f := stint.ErrorFilter{Limit: maxRows, Cursor: q.Get("cursor"), Text: q.Get("text")}
	if f.Text != "" && h.redact != nil {
		return nil, errHiddenErrors
	}
	if task := q.Get("task"); task != "" {
		f.Tasks = []string{task}
	}
	l, err := h.loadErrors(ctx, r, f)
	if err != nil {
		return nil, err
	}
	if l.show = q.Get("show"); !slices.Contains([]string{"", "muted", "resolved"}, l.show) {
		return nil, fmt.Errorf("show %q: want muted, resolved, or nothing", l.show)
	}
	l.text, l.counts = f.Text, map[string]int{}
	l.groups = slices.DeleteFunc(l.groups, func(e stint.ErrorGroup) bool {
		l.counts[showOf(&e)]++
		return showOf(&e) != l.show
	})
	next := filterQuery(q)
	next.Set("cursor", l.next)
	footer := row(when(f.Cursor != "", h.link("/errors?"+filterQuery(q).Encode(), attr("class", "btn"), "Newest")),
		when(l.next != "", h.link("/errors?"+next.Encode(), attr("class", "btn"), attr("rel", "next"), "Older")))
	chart := when(len(l.groups) > 0, el("section.panel.ended", l.chart().show()))
	return &view{Title: "Errors", timeRange: &r, AllTime: true, Main: group(
		el("div.page-head", el("h1", "Errors"), el("p", l.words())),
		el("div.stack", h.errorTabs(l, q), chart, h.showErrors(l)), footer)}, nil
}

// showOf returns which list of errors shows a group: "" that of those which are open.
func showOf(e *stint.ErrorGroup) string {
	switch {
	case e.Resolved:
		return "resolved"
	case e.Muted:
		return "muted"
	}
	return ""
}

// isOpen reports whether an error is neither muted nor resolved.
func isOpen(e *stint.ErrorGroup) bool { return showOf(e) == "" }

// openErrors returns how many errors are open and were seen in a range, for the rail; "" for none.
func (h *handler) openErrors(ctx context.Context, r timeRange) (string, error) {
	l := newErrorList(r)
	page, err := h.c.ListErrors(ctx, stint.ErrorFilter{Since: r.Since, Until: r.Until, Span: l.span, Limit: maxRows})
	if err != nil {
		return "", err
	}
	n := 0
	for i := range page.Groups {
		if e := &page.Groups[i]; isOpen(e) && e.InRange() > 0 {
			n++
		}
	}
	switch {
	case n == 0:
		return "", nil
	case page.Next != "":
		return formatNumber(n) + "+", nil
	}
	return formatNumber(n), nil
}

// words returns what the list shows in a sentence.
func (l *errorList) words() string {
	var runs, fresh int64
	for i := range l.groups {
		runs += l.count(&l.groups[i])
		if l.isNew(&l.groups[i]) {
			fresh++
		}
	}
	when := ""
	if !l.all {
		when = " " + l.timeRange.words()
	}
	text := fmt.Sprintf("%s failed%s, with %s.", counted(runs, "run", "runs"), when,
		counted(int64(len(l.groups)), "error", "different errors"))
	if fresh > 0 {
		text += " " + counted(fresh, "is", "are") + " new."
	}
	return text
}

// counted returns a number with a word, in the singular or the plural.
func counted(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return formatCount(n) + " " + many
}

func (l *errorList) isNew(e *stint.ErrorGroup) bool { return time.Since(e.First) < newFor }

// kind returns what is to be known of a group at first sight.
func (l *errorList) kind(e *stint.ErrorGroup) node {
	switch {
	case e.Resolved:
		return el("span.pill", "resolved")
	case e.Muted:
		return el("span.pill", "muted")
	case e.Regressed:
		return el("span.pill.bad", attr("title", "It was resolved, and was seen since"), "regressed")
	case l.isNew(e):
		return el("span.pill.bad", "new")
	case time.Since(e.Last) > quietAfter:
		return el("span.pill", "quiet")
	}
	return el("span.pill", "steady")
}

// errorTabs returns links to the open, muted and resolved errors, and what narrows the list.
func (h *handler) errorTabs(l *errorList, q url.Values) node {
	tab := func(name, show string) node {
		to := filterQuery(q)
		if to.Set("show", show); show == "" {
			to.Del("show")
		}
		return el("li", el("a", attr("href", "?"+to.Encode()), when(show == l.show, attr("aria-current", "true")),
			name+" "+formatCount(l.counts[show])))
	}
	task := q.Get("task")
	without := filterQuery(q)
	without.Del("task")
	return group(el("ul.chips", attr("aria-label", "Which errors"), tab("Open", ""), tab("Muted", "muted"), tab("Resolved", "resolved"),
		when(task != "", el("li", el("a", attr("href", "?"+without.Encode()), attr("title", "Show those of all tasks"), "Task ",
			userText(task), " ×")))), h.errorSearch(q))
}

// errorSearch returns the field that finds errors by their text, or nil where WithRedact may hide that.
func (h *handler) errorSearch(q url.Values) node {
	if h.redact != nil {
		return nil
	}
	fields := []any{attr("method", "get"), attr("action", h.base+"/errors"), attr("role", "search"), icon("search")}
	clear := filterQuery(q)
	for name, values := range clear {
		if name != "text" {
			fields = append(fields, each(values, func(v string) node { return hidden(name, v) }))
		}
	}
	clear.Del("text")
	fields = append(fields, el("input", attr("type", "search"), attr("name", "text"), attr("value", q.Get("text")),
		attr("placeholder", "Text of the error, or its task"), attr("aria-label", "Text"), attr("autocomplete", "off"), attr("data-keep")),
		button("sm.primary", "Show"), when(q.Get("text") != "", h.link("/errors?"+clear.Encode(), attr("class", "btn sm"), "Clear")))
	return el("form.query", fields...)
}

// failedRuns returns a chart of failed runs over the list's time, without any yet.
func (l *errorList) failedRuns() *chart {
	return &chart{title: "Failed runs", unit: "per " + formatSpan(l.grid.step), grid: l.grid, scale: countScale, low: true}
}

// chart shows the failed runs of the groups that have most of them, and of all others together.
func (l *errorList) chart() *chart {
	c := l.failedRuns()
	most := slices.Clone(l.groups)
	trends, sums := map[string][]float64{}, map[string]float64{}
	for i := range most {
		e := &most[i]
		trends[e.ID] = l.trend(e)
		for _, v := range trends[e.ID] {
			sums[e.ID] += v
		}
	}
	slices.SortStableFunc(most, func(a, b stint.ErrorGroup) int { return cmp.Compare(sums[b.ID], sums[a.ID]) })
	classes := []string{"f-bad", "f-warn", "f-wait", "f-idle"}
	for i := range most {
		values := trends[most[i].ID]
		if last := len(classes) - 1; i < last {
			c.all = append(c.all, series{nameIn(most[:min(len(most), last)], i), classes[i], values})
		} else if i == last {
			c.all = append(c.all, series{"others", classes[last], values})
		} else {
			for j, v := range values {
				c.all[last].Values[j] += v
			}
		}
	}
	return c
}

// nameIn returns the name of a group among those of a chart: its task, with its text if another is of that task.
func nameIn(all []stint.ErrorGroup, i int) string {
	for j := range all {
		if j != i && all[j].Task == all[i].Task {
			return truncate(40, all[i].Task+": "+all[i].Text)
		}
	}
	return truncate(40, all[i].Task)
}

func (h *handler) showErrors(l *errorList) node {
	switch {
	case len(l.groups) == 0 && l.show != "":
		return emptyState("No error is " + l.show + ".")
	case len(l.groups) == 0 && l.text != "":
		return emptyState("No open error has this text.")
	case len(l.groups) == 0 && l.counts["muted"]+l.counts["resolved"] > 0:
		return emptyState("No error is open.")
	case len(l.groups) == 0 && l.all:
		return emptyState("No run has failed.")
	case len(l.groups) == 0:
		return emptyState("No run failed " + l.timeRange.words() + ".")
	}
	heads := []string{"Kind.w-q.opt", "Task.w-x", "Error", "Trend.w-l.opt", "Runs.w-n.num",
		"First.w-m.num.opt.opt3", "Last.w-m.num.opt"}
	if !h.readOnly {
		heads = append(heads, "Actions.w-m.num.opt")
	}
	return el("section.panel", linesOf("errors", tableHead(heads...), eachShown(l.groups, func(e stint.ErrorGroup) node {
		return h.linkedRow(h.errorPath(e.ID, l.timeRange), attr("id", "e"+e.ID), el("td.opt", l.kind(&e)),
			el("td", h.link(taskPath(e.Task), el("b", userText(e.Task)))),
			el("td.c-about", h.link(h.errorPath(e.ID, l.timeRange), attr("class", "fp"), attr("title", e.Sample), maskedText(e.Text))),
			el("td.opt", sparkline("f-bad", l.trend(&e))), el("td.num", el("b.bad", formatCount(l.count(&e)))),
			el("td.num.opt.opt3", timestamp(e.First)), el("td.num.opt", timestamp(e.Last)),
			when(!h.readOnly, el("td.num.opt", h.link(replayGroupPath(e.ID), attr("class", "btn sm"), "Replay…"))))
	})))
}

var masks = regexp.MustCompile(`<(n|id|text|ip|email|duration|time)>`)

// maskedText returns a masked text with its masks set off.
func maskedText(text string) node {
	var all []node
	rest := truncate(200, text)
	for rest != "" {
		at := masks.FindStringIndex(rest)
		if at == nil {
			at = []int{len(rest), len(rest)}
		}
		all = append(all, g.Text(escapeInvisible(rest[:at[0]])))
		if at[1] > at[0] {
			all = append(all, el("i", rest[at[0]+1:at[1]-1]))
		}
		rest = rest[at[1]:]
	}
	return el("bdi", each(all, func(n node) node { return n }))
}

// errorPath returns the path of the page of a group, with the range that was chosen.
func (h *handler) errorPath(id string, r timeRange) string {
	if len(r.query) == 0 {
		return "/errors/" + id
	}
	return "/errors/" + id + "?" + r.query.Encode()
}

// replayGroupPath returns the path of the question before the failed runs of a group are replayed.
func replayGroupPath(id string) string {
	return "/confirm?" + url.Values{"do": {"runs.replay"}, "group": {id}, "state": {"failed"}}.Encode()
}

// errorPage shows a group: its trend, its newest error, and what its runs have in common.
func (h *handler) errorPage(ctx context.Context, id string, r timeRange) (*view, error) {
	l := newErrorList(r)
	found, err := h.c.ListErrors(ctx, stint.ErrorFilter{IDs: []string{id}, Span: l.span})
	if err != nil {
		return nil, err
	}
	if l.groups = found.Groups; len(l.groups) == 0 {
		return nil, fmt.Errorf("error %s: %w: errors are forgotten 31 days after they were last seen", id, stint.ErrNotFound)
	}
	h.redactErrors(l.groups)
	e := &l.groups[0]
	f := stint.RunFilter{ErrorGroup: id, States: []stint.State{stint.StateFailed}, Limit: splitRuns, Scan: scanLimit}
	page, err := h.list(ctx, f)
	if err != nil {
		return nil, err
	}
	dry := stint.RunFilter{ErrorGroup: id, States: f.States, DryRun: true}
	failed, err := h.c.ReplayRuns(ctx, dry)
	if err != nil {
		return nil, err
	}
	c := l.failedRuns()
	c.all = []series{{"failed", "f-bad", l.trend(e)}}
	return &view{Title: "Error of " + e.Task, Up: "/errors", timeRange: &r, AllTime: true, Main: group(
		el("div.page-head", el("h1", userText(e.Task)), l.kind(e)),
		el("p.error.fp", maskedText(e.Text)),
		h.errorActions(e, failed),
		el("div.stack", el("section.panel.ended", c.show()),
			el("div.grid2", panel("Newest", nil, h.showSample(e)), panel("What they have in common", nil, inCommon(page.Runs, failed))),
			panel("Runs that are failed now", h.link(runsPath("group", id, "state", "failed"), "All "+formatCount(failed)),
				h.errorRuns(page.Runs[:min(len(page.Runs), 10)]))))}, nil
}

// muteFor are the times for which a group can be muted.
var muteFor = []struct{ label, length string }{{"For 1 hour", "1h"}, {"For 1 day", "24h"}, {"For 7 days", "168h"}, {"For good", ""}}

// errorActions returns what can be done about a group whose runs are failed now.
func (h *handler) errorActions(e *stint.ErrorGroup, failed int) node {
	if h.readOnly {
		return nil
	}
	path, here := "errors/"+e.ID+"/", "/errors/"+e.ID
	replay := group()
	if failed > 0 {
		replay = h.link(replayGroupPath(e.ID), attr("class", "btn primary"), "Replay all "+formatCount(failed)+"…")
	}
	undo := h.actionButton("", map[bool]string{true: "Open again", false: "Unmute"}[e.Resolved], path+"unmute", here)
	switch {
	case e.Resolved:
		return row(replay, undo, el("span.dim", "It is resolved: until a run fails so again."))
	case e.Muted && e.Count < e.MutedToCount:
		return row(replay, undo, el("span.dim", "It is muted until "+formatCount(e.MutedToCount)+" runs have failed so."))
	case e.Muted:
		until := group(" until ", timestamp(e.MutedUntil))
		if e.MutedUntil.Year() >= 9999 {
			until = group(" for good")
		}
		return row(replay, undo, el("span.dim", "It is muted", until, "."))
	}
	return row(replay, h.actionButton("", "Resolve", path+"resolve", here), el("span.dim", "Mute it:"),
		each(muteFor, func(m struct{ label, length string }) node {
			return h.actionButton("", m.label, path+"mute", here, when(m.length != "", hidden("for", m.length)))
		}), h.actionButton("", "Until twice as many", path+"mute", here, hidden("to_double", "true")))
}

// showSample returns the last error of a group, and when it was seen.
func (h *handler) showSample(e *stint.ErrorGroup) node {
	return el("div.text", pre(e.Sample, attr("class", "error")), el("dl.facts",
		fact("Run", h.link(runPath(e.RunID), attr("class", "mono"), e.RunID)),
		fact("Task", h.link(taskPath(e.Task), userText(e.Task))),
		fact("First seen", timestamp(e.First)), fact("Last seen", timestamp(e.Last)), fact("Failed", formatCount(e.Count), " times")))
}

// inCommon counts failed runs by what may be the cause: their queue, worker and metadata.
func inCommon(runs []stint.RunInfo, failed int) node {
	if len(runs) == 0 {
		return emptyState("None of its runs is failed now.")
	}
	by := map[string]map[string]int{}
	count := func(of, value string) {
		if by[of] == nil {
			by[of] = map[string]int{}
		}
		by[of][value]++
	}
	for _, r := range runs {
		count("queue", r.Queue)
		count("worker", cmp.Or(r.Worker, "none"))
		for k, v := range r.Metadata {
			count(k, v)
		}
	}
	const shown = 4
	split := func(of string) node {
		values := slices.SortedFunc(maps.Keys(by[of]), func(a, b string) int { return cmp.Or(by[of][b]-by[of][a], cmp.Compare(a, b)) })
		if len(values) == len(runs) && len(runs) > shown { // each has its own
			return nil
		}
		rest := len(values) - shown
		return group(el("h3", "By ", userText(of)), el("ul.split", each(values[:min(len(values), shown)], func(v string) node {
			n := by[of][v]
			return el("li", el("span.cut", userText(truncate(60, v))), progressBar(of+" "+v, int64(n), int64(len(runs))),
				el("span.num", formatCount(n)))
		}), when(rest > 0, el("li", el("span.dim", fmt.Sprintf("and %d more", rest))))))
	}
	return el("div.text", when(len(runs) < failed, el("p.dim", fmt.Sprintf("Of the newest %d:", len(runs)))),
		each(slices.Sorted(maps.Keys(by)), split))
}

// errorRuns lists runs of a group: their errors differ in what is masked.
func (h *handler) errorRuns(runs []stint.RunInfo) node {
	if len(runs) == 0 {
		return emptyState("None: they were replayed, or deleted.")
	}
	heads := tableHead("Run.w-l", "Error", "Worker.w-x.opt", "Attempt.w-n.num.opt", "Failed.w-m.num")
	return lines(heads, eachShown(runs, func(r stint.RunInfo) node {
		return h.linkedRow(runPath(r.ID), el("td", h.link(runPath(r.ID), attr("class", "mono"), "…"+shortID(r.ID))),
			el("td", el("bdi.error", truncate(200, r.Error))), el("td.opt", userText(r.Worker)), el("td.num.opt", r.Attempt),
			el("td.num", timestamp(r.Finished)))
	}))
}
