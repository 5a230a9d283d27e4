package stint_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/sqlite"
)

// inbox notes what runs were started with.
type inbox struct {
	mu  sync.Mutex
	all []string
}

func (b *inbox) note(ctx context.Context, in string) (string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.all = append(b.all, in)
	return in, nil
}

func (b *inbox) take() []string {
	synctest.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	all := b.all
	b.all = nil
	slices.Sort(all)
	return all
}

// An event starts one run for each trigger that matches its key, exact or with "*".
func TestTriggers(t *testing.T) {
	in(t, func(t *testing.T, c *stint.Client) {
		var b inbox
		prefixed := func(p string) func(context.Context, string) (string, error) {
			return func(ctx context.Context, in string) (string, error) { return b.note(ctx, p+" "+in) }
		}
		stint.NewTask(c, "exact", prefixed("exact"), stint.WithEvents("order.paid"))
		stint.NewTask(c, "wild", prefixed("wild"), stint.WithEvents("order.*"))
		stint.NewTask(c, "both", prefixed("both"), stint.WithEvents("order.paid", "*.paid", "other"))
		w := stint.NewWorkflow[string](c, "flow", stint.WithEvents("order.paid"))
		stint.AddTask(w, "a", prefixed("flow"))
		publish(t, c, "order.paid", "1") // before a worker ever ran
		working(t, c)
		equal(t, "order.paid", b.take(), []string{"both 1", "both 1", "exact 1", "flow 1", "wild 1"})
		publish(t, c, "order.lost", "2")
		publish(t, c, "orderXpaid", "3")
		publish(t, c, "other", "4")
		equal(t, "others", b.take(), []string{"both 4", "wild 2"})
	})
}

// The runs that an event starts have its priority, also those that a task starts whose limits are functions of the
// input, and those of an event of the app's transaction.
func TestEventPriority(t *testing.T) {
	in(t, func(t *testing.T, c *stint.Client) {
		echo := func(_ context.Context, in string) (string, error) { return in, nil }
		stint.NewTask(c, "plain", echo, stint.WithEvents("e"), stint.WithPriority(1))
		stint.NewTask(c, "limited", echo, stint.WithEvents("e"),
			stint.WithConcurrency(stint.Concurrency[string]{Key: strings.ToUpper, Max: 1}))
		w := stint.NewWorkflow[string](c, "flow", stint.WithEvents("e"))
		stint.AddTask(w, "a", echo)
		working(t, c)
		priorities := func(opts ...stint.EventOption) (all []string) {
			t.Helper()
			publish(t, c, "e", "in", opts...)
			synctest.Wait()
			for _, r := range listRuns(t, c, stint.RunFilter{TopLevel: true, Limit: 3}).Runs {
				all = append(all, fmt.Sprint(r.Task, " ", r.Priority))
			}
			slices.Sort(all)
			return all
		}
		equal(t, "without", priorities(), []string{"flow 2", "limited 2", "plain 1"})
		equal(t, "with", priorities(stint.WithPriority(3)), []string{"flow 3", "limited 3", "plain 3"})
		if tasks := listRuns(t, c, stint.RunFilter{Tasks: []string{"flow:a"}, Limit: 1}).Runs; tasks[0].Priority != 3 {
			t.Errorf("the workflow's task has priority %d", tasks[0].Priority)
		}
		_, err := c.Publish(t.Context(), "e", "in", stint.WithPriority(128))
		if err == nil || !strings.Contains(err.Error(), "want -128 to 127") {
			t.Errorf("priority 128: %v", err)
		}
	})
}

