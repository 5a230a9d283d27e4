package storetest

import (
	"errors"
	"fmt"
	"slices"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stint-dev/stint/store"
)

func list(s *suite) {
	began := time.Now()
	for i := range 20 {
		r := run(fmt.Sprint(i))
		r.Task, r.Queue, r.Metadata = fmt.Sprint("t", i%2), fmt.Sprint("q", i%4), fmt.Appendf(nil, `{"n":"%d"}`, i%5)
		s.enqueue(r)
		time.Sleep(time.Second)
	}
	for i, c := range s.claim(6) {
		s.finish(outcome(c, []store.State{store.Succeeded, store.Failed, store.Canceled}[i%3]))
	}
	all := s.list(store.Filter{}, 20)
	first, fifth := s.get(all[19]), all[15]
	for _, tt := range []struct {
		name string
		f    store.Filter
		want int
	}{
		{"all", store.Filter{}, 20},
		{"task", store.Filter{Tasks: []string{"t1"}}, 10},
		{"tasks and queue", store.Filter{Tasks: []string{"t0", "t1"}, Queues: []string{"q2"}}, 5},
		{"state", store.Filter{States: []store.State{store.Failed}}, 2},
		{"states", store.Filter{States: []store.State{store.Failed, store.Queued}}, 16},
		{"no state", store.Filter{States: []store.State{}}, 0},
		{"metadata", store.Filter{Metadata: map[string]string{"n": "3"}}, 4},
		{"other metadata", store.Filter{Metadata: map[string]string{"m": "3"}}, 0},
		{"since", store.Filter{Since: began.Add(15 * time.Second)}, 5},
		{"until", store.Filter{Until: began.Add(15 * time.Second)}, 15},
		{"id", store.Filter{IDs: []store.ID{first.ID, {1}}}, 1},
		{"parent", store.Filter{Parent: first.ID}, 0},
		{"top level", store.Filter{TopLevel: true}, 20},
		{"any metadata", store.Filter{AnyMetadata: map[string][]string{"n": {"3", "4"}, "m": {"3"}}}, 8},
		{"any of no metadata", store.Filter{AnyMetadata: map[string][]string{}}, 0},
		{"worker", store.Filter{Worker: "tester"}, 6},
		{"other worker", store.Filter{Worker: "none"}, 0},
		{"no event", store.Filter{Event: first.ID}, 0},
		{"no tasks", store.Filter{NoTasks: true}, 20},
		{"through", store.Filter{Through: fifth}, 5},
		{"through, of a task", store.Filter{Through: fifth, Tasks: []string{"t1"}}, 2},
	} {
		if got := s.list(tt.f, 3); len(got) != tt.want {
			s.Errorf("%s: %d runs, want %d", tt.name, len(got), tt.want)
		}
	}
}

func names(s *suite) {
	ctx := s.Context()
	r := run("x")
	r.Task, r.Queue = "ran", "q1"
	s.enqueue(r)
	worker, err := s.Register(ctx, store.WorkerInfo{Name: "w2", Slots: 1, Queues: []string{"q2"}, Tasks: []string{"a"}})
	s.ok(err)
	_, err = s.Register(ctx, store.WorkerInfo{ID: worker, Tasks: []string{"a", "b"}})
	s.ok(err)
	s.ok(s.change(&store.PauseChange{Queue: "q3", Paused: true}))
	s.ok(s.change(&store.PauseChange{Queue: "q4"})) // makes none
	living := read(s, &store.WorkerList{}).Workers
	if w := living[len(living)-1]; !slices.Equal(w.Tasks, []string{"a", "b"}) || living[0].Tasks != nil {
		s.Errorf("workers have %q, and %q where any may come", w.Tasks, living[0].Tasks)
	}
	n := read(s, &store.Names{})
	if want := []string{"a", "b", "ran"}; !slices.Equal(n.Tasks, want) {
		s.Errorf("tasks %q, want %q", n.Tasks, want)
	}
	if want := []string{"q1", "q2", "q3"}; !slices.Equal(n.Queues, want) {
		s.Errorf("queues %q, want %q", n.Queues, want)
	}
}

