package stint_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/webhook"
)

// repeat is a list of n of one thing.
func repeat[T any](n int, v T) []T {
	all := make([]T, n)
	for i := range all {
		all[i] = v
	}
	return all
}

// pairsOf is metadata with so many keys, whose keys and values have size bytes together.
func pairsOf(keys, size int) map[string]string {
	m := map[string]string{}
	for i := range keys {
		key := fmt.Sprintf("%05d", i)
		m[key] = strings.Repeat("v", size/keys-len(key))
	}
	return m
}

// Each text and each list has a bound, and what is larger is an error of the call that says
// what is wanted, is short, and stores nothing. At the bound all is well.
func TestBounds(t *testing.T) {
	c := opened(t)
	working(t, c)
	ctx := t.Context()
	task := stint.NewTask(c, "task", double)
	id := must[*stint.Run[int]](t)(task.Enqueue(ctx, 1)).ID()
	n := 0
	defines := func(o ...stint.TaskOption) error {
		n++
		return panics(func() { stint.NewTask(c, fmt.Sprint("t", n), double, o...) })
	}
	list := func(f stint.RunFilter) error { _, err := c.ListRuns(ctx, f); return err }
	missing := func(err error) error {
		if errors.Is(err, stint.ErrNotFound) {
			return nil
		}
		return err
	}
	metadata := func(n int) stint.MetadataOption { return stint.WithMetadata(pairsOf(10, n)) }
	name := func(n int) string { return strings.Repeat("n", n) }
	for what, tt := range map[string]struct {
		most int
		give func(n int) error
	}{
		"metadata": {64_000, func(n int) error { _, err := task.Enqueue(ctx, 1, metadata(n/10*10)); return err }},
		"metadata's key": {255, func(n int) error {
			_, err := task.Enqueue(ctx, 1, stint.WithMetadata(map[string]string{name(n): "v"}))
			return err
		}},
		"metadata in parts": {32<<10 - 1, func(n int) error {
			return defines(stint.WithMetadata(map[string]string{"a": name(n)}), stint.WithMetadata(map[string]string{"b": name(n)}))
		}},
		"metadata by name": {64_000, func(n int) error {
			_, err := c.EnqueueJSON(ctx, "task", json.RawMessage("1"), metadata(n/10*10))
			return err
		}},
		"event's metadata": {64_000, func(n int) error { _, err := c.Publish(ctx, "e", 1, metadata(n/10*10)); return err }},
		"cron's metadata":  {64_000, func(n int) error { return task.Cron(ctx, "c", "@daily", 1, metadata(n/10*10)) }},
		"input":            {4<<20 - 2, func(n int) error { _, err := c.EnqueueJSON(ctx, "later", json.RawMessage(`"`+name(n)+`"`)); return err }},
		"payload":          {4<<20 - 2, func(n int) error { _, err := c.Publish(ctx, "e", name(n)); return err }},
		"delivery ID":      {255, func(n int) error { _, err := c.Publish(ctx, "e", 1, stint.WithDeliveryID(name(n))); return err }},
		"IDs":              {10_000, func(n int) error { return list(stint.RunFilter{IDs: repeat(n, id)}) }},
		"IDs to cancel":    {10_000, func(n int) error { _, err := c.CancelRuns(ctx, stint.RunFilter{IDs: repeat(n, id)}); return err }},
		"IDs to replay": {10_000, func(n int) error {
			_, err := c.ReplayRuns(ctx, stint.RunFilter{IDs: repeat(n, id), DryRun: true})
			return err
		}},
		"IDs to delete": {10_000, func(n int) error {
			_, err := c.DeleteRuns(ctx, stint.RunFilter{IDs: repeat(n, id), DryRun: true})
			return err
		}},
		"an ID":              {36, func(n int) error { return missing(list(stint.RunFilter{ParentID: id[:min(n, 36)] + name(n-36)})) }},
		"tasks":              {1000, func(n int) error { return list(stint.RunFilter{Tasks: repeat(n, "task")}) }},
		"tasks of workflows": {1000, func(n int) error { return list(stint.RunFilter{Tasks: repeat(n, "w:task")}) }},
		"a task":             {255, func(n int) error { return list(stint.RunFilter{Tasks: []string{name(n)}}) }},
		"queues":             {1000, func(n int) error { return list(stint.RunFilter{Queues: repeat(n, "q")}) }},
		"a queue":            {255, func(n int) error { return list(stint.RunFilter{Queues: []string{name(n)}}) }},
		"states":             {1000, func(n int) error { return list(stint.RunFilter{States: repeat(n, stint.StateFailed)}) }},
		"pairs":              {100, func(n int) error { return list(stint.RunFilter{Metadata: pairsOf(n, 64*n)}) }},
		"searched metadata":  {64_000, func(n int) error { return list(stint.RunFilter{Metadata: pairsOf(10, n/10*10)}) }},
		"searched error":     {4 << 10, func(n int) error { return list(stint.RunFilter{Error: name(n)}) }},
		"limit":              {255, func(n int) error { return list(stint.RunFilter{LimitKey: &stint.LimitKey{Name: name(n), Key: "k"}}) }},
		"limit's key":        {255, func(n int) error { return missing(c.PauseLimit(ctx, stint.LimitKey{Name: "l", Key: name(n)})) }},
		"event's key":        {255, func(n int) error { _, err := c.ListEvents(ctx, stint.EventFilter{Key: name(n)}); return err }},
		"filters' task":      {255, func(n int) error { _, err := c.ListFilters(ctx, name(n)); return err }},
		"match": {4<<10 - 2, func(n int) error {
			return panics(func() { closedWithin(c, fmt.Sprint("w", n), stint.WithMatch("f", name(n))) })
		}},
		"affinities": {1000, func(n int) error {
			return defines(stint.WithAffinity(repeat(n, stint.Affinity{Label: "l", Value: "v"})...))
		}},
		"crons": {1000, func(n int) error { return defines(stint.WithCron(repeat(n, "@daily")...)) }},
		"payload of MatchFilter": {4<<20 - 2, func(n int) error {
			if _, err := stint.MatchFilter("true", "e", json.RawMessage(`"`+name(n)+`"`)); err != nil && strings.Contains(err.Error(), "want at most") {
				return err
			}
			return nil // this package lacks the language
		}},
		"events of a trigger": {1000, func(n int) error { return defines(stint.WithEvents(repeat(n, "e")...)) }},
		"labels":              {1000, func(n int) error { _, err := c.NewWorker(stint.WithLabels(pairsOf(n, 64*n))); return err }},
		"a worker's queues":   {1000, func(n int) error { _, err := c.NewWorker(stint.WithQueues(repeat(n, "q")...)); return err }},
		"spec": {254, func(n int) error {
			_, err := stint.CronTicks(strings.Repeat("0", n-8)+" 0 * * *", time.Now(), 1)
			return err
		}},
		"cron":           {255, func(n int) error { return missing(c.PauseCron(ctx, name(n))) }},
		"triggered cron": {255, func(n int) error { _, err := c.TriggerCron(ctx, name(n)); return missing(err) }},
		"updated cron":   {255, func(n int) error { return missing(c.UpdateCron(ctx, name(n), "@daily")) }},
		"worker":         {255, func(n int) error { return missing(c.PauseWorker(ctx, name(n))) }},
		"counted queue":  {255, func(n int) error { _, err := c.QueuePriorities(ctx, name(n)); return err }},
		"step":           {255, func(n int) error { _, err := c.Fork(ctx, id, name(n)); return missing(err) }},
	} {
		if err := tt.give(tt.most); err != nil {
			t.Errorf("%s at the bound: %.300s", what, err)
		}
		above := []int{tt.most * 2, tt.most + 2000}
		if tt.most < 50_000 {
			above = append(above, tt.most+1)
		}
		for _, n := range above {
			if what == "an ID" { // is not found, and that is short
				if _, err := c.GetRun(ctx, id+name(n)); err == nil || len(err.Error()) > 1000 {
					t.Errorf("an ID of %d bytes: %.300s", n, err)
				}
				continue
			}
			if err := tt.give(n); err == nil || len(err.Error()) > 1000 || strings.Contains(err.Error(), "SQL") {
				t.Errorf("%s of %d is %.300v", what, n, err)
			}
		}
	}
}

