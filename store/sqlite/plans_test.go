package sqlite

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stint-dev/stint/internal/sample"
	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/lifecycle"
)

// allowedSteps are the scans and sorts that statements may have, and why.
var allowedSteps = []struct{ statement, step, why string }{
	{"", "SCAN CONSTANT ROW", "no table"},
	{"VALUES", "SCAN 50-ROW VALUES CLAUSE", "no table"},
	{"VALUES", "SCAN 8-ROW VALUES CLAUSE", "no table"},
	{"LIMIT 1", "SCAN stint_runs USING COVERING INDEX", "reads the first entry of the index"},
	{"ORDER BY r.id DESC LIMIT", "SCAN r", "reads the newest runs until the page is full"},
	{"ORDER BY id LIMIT", "SCAN stint_runs", "reads in order until the page is full"},
	{"ORDER BY +r.id ", "SCAN r USING INDEX stint_runs_running", "reads what runs"},
	{"ORDER BY +r.id ", "USE TEMP B-TREE FOR ORDER BY", "sorts what runs: as many as there are slots"},
	{"json_each", "SCAN json_each", "reads the keys it is given"},
	{"json_each", "SCAN j EXISTS VIRTUAL TABLE", "reads a run's limits"},
	{"json_each(CASE WHEN json_valid(r.metadata)", "SCAN j VIRTUAL TABLE", "reads a run's metadata"},
	{"WITH v (", "SCAN v", "no table"},
	{"r.parent = ?", "USE TEMP B-TREE FOR ORDER BY", "sorts a run's children that match, or those of a page (childrenOf)"},
	{"WHERE parent = ? AND id >= ?", "USE TEMP B-TREE FOR ORDER BY", "sorts the keys of a run's children"},
	{"FROM stint_members m", "USE TEMP B-TREE FOR ORDER BY", "sorts those of a key that newer runs may cancel: its limit, " +
		"and what came since"},
	{"FROM stint_lanes", "SCAN stint_lanes",
		"all lanes are read once after another process's commit; there are as many as pairs of task and queue"},
	{"staged", "SCAN stint_lanes", "likewise"},
	{"FROM stint_queues", "SCAN stint_queues", "there are as many as queues"},
	{"WITH RECURSIVE", "SCAN found", "distinctValues: a row a lane that has something ready, " +
		"or a field or a filter that an event is awaited by"},
	{"FROM sqlite_schema", "SCAN sqlite_schema", "once after another process's commit: as many rows as there are tables and indexes"},
	{"FROM stint_transitions", "SCAN m", "what has changed its state in this transaction"},
	{"FROM stint_queues q ORDER", "SCAN", "figures for people: lanes, what runs, and counts that stop at MaxCount"},
	{"FROM stint_queues q WHERE name", "SCAN", "likewise"},
	{"GROUP BY priority", "SCAN x", "figures for people: of MaxCount runs at most"},
	{"GROUP BY priority", "USE TEMP B-TREE FOR GROUP BY", "likewise"},
	{"FROM stint_limiters", "SCAN stint_limiters", "once after the file was opened: keys in use"},
	{"limits IS NOT NULL", "SCAN stint_runs USING INDEX", "likewise: what is queued, if it is not too much, and runs or waits"},
	{"FROM stint_graphs", "SCAN stint_graphs", "there are as many as shapes of workflows"},
	{"FROM stint_awaited)", "SCAN stint_awaited", "reads one row, if there is one"},
	{"stint_workers", "SCAN stint_workers", "reads the live ones, through their index"},
	{"crashes >= 2)", "SCAN stint_runs USING INDEX stint_runs_running", "reads what runs, if there are suspects"},
	{"SELECT count(*) FROM (SELECT 1 FROM stint_runs WHERE state", "SCAN", "a count that stops at MaxCount"},
	{"GROUP BY queue, task, at", "SCAN stint_counters", "once an hour, or a tenth of the retention: a month's figures"},
	{"UNION SELECT task FROM stint_filters", "", "names, for a person who typed one"},
	{"SELECT DISTINCT tasks, queues", "USE TEMP B-TREE FOR DISTINCT", "likewise"},
	{"SELECT count(DISTINCT", "USE TEMP B-TREE FOR count",
		"a count of all that match, which a person asked for: tasks of one workflow's run count once"},
	{"CASE WHEN g.level", "SCAN g", "a chart for people: of the newest lines, as many as it asks for"},
	{"CASE WHEN g.level", "USE TEMP B-TREE", "likewise"},
	{"AND g.run = ? ORDER BY g.at", "USE TEMP B-TREE FOR ORDER BY", "sorts a run's lines: MaxLogs at most"},
	{"FROM stint_schema", "SCAN stint_schema", "has one row"},
	{"FROM stint_error_groups WHERE true ORDER BY", "SCAN stint_error_groups USING COVERING INDEX", "once an hour, or a tenth of the " +
		"retention: MaxErrorGroups entries, and what is over"},
	{"FROM stint_error_groups", "USE TEMP B-TREE FOR ORDER BY", "sorts the groups of runs that were asked for"},
	{"FROM stint_error_counts", "USE TEMP B-TREE FOR ORDER BY", "sorts the counts of a page's groups"},
}