// oldestFirst checks that a list the other way has the same runs, in pages, also with Scan.
func oldestFirst(s *suite) {
	for i := range 20 {
		r := run(fmt.Sprint(i))
		r.Task = fmt.Sprint("t", i%2)
		s.enqueue(r)
		time.Sleep(time.Second)
	}
	for _, c := range s.claim(3) {
		s.finish(outcome(c, store.Failed))
	}
	s.claim(2)
	middle := s.get(s.list(store.Filter{}, 20)[9])
	for _, f := range []store.Filter{{}, {Tasks: []string{"t1"}}, {States: []store.State{store.Failed}},
		{States: []store.State{store.Running}}, {Since: middle.Created}, {Until: middle.Created}, {Through: middle.ID}} {
		want := s.list(f, 7)
		slices.Reverse(want)
		for _, scan := range []int{0, 4} {
			f.Oldest, f.Scan = true, scan
			var got []store.ID
			var after store.ID
			for more := true; more; more = after != (store.ID{}) {
				runs, next, err := s.List(s.Context(), f, after, 3)
				s.ok(err)
				for _, r := range runs {
					got = append(got, r.ID)
				}
				after = next
			}
			if !slices.Equal(got, want) {
				s.Errorf("%+v: %v, want %v", f, got, want)
			}
		}
	}
}

// list reads all pages, and checks that they are in order, without gaps or repetitions.
func (s *suite) list(f store.Filter, limit int) (all []store.ID) {
	var before store.ID
	for {
		runs, next, err := s.List(s.Context(), f, before, limit)
		s.ok(err)
		for _, r := range runs {
			if before != (store.ID{}) && slices.Compare(r.ID[:], before[:]) >= 0 {
				s.Errorf("%s is listed after %s", r.ID, before)
			}
			before = r.ID
			all = append(all, r.ID)
		}
		if next == (store.ID{}) {
			return all
		}
		if next != before || len(runs) < limit {
			s.Fatalf("a page of %d runs goes on at %s", len(runs), next)
		}
	}
}

func expire(s *suite) {
	var ids []store.ID
	for _, to := range []store.State{store.Succeeded, store.Failed, store.Canceled} {
		ids = append(ids, s.enqueue(run("x"))...)
		s.finish(outcome(s.claim(1)[0], to))
	}
	open := s.enqueue(run("open"))[0]
	now := time.Now()
	time.Sleep(time.Second)
	n, err := s.Expire(s.Context(), now, now)
	s.ok(err)
	if n != 0 {
		s.Errorf("expired %d at the instant they ended", n)
	}
	n, err = s.Expire(s.Context(), time.Now(), now)
	s.ok(err)
	if n != 2 {
		s.Errorf("expired %d, want those that did not fail", n)
	}
	if n := s.act(store.ActDelete, store.Filter{}); n != 1 {
		s.Errorf("deleted %d, %v: want the failed one", n, err)
	}
	for _, id := range ids {
		if _, err := s.Get(s.Context(), id); !errors.Is(err, store.ErrNotFound) {
			s.Errorf("Get of a deleted run: %v", err)
		}
	}
	s.state(open, store.Queued)
	last := s.enqueue(run("last"))[0]
	s.act(store.ActCancel, store.Filter{IDs: []store.ID{last}})
	s.act(store.ActDelete, store.Filter{IDs: []store.ID{last}})
	if again := s.enqueue(run("again"))[0]; again == last {
		s.Error("a deleted run's ID was given again")
	}
}

