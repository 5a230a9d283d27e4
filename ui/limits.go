package ui

import (
	"context"
	"fmt"
	"net/url"
	"slices"

	"github.com/stint-dev/stint"
	"golang.org/x/time/rate"
)

// limitsShown is how many limits of each kind a page has, those with most who wait first.
const limitsShown = 500

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
	slices.SortStableFunc(rates, func(a, b stint.RateLimitInfo) int { return b.Waiting - a.Waiting })
	return &view{Title: "Limits", Main: group(el("h1", "Limits"),
		h2("Concurrency"), h.showKeys(keys[:min(len(keys), limitsShown)]),
		h2("Rates"), h.showRates(rates[:min(len(rates), limitsShown)]))}, nil
}

// runsAt is the list of the runs at a limit that are in one of some states.
func (h *handler) runsAt(k stint.LimitKey, n int, states ...string) node {
	pairs := []string{"limit_name", k.Name, "limit_key", k.Key}
	for _, s := range states {
		pairs = append(pairs, "state", s)
	}
	if h.redactKey(k) != k.Key {
		return group(formatCount(n))
	}
	return h.link(runsPath(pairs...), formatCount(n))
}

// redactKey is a limit's key as it may be shown. Where that is another, no link and no form of
// a page may name it.
func (h *handler) redactKey(k stint.LimitKey) string { return h.redactText("limit_key", k.Name, k.Key) }

func (h *handler) pauseLimit(k stint.LimitKey, paused bool) node {
	if h.redactKey(k) != k.Key {
		return nil
	}
	return h.pauseToggle(paused, "limits.", "/limits", hidden("limit_name", k.Name), hidden("limit_key", k.Key))
}

func (h *handler) showKeys(keys []stint.ConcurrencyInfo) node {
	if len(keys) == 0 {
		return emptyState("No key is in use. ", code("stint.WithConcurrency(stint.Concurrency[In]{Key: …, Max: 1})"), " on a task makes some.")
	}
	return table(tableHead("Limit", "Key", "Held.figure", "Max.figure", "Waiting.figure", "Strategy.optional", h.actions()), eachShown(keys, func(k stint.ConcurrencyInfo) node {
		name := stint.LimitKey{Name: k.Name, Key: k.Key}
		return el("tr", el("td", userText(k.Name), pausedBadge(k.Paused)), el("td", userText(h.redactKey(name))), el("td.number", h.runsAt(name, k.Active, "running", "waiting")),
			el("td.number", when(k.Max > 0, k.Max)), el("td.number", h.runsAt(name, k.Waiting, "queued")), el("td.optional", k.Strategy), el("td", h.pauseLimit(name, k.Paused)))
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
		return emptyState("No rate limit is set. ", code(`client.SetRateLimit(ctx, "key", 10, 20)`), " and ", code(`stint.WithRateLimit("key", 1)`), " make one.")
	}
	return table(tableHead("Key", "Units left.figure", "Burst.figure", "Each second.figure", "Waiting.figure", h.actions()), eachShown(rates, func(r stint.RateLimitInfo) node {
		name := stint.LimitKey{Key: r.Key}
		figures := h.form("row", "limits/"+escapeSegment(r.Key), "/limits",
			el("input", attr("name", "limit"), attr("type", "number"), attr("step", "any"), attr("min", "0"), attr("value", fmt.Sprintf("%g", float64(r.Limit))), attr("aria-label", "Units each second")),
			el("input", attr("name", "burst"), attr("type", "number"), attr("min", "1"), attr("value", fmt.Sprint(r.Burst)), attr("aria-label", "Burst")), button("", "Set"))
		return el("tr", el("td", userText(h.redactKey(name)), pausedBadge(r.Paused)), el("td.number", fmt.Sprintf("%.1f", r.Tokens)), el("td.number", r.Burst), el("td.number", perSecond(r.Limit)),
			el("td.number", h.runsAt(name, r.Waiting, "queued")), el("td", row(when(!h.readOnly && h.redactKey(name) == r.Key, figures), h.pauseLimit(name, r.Paused))))
	}))
}
