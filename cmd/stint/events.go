package main

import (
	"cmp"
	"context"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/internal/wire"
	"github.com/urfave/cli/v3"
)

// eventFlags are those of events.
func eventFlags(o *options) []cli.Flag {
	return []cli.Flag{
		textFlag("key", "only events with this `key`", &o.key),
		valueFlag("id", "only the events with these `IDs`", &o.ids),
		valueFlag("metadata", "only events with this metadata, `KEY=VALUE`", &o.metadata),
		valueFlag("since", "only events published at this `time` or later, like 2026-01-31T12:00:00Z, 90m or 7d ago", &o.since),
		valueFlag("until", "only events published before this `time`", &o.until),
		limitFlag(o, 50),
	}
}

// listEvents lists events, newest first.
func listEvents(ctx context.Context, s *session) error {
	f := stint.EventFilter{Key: s.key, IDs: s.ids, Metadata: s.metadata, Since: s.since.Time, Until: s.until.Time}
	l := s.eventList()
	for left := cmp.Or(s.limit, 100); ; {
		f.Limit = min(left, 1000)
		page, err := s.c.ListEvents(ctx, f)
		if err == nil {
			err = l.print(page.Events)
		}
		if err != nil {
			return err
		}
		if left -= len(page.Events); left <= 0 || page.Next == "" {
			return l.end("next", page.Next)
		}
		f.Cursor = page.Next
	}
}

// eventList returns a list of events.
func (s *session) eventList() *list[stint.EventInfo] {
	return &list[stint.EventInfo]{s: s, field: "events", header: "EVENT\tKEY\tPUBLISHED\tSTARTED\tWOKE\tPAYLOAD",
		row: func(e *stint.EventInfo) string {
			return columns(e.ID, truncate(e.Key), formatTime(e.Published), len(e.Started), len(e.Woke), truncate(e.Payload))
		},
		wire: func(e *stint.EventInfo) any { return wire.EventOf(e) }}
}
