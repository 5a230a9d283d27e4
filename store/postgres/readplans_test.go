package postgres

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stint-dev/stint/internal/sample"
	"github.com/stint-dev/stint/store"
)

// A readLog notes the statements that are sent one at a time, with the values of their parameters.
type readLog struct {
	tripCounter
	mu  sync.Mutex
	all map[string][]any
}

func (l *readLog) TraceQueryStart(ctx context.Context, _ *pgx.Conn, d pgx.TraceQueryStartData) context.Context {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all[fmt.Sprint(d.SQL, d.Args)] = append([]any{d.SQL}, d.Args...)
	return ctx
}

// historySQL fills the tables that only grow with history.
const historySQL = `
INSERT INTO stint.lanes (id, queue, task) SELECT g, 'q' || g % 5, 't' || g FROM generate_series(0, 49) AS g;
INSERT INTO stint.attempts (run, n, attempt, ended_at, state) SELECT g / 2, g % 2, 1, 1, 8 FROM generate_series(1, 30000) AS g;
INSERT INTO stint.inputs (id, data) SELECT (1700000000000 + g) << 20, 'x' FROM generate_series(1, 30000) AS g;
INSERT INTO stint.progress (run, done, total, message) SELECT (1700000000000 + g) << 20, 1, 1, '' FROM generate_series(1, 30000) AS g;
INSERT INTO stint.waits (run, leaf, key, field, value, filter) SELECT g, 0, 'k' || g, '', '', '' FROM generate_series(1, 5000) AS g;
INSERT INTO stint.logs (run, seq, at, level, attempt, message) SELECT g / 10, g % 10, g, 0, 1, 'm' FROM generate_series(1, 30000) AS g;
INSERT INTO stint.chunks (run, seq, at, attempt, execution, data) SELECT g / 10, g % 10, g, 1, 1, 'x' FROM generate_series(1, 30000) AS g;
INSERT INTO stint.event_runs (event, run, woke) SELECT g, g, false FROM generate_series(1, 30000) AS g;
INSERT INTO stint.error_groups (id, task, text, sample, run, first_at, last_at, count)
SELECT g, 't' || g % 20, 'x' || g, 's', g, g, g, 1 FROM generate_series(2, 10000) AS g;
INSERT INTO stint.error_counts (span, grp, at, count) SELECT 60000, g, 60000, 1 FROM generate_series(2, 30000) AS g;
INSERT INTO stint.error_runs (run, grp) SELECT (1700000000000 + g) << 20, g % 300 FROM generate_series(1, 30000) AS g;
INSERT INTO stint.samples (span, kind, name, at, waiting, active, max)
SELECT 60000, 1 + g % 3, 'n' || g % 20, 60000 * g, 1, 1, 1 FROM generate_series(1, 30000) AS g;
INSERT INTO stint.counters (span, queue, task, at, process, enqueued, started, succeeded, failed, canceled, skipped, retried, waits, durations,
  depth, commits, changes, syncs)
SELECT 60000, 'q', 't' || g % 20, 60000 * g, 'p', 1, 1, 1, 1, 1, 1, 1, '', '', 1, 1, 1, '' FROM generate_series(1, 30000) AS g;
INSERT INTO stint.settings (key, value) SELECT 'k' || g, 'v' FROM generate_series(1, 5000) AS g;
ANALYZE`

// allowedReads are the scans and sorts that statements that read may have, and why.
var allowedReads = []struct{ statement, step, why string }{
	{"CASE WHEN g.level", "Sort", "a chart for people: of the newest lines, as many as it asks for"},
	{"FROM error_counts WHERE", "Sort", "sorts the counts of a page's groups"},
	{"FROM workers w WHERE ended_at IS NULL", "Sort", "sorts the living workers"},
	{"AND r.state = 2 AND", "Index", "counts what is scheduled, by its index: an exact count that a person asked for"},
	{"UNION SELECT task FROM filters", "", "names, for a person who typed one"},
	{"r.state = 4 AND +r.id", "Sort", "sorts what runs: as many as there are slots"},
}

// grows matches the scan of a table that grows with what is stored.
var grows = regexp.MustCompile(`Scan .*\b(runs|inputs|journal|attempts|joins|logs|chunks|events|event_runs|counters|samples|error_\w+|limiters|` +
	`keys|child_keys|waits|awaited|members|progress|filters|definitions|settings)( \w+)?$`)

