package ui

import (
	_ "embed"
	"net/url"
	"strings"
	"time"

	g "maragu.dev/gomponents"
)

// sprite holds the icons of a page.
//
//go:embed assets/icons.svg
var sprite string

// icon returns a picture of the sprite.
func icon(name string) node {
	return g.Raw(`<svg class="i" viewBox="0 0 16 16" aria-hidden="true"><use href="#i-` + name + `"/></svg>`)
}

// document returns a whole page: v with the rail, the bar at the top and the dialogs.
func (h *handler) document(v *view) node {
	doctype, charset := g.Raw("<!doctype html>"), el("meta", attr("charset", "utf-8"))
	if v.Bare {
		return group(doctype, el("html", attr("lang", "en"), el("head", charset, el("title", v.Title)), el("body", el("main", v.Main))))
	}
	app := h.appName()
	live := when(!v.Still && v.path != "", attr("data-live", h.base+"/live?url="+url.QueryEscape(v.path)))
	asset := func(name string) string { return h.base + "/assets/" + name }
	return group(doctype, el("html", attr("lang", "en"), attr("data-base", h.base), live,
		el("head", charset,
			el("meta", attr("name", "viewport"), attr("content", "width=device-width, initial-scale=1")),
			el("title", v.Title+" · "+app),
			el("link", attr("rel", "icon"), attr("href", asset("icon.svg"))),
			el("script", attr("src", asset("display.js"))), // before anything is painted
			el("link", attr("rel", "stylesheet"), attr("href", asset("style.css"))),
			el("script", attr("src", asset("idiomorph.js")), attr("defer")),
			el("script", attr("src", asset("app.js")), attr("defer")), el("script", attr("src", asset("lists.js")), attr("defer")),
			el("script", attr("src", asset("graph.js")), attr("defer"))),
		el("body", g.Raw(sprite),
			el("a.skip", attr("href", "#main"), "Skip to content"),
			el("button", attr("type", "button"), attr("id", "held"), attr("hidden")),
			el("div.banner", attr("id", "lost"), attr("role", "status"), attr("hidden"),
				"The live connection is lost, so this page may be out of date. It is reconnecting."),
			el("div.app", h.rail(v, app), el("div", h.topBar(v),
				el("main", attr("id", "main"), attr("tabindex", "-1"), when(v.Up != "", attr("data-up", h.base+v.Up)), v.Main))),
			h.tabBar(v), palette())))
}

// here returns the name of the page that v belongs to.
func (v *view) here() string {
	path, _, _ := strings.Cut(v.path, "?")
	name, _, _ := strings.Cut(strings.Trim(path, "/"), "/")
	return name
}

// pageLink returns a link to a page, with the time range that was chosen.
func (h *handler) pageLink(v *view, name string, contents ...any) node {
	path := "/" + name
	if len(v.rangeQuery) > 0 {
		path += "?" + v.rangeQuery.Encode()
	}
	return h.link(path, append(contents, when(name == v.here() && v.path != "", attr("aria-current", "page")))...)
}

func (h *handler) rail(v *view, app string) node {
	contents := []any{h.pageLink(v, "", attr("class", "file"), g.Raw(`<svg class="mark" viewBox="0 0 20 20" aria-hidden="true">`+
		`<path d="M3 5h9M3 10h14M3 15h6"/></svg>`), el("span.cut", userText(app)))}
	section := ""
	for _, p := range pages {
		if p.title == "" {
			continue
		}
		if p.section != section {
			section = p.section
			contents = append(contents, el("h2.group", section))
		}
		contents = append(contents, h.pageLink(v, p.name, attr("class", "to"), attr("title", p.title), icon(p.icon), el("span.t", p.title),
			when(p.name == "errors" && v.openErrors != "", el("span.t.n",
				attr("title", "Open errors that were seen in the time range, or the last hour"),
				v.openErrors, el("span.vh", " open")))))
	}
	contents = append(contents, el("div.foot", when(h.readOnly, el("p", "This page is read-only.")),
		el("p", "Keys: ", el("kbd", "/"), " go to, ", el("kbd", "j"), " ", el("kbd", "k"), " move, ", el("kbd", "Enter"), " open, ",
			el("kbd", "Esc"), " back, ", el("kbd", "p"), " pause")))
	return el("nav.rail", attr("aria-label", "Pages"), el("div.in", contents...))
}

// tabBar is the rail of a phone.
func (h *handler) tabBar(v *view) node {
	tabs, others := []any{attr("aria-label", "Pages, phone")}, []any{}
	for _, p := range pages {
		switch {
		case p.tab:
			tabs = append(tabs, h.pageLink(v, p.name, icon(p.icon), p.title))
		case p.title != "":
			others = append(others, h.pageLink(v, p.name, icon(p.icon), p.title))
		}
	}
	return el("nav.tabbar", append(tabs, el("details.pop", el("summary", icon("menu"), "More"), el("div.menu", others...)))...)
}

