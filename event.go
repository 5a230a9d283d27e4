package stint

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/stint-dev/stint/internal/check"
	"github.com/stint-dev/stint/internal/inbound"
	"github.com/stint-dev/stint/internal/jsonx"
	"github.com/stint-dev/stint/internal/text"
	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/webhook"
)

// Publish stores an event, starts a run of each task that the event triggers (see WithEvents)
// and wakes the runs that wait for it, in one commit. payload is encoded as JSON. Publish
// returns the event's ID.
//
// In a handler it is a durable call: a handler that runs again gets the ID of the event that it
// published. Inside a step it publishes at each try of the step; WithDeliveryID makes that once.
//
// Options: WithMetadata, WithScope, WithPriority, WithDeliveryID, WithTx.
func (c *Client) Publish(ctx context.Context, key string, payload any, opts ...EventOption) (string, error) {
	ids, err := c.PublishMany(ctx, []Event{{Key: key, Payload: payload, Options: opts}})
	if err != nil {
		return "", err
	}
	return ids[0], nil
}

// An Event is an argument of PublishMany.
type Event struct {
	Key     string
	Payload any
	Options []EventOption
}

// PublishMany stores all events or none, in order, and returns their IDs. A call may have at
// most 1,000,000 events, with at most 256 MiB of payloads and metadata.
func (c *Client) PublishMany(ctx context.Context, events []Event) ([]string, error) {
	if len(events) == 0 {
		return nil, nil
	}
	if err := check.Count("events", len(events), check.MaxPerCall); err != nil {
		return nil, errorf("stint: publish: %w", err)
	}
	var size check.CallSize
	stored := make([]store.NewEvent, len(events))
	var tx store.Tx
	for i, e := range events {
		var cfg eventConfig
		err := check.Name("event key", e.Key)
		for _, o := range e.Options {
			if o != nil && err == nil {
				err = o.applyEvent(&cfg)
			}
		}
		if i > 0 && err == nil && cfg.tx != tx {
			err = errors.New("WithTx: want one transaction for all events")
		}
		tx = cfg.tx
		if err == nil {
			stored[i], err = c.newEvent(e, &cfg)
		}
		if err == nil {
			err = size.Add(stored[i].Size())
		}
		if err != nil {
			return nil, errorf("stint: publish %q: %w", text.Cut(e.Key, check.MaxName), err)
		}
	}
	ids, err := c.publishDurably(ctx, tx, stored)
	if err != nil {
		return nil, wrapStoreErr("publish", err)
	}
	return idStrings(ids), nil
}

func (c *Client) newEvent(e Event, cfg *eventConfig) (n store.NewEvent, err error) {
	n = store.NewEvent{Key: e.Key, Scope: cfg.scope, Priority: cfg.priority, Delivery: cfg.delivery}
	if n.Payload, err = c.encode(e.Payload); err != nil {
		return n, fmt.Errorf("payload: %w", err)
	}
	if len(cfg.metadata) > 0 {
		n.Metadata, _ = json.Marshal(cfg.metadata) // strings always encode
	}
	if cfg.tx == nil {
		n.Runs = c.triggeredRuns(n.Key, n.Payload)
	}
	return n, nil
}

func (c *Client) publish(ctx context.Context, now time.Time, tx store.Tx, events []store.NewEvent) (ids []store.ID, err error) {
	end := c.spans.Events(ctx, events)
	defer func() { end(err) }()
	if tx != nil {
		return c.publishTx(ctx, tx, events)
	}
	if err := c.declare(ctx, true); err != nil {
		return nil, err
	}
	ids, err = c.store.Publish(ctx, now, events)
	for i := range events {
		for _, filter := range events[i].Costly {
			c.logger().Warn("stint: a filter would cost too much for an event, which does not match it", "filter", filter, "event",
				events[i].Key, "bytes", len(events[i].Payload))
		}
	}
	return ids, err
}

func (c *Client) publishTx(ctx context.Context, tx store.Tx, events []store.NewEvent) (ids []store.ID, err error) {
	s, ok := c.store.(store.AppTx)
	if !ok {
		return nil, fmt.Errorf("WithTx: %T cannot join the app's transactions", c.store)
	}
	err = guarded(func() (err error) { // its methods may be the app's
		ids, err = s.PublishTx(ctx, c.now(), tx, events)
		return err
	})
	return ids, err
}