// Each statement that reads finds an index that serves it: none looks at all of a table that grows, or sorts it, but those that
// are named with their reason. A connection that reads leaves it to the server whether it uses the index, as for a part of a
// table that is most of it a scan is faster; here the server must.
func TestReadPlans(t *testing.T) {
	set := noTables(t)
	log := &readLog{tripCounter: tripCounter{trips: map[*pgx.Conn]int{}}, all: map[string][]any{}}
	set.pool.Tracer = log
	s, err := open(t.Context(), set)
	if err != nil {
		t.Fatal(err)
	}
	ids := readable(t, s)
	clear(log.all)
	conn := dial(t, set)
	for _, text := range []string{crowdSQL, historySQL} {
		if _, err := conn.Exec(t.Context(), qualify(text, set.Schema)); err != nil {
			t.Fatal(err)
		}
	}
	readAll(t, s, ids)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	set.pool.Tracer = nil
	conn = dial(t, set) // which uses an index wherever there is one, whatever the statistics say
	if _, err := conn.Exec(t.Context(), "SET enable_sort = off; SET plan_cache_mode = auto"); err != nil {
		t.Fatal(err)
	}
	n, seen := 0, map[string]bool{}
	for _, x := range log.all {
		text := x[0].(string)
		if !strings.Contains(text, set.Schema+".") || !strings.HasPrefix(strings.TrimSpace(text), "SELECT") &&
			!strings.HasPrefix(strings.TrimSpace(text), "WITH") {
			continue
		}
		n++
		explainRead(t, conn, set.Schema, text, x[1:], seen)
	}
	if n < 60 {
		t.Errorf("%d statements, want those of all verbs that read", n)
	}
}

// explainRead checks the plan of a statement for the values of its parameters. A step that it reports is in seen then.
func explainRead(t *testing.T, conn *pgx.Conn, schema, text string, args []any, seen map[string]bool) {
	t.Helper()
	rows, err := conn.Query(t.Context(), "EXPLAIN (COSTS OFF) "+text, args...)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
steps:
	for i, line := range lines {
		step := strings.TrimLeft(line, " ->")
		found := i+1 < len(lines) && strings.Contains(lines[i+1], "Index Cond") // by the index
		whole := grows.MatchString(step) && !found && (strings.HasPrefix(step, "Seq") || !strings.Contains(text, "LIMIT"))
		if sorts := strings.HasPrefix(step, "Sort") || strings.HasPrefix(step, "Incremental Sort"); !whole && !sorts ||
			strings.HasPrefix(step, "Sort Key") {
			continue
		}
		for _, a := range allowedReads {
			if strings.Contains(strings.ReplaceAll(text, schema+".", ""), a.statement) && strings.HasPrefix(step, a.step) {
				continue steps
			}
		}
		if seen[step+text] {
			continue
		}
		seen[step+text] = true
		t.Errorf("%s\n%s %v\n%s", step, text, args, strings.Join(lines, "\n"))
	}
}

// readable stores a little of everything.
func readable(t *testing.T, s *Store) (ids []store.ID) {
	t.Helper()
	ctx, now := t.Context(), s.Now()
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	worker, err := s.Register(ctx, store.WorkerInfo{Name: "w"})
	ok(err)
	g := twoTasks(t)
	got, err := s.Enqueue(ctx, now, []store.NewRun{{Task: "a", Queue: "q"}, {Task: "a", Queue: "q"}, {Task: "b", Queue: "q"},
		{Task: "w", Queue: "q", Graph: g}, {Task: "l", Queue: "q", Limits: []store.Limit{{Name: "n", Key: "k", Max: 1, Strategy: store.StrategyQueue}}}})
	ok(err)
	for _, e := range got {
		ids = append(ids, e.ID)
	}
	claimed, err := s.Claim(ctx, store.ClaimRequest{Worker: worker, Free: func() int { return 1 }, Tasks: func(t string) bool { return t == "a" }})
	ok(err)
	_, err = s.Finish(ctx, now, []store.Outcome{{ID: claimed[0].ID, Lease: claimed[0].Lease, To: store.Failed, Error: []byte("no"),
		Failure: &store.Failure{Group: 1, Task: "a", Text: "no"}, Record: store.Record{Progress: &store.Progress{},
			Logs: []store.Log{{Message: "m"}}, Chunks: []store.Chunk{{Data: []byte{1}}}}}})
	ok(err)
	_, err = s.Publish(ctx, now, []store.NewEvent{{Key: "e", Payload: []byte(`{"n":1}`)}})
	ok(err)
	ok(sampling{s}.Put(ctx, now, []sample.Row{{Kind: sample.KindQueue, Name: "q", Active: 1}}, nil))
	return ids
}

