package stint

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/stint-dev/stint/internal/jsonx"
	"github.com/stint-dev/stint/internal/text"
	"github.com/stint-dev/stint/store"
)

// Publish stores an event, starts a run of each task that it is a trigger of (see
// WithEvents), and wakes what waits for it, in one commit. payload is encoded as JSON. It
// returns the event's ID.
//
// Options: WithMetadata, WithScope, WithDeliveryID, WithTx.
func (c *Client) Publish(ctx context.Context, key string, payload any, opts ...EventOption) (string, error) {
	ids, err := c.PublishMany(ctx, []Event{{Key: key, Payload: payload, Options: opts}})
	if err != nil {
		return "", err
	}
	return ids[0], nil
}

// An Event is one for PublishMany.
type Event struct {
	Key     string
	Payload any
	Options []EventOption
}

// PublishMany stores all events or none, in order: at most 1,000,000, with at most 256 MiB of
// payloads and metadata.
func (c *Client) PublishMany(ctx context.Context, events []Event) ([]string, error) {
	if len(events) == 0 {
		return nil, nil
	}
	if err := checkCount("events", len(events), maxPerCall); err != nil {
		return nil, errorf("stint: publish: %w", err)
	}
	var size callSize
	stored := make([]store.NewEvent, len(events))
	var tx store.Tx
	for i, e := range events {
		var cfg eventConfig
		err := checkName("event key", e.Key)
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
			err = size.add(stored[i].Size())
		}
		if err != nil {
			return nil, errorf("stint: publish %q: %w", text.Cut(e.Key, maxName), err)
		}
	}
	ids, err := c.publish(ctx, tx, stored)
	if err != nil {
		return nil, wrapStoreErr("publish", err)
	}
	return idStrings(ids), nil
}

func (c *Client) newEvent(e Event, cfg *eventConfig) (n store.NewEvent, err error) {
	n = store.NewEvent{Key: e.Key, Scope: cfg.scope, Delivery: cfg.delivery}
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

func (c *Client) publish(ctx context.Context, tx store.Tx, events []store.NewEvent) (ids []store.ID, err error) {
	end := c.traceEvents(ctx, events)
	defer func() { end(err) }()
	if tx != nil {
		return c.publishTx(ctx, tx, events)
	}
	if err := c.declare(ctx, true); err != nil {
		return nil, err
	}
	ids, err = c.store.Publish(ctx, time.Now(), events)
	for i := range events {
		for _, filter := range events[i].Costly {
			c.logger().Warn("stint: a filter would cost too much for an event, which does not match it", "filter", filter, "event", events[i].Key, "bytes", len(events[i].Payload))
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
		ids, err = s.PublishTx(ctx, time.Now(), tx, events)
		return err
	})
	return ids, err
}

// MatchFilter reports whether a filter expression, as WithEventFilter takes one, matches
// an event with a key and a payload that is JSON, of at most DefaultMaxPayload bytes. It
// publishes nothing.
func MatchFilter(expr, key string, payload json.RawMessage) (bool, error) {
	if err := checkText("event key", key); err != nil {
		return false, errorf("stint: match filter: %w", err)
	}
	if err := checkSize("payload", len(payload), DefaultMaxPayload); err != nil {
		return false, fmt.Errorf("stint: match filter: %w", err)
	}
	if !json.Valid(payload) {
		return false, errors.New("stint: match filter: the payload is not JSON")
	}
	f, err := store.CompileFilter(expr)
	if err != nil {
		return false, wrapStoreErr("match filter", err)
	}
	return f(&store.NewEvent{Key: key, Payload: payload}), nil
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
	delivery string
	tx       store.Tx
}

type eventOption func(*eventConfig) error

func (o eventOption) applyEvent(c *eventConfig) error { return o(c) }

// WithScope sets the event's scope, which selects among the filters of tasks. See
// TriggerFilter.
func WithScope(scope string) EventOption {
	return eventOption(func(c *eventConfig) error {
		c.scope = scope
		return checkName("scope", scope)
	})
}

// WithDeliveryID has an event be stored once: while the first with that ID is kept,
// another does nothing, and Publish returns the first one's ID.
func WithDeliveryID(id string) EventOption {
	return eventOption(func(c *eventConfig) error {
		c.delivery = id
		return checkName("delivery ID", id)
	})
}

// EventInfo is what is known of an event. Events are kept as long as runs that
// succeeded are, wanted or not.
type EventInfo struct {
	ID        string
	Key       string
	Payload   json.RawMessage
	Metadata  map[string]string
	Scope     string
	Published time.Time
	Started   []string // IDs of runs that it started, up to 1,000
	Woke      []string // IDs of runs that waited for it, up to 1,000
}

// An EventFilter selects events.
type EventFilter struct {
	Key    string // "": any
	Limit  int    // how many a page has [100, at most 1,000]
	Cursor string // EventPage.Next of the page before
}

// An EventPage is a page of events, newest first.
type EventPage struct {
	Events []EventInfo
	Next   string // Cursor of the next page; "" on the last
}

// ListEvents lists events, newest first, with what each started and woke. A page whose
// payloads and metadata would have more than 8 MiB ends earlier, with one event at least.
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
	if err := checkText("event key", f.Key); err != nil {
		return nil, errorf("stint: list events: %w", err)
	}
	all, next, err := c.store.Events(ctx, f.Key, before, limit)
	if err != nil {
		return nil, wrapStoreErr("list events", err)
	}
	page := &EventPage{Events: make([]EventInfo, len(all))}
	for i, e := range all {
		page.Events[i] = EventInfo{e.ID.String(), e.Key, jsonx.Embed(e.Payload), decodeMetadata(e.Metadata), e.Scope, e.At, idStrings(e.Started), idStrings(e.Woke)}
	}
	if next != (store.ID{}) {
		page.Next = next.String()
	}
	return page, nil
}
