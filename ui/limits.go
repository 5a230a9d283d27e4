package ui

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"time"

	"github.com/stint-dev/stint"
	"golang.org/x/time/rate"
)

// maxLimits bounds the limits of each kind on the page, those with the most waiting runs first.
const maxLimits = 500

func limitsPage(h *handler, ctx context.Context, arg string, q url.Values) (*view, error) {
	keys, err := h.c.ListConcurrency(ctx)
	if err != nil {
		return nil, err
	}
	rates, err := h.c.ListRateLimits(ctx)
	if err != nil {
		return nil, err
	}
	r, err := rangeOf(q, time.Now())
	if err != nil {
		return nil, err
	}
	g, trends, err := h.trends(ctx, r, true)
	if err != nil {
		return nil, err
	}
	perLimit := showTrends(trends, func(t *trend) chart { return h.limitChart(t, g) })
	slices.SortStableFunc(keys, func(a, b stint.ConcurrencyInfo) int { return b.Waiting - a.Waiting })
	slices.SortStableFunc(rates, func(a, b stint.RateLimitInfo) int { return b.Waiting - a.Waiting })
	return &view{Title: "Limits", Main: group(el("h1", "Limits"),
		h2("Concurrency"), h.showKeys(keys[:min(len(keys), maxLimits)]),
		h2("Rates"), h.showRates(rates[:min(len(rates), maxLimits)]),
		when(perLimit != nil, h2("Over time"), perLimit)), timeRange: &r}, nil
}

// limitChart returns how far a limit was used, and how many runs waited for it.
func (h *handler) limitChart(t *trend, g grid) chart {
	title, unit, active := t.of.Limit.Name, "all keys together, sampled once a minute", "hold it"
	if title == "" {
		title, unit, active = h.redactKey(t.of.Limit), "rate, sampled once a minute", "units used"
	}
	return t.sampleChart(g, chart{title: escapeInvisible(title), unit: unit}, t.ready("wait"), t.active(active),
		t.line("most that it allows", "l-prev", func(s *stint.Stats) int { return s.Max }))
}

// limitRunsLink returns n as a link to the runs at a limit that are in one of the states.
func (h *handler) limitRunsLink(k stint.LimitKey, n int, states ...string) node {
	pairs := []string{"limit_name", k.Name, "limit_key", k.Key}
	for _, s := range states {
		pairs = append(pairs, "state", s)
	}
	if h.redactKey(k) != k.Key {
		return group(formatCount(n))
	}
	return h.link(runsPath(pairs...), formatCount(n))
}

// redactKey returns a limit's key as it may be shown. If that differs from the key, the page has
// no link and no form for it, since these would contain the key.
func (h *handler) redactKey(k stint.LimitKey) string { return h.redactText("limit_key", k.Name, k.Key) }

func (h *handler) pauseLimit(k stint.LimitKey, paused bool) node {
	if h.redactKey(k) != k.Key {
		return nil
	}
	return h.pauseToggle(paused, "limits.", "/limits", hidden("limit_name", k.Name), hidden("limit_key", k.Key))
}

func (h *handler) showKeys(keys []stint.ConcurrencyInfo) node {
	if len(keys) == 0 {
		return emptyState("No concurrency limit is in use. Set one on a task with ",
			code("stint.WithConcurrency(stint.Concurrency[In]{Key: …, Max: 1})"), ".")
	}
	heads := tableHead("Limit", "Key", "Active.figure", "Max.figure", "Waiting.figure", "Strategy.optional", h.actions())
	return table(heads, eachShown(keys, func(k stint.ConcurrencyInfo) node {
		name := stint.LimitKey{Name: k.Name, Key: k.Key}
		return el("tr", el("td", userText(k.Name), pausedBadge(k.Paused)), el("td", userText(h.redactKey(name))),
			el("td.number", h.limitRunsLink(name, k.Active, "running", "waiting")),
			el("td.number", when(k.Max > 0, k.Max)), el("td.number", h.limitRunsLink(name, k.Waiting, "queued")),
			el("td.optional", k.Strategy), el("td", h.pauseLimit(name, k.Paused)))
	}))
}

func perSecond(l rate.Limit) string {
	if l == rate.Inf {
		return "no limit"
	}
	return fmt.Sprintf("%.6g", float64(l))
}

func (h *handler) showRates(rates []stint.RateLimitInfo) node {
	if len(rates) == 0 {
		return emptyState("No rate limit is set. Set one with ", code(`client.SetRateLimit(ctx, "key", 10, 20)`),
			" and charge it with ", code(`stint.WithRateLimit("key", 1)`), ".")
	}
	heads := tableHead("Key", "Units left.figure", "Burst.figure", "Units a second.figure", "Waiting.figure", h.actions())
	return table(heads, eachShown(rates, func(r stint.RateLimitInfo) node {
		name := stint.LimitKey{Key: r.Key}
		return el("tr", el("td", userText(h.redactKey(name)), pausedBadge(r.Paused)),
			el("td.number", fmt.Sprintf("%.1f", r.Tokens)), el("td.number", r.Burst), el("td.number", perSecond(r.Limit)),
			el("td.number", h.limitRunsLink(name, r.Waiting, "queued")),
			el("td", row(when(!h.readOnly && h.redactKey(name) == r.Key, h.rateForm(r)), h.pauseLimit(name, r.Paused))))
	}))
}

func (h *handler) rateForm(r stint.RateLimitInfo) node {
	field := func(name, label, least, step string, value any) node {
		return el("input", attr("name", name), attr("type", "number"), attr("min", least), attr("step", step),
			attr("value", fmt.Sprint(value)), attr("aria-label", label))
	}
	return h.form("row", "limits/"+escapeSegment(r.Key), "/limits",
		field("limit", "Units a second", "0", "any", float64(r.Limit)), field("burst", "Burst", "1", "1", r.Burst), button("", "Set"))
}