// closedWithin defines a workflow that waits for an event.
func closedWithin(c *stint.Client, name string, o stint.WaitOption) {
	stint.AddTask(stint.NewWorkflow[int](c, name), "a", double, stint.WithWaitFor(stint.UserEvent("e", o)))
}

// One call makes no more than 256 MiB of payloads, and no more than a million rows.
func TestBytesOfACall(t *testing.T) {
	if testing.Short() { // it encodes 520 MiB
		t.Skip()
	}
	c := opened(t, stint.WithMaxPayload(64<<20))
	large := strings.Repeat("x", 52<<20)
	task := stint.NewTask[string, int](c, "task", nil)
	if _, err := task.EnqueueMany(t.Context(), repeat(5, large)); err == nil || !strings.Contains(err.Error(), "make several") {
		t.Errorf("EnqueueMany: %v", err)
	}
	if _, err := c.PublishMany(t.Context(), repeat(5, stint.Event{Key: "e", Payload: large})); err == nil || !strings.Contains(err.Error(), "make several") {
		t.Errorf("PublishMany: %v", err)
	}
	if _, err := task.EnqueueMany(t.Context(), make([]string, 1_000_001)); err == nil || !strings.Contains(err.Error(), "at most 1000000") {
		t.Errorf("EnqueueMany of a million: %v", err)
	}
	if _, err := c.PublishMany(t.Context(), make([]stint.Event, 1_000_001)); err == nil || !strings.Contains(err.Error(), "at most 1000000") {
		t.Errorf("PublishMany of a million: %v", err)
	}
	if page := listRuns(t, c, stint.RunFilter{}); len(page.Runs) > 0 {
		t.Errorf("%d runs are stored", len(page.Runs))
	}
	enqueueMany(t, task, repeat(2, large[:1<<20]))
}

