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

// A Crasher is a store under test that can die: as if its process had been killed, it
// gives nothing back and answers nothing more.
type Crasher interface {
	store.Store
	Crash()
}

// Random compares random sequences of verbs, on two stores that have the same data
// open, with the Model: what each verb answers, and the state of every run after it.
// One of the two dies now and then.
func Random(t *testing.T, open func(t testing.TB, dir string) Crasher) {
	synctest.Test(t, func(t *testing.T) {
		rapid.Check(struct{ testing.TB }{t}, func(rt *rapid.T) { // it asks a *testing.T for a deadline, which a bubble refuses
			dir := t.TempDir()
			p := &pair{t: t, rt: rt, model: NewModel(), stores: [2]Crasher{open(t, dir), open(t, dir)}, open: func() Crasher { return open(t, dir) }}
			defer func() {
				for _, s := range p.stores {
					s.Close()
				}
			}()
			p.register(0)
			p.register(1)
			rt.Repeat(map[string]func(*rapid.T){
				"enqueue": p.enqueue, "claim": p.claim, "finish": p.finish, "cancel": p.cancel, "replay": p.replay,
				"delete": p.delete, "pause": p.pause, "sleep": p.sleep, "crash": p.crash, "unregister": p.unregister,
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
	var err error
	p.workers[i], err = p.stores[i].Register(p.t.Context(), time.Now(), store.WorkerInfo{Name: fmt.Sprint("w", i)})
	p.ok(err)
	p.modeled[i], err = p.model.Register(p.t.Context(), time.Now(), store.WorkerInfo{Name: fmt.Sprint("w", i)})
	p.ok(err)
}

func (p *pair) side(rt *rapid.T) int { return rapid.IntRange(0, 1).Draw(rt, "side") }

func (p *pair) enqueue(rt *rapid.T) {
	runs := make([]store.NewRun, rapid.IntRange(1, 12).Draw(rt, "n"))
	twins := make([]store.NewRun, len(runs))
	for i := range runs {
		runs[i], twins[i] = p.newRun(rapid.Uint32().Draw(rt, "run"))
	}
	got, err := p.stores[p.side(rt)].Enqueue(p.t.Context(), time.Now(), runs)
	p.ok(err)
	want, err := p.model.Enqueue(p.t.Context(), time.Now(), twins)
	p.ok(err)
	for i := range got {
		if got[i].Existing != want[i].Existing {
			rt.Fatalf("run %d: existing %v, want %v", i, got[i].Existing, want[i].Existing)
		}
		if got[i].Existing {
			if a, b := slices.Index(p.ids, got[i].ID), slices.Index(p.twins, want[i].ID); a != b {
				rt.Fatalf("key refers to run %d, want %d", a, b)
			}
			continue
		}
		p.ids, p.twins = append(p.ids, got[i].ID), append(p.twins, want[i].ID)
	}
}

// newRun makes a run, and its twin, of random bits.
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
	switch after := time.Duration(1+n(100)) * time.Second; kind {
	case 0:
		r.RunAt = time.Now().Add(after)
	case 1:
		r.StartBy = time.Now().Add(after)
	case 2:
		r.Key, r.KeyTTL = string(rune('x'+n(2))), []time.Duration{store.UntilDone, time.Minute}[n(2)]
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

// attempt claims what is there at this instant.
func attempt(t *testing.T, s store.Store, r store.ClaimRequest) []store.Claimed {
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

func (p *pair) claim(rt *rapid.T) {
	i, n := p.side(rt), rapid.IntRange(1, 20).Draw(rt, "n")
	tasks := rapid.SampledFrom([][]string{{"a"}, {"a", "b"}, {"a", "b", "c"}}).Draw(rt, "tasks")
	req := store.ClaimRequest{Worker: p.workers[i], Free: func() int { return n }, Tasks: func(t string) bool { return slices.Contains(tasks, t) }}
	req.Queues = rapid.SampledFrom([][]string{nil, {"q"}}).Draw(rt, "queues")
	got := attempt(p.t, p.stores[i], req)
	req.Worker = p.modeled[i]
	want := attempt(p.t, p.model, req)
	if d := cmp.Diff(inputs(want), inputs(got)); d != "" {
		rt.Fatalf("claimed (-want +got):\n%s", d)
	}
	for k := range got {
		a, b := got[k], want[k]
		if a.Attempt != b.Attempt || a.Task != b.Task || a.Queue != b.Queue || a.Crashes != b.Crashes {
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
			To:     rapid.SampledFrom([]store.State{store.Succeeded, store.Succeeded, store.Failed, store.Scheduled, store.Queued, store.Blocked, store.Canceled}).Draw(rt, "to"),
			Refund: rapid.Bool().Draw(rt, "refund"),
		}
		switch o.To {
		case store.Scheduled:
			o.At, o.Error = time.Now().Add(time.Duration(rapid.IntRange(0, 50).Draw(rt, "in"))*time.Second), []byte(`"again"`)
		case store.Failed, store.Blocked:
			o.Error = []byte(`"bad"`)
		case store.Succeeded:
			o.Output = []byte(`"out"`)
		case store.Queued:
			o.Refund = true
		}
		o.ID, o.Lease = e.real.ID, e.real.Lease
		real = append(real, o)
		o.ID, o.Lease = e.twin.ID, e.twin.Lease
		twin = append(twin, o)
	}
	got, err := p.stores[p.side(rt)].Finish(p.t.Context(), time.Now(), real)
	p.ok(err)
	want, err := p.model.Finish(p.t.Context(), time.Now(), twin)
	p.ok(err)
	if d := cmp.Diff(want, got); d != "" {
		rt.Fatalf("stale (-want +got):\n%s", d)
	}
}

// some draws a filter, for the stores and for the model.
func (p *pair) some(rt *rapid.T) (real, twin store.Filter) {
	if k := len(p.ids); k > 0 && rapid.Bool().Draw(rt, "by id") {
		for range rapid.IntRange(1, 5).Draw(rt, "ids") {
			i := rapid.IntRange(0, k-1).Draw(rt, "run")
			real.IDs, twin.IDs = append(real.IDs, p.ids[i]), append(twin.IDs, p.twins[i])
		}
		return real, twin
	}
	real.Tasks = []string{rapid.SampledFrom([]string{"a", "b", "c"}).Draw(rt, "task")}
	real.States = []store.State{rapid.SampledFrom(store.States).Draw(rt, "state")}
	return real, real
}

func (p *pair) same(rt *rapid.T, op string, got int, err error, want int, merr error) {
	p.ok(err)
	p.ok(merr)
	if got != want {
		rt.Fatalf("%s: %d runs, want %d", op, got, want)
	}
}

func (p *pair) cancel(rt *rapid.T) {
	real, twin := p.some(rt)
	got, err := p.stores[p.side(rt)].Cancel(p.t.Context(), time.Now(), real, []byte(`"why"`))
	want, merr := p.model.Cancel(p.t.Context(), time.Now(), twin, []byte(`"why"`))
	p.same(rt, "cancel", got, err, want, merr)
}

func (p *pair) replay(rt *rapid.T) {
	real, twin := p.some(rt)
	got, err := p.stores[p.side(rt)].Replay(p.t.Context(), time.Now(), real)
	want, merr := p.model.Replay(p.t.Context(), time.Now(), twin)
	p.same(rt, "replay", got, err, want, merr)
}

func (p *pair) delete(rt *rapid.T) {
	real, twin := p.some(rt)
	got, err := p.stores[p.side(rt)].Delete(p.t.Context(), real)
	want, merr := p.model.Delete(p.t.Context(), twin)
	p.same(rt, "delete", got, err, want, merr)
}

func (p *pair) pause(rt *rapid.T) {
	queue, paused := rapid.SampledFrom([]string{"q", "r"}).Draw(rt, "queue"), rapid.Bool().Draw(rt, "paused")
	p.ok(p.stores[p.side(rt)].PauseQueue(p.t.Context(), queue, paused))
	p.ok(p.model.PauseQueue(p.t.Context(), queue, paused))
}

// sleep lets times pass that are never whole seconds, as due times are: nothing falls
// due at the instant that is looked at.
func (p *pair) sleep(rt *rapid.T) {
	time.Sleep(time.Duration(rapid.IntRange(0, 60).Draw(rt, "s"))*time.Second + 137*time.Millisecond)
}

func (p *pair) unregister(rt *rapid.T) {
	i := p.side(rt)
	p.ok(p.stores[i].Unregister(p.t.Context(), time.Now(), p.workers[i]))
	p.ok(p.model.Unregister(p.t.Context(), time.Now(), p.modeled[i]))
	p.register(i)
}

func (p *pair) crash(rt *rapid.T) {
	i := p.side(rt)
	p.stores[i].Crash()
	had := 0
	for _, r := range p.model.runs {
		if r.State == store.Running && r.worker == p.modeled[i] && r.CancelAt.IsZero() {
			had++
		}
	}
	other := p.stores[1-i]
	if had > 0 {
		r, err := other.Recover(p.t.Context())
		p.ok(err)
		if r.Requeued+len(r.Blocked) != had {
			rt.Fatalf("recovered %+v, want %d runs", r, had)
		}
	}
	p.model.Crash(p.modeled[i])
	p.stores[i] = p.open()
	p.register(i)
	if had == 0 { // nothing to tell of, but it is to be noticed all the same
		ctx, cancel := context.WithTimeout(p.t.Context(), 3*time.Second)
		defer cancel()
		if r, err := other.Recover(ctx); ctx.Err() == nil {
			rt.Fatalf("recovered %+v, %v: want nothing", r, err)
		}
	}
}

// compare has every run of the stores equal its twin of the model.
func (p *pair) compare(rt *rapid.T) {
	synctest.Wait()
	all, err := p.stores[0].List(p.t.Context(), store.Filter{}, store.ID{}, len(p.ids)+1)
	p.ok(err)
	twins, err := p.model.List(p.t.Context(), store.Filter{}, store.ID{}, len(p.ids)+1)
	p.ok(err)
	if len(all) != len(twins) {
		rt.Fatalf("%d runs, want %d", len(all), len(twins))
	}
	for i := range all {
		if d := cmp.Diff(p.essence(&twins[i], p.twins), p.essence(&all[i], p.ids)); d != "" {
			rt.Fatalf("run %s (-want +got):\n%s", all[i].Input, d)
		}
	}
}

// essence is a run without what two stores need not agree on.
func (p *pair) essence(r *store.Run, ids []store.ID) string {
	return fmt.Sprintf("%s %s %s %v priority %d attempt %d crashes %d due %d ended %v cancel %v key %q parent %d root %d output %s error %s",
		r.Input, r.Task, r.Queue, r.State, r.Priority, r.Attempt, r.Crashes, r.Due.Unix(), !r.Ended.IsZero(), !r.CancelAt.IsZero(),
		r.Key, slices.Index(ids, r.Parent), slices.Index(ids, r.Root), r.Output, r.Error)
}