func keptChildren(s *suite) {
	parent := s.enqueue(run("parent"))[0]
	p := s.claim(1)[0]
	child := s.add(childOf(parent, "a", ""))[0].ID
	c := s.claim(1)[0]
	grandchild := s.add(childOf(child, "b", ""))[0].ID
	s.finish(outcome(s.claim(1)[0], store.Succeeded))
	s.finish(outcome(c, store.Succeeded))
	time.Sleep(time.Second)
	expire := func(want int) {
		s.Helper()
		time.Sleep(time.Second)
		n, err := s.Expire(s.Context(), time.Now(), time.Now())
		if s.ok(err); n != want {
			s.Errorf("expired %d, want %d", n, want)
		}
	}
	if n := s.act(store.ActDelete, store.Filter{IDs: []store.ID{child}}); n != 0 {
		s.Errorf("deleted %d whose parent executes", n)
	}
	dry, err := s.Act(s.Context(), time.Now(), store.Action{Kind: store.ActDelete, DryRun: true}, store.Filter{})
	if s.ok(err); dry != 1 {
		s.Errorf("%d would be deleted, want the grandchild, whose parent has ended", dry)
	}
	expire(0)
	s.finish(outcome(p, store.Failed))
	time.Sleep(time.Second)
	if n, err := s.Expire(s.Context(), time.Now(), time.Now().Add(-time.Minute)); n != 0 || err != nil {
		s.Errorf("expired %d, %v: the failed parent is kept longer, and may be replayed", n, err)
	}
	expire(3)
	for _, id := range []store.ID{parent, child, grandchild} {
		if _, err := s.Get(s.Context(), id); !errors.Is(err, store.ErrNotFound) {
			s.Errorf("Get of a deleted run: %v", err)
		}
	}
}

func records(s *suite) {
	id := s.enqueue(run("1"))[0]
	c := s.claim(1)[0]
	seen := make(chan error, 1)
	go func() {
		_, err := s.Await(s.Context(), id, store.Until{Chunk: 1})
		seen <- err
	}()
	synctest.Wait()
	at := time.UnixMilli(time.Now().UnixMilli())
	rec := store.Record{
		ID: id, Lease: c.Lease, Progress: &store.Progress{Done: 1, Total: 2, Message: "m"},
		Logs: []store.Log{{At: at, Level: 4, Message: "a", Attrs: []byte(`{"k":1}`), Attempt: 1}, {At: at, Message: "b", Attempt: 1}},
		Chunks: []store.Chunk{{Data: []byte("x"), At: at, Attempt: 1, Execution: 1},
			{Data: []byte("y"), At: at, Attempt: 1, Execution: 2}},
	}
	_, err := s.Record(s.Context(), []store.Record{rec})
	s.ok(err)
	s.ok(<-seen)
	o := outcome(c, store.Succeeded)
	o.Record = store.Record{Chunks: []store.Chunk{{Data: []byte("z"), At: at, Attempt: 2, Execution: 3}},
		Logs: []store.Log{{At: at, Message: "c", Attempt: 1}}}
	s.finish(o)
	if p := s.get(id).Progress; p == nil || *p != *rec.Progress {
		s.Errorf("progress %+v", p)
	}
	logs, err := s.Logs(s.Context(), id, 1, 10)
	s.ok(err)
	want := []store.Log{{Seq: 2, At: at, Message: "b", Attempt: 1}, {Seq: 3, At: at, Message: "c", Attempt: 1}}
	if d := cmp.Diff(want, logs); d != "" {
		s.Errorf("logs (-want +got):\n%s", d)
	}
	chunks, ended, err := s.Chunks(s.Context(), id, 1, 10)
	s.ok(err)
	all := []store.Chunk{{Seq: 2, Data: []byte("y"), At: at, Attempt: 1, Execution: 2},
		{Seq: 3, Data: []byte("z"), At: at, Attempt: 2, Execution: 3}}
	if d := cmp.Diff(all, chunks); d != "" || !ended {
		s.Errorf("ended %v, chunks (-want +got):\n%s", ended, d)
	}
	if chunks, ended, err = s.Chunks(s.Context(), id, 0, 3); len(chunks) != 3 || ended || err != nil {
		s.Errorf("a full page says that it is the last: %v", err)
	}
	for last, want := range map[int64]int64{-1: 3, -2: 2, -3: 1, -4: 1} {
		if chunks, ended, err = s.Chunks(s.Context(), id, last, 10); err != nil || !ended || len(chunks) == 0 || chunks[0].Seq != want {
			s.Errorf("after %d: %v, ended %v, %v", last, chunks, ended, err)
		}
	}
}

