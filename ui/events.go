package ui

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"

	"github.com/stint-dev/stint"
)

func eventsPage(h *handler, ctx context.Context, arg string, q url.Values) (*view, error) {
	key := q.Get("key")
	page, err := h.c.ListEvents(ctx, stint.EventFilter{Key: key, Limit: pageLimit, Cursor: q.Get("cursor")})
	if err != nil {
		return nil, err
	}
	filters, err := h.c.FilterPage(ctx, stint.FilterQuery{Limit: maxRows, Cursor: q.Get("filters")})
	if err != nil {
		return nil, err
	}
	h.redactEvents(page.Events)
	h.redactFilters(filters.Filters)
	older := url.Values{"cursor": {page.Next}, "key": {key}}
	newest := "/events?" + url.Values{"key": {key}}.Encode()
	return &view{Title: "Events", Main: group(el("h1", "Events"),
		el("form.filters", attr("method", "get"), input("Key", attr("name", "key"), attr("value", key)), button("", "Filter"),
			when(key != "", " ", h.link("/events", "Show all"))),
		h.showEvents(page.Events, key),
		row(when(q.Get("cursor") != "", h.link(newest, attr("class", "btn"), "Newest")),
			when(page.Next != "", h.link("/events?"+older.Encode(), attr("class", "btn"), attr("rel", "next"), "Older"))),
		when(!h.readOnly, h.publishForm()),
		h2("Filters"), h.showFilters(filters.Filters), h.moreRowsLinks("/events", "filters", q.Get("filters"), filters.Next),
		h2("Webhooks"), h.showWebhooks())}, nil
}

func (h *handler) showEvents(events []stint.EventInfo, key string) node {
	if len(events) == 0 {
		return emptyState("No events", when(key != "", " with this key"), ". Publish one with ",
			code(`client.Publish(ctx, "order:paid", payload)`), ".")
	}
	link := func(id string) node { return group(h.link(runPath(id), attr("class", "mono"), "…"+shortID(id)), " ") }
	runs := func(ids []string) node {
		shown := ids[:min(len(ids), maxLinks)]
		more := fmt.Sprintf("and %s more", formatCount(len(ids)-len(shown)))
		return group(each(shown, link), when(len(ids) > len(shown), more))
	}
	started := func(e stint.EventInfo) node {
		return group(runs(e.Started), when(len(e.Started) > 1, h.link(runsPath("event", e.ID), "all")))
	}
	return table(tableHead("Key", "Published", "Started", "Woke", "Payload"), each(events, func(e stint.EventInfo) node {
		return el("tr", attr("id", "e"+e.ID),
			el("td", userText(e.Key), when(e.Scope != "", el("br"), el("bdi.dim", "scope "+e.Scope))),
			el("td", timestamp(e.Published)), el("td", started(e)), el("td", runs(e.Woke)),
			el("td", jsonTree(e.Payload, smallTree)))
	}))
}

func (h *handler) publishForm() node {
	key := input("Key", attr("name", "key"), attr("required"), attr("data-keep"))
	return group(h2("Publish an event"), h.form("", "events", "/events",
		row(key, input("Scope", attr("name", "scope"), attr("data-keep"))),
		textArea("Payload", "payload", "{}"), row(button("primary", "Publish"))))
}

// showFilters lists the filters of all tasks, with forms to add and to test one.
func (h *handler) showFilters(filters []stint.TriggerFilter) node {
	list := emptyState("No task has filters. A task without filters runs for each event whose key it names.")
	if len(filters) > 0 {
		heads := tableHead("Task", "Scope", "Expression", "Payload.optional", h.actions())
		list = table(heads, each(filters, func(f stint.TriggerFilter) node {
			payload, _ := f.Payload.(json.RawMessage)
			return el("tr", el("td", h.link(taskPath(f.Task), userText(f.Task))), el("td", userText(f.Scope)),
				el("td", code(truncate(1000, f.Expression))), el("td.optional", jsonTree(payload, smallTree)),
				el("td", h.actionButton("danger", "Delete", fmt.Sprintf("filters/%d/delete", f.ID), "/events")))
		}))
	}
	if h.readOnly {
		return list
	}
	field := func(label, name string) node {
		return input(label, attr("name", name), attr("required"), attr("data-keep"))
	}
	expr := el("label.wide", "Expression",
		el("input", attr("name", "expr"), attr("required"), attr("placeholder", "input.amount > 100"), attr("data-keep")))
	add := h.form("", "filters", "/events",
		row(field("Task", "task"), field("Scope", "scope"), expr),
		textArea("Payload for the runs", "payload", ""), row(button("", "Add")))
	test := h.form("", "filters/test", "",
		row(expr, input("Key", attr("name", "key"), attr("value", "order:paid"), attr("data-keep"))),
		textArea("Payload", "payload", `{"amount": 250}`), row(button("", "Test")))
	return group(list, details("Add a filter", add), el("h3", "Test an expression"), test)
}

func (h *handler) showWebhooks() node {
	hooks := h.c.ListWebhooks()
	if len(hooks) == 0 {
		return emptyState("The program takes no webhooks. Mount ",
			code(`client.WebhookHandler("github", webhook.GitHubSignature(secret), "")`), " to publish them as events.")
	}
	heads := tableHead("Webhook", "Published.figure", "Ignored.figure", "Refused.figure", "Last", "Last refusal")
	return group(el("p.dim", "Since the program started:"), table(heads, each(hooks, func(w stint.WebhookInfo) node {
		refusal := placeholder("none")
		if w.Refusal != "" {
			refusal = group(el("bdi.error", h.redactText("error", w.Name, w.Refusal)), " ", timestamp(w.RefusedAt))
		}
		return el("tr", el("td", userText(w.Name)),
			el("td.number", formatCount(w.Published)), el("td.number", formatCount(w.Ignored)),
			el("td.number", formatCount(w.Refused)), el("td", timestamp(w.Last)), el("td", refusal))
	})))
}
