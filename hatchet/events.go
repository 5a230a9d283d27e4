package hatchet

import (
	"context"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/hatchet/internal/wire"
)

// Push publishes an event.
func (s rpc) Push(ctx context.Context, r *wire.PushEventRequest) (*wire.Event, error) {
	events, err := s.BulkPush(ctx, &wire.BulkPushEventRequest{Events: []*wire.PushEventRequest{r}})
	if err != nil {
		return nil, err
	}
	return events.Events[0], nil
}

// BulkPush publishes events in one commit, in order.
func (s rpc) BulkPush(ctx context.Context, r *wire.BulkPushEventRequest) (*wire.Events, error) {
	if len(r.Events) < 1 || len(r.Events) > maxBulk {
		return nil, invalid("%d events: want 1 to %d", len(r.Events), maxBulk)
	}
	events := make([]stint.Event, len(r.Events))
	for i, e := range r.Events {
		var err error
		if events[i], err = newEvent(e); err != nil {
			return nil, err
		}
	}
	ids, err := s.c.PublishMany(ctx, events)
	if err != nil {
		return nil, invalidRun(err)
	}
	published := &wire.Events{}
	for i, e := range r.Events {
		at := e.EventTimestamp
		if at == nil {
			at = timestamppb.Now()
		}
		published.Events = append(published.Events, &wire.Event{TenantId: s.tenant, EventId: ids[i], Key: e.Key, Payload: e.Payload,
			EventTimestamp: at, AdditionalMetadata: e.AdditionalMetadata, Scope: e.Scope})
	}
	return published, nil
}

func newEvent(e *wire.PushEventRequest) (stint.Event, error) {
	body, err := object("payload", e.Payload)
	if err != nil {
		return stint.Event{}, err
	}
	meta, err := metadataOf(e.GetAdditionalMetadata())
	if err != nil {
		return stint.Event{}, err
	}
	ev := stint.Event{Key: e.Key, Payload: body}
	if len(meta) > 0 {
		ev.Options = append(ev.Options, stint.WithMetadata(meta))
	}
	if e.GetScope() != "" {
		ev.Options = append(ev.Options, stint.WithScope(e.GetScope()))
	}
	if e.Priority != nil {
		if err := checkPriority(e.GetPriority()); err != nil {
			return stint.Event{}, err
		}
		ev.Options = append(ev.Options, stint.WithPriority(int(e.GetPriority())))
	}
	return ev, nil
}