// A run has the event's metadata, and names the event; the event names its runs.
func TestEventHistory(t *testing.T) {
	retention, opts := stint.DefaultRetention, []stint.ClientOption(nil)
	if testing.Short() { // in each minute of a month a client works
		retention = 24 * time.Hour
		opts = append(opts, stint.WithRetention(retention))
	}
	in(t, func(t *testing.T, c *stint.Client) {
		var b inbox
		stint.NewTask(c, "t", b.note, stint.WithEvents("e"), stint.WithMetadata(map[string]string{"own": "1", "both": "task"}))
		waits := stint.NewTask(c, "waits", func(ctx context.Context, _ int) (string, error) { return stint.WaitForEvent[string](ctx, "e") })
		w := stint.NewWorkflow[int](c, "w")
		stint.AddTask(w, "a", func(context.Context, int) (int, error) { return 1, nil }, stint.WithWaitFor(stint.UserEvent("e")))
		working(t, c)
		waiting := enqueue(t, waits, 0)
		enqueue(t, w, 0)
		synctest.Wait()
		id := publish(t, c, "e", "x", stint.WithMetadata(map[string]string{"both": "event"}))
		synctest.Wait()
		publish(t, c, "unwanted", 1)
		page := must[*stint.EventPage](t)(c.ListEvents(t.Context(), stint.EventFilter{Limit: 1}))
		if len(page.Events) != 1 || page.Events[0].Key != "unwanted" || page.Next == "" {
			t.Fatalf("the first page: %+v", page)
		}
		page = must[*stint.EventPage](t)(c.ListEvents(t.Context(), stint.EventFilter{Cursor: page.Next}))
		e := page.Events[0]
		if len(page.Events) != 1 || e.ID != id || string(e.Payload) != `"x"` || len(e.Started) != 1 || len(e.Woke) != 2 || !slices.Contains(e.Woke, waiting.ID()) {
			t.Fatalf("%+v", page.Events)
		}
		info := getRun(t, c, e.Started[0])
		if m := info.Metadata; m["own"] != "1" || m["both"] != "event" || m[stint.MetaEvent] != id || m[stint.MetaEventKey] != "e" || string(info.Input) != `"x"` {
			t.Errorf("run %+v", info)
		}
		if page := must[*stint.EventPage](t)(c.ListEvents(t.Context(), stint.EventFilter{Key: "none"})); len(page.Events) != 0 {
			t.Errorf("%+v", page)
		}
		time.Sleep(retention + 2*time.Hour) // and the hour between looks
		if page := must[*stint.EventPage](t)(c.ListEvents(t.Context(), stint.EventFilter{})); len(page.Events) != 0 {
			t.Errorf("past their retention: %+v", page)
		}
	}, opts...)
}

// WithTx: an event exists if and only if the app's transaction commits; then it starts
// and wakes what it does, each once.
func TestPublishTx(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.db")
	c := openedAt(t, path)
	db := app(t, path)
	started := make(chan string, 10)
	stint.NewTask(c, "t", func(_ context.Context, s string) (int, error) { started <- s; return 0, nil },
		stint.WithEvents("e"), stint.WithConcurrency(stint.Concurrency[string]{Key: func(s string) string { return s }, Max: 1}))
	twice := stint.NewTask(c, "twice", func(ctx context.Context, _ int) (string, error) {
		a, err := stint.WaitForEvent[string](ctx, "e")
		if err != nil {
			return "", err
		}
		b, err := stint.WaitForEvent[string](ctx, "e")
		return a + b, err
	})
	working(t, c)
	run := enqueue(t, twice, 0)
	waitWhile(t, run, stint.StateQueued) // the worker, which claims it, has declared what e starts
	for _, commit := range []bool{false, true} {
		tx := beginTx(t, db)
		publish(t, c, "e", fmt.Sprint(commit), stint.WithTx(tx), stint.WithPriority(3))
		if !commit {
			tx.Rollback()
			continue
		}
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
	}
	if got := <-started; got != "true" {
		t.Errorf("started by %q", got)
	}
	if r := listRuns(t, c, stint.RunFilter{Tasks: []string{"t"}}).Runs[0]; r.Priority != 3 {
		t.Errorf("its priority is %d, want the event's", r.Priority)
	}
	publish(t, c, "e", "second")
	if got, err := run.Wait(t.Context()); err != nil || got != "truesecond" {
		t.Errorf("the waits had %q, %v", got, err)
	}
	if got := <-started; got != "second" {
		t.Errorf("started by %q", got)
	}
	page := must[*stint.EventPage](t)(c.ListEvents(t.Context(), stint.EventFilter{}))
	if len(page.Events) != 2 || len(page.Events[1].Woke) != 1 {
		t.Errorf("events %+v", page.Events)
	}
	tx := beginTx(t, db)
	defer tx.Rollback()
	if _, err := c.PublishMany(t.Context(), []stint.Event{{Key: "a", Options: []stint.EventOption{stint.WithTx(tx)}}, {Key: "b"}}); err == nil {
		t.Error("took events of which one has a transaction")
	}
}