// R9: no statement that the writer or a reader has prepared after all verbs were used
// scans a table or sorts, but those that are named here with their reason.
func TestR9Plans(t *testing.T) {
	s, err := Open(filepath.Join(t.TempDir(), "plans.db"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	useAll(t, s)
	var texts []string
	for text := range s.w.stmt {
		texts = append(texts, text)
	}
	texts = append(texts, s.readers.texts()...)
	looked := 0
	for _, text := range texts {
		if !strings.Contains(text, "stint_") {
			continue
		}
		looked++
	steps:
		for _, step := range plan(t, s, text) {
			if !strings.HasPrefix(step, "SCAN") && !strings.Contains(step, "TEMP B-TREE") {
				continue
			}
			for _, a := range allowedSteps {
				if strings.Contains(text, a.statement) && strings.HasPrefix(step, a.step) {
					continue steps
				}
			}
			t.Errorf("%s\n\tof %s", step, text)
		}
	}
	if looked < 30 {
		t.Errorf("only %d statements were looked at", looked)
	}
}

func plan(t *testing.T, s *Store, text string) (steps []string) {
	args := make([]any, strings.Count(text, "?"))
	err := s.do(context.Background(), func(x *unit) error {
		for len(args) >= 0 {
			rows, err := rowsOf(x, func(r *[4]any) []any { return []any{&r[0], &r[1], &r[2], &r[3]} }, "EXPLAIN QUERY PLAN "+text, args...)
			if err != nil && len(args) > 0 && strings.Contains(err.Error(), "arg") {
				args = args[1:] // a numbered one stands more than once
				continue
			}
			for _, r := range rows {
				steps = append(steps, fmt.Sprint(r[3]))
			}
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return steps
}

// failing has an error fail the test.
func failing(t *testing.T) func(error) {
	return func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
}

// useAll has every verb prepare its statements.
func useAll(t *testing.T, s *Store) {
	ctx := t.Context()
	now := time.Now()
	ok := failing(t)
	worker, err := s.Register(ctx, store.WorkerInfo{Name: "w"})
	ok(err)
	ids := enqueueMany(t, s)
	_, err = s.Enqueue(ctx, now, []store.NewRun{{Task: "c", Queue: "q", Parent: ids[0]}})
	ok(err)
	bulk := make([]store.NewRun, stageAbove+1)
	for i := range bulk {
		bulk[i] = store.NewRun{Task: "bulk", Queue: "q"}
	}
	_, err = s.Enqueue(ctx, now, bulk)
	ok(err)
	claim := func(n int, tasks ...string) []store.Claimed {
		got, err := s.Claim(ctx, store.ClaimRequest{Worker: worker, Free: func() int { return n }, Tasks: func(t string) bool {
			return len(tasks) == 0 || strings.Contains(strings.Join(tasks, " "), t)
		}})
		ok(err)
		return got
	}
	claim(3, "a")
	got := claim(50)
	var outcomes []store.Outcome
	for i, to := range []store.State{store.Succeeded, store.Failed, store.Canceled, store.Queued, store.Blocked, store.Scheduled} {
		outcomes = append(outcomes, store.Outcome{ID: got[i].ID, Lease: got[i].Lease, To: to,
			Failure: &store.Failure{Group: 1, Task: "t", Text: "no"}, Follow: []store.NewRun{{Task: "d", Queue: "q"}},
			Record: store.Record{Progress: &store.Progress{}, Logs: []store.Log{{Message: "m"}}, Chunks: []store.Chunk{{Data: []byte{1}}}}})
	}
	_, err = s.Act(ctx, now, store.Action{Kind: store.ActCancel}, store.Filter{IDs: []store.ID{got[0].ID, ids[20]}})
	ok(err)
	_, err = s.Finish(ctx, now, outcomes)
	ok(err)
	_, err = s.Record(ctx, []store.Record{{ID: got[9].ID, Lease: got[9].Lease, Progress: &store.Progress{}}})
	ok(err)
	useReads(t, s, got[1].ID, ids)
	useGraphs(t, s, worker)
	useLimits(t, s, worker)
	ok(s.Change(ctx, now, &store.PauseChange{Queue: "q"}))
	ok(s.do(ctx, func(u *unit) error {
		_, err := lifecycle.ReleaseWorker(u.runs, worker, u.now, true)
		return err
	}))
	_, err = s.recover(ctx)
	ok(err)
	_, err = s.Act(ctx, now, store.Action{Kind: store.ActReplay}, store.Filter{States: []store.State{store.Failed}})
	ok(err)
	_, err = s.Expire(ctx, now, now)
	ok(err)
	_, err = s.Act(ctx, now, store.Action{Kind: store.ActDelete}, store.Filter{States: []store.State{store.Succeeded}})
	ok(err)
}

// enqueueMany enqueues runs of all kinds, of the tasks a and b.
func enqueueMany(t *testing.T, s *Store) (ids []store.ID) {
	now := time.Now()
	for _, task := range []string{"a", "b"} {
		many := make([]store.NewRun, 2*perInsert+1)
		for i := range many {
			many[i] = store.NewRun{Task: task, Queue: "q", Priority: 2, Input: make([]byte, 10)}
		}
		many[0].Input = make([]byte, 2*spillAbove)
		many[1].Key = "k"
		many[2].RunAt = now.Add(1e12)
		many[3].StartIn = 1e12
		got, err := s.Enqueue(t.Context(), now, many)
		failing(t)(err)
		for _, e := range got {
			ids = append(ids, e.ID)
		}
	}
	return ids
}

// useReads makes the verbs that read prepare their statements.
func useReads(t *testing.T, s *Store, id store.ID, ids []store.ID) {
	ctx, now, ok := t.Context(), time.Now(), failing(t)
	var err error
	for _, chunk := range []int64{0, 1} {
		_, err = s.Await(ctx, id, store.Until{Chunk: chunk})
		ok(err)
	}
	_, err = s.Get(ctx, id)
	ok(err)
	_, err = s.Logs(ctx, id, 0, 1)
	ok(err)
	warn := 4
	for _, f := range []store.LogFilter{{}, {Oldest: true}, {Level: &warn, Scan: 10}, {Tasks: []string{"a"}, Scan: 10}, {Run: id},
		{Since: now, Until: now}} {
		ok(s.Read(ctx, &store.LogList{Filter: f, After: store.LogPlace{At: now, Run: id, Seq: 1}, Limit: 10}))
		ok(s.Read(ctx, &store.LogCountList{Filter: f, Span: time.Minute, Limit: 100}))
	}
	for _, after := range []int64{0, -1} {
		if _, _, err = s.Chunks(ctx, id, after, 1); err != nil {
			break
		}
	}
	ok(err)
	for _, q := range []store.Query{&store.QueueList{}, &store.QueueList{Name: "q"}, &store.Names{}, &store.StateCount{}} {
		ok(s.Read(ctx, q))
	}
	_, err = s.Facts(ctx)
	ok(err)
	ok(sampling{s}.Put(ctx, now, []sample.Row{{Kind: sample.KindQueue, Name: "q", Active: 1}}, nil))
	_, err = sampling{s}.Sampled(ctx, now)
	ok(err)
	for of := store.PerAll; of <= store.PerLimit; of++ {
		ok(s.Read(ctx, &store.CounterList{Span: time.Minute, Since: now, Of: of}))
	}
	for _, f := range []store.Filter{{}, {Brief: true}, {Scan: 10}, {States: []store.State{store.Failed}}, {States: []store.State{store.Blocked}},
		{States: []store.State{store.Running}},
		{IDs: ids[:2]}, {Parent: ids[0]}, {Tasks: []string{"a"}}} {
		_, _, err = s.List(ctx, f, store.ID{}, 10)
		ok(err)
		_, _, err = s.List(ctx, f, ids[5], 10)
		ok(err)
		_, _, err = s.Count(ctx, f, ids[5])
		ok(err)
		f.Oldest = true
		_, _, err = s.List(ctx, f, ids[5], 10)
		ok(err)
	}
	for _, f := range []store.Filter{{States: []store.State{store.Failed}}, {States: []store.State{store.Failed, store.Canceled}},
		{States: []store.State{store.Waiting}}} {
		f.Scan = 2
		_, _, err = s.Count(ctx, f, store.ID{})
		ok(err)
	}
	for _, kind := range []store.ActionKind{store.ActCancel, store.ActReplay, store.ActDelete} {
		_, err = s.Act(ctx, now, store.Action{Kind: kind, DryRun: true}, store.Filter{Through: ids[0]})
		ok(err)
	}
}

// useGraphs makes the verbs of workflows and events prepare their statements.
func useGraphs(t *testing.T, s *Store, worker int64) {
	ctx, now, queue := t.Context(), time.Now(), "q"
	ok := failing(t)
	match := &store.Match{Key: "e", Field: "n", Value: "1"}
	g, err := store.NewGraph(store.Graph{Workflow: "w", OnFailure: &queue, OnSuccess: &queue, Tasks: []store.GraphTask{
		{Name: "a", Queue: "q", Tests: []string{"t"}}, {Name: "b", Queue: "q", WaitFor: &store.Condition{Event: match}},
		{Name: "c", Queue: "q", Parents: []int{0, 1}, SkipIf: &store.Condition{Test: &store.TestRef{}}},
		{Name: "d", Queue: "q", Parents: []int{0}, StartIn: time.Hour},
		{Name: "e", Queue: "q", WaitFor: &store.Condition{Sleep: time.Millisecond}},
	}})
	ok(err)
	run := store.NewRun{Task: "w", Queue: "q", Graph: g, StartIn: time.Hour}
	later := run
	later.RunAt = now.Add(2 * time.Millisecond)
	workflows, err := s.Enqueue(ctx, now, []store.NewRun{run, later, run})
	ok(err)
	claim := func(task string) store.Claimed {
		got, err := s.Claim(ctx, store.ClaimRequest{Worker: worker, Free: func() int { return 1 },
			Tasks: func(t string) bool { return t == task }})
		ok(err)
		return got[0]
	}
	finish := func(c store.Claimed, o store.Outcome) {
		t.Helper()
		o.ID, o.Lease, o.Parent, o.Node = c.ID, c.Lease, c.Parent, c.Node
		_, err := s.Finish(ctx, now, []store.Outcome{o})
		ok(err)
	}
	finish(claim("w:"), store.Outcome{To: store.Succeeded, Tests: []store.TestResult{{OK: true}}})
	finish(claim("w:"), store.Outcome{To: store.Failed})
	finish(claim("w:"), store.Outcome{To: store.Queued, NoHandler: true})
	_, err = s.Publish(ctx, now, []store.NewEvent{{Key: "e", Payload: []byte(`{"n":1}`)}})
	ok(err)
	_, _, err = s.Workflow(ctx, workflows[0].ID, nil)
	ok(err)
	_, _, err = s.Workflow(ctx, workflows[0].ID, []string{"a"})
	ok(err)
	_, _, err = s.List(ctx, store.Filter{Tasks: []string{"w:a"}}, store.ID{}, 10)
	ok(err)
	_, err = s.Act(ctx, now, store.Action{Kind: store.ActCancel}, store.Filter{IDs: []store.ID{workflows[1].ID, workflows[2].ID}})
	ok(err)
	_, err = s.Act(ctx, now, store.Action{Kind: store.ActReplay}, store.Filter{IDs: []store.ID{workflows[2].ID}})
	ok(err)
	useJournal(t, s, match, claim, finish)
}

// useJournal makes the verbs of journals prepare their statements.
func useJournal(t *testing.T, s *Store, match *store.Match, claim func(string) store.Claimed, finish func(store.Claimed, store.Outcome)) {
	ctx, now, ok := t.Context(), time.Now(), failing(t)
	_, err := s.Enqueue(ctx, now, []store.NewRun{{Task: "parent", Queue: "q"}})
	ok(err)
	p := claim("parent")
	call := func(seq int, kind store.EntryKind, done bool) *store.Call {
		return &store.Call{ID: p.ID, Lease: p.Lease, Entry: store.Entry{Address: store.Address{Seq: seq}, Kind: kind, Name: "e",
			Done: done, Match: *match}}
	}
	for _, c := range []*store.Call{call(1, store.EntryStep, true), call(1, store.EntryStep, true), call(2, store.EntryEvent, false)} {
		_, _, err = s.Append(ctx, now, *c)
		ok(err)
	}
	child, err := s.Enqueue(ctx, now, []store.NewRun{{Task: "child", Queue: "q", Parent: p.ID, Call: call(3, store.EntryChild, true)}})
	ok(err)
	for range 2 {
		_, err = s.Enqueue(ctx, now, []store.NewRun{{Task: "keyed", Queue: "q", Parent: p.ID, ParentNamed: true, ChildKey: "c"}})
		ok(err)
	}
	_, err = s.Await(ctx, p.ID, store.Until{Entry: store.Address{Seq: 1}})
	ok(err)
	finish(p, store.Outcome{To: store.Waiting, Waits: store.Waits{Entries: []store.Address{{Seq: 2}}, Children: []store.ID{child[0].ID}}})
	finish(claim("child"), store.Outcome{To: store.Succeeded})
	_, _, err = s.Entries(ctx, p.ID, store.Address{}, -1, true)
	ok(err)
	for _, after := range []store.Address{{}, {Seq: 1}} {
		for _, notes := range []bool{false, true} {
			_, _, err = s.Entries(ctx, p.ID, after, 1, notes)
			ok(err)
		}
	}
	ok(s.Read(ctx, &store.CronList{After: "a", Limit: 1}))
	for _, task := range []string{"", "t"} {
		ok(s.Read(ctx, &store.FilterList{Task: task, After: 1, Limit: 1}))
	}
	for _, f := range []store.Filter{{AnyMetadata: map[string][]string{"k": {"a", "b"}}}, {Event: p.ID}, {Worker: "w"}, {NoTasks: true}} {
		_, _, err = s.List(ctx, f, store.ID{}, 10)
		ok(err)
	}
	for _, f := range []store.EventFilter{{Keys: []string{"a"}}, {Keys: []string{"a", "b"}}, {IDs: []store.ID{p.ID}},
		{Metadata: map[string]string{"k": "v"}, Since: now, Until: now}} {
		ok(s.Read(ctx, &store.EventList{Filter: f, Limit: 10}))
	}
	filter := store.FilterChange{Filter: store.TaskFilter{Task: "t", Scope: "s"}}
	ok(s.Change(ctx, now, &filter))
	ok(s.Change(ctx, now, &store.FilterChange{Filter: store.TaskFilter{ID: filter.ID, Task: "t", Scope: "z"}}))
	for _, ifMissing := range []bool{false, true} {
		ok(s.Change(ctx, now, &store.SettingChange{Setting: store.Setting{Key: "k", Value: []byte("v")}, IfMissing: ifMissing}))
	}
	ok(s.Change(ctx, now, &store.SettingChange{Setting: store.Setting{Key: "k"}}))
	for _, prefix := range []string{"", "k"} {
		ok(s.Read(ctx, &store.SettingList{Prefix: prefix, Limit: 1}))
	}
	for _, q := range []store.ErrorQuery{{Span: time.Minute}, {Span: time.Hour, Since: now, Until: now}, {IDs: []int64{1}}, {Tasks: []string{"t"}, Text: "x"},
		{After: store.ErrorPlace{Last: now, ID: 1}}} {
		ok(s.Read(ctx, &store.ErrorGroupList{ErrorQuery: q, Limit: 10}))
	}
	ok(s.Change(ctx, now, &store.ErrorMark{Group: 1, MutedTill: now}))
	_, _, err = s.List(ctx, store.Filter{ErrorGroup: 1}, store.ID{}, 10)
	ok(err)
	ok(s.Change(ctx, now, &store.RunChange{Kind: store.RunFork, ID: p.ID, At: store.Address{Seq: 2}}))
	ok(s.Change(ctx, now, &store.RunChange{Kind: store.RunRestart, ID: child[0].ID, At: store.Address{Seq: 1}}))
	finish(claim("parent"), store.Outcome{To: store.Scheduled, At: now, Forget: []store.Address{{Seq: 1}}})
	_, err = s.Publish(ctx, now, []store.NewEvent{{Key: "e", Payload: []byte(`{"n":1}`)}})
	ok(err)
}

// useLimits makes limits of each kind hold up runs, and admit them.
func useLimits(t *testing.T, s *Store, worker int64) {
	ctx, now := t.Context(), time.Now()
	ok := failing(t)
	one := func(strategy store.Strategy) store.Limit {
		return store.Limit{Name: fmt.Sprint("n", strategy), Key: "k", Max: 1, Strategy: strategy}
	}
	rate := store.Limit{Key: "r", Units: 1, PerSecond: 1000, Burst: 1}
	kinds := [][]store.Limit{{one(store.StrategyQueue)}, {one(store.StrategyGroupRoundRobin)}, {one(store.StrategyCancelNewest)},
		{one(store.StrategyCancelInProgress)}, {rate}, {one(store.StrategyGroupRoundRobin), rate}}
	for _, limits := range kinds {
		r := store.NewRun{Task: "limited", Queue: "q", Input: []byte("1"), Limits: limits}
		later := r
		later.RunAt = now.Add(time.Hour)
		_, err := s.Enqueue(ctx, now, []store.NewRun{r, r, r, later})
		ok(err)
	}
	bulk := make([]store.NewRun, stageAbove+1)
	for i := range bulk {
		bulk[i] = store.NewRun{Task: "bulk", Queue: "q", Limits: kinds[0]}
	}
	_, err := s.Enqueue(ctx, now, bulk)
	ok(err)
	three := one(store.StrategyGroupRoundRobin) // and one again: what has passed is moved back
	three.Max = 3
	for _, l := range []store.Limit{three, one(store.StrategyGroupRoundRobin)} {
		_, err := s.Enqueue(ctx, now, []store.NewRun{{Task: "limited", Queue: "q", Limits: []store.Limit{l}}})
		ok(err)
	}
	ok(s.Change(ctx, now, &store.RateChange{Key: "r", PerSecond: 1000, Burst: 2}))
	for _, paused := range []bool{true, false} {
		ok(s.Change(ctx, now, &store.PauseChange{Limit: store.LimitKey{Name: "n0", Key: "k"}, Paused: paused}))
	}
	for range 2 {
		got, err := s.Claim(ctx, store.ClaimRequest{Worker: worker, Free: func() int { return 10 },
			Tasks: func(t string) bool { return t == "limited" }})
		ok(err)
		for _, c := range got {
			_, err := s.Finish(ctx, now, []store.Outcome{{ID: c.ID, Lease: c.Lease, To: store.Succeeded}})
			ok(err)
		}
	}
	for _, rates := range []bool{true, false} {
		ok(s.Read(ctx, &store.LimitList{Rates: rates}))
	}
	_, _, err = s.List(ctx, store.Filter{Limit: &store.LimitKey{Name: "n0", Key: "k"}}, store.ID{}, 10)
	ok(err)
	ok(s.expireRates(ctx))
}

// A count looks at the runs of rare states by their index, and at a part of all others by their keys.
func TestCountPlans(t *testing.T) {
	s, err := Open(filepath.Join(t.TempDir(), "plans.db"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ok := failing(t)
	enqueueMany(t, s)
	for _, tt := range []struct {
		f    store.Filter
		want []string // of the statement for the part's end, and of that which counts
	}{
		{store.Filter{States: []store.State{store.Failed}}, []string{
			"SEARCH r USING COVERING INDEX stint_runs_unsuccessful (state=? AND rowid<?)",
			"SEARCH r USING INDEX stint_runs_unsuccessful (state=? AND rowid>? AND rowid<?)"}},
		{store.Filter{States: []store.State{store.Waiting}}, []string{
			"SEARCH r USING COVERING INDEX stint_runs_held (state=? AND rowid<?)",
			"SEARCH r USING INDEX stint_runs_held (state=? AND rowid>? AND rowid<?)"}},
		{store.Filter{Tasks: []string{"a"}}, []string{
			"SEARCH stint_runs USING INTEGER PRIMARY KEY (rowid<?)", "SEARCH r USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"}},
	} {
		s.readers.forget()
		tt.f.Scan = 2
		_, _, err := s.Count(t.Context(), tt.f, store.ID{})
		ok(err)
		var got []string
		for _, text := range s.readers.texts() {
			got = append(got, plan(t, s, text)[0])
		}
		for _, want := range tt.want {
			if !slices.Contains(got, want) {
				t.Errorf("%+v: %q, want %q", tt.f, got, want)
			}
		}
	}
}