func (h *handler) topBar(v *view) node {
	crumbs := el("span.crumbs.solo", el("span.cut", userText(v.Title)))
	for _, p := range pages {
		if v.Up != "" && p.name == strings.Trim(v.Up, "/") {
			crumbs = el("span.crumbs", h.pageLink(v, p.name, attr("class", "up"), p.title), el("span.sep.up", "/"),
				el("span.cut", userText(truncate(80, v.Title))))
		}
	}
	display := el("details.pop.hide", attr("data-scripted"), el("summary.btn.icon", attr("aria-label", "Display"), attr("title", "Display"),
		icon("sun")), el("div.menu",
		el("h3", "Theme"), el("button", attr("type", "button"), attr("data-theme-set", ""), "As the system"),
		el("button", attr("type", "button"), attr("data-theme-set", "light"), "Light"),
		el("button", attr("type", "button"), attr("data-theme-set", "dark"), "Dark"),
		el("hr"), el("label", el("input", attr("type", "checkbox"), attr("data-set", "density"), attr("value", "compact")), "Compact rows"),
		el("label", el("input", attr("type", "checkbox"), attr("data-set", "times"), attr("value", "exact")), "Exact times, with ms")))
	return el("header.top", crumbs,
		el("button.btn.find", attr("type", "button"), attr("id", "open-palette"), attr("aria-keyshortcuts", "/"), icon("search"),
			"Find or go to", el("kbd", "/")),
		v.rangeMenu(),
		when(!v.Still && v.path != "", el("button.btn.live", attr("type", "button"), attr("id", "live"), attr("data-scripted"),
			attr("aria-pressed", "true"), attr("aria-keyshortcuts", "p"), attr("title", "p pauses and goes on"), el("i.dot"),
			el("span", "Live"))),
		display)
}

// rangeMenu returns the menu of time ranges, or nil if the page covers no time. Each is a link to the page with
// another range.
func (v *view) rangeMenu() node {
	if v.timeRange == nil {
		return nil
	}
	r := v.timeRange
	_, query, _ := strings.Cut(v.path, "?")
	q, _ := url.ParseQuery(query)
	to := func(since string) string {
		next := filterQuery(q)
		next.Del("until")
		if next.Set("since", since); since == "" {
			next.Del("since")
		}
		return "?" + next.Encode()
	}
	chosen := func(is bool) node { return when(is, attr("aria-current", "true")) }
	label := "Last " + r.Label
	if v.AllTime && len(r.query) == 0 {
		label = "All time"
	} else if r.Label == "" {
		label = "Chosen time"
	}
	items := []any{el("h3", "Up to now")}
	if v.AllTime {
		items = append(items, el("a", attr("href", to("")), chosen(len(r.query) == 0), "All time"))
	}
	for _, n := range namedRanges {
		is := r.Label == n.label && (!v.AllTime || len(r.query) > 0)
		items = append(items, el("a", attr("href", to(shortDuration(n.length))), chosen(is), "Last "+n.label))
	}
	fields := []any{attr("method", "get")}
	for name, values := range filterQuery(q) {
		if name != "since" && name != "until" {
			fields = append(fields, each(values, func(value string) node { return hidden(name, value) }))
		}
	}
	field := func(label, name string) node {
		return el("label", label, el("input", attr("type", "text"), attr("name", name), attr("value", q.Get(name)),
			attr("placeholder", map[string]string{"since": "2026-01-31T12:00", "until": "now"}[name])))
	}
	items = append(items, el("hr"), el("h3", "From, to"), el("form", append(fields, field("From", "since"), field("To", "until"),
		button("sm", "Show"))...))
	return el("details.pop.range", el("summary.btn", icon("schedules"), el("span", label), icon("down")), el("div.menu", items...))
}

// shortDuration returns a duration as people write it: 15m, 1h, 168h.
func shortDuration(d time.Duration) string {
	s := strings.TrimSuffix(d.String(), "0s")
	if s = strings.TrimSuffix(s, "h0m") + map[bool]string{true: "h"}[strings.HasSuffix(s, "h0m")]; s == "" {
		return d.String()
	}
	return s
}

// palette is the dialog that the key / opens: app.js fills it with pages, tasks and runs.
func palette() node {
	const hint = "A page, a task, a queue, a run's ID, key=value"
	return el("dialog", attr("id", "palette"), attr("aria-label", "Go to"),
		el("div.pal-in", icon("search"), el("input", attr("type", "search"), attr("aria-label", hint), attr("placeholder", hint),
			attr("autocomplete", "off"), attr("spellcheck", "false")), el("kbd", "Esc")),
		el("ul.pal", attr("role", "listbox"), attr("aria-label", "Found")))
}