// lateLogs appends lines without a lease to a run before it starts, while it executes, when it has ended, and when it is gone.
func lateLogs(s *suite) {
	id, other := s.enqueue(run("1"))[0], s.enqueue(run("2"))[0]
	at := time.UnixMilli(time.Now().UnixMilli())
	appendLine := func(text string, found bool) {
		stale, err := s.Record(s.Context(), []store.Record{{ID: id, Logs: []store.Log{{At: at, Message: text, Attempt: 1}},
			Chunks: []store.Chunk{{Data: []byte("x")}}, Progress: &store.Progress{Done: 1}}})
		if s.ok(err); stale[0] == found {
			s.Errorf("line %s: stale %v", text, stale)
		}
	}
	appendLine("early", true)
	c := s.claim(1)[0]
	appendLine("from elsewhere", true)
	_, err := s.Record(s.Context(), []store.Record{{ID: id, Lease: c.Lease, Logs: []store.Log{{At: at, Message: "own", Attempt: 1}}}})
	s.ok(err)
	s.finish(outcome(c, store.Succeeded))
	appendLine("late", true)
	logs, err := s.Logs(s.Context(), id, 0, 10)
	s.ok(err)
	var got []string
	for i, l := range logs {
		if got = append(got, l.Message); l.Seq != int64(i)+1 || l.Attempt != 1 || !l.At.Equal(at) {
			s.Errorf("line %+v", l)
		}
	}
	if want := []string{"early", "from elsewhere", "own", "late"}; !slices.Equal(got, want) {
		s.Errorf("lines %q, want %q", got, want)
	}
	chunks, _, err := s.Chunks(s.Context(), id, 0, 10)
	if s.ok(err); len(chunks) > 0 || s.get(id).Progress != nil {
		s.Errorf("%d chunks, progress %v of no execution", len(chunks), s.get(id).Progress)
	}
	_, err = s.Record(s.Context(), []store.Record{{ID: id, Logs: make([]store.Log, store.MaxLogs)}})
	s.ok(err)
	if logs, err = s.Logs(s.Context(), id, 0, 1); err != nil || len(logs) != 1 || logs[0].Seq != 5 {
		s.Errorf("after many lines the first is %+v, %v", logs, err)
	}
	_, err = s.Expire(s.Context(), time.Now().Add(time.Hour), time.Now().Add(time.Hour))
	s.ok(err)
	appendLine("too late", false)
	if logs, err = s.Logs(s.Context(), id, 0, 1); err != nil || len(logs) > 0 {
		s.Errorf("lines of a run that is gone: %v, %v", logs, err)
	}
	s.state(other, store.Queued)
}

// manyLogs records more lines at once than are kept: they have numbers all the same.
func manyLogs(s *suite) {
	id := s.enqueue(run("1"))[0]
	c := s.claim(1)[0]
	for _, n := range []int{3, store.MaxLogs + 5, 2} {
		_, err := s.Record(s.Context(), []store.Record{{ID: id, Lease: c.Lease, Logs: make([]store.Log, n)}})
		s.ok(err)
	}
	logs, err := s.Logs(s.Context(), id, 0, 2*store.MaxLogs)
	s.ok(err)
	if n := len(logs); n != store.MaxLogs || logs[0].Seq != 11 || logs[n-1].Seq != store.MaxLogs+10 {
		s.Errorf("%d lines", n)
	}
}

func large(s *suite) {
	for _, size := range []int{0, 1, 2047, 2048, 2049, 1 << 20} {
		in := string(make([]byte, size))
		id := s.enqueue(run(in))[0]
		c := s.claim(1)[0]
		if string(c.Input) != in {
			s.Errorf("claimed %d bytes, want %d", len(c.Input), size)
		}
		o := outcome(c, store.Succeeded)
		o.Output = []byte(in)
		s.finish(o)
		if r := s.get(id); string(r.Input) != in || string(r.Output) != in {
			s.Errorf("stored %d and %d bytes, want %d", len(r.Input), len(r.Output), size)
		}
	}
}
