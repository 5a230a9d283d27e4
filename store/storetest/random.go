package storetest

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stint-dev/stint/store"
	"pgregory.net/rapid"
)

// A Crasher is a store under test that can die as if its process was killed: it releases no runs and returns
// nothing more.
type Crasher interface {
	store.Store
	Crash()
}

// Random compares random sequences of verbs, on two stores with the same data, with the Model: the result of
// each verb, and the state of every run after it. One of the two dies now and then.
func Random(t *testing.T, open func(t testing.TB, dir string) Crasher) {
	store.RegisterFilters(contains)
	synctest.Test(t, func(t *testing.T) {
		rapid.Check(struct{ testing.TB }{t}, func(rt *rapid.T) { // rapid reads the deadline of a *testing.T, which a bubble refuses
			dir := t.TempDir()
			p := &pair{t: t, rt: rt, model: NewModel(), stores: [2]Crasher{open(t, dir), open(t, dir)},
				open: func() Crasher { return open(t, dir) }}
			defer func() {
				for _, s := range p.stores {
					s.Close()
				}
			}()
			align()
			p.register(0)
			p.register(1)
			rt.Repeat(map[string]func(*rapid.T){
				"enqueue": p.enqueue, "claim": p.claim, "finish": p.finish, "cancel": p.cancel, "replay": p.replay,
				"delete": p.delete, "move": p.moveQueue,
				"pause": p.pause, "workflow": p.workflow, "publish": p.publish, "call": p.call, "sleep": p.sleep,
				"crash": p.crash, "unregister": p.unregister, "children": p.children,
				"declare": p.declare, "filter": p.filter, "cron": p.cron, "reschedule": p.reschedule,
				"": p.compare,
			})
		})
	})
}

// A pair is two stores on the same data, and the model of it.
type pair struct {
	t       *testing.T
	rt      *rapid.T
	model   *Model
	stores  [2]Crasher
	open    func() Crasher
	workers [2]int64 // of each store
	modeled [2]int64 // the same workers in the model
	ids     []store.ID
	twins   []store.ID // the same runs in the model
	held    []execution
	enqs    int
	jit     int
	builds  int       // workers registered
	at      time.Time // see now
}

// An execution is a claimed run, current or not any more.
type execution struct{ real, twin store.Claimed }

func (p *pair) ok(err error) {
	p.t.Helper()
	if err != nil {
		p.rt.Fatal(err)
	}
}

func (p *pair) register(i int) {
	p.builds++
	info := store.WorkerInfo{Name: fmt.Sprint("w", i), Build: fmt.Sprint("b", max(p.builds-1, 1))} // the first two are of one build
	var err error
	p.workers[i], err = p.stores[i].Register(p.t.Context(), info)
	p.ok(err)
	p.modeled[i], err = p.model.Register(p.t.Context(), info)
	p.ok(err)
}

func (p *pair) side(rt *rapid.T) int { return rapid.IntRange(0, 1).Draw(rt, "side") }

func (p *pair) enqueue(rt *rapid.T) {
	runs := make([]store.NewRun, rapid.IntRange(1, 12).Draw(rt, "n"))
	twins := make([]store.NewRun, len(runs))
	for i := range runs {
		runs[i], twins[i] = p.newRun(rapid.Uint32().Draw(rt, "run"))
	}
	got, err := p.stores[p.side(rt)].Enqueue(p.t.Context(), p.now(), runs)
	p.ok(err)
	want, err := p.model.Enqueue(p.t.Context(), p.now(), twins)
	p.ok(err)
	p.enqueued(rt, got, want)
}