// MatchFilter reports whether a filter expression, as for WithEventFilter, matches an event
// with the key and the payload, which is JSON of at most DefaultMaxPayload bytes. It publishes
// nothing.
func MatchFilter(expr, key string, payload json.RawMessage) (bool, error) {
	if err := check.Text("event key", key); err != nil {
		return false, errorf("stint: match filter: %w", err)
	}
	if err := check.Size("payload", len(payload), DefaultMaxPayload); err != nil {
		return false, fmt.Errorf("stint: match filter: %w", err)
	}
	if !json.Valid(payload) {
		return false, errors.New("stint: match filter: the payload is not JSON")
	}
	f, err := store.CompileFilter(expr, store.WaitVars...)
	if err != nil {
		return false, wrapStoreErr("match filter", err)
	}
	return f(&store.NewEvent{Key: key, Payload: payload}, nil), nil
}

func idStrings(ids []store.ID) []string {
	names := make([]string, len(ids))
	for i, id := range ids {
		names[i] = id.String()
	}
	return names
}

// An EventOption changes an event. See Publish.
type EventOption interface{ applyEvent(*eventConfig) error }

type eventConfig struct {
	metadata map[string]string
	scope    string
	priority *int8
	delivery string
	tx       store.Tx
}

type eventOption func(*eventConfig) error

func (o eventOption) applyEvent(c *eventConfig) error { return o(c) }

// WithScope sets the event's scope, which selects the filters that apply. See TriggerFilter. As
// an option of a wait, it counts only events with that scope.
func WithScope(scope string) ScopeOption { return scopeOption(scope) }

// A ScopeOption is an option of events and waits.
type ScopeOption interface {
	EventOption
	WaitOption
}

type scopeOption string

func (o scopeOption) applyEvent(c *eventConfig) error {
	c.scope = string(o)
	return check.Name("scope", string(o))
}

func (o scopeOption) applyWait(c *waitConfig) error {
	c.scope = string(o)
	return check.Name("scope", string(o))
}

// WithDeliveryID stores an event once: while an event with that ID is kept, publishing another
// does nothing and returns the ID of the first.
func WithDeliveryID(id string) EventOption {
	return eventOption(func(c *eventConfig) error {
		c.delivery = id
		return check.Name("delivery ID", id)
	})
}

// FromNow counts only events that are published after the wait has begun: of a workflow's
// task, after its parents have ended.
func FromNow() WaitOption {
	return waitOption(func(c *waitConfig) error { c.FromNow = true; return nil })
}

// PublishedSince counts events that were published at t or later, also before the run was
// enqueued. A run receives each event once; of several it receives the first.
func PublishedSince(t time.Time) WaitOption {
	return waitOption(func(c *waitConfig) error {
		if c.Since = t.UnixMilli(); c.Since <= 0 {
			return fmt.Errorf("PublishedSince(%v): want a time after 1970", t)
		}
		return nil
	})
}

// A WaitOption narrows which events count, or how long WaitForEvent waits.
type WaitOption interface{ applyWait(*waitConfig) error }

type waitConfig struct {
	store.Match
	scope   string
	timeout time.Duration
}

type waitOption func(*waitConfig) error

func (o waitOption) applyWait(c *waitConfig) error { return o(c) }

// WithWaitTimeout makes WaitForEvent and WaitFor return ErrTimeout after d. An attempt of the run
// that this error ended is followed by one that waits anew, for d from then on: handle the error, or
// return it as NonRetryable, where that is too long.
func WithWaitTimeout(d time.Duration) WaitOption {
	return waitOption(func(c *waitConfig) error {
		c.timeout = d
		return wantPositive("WithWaitTimeout", d)
	})
}

// WithMatch counts only events whose payload is a JSON object with that value in the field.
// Values are compared as JSON: numbers exactly (10, 10.0 and 1e1 are equal), objects in any
// order of their fields. The value has at most 4 KiB as JSON. Matches are found by an index,
// so other waits cost nothing. A value that JSON cannot hold, such as NaN or a string that is
// not UTF-8, is an error.
func WithMatch(field string, value any) WaitOption {
	return waitOption(func(m *waitConfig) error {
		var b []byte
		err := guarded(func() (err error) {
			b, err = json.Marshal(value)
			return err
		})
		if err != nil {
			return fmt.Errorf("WithMatch(%q): %w", field, err)
		}
		if s, ok := value.(string); ok && !utf8.ValidString(s) {
			return fmt.Errorf("WithMatch(%q): %q is not UTF-8, which JSON cannot hold", field, s)
		}
		m.Field = field
		m.Value, _ = jsonx.Canonical(b)
		if err := check.Name("field", field); err != nil {
			return err
		}
		if store.IsScoped(field) {
			return fmt.Errorf("WithMatch(%q): a field cannot begin with U+0001", field)
		}
		return check.Size(fmt.Sprintf("WithMatch(%q): a value", field), len(m.Value), check.MaxMatch)
	})
}