// Limits and keys that are functions of the input hold for runs that events start, also
// where the publishing program lacks the task.
func TestTriggerLimits(t *testing.T) {
	for _, name := range []string{"same program", "another program"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "limits.db")
				c := openedAt(t, path)
				g := newGauge()
				stint.NewTask(c, "t", g.work(time.Second), stint.WithEvents("e"),
					stint.WithConcurrency(stint.Concurrency[job]{Key: job.tenant, Max: 1}),
					stint.WithIdempotency(func(j job) string { return fmt.Sprint(j.N) }, time.Hour))
				working(t, c)
				synctest.Wait()
				from := c
				if name == "another program" {
					from = openedAt(t, path)
				}
				for i, tenant := range []string{"a", "a", "a", "b"} {
					publish(t, from, "e", job{Tenant: tenant, N: i / 2})
				}
				time.Sleep(time.Minute)
				page := listRuns(t, c, stint.RunFilter{Tasks: []string{"t"}})
				if len(page.Runs) != 2 {
					t.Errorf("%d runs, want 2: the others have their keys", len(page.Runs))
				}
				if g.most["a"] > 1 || g.most["a"] == 0 {
					t.Errorf("%d of a at once", g.most["a"])
				}
			})
		})
	}
}

// What code says of its triggers replaces what it said before.
func TestTriggersReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "replaced.db")
		var b inbox
		for i, keys := range [][]string{{"a", "b"}, {"b"}, nil} {
			c := openedAt(t, path)
			var opts []stint.TaskOption
			if keys != nil {
				opts = append(opts, stint.WithEvents(keys...))
			}
			stint.NewTask(c, "t", b.note, opts...)
			stop := working(t, c)
			synctest.Wait()
			publish(t, c, "a", "a")
			publish(t, c, "b", "b")
			equal(t, fmt.Sprint("definition ", i), b.take(), keys)
			stop()
			c.Close()
		}
	})
}

// Deliveries with one ID are one event.
func TestDeliveryID(t *testing.T) {
	in(t, func(t *testing.T, c *stint.Client) {
		var b inbox
		stint.NewTask(c, "t", b.note, stint.WithEvents("e"))
		working(t, c)
		first := publish(t, c, "e", "1", stint.WithDeliveryID("d"))
		if again := publish(t, c, "e", "2", stint.WithDeliveryID("d")); again != first {
			t.Errorf("%s, then %s", first, again)
		}
		publish(t, c, "e", "3", stint.WithDeliveryID("other"))
		equal(t, "runs", b.take(), []string{"1", "3"})
	})
}