// workflow enqueues a run of a small random graph.
func (p *pair) workflow(rt *rapid.T) {
	g := store.Graph{Workflow: "w", AgeEvery: time.Minute}
	bits := rapid.Uint64().Draw(rt, "graph")
	n := func(below uint64) int {
		v := bits % below
		bits /= below
		return int(v)
	}
	for i := range 1 + n(5) {
		t := store.GraphTask{Name: string(rune('A' + i)), Queue: string(rune('q' + n(2)))}
		for j := range i {
			if n(2) == 0 {
				t.Parents = append(t.Parents, j)
			}
		}
		switch n(8) {
		case 0:
			t.WaitFor = &store.Condition{Sleep: time.Duration(1+n(40))*time.Second + p.jitter()}
		case 1:
			t.WaitFor = &store.Condition{Any: []store.Condition{{Event: &store.Match{Key: "e", Field: "n", Value: fmt.Sprint(n(2))}},
				{Sleep: time.Minute + p.jitter()}}}
			if n(2) == 0 {
				t.WaitFor.Any[0].Event = &store.Match{Key: "e", Filter: `{"n":0}`}
			}
		case 2:
			t.SkipIf = &store.Condition{Sleep: time.Duration(1+n(2))*time.Second + p.jitter()}
			m := store.Match{Key: "e", Since: int64(n(2))}
			if n(2) == 0 {
				m = m.WithScope("s")
			}
			t.WaitFor = &store.Condition{Event: &m}
		case 3:
			t.StartIn = 20*time.Second + p.jitter()
		}
		g.Tasks = append(g.Tasks, t)
	}
	if queue := "q"; n(2) == 0 {
		g.OnFailure, g.OnSuccess = &queue, &queue
		if priority := int8(1 + n(3)); n(2) == 0 {
			g.FailureTask = &store.GraphTask{Priority: &priority, StartIn: 20*time.Second + p.jitter()}
		}
	}
	graph, err := store.NewGraph(g)
	p.ok(err)
	run := store.NewRun{Task: "w", Queue: "q", Priority: int8(1 + n(3)), AgeEvery: time.Minute, Input: fmt.Append(nil, p.enqs),
		Graph: graph}
	p.enqs++
	switch n(4) {
	case 0:
		run.RunAt = time.Now().Add(time.Duration(1+n(40))*time.Second + p.jitter())
	case 1:
		run.StartIn = time.Duration(30+n(60))*time.Second + p.jitter()
	}
	got, err := p.stores[p.side(rt)].Enqueue(p.t.Context(), p.now(), []store.NewRun{run})
	p.ok(err)
	want, err := p.model.Enqueue(p.t.Context(), p.now(), []store.NewRun{run})
	p.ok(err)
	p.ids, p.twins = append(p.ids, got[0].ID), append(p.twins, want[0].ID)
}

// call makes a durable call of an execution, current or not.
func (p *pair) call(rt *rapid.T) {
	if len(p.held) == 0 {
		return
	}
	x := p.held[rapid.IntRange(0, len(p.held)-1).Draw(rt, "execution")]
	e := store.Entry{Address: store.Address{Seq: rapid.IntRange(1, 6).Draw(rt, "seq")}, Kind: store.EntryStep, Name: "s", Done: true,
		Value: []byte("1")}
	if rapid.IntRange(0, 3).Draw(rt, "undo") == 0 {
		e.Scope = []string{store.UndoScope, store.UndoScope + "/1"}[e.Seq%2]
		e.Seq = 1
	}
	switch begins := rapid.Bool().Draw(rt, "begins"); {
	case e.Seq > 4:
		e.Kind, e.Name, e.Done, e.Value = store.EntryWait, "w", false, randomWait(e.Seq, time.Now().Add(time.Minute+p.jitter()))
	case e.Seq > 2: // an address has one kind of call
		e.Kind, e.Name, e.Done, e.Value = store.EntryEvent, "e", false, nil
		e.Match = store.Match{Key: "e", Field: "n", Value: "0"}.WithScope("s")
		if e.Seq == 4 {
			e.Match = store.Match{Key: "e", Filter: `"n":1`, Since: 1}
		}
	case begins:
		e.Done, e.Value, e.Attempts = false, nil, 1
	}
	if n := rapid.IntRange(0, 2).Draw(rt, "began"); e.Kind == store.EntryStep && n > 0 {
		e.Began, e.Tries = time.Now().Add(-time.Duration(n-1)*time.Second), []byte(fmt.Sprint("tries ", n))
	}
	got, gone, err := p.stores[p.side(rt)].Append(p.t.Context(), p.now(), store.Call{ID: x.real.ID, Lease: x.real.Lease, Entry: e})
	p.ok(err)
	want, wantGone, err := p.model.Append(p.t.Context(), p.now(), store.Call{ID: x.twin.ID, Lease: x.twin.Lease, Entry: e})
	p.ok(err)
	if gone != wantGone || !gone && fmt.Sprint(got.Kind, got.Done, string(got.Value), got.Attempts) != fmt.Sprint(want.Kind, want.Done,
		string(want.Value), want.Attempts) {
		rt.Fatalf("call: %+v, stale %v; want %+v, %v", got, gone, want, wantGone)
	}
}

