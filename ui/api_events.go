package ui

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/internal/wire"
)

func listCrons(h *handler, ctx context.Context, in url.Values) (any, error) {
	limit, err := intParam(in, "limit", 0)
	if err != nil {
		return nil, err
	}
	page, err := h.c.CronPage(ctx, stint.CronFilter{Limit: limit, Cursor: in.Get("after")})
	if err != nil {
		return nil, err
	}
	h.redactCrons(page.Crons)
	out := wireCrons{Crons: []wireCron{}, Next: page.Next}
	for i := range page.Crons {
		out.Crons = append(out.Crons, wire.CronOf(&page.Crons[i]))
	}
	if n := fitAnswer(out.Crons); n < len(out.Crons) {
		out.Crons, out.Next = out.Crons[:n], out.Crons[n-1].Name
	}
	return out, nil
}

func triggerCron(h *handler, ctx context.Context, in url.Values) (any, error) {
	id, err := h.c.TriggerCron(ctx, in.Get("cron"))
	return wireStarted{id, false}, err
}

func updateCron(h *handler, ctx context.Context, in url.Values) (any, error) {
	spec, err := requiredParam(in, "spec")
	if err != nil {
		return nil, err
	}
	return wireDone{true}, h.c.UpdateCron(ctx, in.Get("cron"), spec)
}

func listEvents(h *handler, ctx context.Context, in url.Values) (any, error) {
	limit, err := intParam(in, "limit", 0)
	if err != nil {
		return nil, err
	}
	f := stint.EventFilter{Key: in.Get("key"), IDs: in["id"], Limit: limit, Cursor: in.Get("cursor")}
	if f.Metadata, err = metadataParam(in["metadata"]); err != nil {
		return nil, err
	}
	if f.Since, err = agoParam(in, "since"); err != nil {
		return nil, err
	}
	if f.Until, err = agoParam(in, "until"); err != nil {
		return nil, err
	}
	page, err := h.c.ListEvents(ctx, f)
	if err != nil {
		return nil, err
	}
	h.redactEvents(page.Events)
	out := wireEvents{Events: []wireEvent{}, Next: page.Next}
	for i := range page.Events {
		out.Events = append(out.Events, wire.EventOf(&page.Events[i]))
	}
	if n := fitAnswer(out.Events); n < len(out.Events) {
		out.Events, out.Next = out.Events[:n], out.Events[n-1].ID
	}
	return out, nil
}

func publish(h *handler, ctx context.Context, in url.Values) (any, error) {
	key, err := requiredParam(in, "key")
	if err != nil {
		return nil, err
	}
	payload := json.RawMessage(in.Get("payload"))
	if !json.Valid(payload) {
		return nil, fmt.Errorf("payload: want JSON")
	}
	var opts []stint.EventOption
	if s := in.Get("scope"); s != "" {
		opts = append(opts, stint.WithScope(s))
	}
	f, err := h.filterOf(url.Values{"metadata": in["metadata"]})
	if err != nil {
		return nil, err
	}
	if f.Metadata != nil {
		opts = append(opts, stint.WithMetadata(f.Metadata))
	}
	id, err := h.c.Publish(ctx, key, payload, opts...)
	return wirePublished{id}, err
}

func listFilters(h *handler, ctx context.Context, in url.Values) (any, error) {
	limit, err := intParam(in, "limit", 0)
	if err != nil {
		return nil, err
	}
	after, err := intParam(in, "after", 0)
	if err != nil {
		return nil, err
	}
	page, err := h.c.FilterPage(ctx, stint.FilterQuery{Limit: limit, Cursor: strconv.Itoa(after)})
	if err != nil {
		return nil, err
	}
	out := wireFilters{Filters: []wireFilter{}}
	for _, f := range page.Filters {
		out.Filters = append(out.Filters, h.wireFilterOf(f))
	}
	n := fitAnswer(out.Filters)
	if n < len(out.Filters) || page.Next != "" {
		out.Filters, out.Next = out.Filters[:n], out.Filters[n-1].ID
	}
	return out, nil
}

func createFilter(h *handler, ctx context.Context, in url.Values) (any, error) {
	f := stint.TriggerFilter{Task: in.Get("task"), Scope: in.Get("scope"), Expression: in.Get("expr")}
	payload := json.RawMessage(strings.TrimSpace(in.Get("payload")))
	if len(payload) > 0 {
		if !json.Valid(payload) {
			return nil, errors.New("payload: want JSON")
		}
		f.Payload = payload
	}
	if err := h.checkNames(ctx, in, []string{f.Task}, nil); err != nil {
		return nil, err
	}
	id, err := h.c.CreateFilter(ctx, f)
	f.ID = id
	return h.wireFilterOf(f), err
}

// wireFilterOf returns a filter, redacted, as the API shows it.
func (h *handler) wireFilterOf(f stint.TriggerFilter) wireFilter {
	payload, _ := f.Payload.(json.RawMessage)
	return wireFilter{f.ID, f.Task, h.redactText("scope", f.Task, f.Scope),
		h.redactText("expression", f.Task, f.Expression), h.redactJSON("filter", f.Task, payload)}
}

func deleteFilter(h *handler, ctx context.Context, in url.Values) (any, error) {
	id, err := intParam(in, "filter", 0)
	if err != nil {
		return nil, err
	}
	return wireDone{true}, h.c.DeleteFilter(ctx, int64(id))
}

func testFilter(h *handler, ctx context.Context, in url.Values) (any, error) {
	expr, err := requiredParam(in, "expr")
	if err != nil {
		return nil, err
	}
	ok, err := stint.MatchFilter(expr, in.Get("key"), json.RawMessage(in.Get("payload")))
	return wireMatch{ok}, err
}

func listWebhooks(h *handler, ctx context.Context, in url.Values) (any, error) {
	out := wireWebhooks{Webhooks: []wireWebhook{}}
	for _, w := range h.c.ListWebhooks() {
		out.Webhooks = append(out.Webhooks, wireWebhook{w.Name, w.Published, w.Ignored, w.Refused, wire.Optional(w.Last), w.LastEvent,
			h.redactText("error", w.Name, w.Refusal), wire.Optional(w.RefusedAt)})
	}
	return out, nil
}