// Bad input: an error at the call, and nothing stored.
func TestBadEvents(t *testing.T) {
	c := opened(t)
	long := strings.Repeat("x", 300)
	for what, publish := range map[string]func() error{
		"no key":             func() error { _, err := c.Publish(t.Context(), "", 1); return err },
		"a long key":         func() error { _, err := c.Publish(t.Context(), long, 1); return err },
		"a payload, no JSON": func() error { _, err := c.Publish(t.Context(), "e", make(chan int)); return err },
		"a large payload":    func() error { _, err := c.Publish(t.Context(), "e", strings.Repeat("x", 5<<20)); return err },
		"a long scope":       func() error { _, err := c.Publish(t.Context(), "e", 1, stint.WithScope(long)); return err },
		"a long delivery":    func() error { _, err := c.Publish(t.Context(), "e", 1, stint.WithDeliveryID(long)); return err },
		"a nil transaction":  func() error { _, err := c.Publish(t.Context(), "e", 1, stint.WithTx(nil)); return err },
		"one of several":     func() error { _, err := c.PublishMany(t.Context(), []stint.Event{{Key: "e"}, {}}); return err },
		"a filter, no CEL": func() error {
			_, err := c.CreateFilter(t.Context(), stint.TriggerFilter{Task: "t", Scope: "s", Expression: "true"})
			return err
		},
		"a filter, no task": func() error {
			_, err := c.CreateFilter(t.Context(), stint.TriggerFilter{Scope: "s", Expression: "true"})
			return err
		},
		"a bad limit":         func() error { _, err := c.ListEvents(t.Context(), stint.EventFilter{Limit: 5000}); return err },
		"a bad cursor":        func() error { _, err := c.ListEvents(t.Context(), stint.EventFilter{Cursor: "x"}); return err },
		"filters, none there": func() error { return c.DeleteFilter(t.Context(), 7) },
	} {
		if publish() == nil {
			t.Errorf("took %s", what)
		}
	}
	if page := must[*stint.EventPage](t)(c.ListEvents(t.Context(), stint.EventFilter{})); len(page.Events) != 0 {
		t.Errorf("stored %+v", page.Events)
	}
	if err := stint.FilterPayload(t.Context(), new(int)); !errors.Is(err, stint.ErrNotFound) {
		t.Errorf("FilterPayload outside a run: %v", err)
	}
	for what, opt := range map[string]stint.TaskOption{"no key": stint.WithEvents(""), "a long key": stint.WithEvents(long), "no CEL": stint.WithEventFilter("true")} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("NewTask took %s", what)
				}
			}()
			stint.NewTask(c, "t "+what, func(context.Context, int) (int, error) { return 0, nil }, opt)
		}()
	}
}

// An input that the task cannot take fails that run, where a person sees it.
func TestTriggerOfAnotherType(t *testing.T) {
	in(t, func(t *testing.T, c *stint.Client) {
		var b inbox
		stint.NewTask(c, "t", b.note, stint.WithEvents("e"))
		working(t, c)
		publish(t, c, "e", 7)
		publish(t, c, "e", "fine")
		equal(t, "runs", b.take(), []string{"fine"})
		page := listRuns(t, c, stint.RunFilter{States: []stint.State{stint.StateFailed}})
		if len(page.Runs) != 1 || !strings.Contains(page.Runs[0].Error, "not of type string") {
			t.Errorf("%+v", page.Runs)
		}
	})
}

// slowDeclare lets the test see a declaration on its way.
type slowDeclare struct {
	store.Store
	begun, goOn chan struct{}
}

func (s *slowDeclare) Declare(ctx context.Context, now time.Time, ds []store.Declaration) error {
	s.begun <- struct{}{}
	<-s.goOn
	return s.Store.Declare(ctx, now, ds)
}

// An event that is published while a worker stores the triggers waits for them.
func TestPublishWhileTriggersAreStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &slowDeclare{must[*sqlite.Store](t)(sqlite.Open(":memory:", sqlite.Options{})), make(chan struct{}), make(chan struct{})}
		c := must[*stint.Client](t)(stint.New(s))
		defer c.Close()
		var b inbox
		stint.NewTask(c, "t", func(ctx context.Context, n int) (string, error) { return b.note(ctx, "started") }, stint.WithEvents("e"))
		working(t, c)
		<-s.begun
		var published sync.WaitGroup
		published.Go(func() { publish(t, c, "e", 1) })
		for range 1000 { // it waits for a mutex, of which synctest knows nothing
			runtime.Gosched()
		}
		close(s.goOn)
		published.Wait()
		equal(t, "runs", b.take(), []string{"started"})
	})
}

// A key that is given twice starts one run, and patterns that both match start one each.
func TestSameEventTwice(t *testing.T) {
	c := opened(t)
	stint.NewTask(c, "task", double, stint.WithEvents("e", "e", "f.*"), stint.WithEvents("e", "f.a"))
	for key, want := range map[string]int{"e": 1, "f.a": 2, "g": 0} {
		publish(t, c, key, 1)
		page := must[*stint.EventPage](t)(c.ListEvents(t.Context(), stint.EventFilter{Key: key}))
		if got := len(page.Events[0].Started); got != want {
			t.Errorf("%s starts %d runs, want %d", key, got, want)
		}
	}
}