// newRun makes a run and its twin from random bits.
func (p *pair) newRun(bits uint32) (run, twin store.NewRun) {
	n := func(below uint32) int {
		v := bits % below
		bits /= below
		return int(v)
	}
	r := store.NewRun{
		Task: string(rune('a' + n(3))), Queue: string(rune('q' + n(2))), Priority: int8(1 + n(3)), AgeEvery: time.Minute,
		Input: fmt.Append(nil, p.enqs),
	}
	p.enqs++
	kind := n(10)
	switch after := time.Duration(1+n(100))*time.Second + p.jitter(); kind {
	case 0:
		r.RunAt = time.Now().Add(after)
	case 1:
		r.StartIn = after
	case 2:
		r.Key, r.KeyTTL = string(rune('x'+n(2))), []time.Duration{store.UntilDone, time.Minute}[n(2)]
	case 4:
		r.Task, r.Key, r.KeyTTL = "a", "debounced", store.UntilDone
		r.RunAt, r.Debounce = time.Now().Add(time.Duration(1+n(20))*time.Second+p.jitter()), 30*time.Second+p.jitter()
		r.StartIn = time.Duration(n(2)) * after
	}
	twin = r
	if k := len(p.ids); kind == 3 && k > 0 {
		k = n(uint32(k))
		if _, err := p.model.Get(p.t.Context(), p.twins[k]); err == nil {
			r.Parent, twin.Parent = p.ids[k], p.twins[k]
			r.Detached = n(2) == 0
			twin.Detached = r.Detached
		}
	}
	return r, twin
}

// tryClaim claims what is ready now.
func tryClaim(t *testing.T, s store.Store, r store.ClaimRequest) []store.Claimed {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan []store.Claimed, 1)
	go func() {
		got, _ := s.Claim(ctx, r)
		done <- got
	}()
	synctest.Wait()
	cancel()
	return <-done
}

func spent(got []store.Claimed) (all []string) {
	for _, c := range got {
		all = append(all, c.Spent.String())
	}
	return all
}

func (p *pair) claim(rt *rapid.T) {
	i, n := p.side(rt), rapid.IntRange(1, 20).Draw(rt, "n")
	tasks := rapid.SampledFrom([][]string{{"a"}, {"a", "b", "w:"}, {"a", "b", "c", "w:", "w:A", "w:B"}}).Draw(rt, "tasks")
	req := store.ClaimRequest{Worker: p.workers[i], Free: func() int { return n },
		Tasks: func(t string) bool { return slices.Contains(tasks, t) }}
	req.Queues = rapid.SampledFrom([][]string{nil, {"q"}}).Draw(rt, "queues")
	got := tryClaim(p.t, p.stores[i], req)
	req.Worker = p.modeled[i]
	want := tryClaim(p.t, p.model, req)
	if d := cmp.Diff(append(inputs(want), spent(want)...), append(inputs(got), spent(got)...)); d != "" {
		rt.Fatalf("claimed (-want +got):\n%s", d)
	}
	for k := range got {
		a, b := got[k], want[k]
		if a.Attempt != b.Attempt || a.Replayed != b.Replayed ||
			!a.CancelAt.Truncate(time.Millisecond).Equal(b.CancelAt.Truncate(time.Millisecond)) || a.Task != b.Task ||
			a.Queue != b.Queue || a.Crashes != b.Crashes {
			rt.Fatalf("claimed %+v, want %+v", a, b)
		}
		p.held = append(p.held, execution{a, b})
	}
}