// readAll calls the verbs that read, with filters of all kinds.
func readAll(t *testing.T, s *Store, ids []store.ID) {
	t.Helper()
	ctx, now := t.Context(), s.Now()
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	warn := 4
	for _, f := range []store.Filter{{}, {Brief: true}, {Scan: 10}, {States: []store.State{store.Failed}}, {States: []store.State{store.Blocked}},
		{States: []store.State{store.Running}}, {States: []store.State{store.Queued}}, {States: []store.State{store.Scheduled}},
		{States: []store.State{store.Failed, store.Canceled}, Scan: 20_000}, {IDs: ids[:2]}, {Parent: ids[3]}, {Tasks: []string{"a"}, Scan: 20_000},
		{Tasks: []string{"a:x"}, Scan: 20_000}, {Queues: []string{"q"}, Scan: 20_000}, {Metadata: map[string]string{"k": "v"}, Scan: 20_000},
		{Since: now, Until: now}, {TopLevel: true}, {NoTasks: true}, {Error: "no", Scan: 20_000}, {Limit: &store.LimitKey{Name: "n", Key: "k"}},
		{Through: ids[2]}, {Worker: "w", Scan: 20_000}, {Event: ids[0]}, {ErrorGroup: 1},
		{AnyMetadata: map[string][]string{"k": {"a", "b"}}, Scan: 20_000}} {
		for _, before := range []store.ID{{}, ids[2]} {
			_, _, err := s.List(ctx, f, before, 50)
			ok(err)
			_, _, err = s.Count(ctx, f, before)
			ok(err)
			f.Oldest = !f.Oldest
		}
	}
	for _, f := range []store.LogFilter{{}, {Oldest: true}, {Level: &warn, Scan: 10}, {Tasks: []string{"a"}, Scan: 10}, {Run: ids[0]},
		{Since: now, Until: now}} {
		ok(s.Read(ctx, &store.LogList{Filter: f, After: store.LogPlace{At: now, Run: ids[0], Seq: 1}, Limit: 50}))
		ok(s.Read(ctx, &store.LogCountList{Filter: f, Span: time.Minute, Limit: 100}))
	}
	for _, q := range []store.ErrorQuery{{Span: time.Minute}, {Span: time.Hour, Since: now, Until: now}, {IDs: []int64{1}},
		{Tasks: []string{"t"}, Text: "x"}, {After: store.ErrorPlace{Last: now, ID: 1}}} {
		ok(s.Read(ctx, &store.ErrorGroupList{ErrorQuery: q, Limit: 50}))
	}
	for _, f := range []store.EventFilter{{}, {Keys: []string{"a"}}, {Keys: []string{"a", "b"}}, {IDs: ids[:1]},
		{Metadata: map[string]string{"k": "v"}, Since: now, Until: now}} {
		ok(s.Read(ctx, &store.EventList{Filter: f, Limit: 50}))
	}
	readRest(t, s, ids, ok)
}

func readRest(t *testing.T, s *Store, ids []store.ID, ok func(error)) {
	t.Helper()
	ctx, now := t.Context(), s.Now()
	for _, id := range ids {
		_, err := s.Get(ctx, id)
		ok(err)
		_, err = s.Logs(ctx, id, 0, 50)
		ok(err)
		for _, after := range []int64{0, -10} {
			_, _, err = s.Chunks(ctx, id, after, 50)
			ok(err)
		}
		for _, after := range []store.Address{{}, {Seq: 1}} {
			for _, notes := range []bool{false, true} {
				_, _, err = s.Entries(ctx, id, after, 50, notes)
				ok(err)
			}
		}
	}
	for _, names := range [][]string{nil, {"a"}} {
		_, _, err := s.Workflow(ctx, ids[3], names)
		ok(err)
	}
	for of := store.PerAll; of <= store.PerLimit; of++ {
		ok(s.Read(ctx, &store.CounterList{Span: time.Minute, Since: now, Of: of}))
	}
	for _, rates := range []bool{false, true} {
		ok(s.Read(ctx, &store.LimitList{Rates: rates}))
	}
	for _, name := range []string{"", "q"} {
		for _, q := range []store.Query{&store.QueueList{Name: name}, &store.FilterList{Task: name, After: 1, Limit: 50},
			&store.SettingList{Prefix: name, Limit: 50}, &store.CronList{After: name, Limit: 50}} {
			ok(s.Read(ctx, q))
		}
	}
	for _, q := range []store.Query{&store.Names{}, &store.StateCount{}, &store.WorkerList{}, &store.DefinitionList{}} {
		ok(s.Read(ctx, q))
	}
	for _, kind := range []store.ActionKind{store.ActCancel, store.ActReplay, store.ActDelete} {
		_, err := s.Act(ctx, now, store.Action{Kind: kind, DryRun: true}, store.Filter{Through: ids[0]})
		ok(err)
	}
}