// WithFilter counts only events for which a CEL expression over input (the payload), metadata,
// key and scope is true. It needs import _ "github.com/stint-dev/stint/cel", which documents the
// language. An event for which the expression fails does not count. WithMatch may be given
// too, and saves evaluations.
func WithFilter(expr string) WaitOption {
	return waitOption(func(m *waitConfig) error {
		m.Filter = expr
		if _, err := store.CompileFilter(expr, store.WaitVars...); err != nil {
			return fmt.Errorf("WithFilter: %w", err)
		}
		return nil
	})
}

// An EventInfo describes an event. Events are kept as long as runs that succeeded, whether or
// not they started or woke anything.
type EventInfo struct {
	ID        string
	Key       string
	Payload   json.RawMessage
	Metadata  map[string]string
	Scope     string
	Published time.Time
	Started   []string // IDs of runs it started, up to 1,000
	Woke      []string // IDs of runs that waited for it, up to 1,000, without those that it started
}

// An EventFilter selects the events that match all its fields. A zero field matches every
// event; an empty list that is not nil matches none.
type EventFilter struct {
	Key      string            // "": any
	Keys     []string          // at most 1,000
	IDs      []string          // at most 10,000
	Metadata map[string]string // each key with that value; at most 100 keys
	Since    time.Time         // published at or after
	Until    time.Time         // published before
	Limit    int               // size of the page; default 100, at most 1,000
	Cursor   string            // EventPage.Next of the previous page
}

// An EventPage is a page of events, newest first.
type EventPage struct {
	Events []EventInfo
	Next   string // Cursor of the next page; "" on the last
}

// ListEvents returns a page of events, newest first, with what each started and woke. A page
// ends early, but has at least one event, when payloads and metadata reach 8 MiB.
func (c *Client) ListEvents(ctx context.Context, f EventFilter) (*EventPage, error) {
	limit, err := pageLimit(f.Limit)
	if err != nil {
		return nil, fmt.Errorf("stint: list events: %w", err)
	}
	var before store.ID
	if f.Cursor != "" {
		if before, err = parseID(f.Cursor); err != nil {
			return nil, err
		}
	}
	sf, err := f.store()
	if err != nil {
		return nil, errorf("stint: list events: %w", err)
	}
	list := store.EventList{Filter: sf, Before: before, Limit: limit}
	if err := c.store.Read(ctx, &list); err != nil {
		return nil, wrapStoreErr("list events", err)
	}
	page := &EventPage{Events: make([]EventInfo, len(list.Events))}
	for i, e := range list.Events {
		page.Events[i] = EventInfo{e.ID.String(), e.Key, jsonx.Embed(e.Payload), jsonx.Texts(e.Metadata), e.Scope, e.At,
			idStrings(e.Started), idStrings(e.Woke)}
	}
	if list.Next != (store.ID{}) {
		page.Next = list.Next.String()
	}
	return page, nil
}

// WebhookHandler returns an HTTP handler that receives webhooks: it verifies each request and
// publishes its body as an event. key is a CEL expression for the event's key over input, the
// body, and headers, a map with lower-case names. For example:
//
//	"github." + headers["x-github-event"] + "." + input.action
//
// Headers are not signed: read what must be authentic from input. CEL needs import _
// "github.com/stint-dev/stint/cel". If key is empty, name is the event's key. If the
// expression returns "" or fails, the request is accepted and nothing is published.
//
// The body is JSON, whatever its Content-Type. A form, with the Content-Type of a form,
// becomes an object of strings; a form whose only field is payload must hold JSON there, which
// becomes the body. The event's metadata has "webhook", the name, and "delivery", the
// delivery's ID. A repeated delivery publishes nothing.
//
// The handler responds with 200 and the event's ID once the event is stored; 400 for a body
// that is not JSON, 401 if verify refuses the request, 405 for a method other than POST, 413
// for a body larger than WithMaxPayload, 431 for more than 64 KiB of headers, 500 if verify
// panics, and 503 if the event could not be stored, so that the sender tries again.
//
// WebhookHandler panics if the name or the expression is invalid or verify is nil.
func (c *Client) WebhookHandler(name string, verify webhook.Verifier, key string) http.Handler {
	h := &webhookHandler{c: c, info: WebhookInfo{Name: name}}
	h.hook = inbound.Hook{Name: name, Verify: verify, MaxBody: c.cfg.maxPayload, Call: func(f func() error) (panicked bool, err error) {
		err = guarded(func() error { return vet(f()) })
		var p *PanicError
		return errors.As(err, &p), err
	}}
	err := check.Name("name", name)
	if verify == nil {
		err = errors.New("nil verifier: see package webhook")
	}
	if err == nil && key != "" {
		h.hook.Key, err = store.CompileKey(key)
	}
	if err != nil {
		panic(fmt.Sprintf("stint: WebhookHandler(%q): %v", name, err))
	}
	c.webhooks.mu.Lock()
	defer c.webhooks.mu.Unlock()
	c.webhooks.all = append(c.webhooks.all, h)
	return h
}