func (p *pair) finish(rt *rapid.T) {
	if len(p.held) == 0 {
		return
	}
	n := rapid.IntRange(1, min(10, len(p.held))).Draw(rt, "n")
	var real, twin []store.Outcome
	for range n {
		e := p.held[rapid.IntRange(0, len(p.held)-1).Draw(rt, "execution")]
		o := store.Outcome{
			To: rapid.SampledFrom([]store.State{store.Succeeded, store.Succeeded, store.Failed, store.Scheduled, store.Queued,
				store.Blocked, store.Canceled, store.Waiting}).Draw(rt, "to"),
			Uncounted: rapid.Bool().Draw(rt, "refund"),
		}
		switch o.To {
		case store.Scheduled:
			o.At, o.Error = time.Now().Add(time.Duration(rapid.IntRange(0, 50).Draw(rt, "in"))*time.Second+p.jitter()), []byte(`"again"`)
		case store.Failed, store.Blocked:
			o.Error, o.Failure = []byte(`"bad"`), someFailure(rt, len(real))
		case store.Succeeded:
			o.Output = []byte(`"out"`)
		case store.Queued:
			o.Uncounted = true
		case store.Waiting:
			o.Uncounted = false
			o.Spent = time.Duration(rapid.IntRange(-5, 5).Draw(rt, "spent")) * time.Second
			o.Waits.Entries = []store.Address{{Seq: rapid.IntRange(1, 6).Draw(rt, "for")}}
			if rapid.Bool().Draw(rt, "until") {
				o.Waits.Until = time.Now().Add(time.Duration(rapid.IntRange(0, 50).Draw(rt, "in"))*time.Second + p.jitter())
			}
		}
		if rapid.IntRange(0, 3).Draw(rt, "forget") == 0 {
			o.Forget = []store.Address{{Seq: rapid.IntRange(1, 4).Draw(rt, "from")}}
		}
		if o.To == store.Queued && e.real.Node != 0 {
			o.NoHandler = rapid.Bool().Draw(rt, "elsewhere")
		}
		o.ID, o.Lease, o.Parent, o.Node = e.real.ID, e.real.Lease, e.real.Parent, e.real.Node
		real = append(real, o)
		o.ID, o.Lease, o.Parent, o.Node = e.twin.ID, e.twin.Lease, e.twin.Parent, e.twin.Node
		twin = append(twin, o)
	}
	got, err := p.stores[p.side(rt)].Finish(p.t.Context(), p.now(), real)
	p.ok(err)
	want, err := p.model.Finish(p.t.Context(), p.now(), twin)
	p.ok(err)
	if d := cmp.Diff(want, got); d != "" {
		rt.Fatalf("stale (-want +got):\n%s", d)
	}
}

// some draws a filter for the stores and for the model.
func (p *pair) some(rt *rapid.T) (real, twin store.Filter) {
	if k := len(p.ids); k > 0 && rapid.Bool().Draw(rt, "by id") {
		for range rapid.IntRange(1, 5).Draw(rt, "ids") {
			i := rapid.IntRange(0, k-1).Draw(rt, "run")
			real.IDs, twin.IDs = append(real.IDs, p.ids[i]), append(twin.IDs, p.twins[i])
		}
		return real, twin
	}
	real.Tasks = []string{rapid.SampledFrom([]string{"a", "b", "c", "w", "w:A", "w:B"}).Draw(rt, "task")}
	real.States = []store.State{rapid.SampledFrom(store.States).Draw(rt, "state")}
	return real, real
}

// act cancels, replays, deletes or moves runs, as many as it counted: a cancel may end others that match before it comes to
// them.
func (p *pair) act(rt *rapid.T, kind store.ActionKind) {
	real, twin := p.some(rt)
	a := store.Action{Kind: kind, Reason: []byte(`"why"`), DryRun: true, Whole: rapid.Bool().Draw(rt, "whole")}
	if kind == store.ActMoveQueue {
		a.Queue = rapid.SampledFrom([]string{"q", "r"}).Draw(rt, "queue")
	}
	do := func(op string) int {
		got, err := p.stores[p.side(rt)].Act(p.t.Context(), p.now(), a, real)
		p.ok(err)
		want, err := p.model.Act(p.t.Context(), p.now(), a, twin)
		p.ok(err)
		if got != want {
			rt.Fatalf("%s %d: %d runs, want %d", op, kind, got, want)
		}
		return got
	}
	counted := do("count")
	a.DryRun = false
	if n := do("act"); kind != store.ActCancel && n != counted {
		rt.Fatalf("act %d: %d runs, counted %d", kind, n, counted)
	}
}

func (p *pair) cancel(rt *rapid.T) { p.act(rt, store.ActCancel) }
func (p *pair) replay(rt *rapid.T) { p.act(rt, store.ActReplay) }
func (p *pair) delete(rt *rapid.T) { p.act(rt, store.ActDelete) }

func (p *pair) moveQueue(rt *rapid.T) { p.act(rt, store.ActMoveQueue) }

func (p *pair) pause(rt *rapid.T) {
	queue, paused := rapid.SampledFrom([]string{"q", "r"}).Draw(rt, "queue"), rapid.Bool().Draw(rt, "paused")
	c := store.PauseChange{Queue: queue, Paused: paused}
	p.ok(p.stores[p.side(rt)].Change(p.t.Context(), p.now(), &c))
	p.ok(p.model.Change(p.t.Context(), p.now(), &c))
}

// look lets a store see what the other has committed, however seldom it looks by itself under a fake clock: times
// that rows have are to come on time.
func (p *pair) look(i int) {
	tryClaim(p.t, p.stores[i], store.ClaimRequest{Worker: p.workers[i], Free: func() int { return 1 },
		Tasks: func(string) bool { return false }})
}

