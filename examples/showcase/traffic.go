package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/stint-dev/stint"
	"golang.org/x/time/rate"
)

// firstOrders is the number of customers on the first day.
const firstOrders = 24

// firstDay lets customers come, starts a run of everything else, and waits for what ends.
func (s *shop) firstDay(ctx context.Context) error {
	if err := s.c.SetRateLimit(ctx, "payments", rate.Limit(500), 20); err != nil {
		return err
	}
	var all []string
	add := func(run interface{ ID() string }, err error) error {
		if err == nil {
			all = append(all, run.ID())
		}
		return err
	}
	for i := range firstOrders {
		if err := s.customer(ctx, i); err != nil {
			return err
		}
	}
	for _, err := range []error{
		add(s.publish.Enqueue(ctx, "main")), add(s.publish.Enqueue(ctx, "broken")),
		add(s.nightly.Enqueue(ctx, 1)), add(s.nightly.Enqueue(ctx, 2)),
		add(s.catalog.Enqueue(ctx, file{"catalog.csv", strings.Repeat("book;12,50\n", payload*9/10/11)})),
		add(s.export.Enqueue(ctx, 2024)), add(s.partner.Enqueue(ctx, 1)), add(s.refund.Enqueue(ctx, newOrder(3))),
		add(s.fulfil.Enqueue(ctx, bigOrder(1))),
	} {
		if err != nil {
			return err
		}
	}
	if err := s.approve(ctx, 1); err != nil {
		return err
	}
	for _, id := range all {
		stint.RunByID[json.RawMessage](s.c, id).Wait(ctx) // some fail, as they shall
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return s.heldUp(ctx)
}

// heldUp enqueues what waits: for a worker, a time, an event, or what was canceled.
func (s *shop) heldUp(ctx context.Context) error {
	_, legacy := s.legacy.Enqueue(ctx, 1)
	_, abroad := s.abroad.Enqueue(ctx, newOrder(7))
	_, later := s.mail.Enqueue(ctx, "reader-later@example.com", stint.WithDelay(time.Hour))
	_, waits := s.fulfil.Enqueue(ctx, newOrder(8))
	gone, err := s.mail.Enqueue(ctx, "reader-gone@example.com", stint.WithDelay(time.Hour))
	if err == nil {
		err = gone.Cancel(ctx)
	}
	return errors.Join(legacy, abroad, later, waits, err)
}

// customer does what follows from one order.
func (s *shop) customer(ctx context.Context, i int) error {
	o := newOrder(i)
	meta := stint.WithMetadata(map[string]string{"customer": o.Name, "region": o.Region})
	_, charge := s.charge.Enqueue(ctx, o, meta, stint.WithPriority(1+i%4))
	_, mail := s.mail.Enqueue(ctx, o.Name+"@example.com", meta)
	_, stock := s.stock.Enqueue(ctx, fmt.Sprintf("warehouse-%d", i%3))
	_, audit := s.audit.Enqueue(ctx, i)
	_, index := s.reindex.Enqueue(ctx, "orders", stint.WithDebounce("orders", 20*time.Millisecond, time.Second))
	_, event := s.c.Publish(ctx, "payment.made", payment{Order: i, OK: i%9 != 4})
	errs := []error{charge, mail, stock, audit, index, event}
	var err error
	switch i % 6 {
	case 0:
		_, err = s.chat.Enqueue(ctx, "how many items there are")
	case 1:
		_, err = s.resize.Enqueue(ctx, fmt.Sprintf("photo-%d.jpg", i))
	case 2:
		_, err = s.feed.Enqueue(ctx, i)
	case 3:
		_, err = s.risk.Enqueue(ctx, i)
	case 4:
		_, err = s.geocode.Enqueue(ctx, o)
	case 5:
		if _, err = s.fulfil.Enqueue(ctx, o); err == nil {
			err = s.approve(ctx, i)
		}
	}
	return errors.Join(append(errs, err)...)
}

// approve publishes the approval of an order; one that nobody waits for yet is found by the wait that comes.
func (s *shop) approve(ctx context.Context, id int) error {
	_, err := s.c.Publish(ctx, "order.approved", payment{Order: id, OK: true})
	return err
}

var names = []string{"ada", "grace", "linus", "barbara", "ken"}

func newOrder(i int) order {
	return order{ID: i, Name: names[i%len(names)], Items: []string{"book", "lamp", "mug", "pen"}, Amount: 990 + 137*i, Region: "eu"}
}

// bigOrder returns an order whose fulfilment has more than 40 entries in its journal.
func bigOrder(i int) order {
	o := newOrder(i)
	o.Items = nil
	for n := range 40 {
		o.Items = append(o.Items, fmt.Sprintf("item-%02d", n))
	}
	return o
}
