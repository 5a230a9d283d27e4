package stint

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/stint-dev/stint/store"
)

// Publish stores an event, and wakes what waits for it, in one commit. payload is
// encoded as JSON. It returns the event's ID.
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

// PublishMany stores all events or none, in order.
func (c *Client) PublishMany(ctx context.Context, events []Event) ([]string, error) {
	stored := make([]store.NewEvent, len(events))
	for i, e := range events {
		var cfg eventConfig
		err := checkName("event key", e.Key)
		for _, o := range e.Options {
			if o != nil && err == nil {
				err = o.applyEvent(&cfg)
			}
		}
		if err != nil {
			return nil, fmt.Errorf("stint: publish %q: %w", e.Key, err)
		}
		stored[i] = store.NewEvent{Key: e.Key}
		if stored[i].Payload, err = c.encode(e.Payload); err != nil {
			return nil, fmt.Errorf("stint: publish %q: payload: %w", e.Key, err)
		}
		if len(cfg.metadata) > 0 {
			stored[i].Metadata, _ = json.Marshal(cfg.metadata) // strings always encode
		}
	}
	ids, err := c.store.Publish(ctx, time.Now(), stored)
	if err != nil {
		return nil, public("publish", err)
	}
	names := make([]string, len(ids))
	for i, id := range ids {
		names[i] = id.String()
	}
	return names, nil
}

// An EventOption changes an event. See Publish.
type EventOption interface{ applyEvent(*eventConfig) error }

type eventConfig struct{ metadata map[string]string }