func (p *pair) sleep(rt *rapid.T) {
	p.look(0)
	p.look(1)
	time.Sleep(time.Duration(rapid.IntRange(0, 60).Draw(rt, "s")) * time.Second)
	align()
}

func (p *pair) unregister(rt *rapid.T) {
	i := p.side(rt)
	p.ok(p.stores[i].Unregister(p.t.Context(), p.workers[i]))
	p.ok(p.model.Unregister(p.t.Context(), p.modeled[i]))
	p.register(i)
}

func (p *pair) crash(rt *rapid.T) {
	defer align()
	i := p.side(rt)
	p.stores[i].Crash()
	p.look(1 - i)
	had, ends := 0, -1 // ends: a run that ends by the crash
	for id, r := range p.model.runs {
		if r.State == store.Running && r.worker == p.modeled[i] {
			after := *r
			if after.Crashes++; after.endsByCrash() {
				ends = slices.Index(p.twins, id)
			} else {
				had++
			}
		}
	}
	other, dead := p.stores[1-i], p.modeled[i]
	comesBack := func() {
		p.stores[i] = p.open()
		p.register(i)
	}
	if had > 0 {
		r, err := other.Recover(p.t.Context())
		p.ok(err)
		if r.Requeued+len(r.Blocked) != had {
			rt.Fatalf("recovered %+v, want %d runs", r, had)
		}
		p.model.Crash(dead, time.Now())
		comesBack()
		return
	}
	// There is nothing to report, but it must be noticed all the same.
	ctx, cancel := context.WithTimeout(p.t.Context(), 3*time.Second)
	defer cancel()
	at := time.Now()
	if r, err := other.Recover(ctx); ctx.Err() == nil {
		rt.Fatalf("recovered %+v, %v: want nothing", r, err)
	}
	if ends >= 0 { // what follows from its end is timed from the moment that the store noticed
		r, err := other.Get(p.t.Context(), p.ids[ends])
		p.ok(err)
		at = r.Ended
	}
	p.model.Crash(dead, at)
	comesBack()
}

// compare compares every run of the stores with its twin of the model.
func (p *pair) compare(rt *rapid.T) {
	p.at = time.Time{}
	synctest.Wait()
	const most = 1 << 20
	all, _, err := p.stores[0].List(p.t.Context(), store.Filter{}, store.ID{}, most)
	p.ok(err)
	twins, _, err := p.model.List(p.t.Context(), store.Filter{}, store.ID{}, most)
	p.ok(err)
	if len(all) != len(twins) {
		rt.Fatalf("%d runs, want %d", len(all), len(twins))
	}
	for i := range all {
		if d := cmp.Diff(p.essence(&twins[i], p.twins), p.essence(&all[i], p.ids)); d != "" {
			rt.Fatalf("run %s (-want +got):\n%s", all[i].Input, d)
		}
		if d := cmp.Diff(journalOf(p, p.model, twins[i].ID), journalOf(p, p.stores[0], all[i].ID)); d != "" {
			rt.Fatalf("journal of run %s (-want +got):\n%s", all[i].Input, d)
		}
	}
	p.compareSchedules(rt, all, twins)
}

func journalOf(p *pair, s store.Store, id store.ID) (all []string) {
	entries, _, err := s.Entries(p.t.Context(), id, store.Address{}, -1, true)
	p.ok(err)
	for _, e := range entries {
		all = append(all, fmt.Sprint(e.Scope, e.Seq, e.Kind, e.Name, e.Done, string(e.Value), e.Attempts, " began ",
			e.Began.UnixMilli(), " ", e.At.UnixMilli(), " tries ", string(e.Tries)))
	}
	return all
}

// essence returns what two stores must agree on of a run.
func (p *pair) essence(r *store.Run, ids []store.ID) string {
	return fmt.Sprintf("%s %s %s %v priority %d attempt %d executions %d crashes %d due %d start by %d "+
		"ended %v cancel %v key %q parent %d root %d output %s error %s",
		r.Input, r.Task, r.Queue, r.State, r.Priority, r.Attempt, r.Executions, r.Crashes, r.Due.Unix(), r.StartBy.Unix(),
		!r.Ended.IsZero(), !r.CancelAt.IsZero(),
		r.Key, slices.Index(ids, r.Parent), slices.Index(ids, r.Root), r.Output, r.Error)
}
