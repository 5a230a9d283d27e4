package hatchet

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/stint-dev/stint"
)

// counters are how often something has happened since the server began, as Prometheus wants it: they only grow. They are
// added up from the database's statistics of whole minutes, so they have what all programs did.
type counters struct {
	mu    sync.Mutex
	until time.Time // the minutes that were added up
	sum   stint.Stats
}

// statsDelay is how long after its end a minute is final: programs store their counts about once a second.
const statsDelay = 5 * time.Second

// read returns the sums until now.
func (c *counters) read(ctx context.Context, client *stint.Client, now time.Time) (stint.Stats, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	spans, err := client.Stats(ctx, stint.StatsFilter{Since: c.until, Span: time.Minute})
	if err != nil {
		return stint.Stats{}, err
	}
	for i := range spans {
		end := spans[i].At.Add(time.Minute)
		if end.After(c.until) && end.Add(statsDelay).Before(now) {
			c.until = end
			c.sum.Add(&spans[i])
		}
	}
	return c.sum, nil
}

// prometheus returns figures of the database in the text format of Prometheus, by Hatchet's names.
func (s *Server) prometheus(r *http.Request) (any, error) {
	sum, err := s.counters.read(r.Context(), s.c, time.Now())
	if err != nil {
		return nil, err
	}
	queues, err := s.c.ListQueues(r.Context())
	if err != nil {
		return nil, err
	}
	var text strings.Builder
	put := func(name, kind string, value int64) {
		fmt.Fprintf(&text, "# TYPE hatchet_tenant_%s %s\nhatchet_tenant_%s{tenant_id=%q} %d\n", name, kind, name, s.tenant, value)
	}
	for _, c := range []struct {
		name  string
		value int64
	}{
		{"created_tasks", sum.Enqueued}, {"assigned_tasks", sum.Started}, {"retried_tasks", sum.Retried},
		{"succeeded_tasks", sum.Succeeded}, {"failed_tasks", sum.Failed}, {"cancelled_tasks", sum.Canceled}, {"skipped_tasks", sum.Skipped},
	} {
		put(c.name, "counter", c.value)
	}
	size, total, used := 0, 0, 0
	for _, q := range queues {
		size += q.Ready
	}
	for _, w := range s.allWorkers() {
		w.mu.Lock()
		for _, p := range w.pools {
			total += p.size
			used += p.size - p.unused()
		}
		w.mu.Unlock()
	}
	put("queue_size", "gauge", int64(size))
	put("worker_slots", "gauge", int64(total))
	put("used_worker_slots", "gauge", int64(used))
	put("available_worker_slots", "gauge", int64(total-used))
	return plainText(text.String()), nil
}