// webhooks are the handlers that a client has made.
type webhooks struct {
	mu  sync.Mutex
	all []*webhookHandler
}

// A WebhookInfo describes what a webhook handler received since it was made.
type WebhookInfo struct {
	Name      string
	Published int       // requests that became an event
	Ignored   int       // accepted requests without a key
	Refused   int       // requests that were refused
	Last      time.Time // when the last request was accepted; zero: none was
	LastEvent string    // ID of the last event
	Refusal   string    // why the last refused request was refused; "": none was
	RefusedAt time.Time // when it was refused; zero: none was
}

// ListWebhooks returns the handlers that this client made with WebhookHandler, in the order in
// which they were made. ListEvents returns what they published, with their name in the
// metadata.
func (c *Client) ListWebhooks() []WebhookInfo {
	c.webhooks.mu.Lock()
	all := slices.Clone(c.webhooks.all)
	c.webhooks.mu.Unlock()
	infos := make([]WebhookInfo, len(all))
	for i, h := range all {
		h.mu.Lock()
		infos[i] = h.info
		h.mu.Unlock()
	}
	return infos
}

type webhookHandler struct {
	c    *Client
	hook inbound.Hook

	mu   sync.Mutex
	info WebhookInfo
}

// count counts a request: as an event if it has an ID.
func (h *webhookHandler) count(event string, refused *inbound.Refusal) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	switch i := &h.info; {
	case refused != nil:
		i.Refused, i.Refusal, i.RefusedAt = i.Refused+1, refused.Text, now
	case event == "":
		i.Ignored, i.Last = i.Ignored+1, now
	default:
		i.Published, i.Last, i.LastEvent = i.Published+1, now, event
	}
}

func (h *webhookHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	answer, refused := h.receive(w, r)
	if refused != nil {
		h.count("", refused)
		h.c.logger().Warn("stint: webhook refused", "webhook", h.hook.Name, "status", refused.Status, "reason", refused.Text, "err",
			h.c.logText(refused.Cause))
		if refused.Status == http.StatusMethodNotAllowed {
			w.Header().Set("Allow", http.MethodPost)
		}
		http.Error(w, refused.Text, refused.Status)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Write(answer)
}

func (h *webhookHandler) receive(w http.ResponseWriter, r *http.Request) (answer []byte, refused *inbound.Refusal) {
	q, refused := h.hook.Read(w, r)
	switch {
	case refused != nil:
		return nil, refused
	case q.Ignored:
		h.count("", nil)
	}
	if q.Event == nil {
		return q.Answer, nil
	}
	q.Event.Runs = h.c.triggeredRuns(q.Event.Key, q.Event.Payload)
	ids, err := h.c.publish(r.Context(), h.c.now(), nil, []store.NewEvent{*q.Event})
	if err != nil {
		return nil, &inbound.Refusal{Status: http.StatusServiceUnavailable, Text: "not stored: try again", Cause: err}
	}
	h.count(ids[0].String(), nil)
	return fmt.Appendf(nil, `{"event":%q}`, ids[0]), nil
}

// match returns what the options ask of events.
func (c *waitConfig) match() (store.Match, error) {
	if c.FromNow && c.Since != 0 {
		return c.Match, errors.New("FromNow and PublishedSince: want one of them")
	}
	if c.scope != "" {
		return c.Match.WithScope(c.scope), nil
	}
	return c.Match, nil
}