// A filter that is refused costs nothing, whatever its size.
func TestRefusedFilterIsCheap(t *testing.T) {
	c := opened(t)
	ids := repeat(1<<18, strings.Repeat("0", 36))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := c.ListRuns(t.Context(), stint.RunFilter{IDs: ids})
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; err == nil || n > 1<<20 {
		t.Errorf("%d IDs: %v, and %d bytes are allocated", len(ids), err, n)
	}
}

// A webhook refuses headers, deliveries and bodies that are too large.
func TestBoundsOfWebhooks(t *testing.T) {
	c := opened(t)
	h := c.WebhookHandler("hook", webhook.APIKey("X-Key", "k"), "")
	for what, tt := range map[string]struct {
		most   int
		status int
		set    func(r *http.Request, n int)
	}{
		"header":   {64<<10 - 300, http.StatusRequestHeaderFieldsTooLarge, func(r *http.Request, n int) { r.Header.Set("X-Large", strings.Repeat("x", n)) }},
		"delivery": {255, http.StatusBadRequest, func(r *http.Request, n int) { r.Header.Set("Idempotency-Key", strings.Repeat("x", n)) }},
	} {
		for n, want := range map[int]int{tt.most: 200, tt.most + 301: tt.status, 1 << 20: 0} {
			r := httptest.NewRequestWithContext(t.Context(), "POST", "/", strings.NewReader("1"))
			r.Header.Set("X-Key", "k")
			tt.set(r, n)
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != want && (want != 0 || w.Code < 400) || w.Body.Len() > 1000 {
				t.Errorf("%s of %d: %d %.200s", what, n, w.Code, w.Body)
			}
		}
	}
	form := httptest.NewRequestWithContext(t.Context(), "POST", "/", strings.NewReader("a="+strings.Repeat("<", 1<<20)))
	form.Header.Set("X-Key", "k")
	form.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	w := httptest.NewRecorder()
	if h.ServeHTTP(w, form); w.Code != http.StatusRequestEntityTooLarge {
		t.Errorf("a form that is %d bytes as JSON: %d %.200s", 6<<20, w.Code, w.Body)
	}
}
