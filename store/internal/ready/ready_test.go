package ready_test

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"testing"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/ready"
	"pgregory.net/rapid"
)

// A run of the fake rows.
type run struct {
	ready.Position
	lane   *ready.Lane
	due    int64
	worker int64 // that executes it; 0: it is ready
}

// rows implements ready.Rows in memory.
type rows struct {
	now   int64
	last  int64 // ID
	set   ready.Set
	runs  map[int64]*run
	peers []ready.Peer
	wake  int64
	calls int // of Next and Heads
	reads int // of a lane's first runs
	asked int // positions, of Next
}

var _ ready.Rows = (*rows)(nil)

func newRows(peers ...ready.Peer) *rows {
	r := &rows{now: 1_000_000, set: ready.NewSet(), runs: map[int64]*run{}, peers: peers}
	r.set.Paused = map[string]bool{}
	return r
}

// ready returns the ready runs of a lane, or of all, in order.
func (r *rows) ready(l *ready.Lane) (all []*run) {
	for _, x := range r.runs {
		if x.worker == 0 && (l == nil || x.lane == l) {
			all = append(all, x)
		}
	}
	slices.SortFunc(all, func(a, b *run) int { return a.Compare(b.Position) })
	return all
}

func (r *rows) Now() int64 { return r.now }

func (r *rows) Next(l *ready.Lane, after ready.Position, n int) (all []ready.Position, err error) {
	r.calls++
	r.reads++
	r.asked += n
	for _, x := range r.ready(l) {
		if x.Compare(after) > 0 && len(all) < n {
			all = append(all, x.Position)
		}
	}
	return all, nil
}

func (r *rows) Heads(ids []int64) (heads []ready.Head, err error) {
	r.calls++
	for _, id := range ids {
		r.reads++
		if all := r.ready(r.set.ByID[id]); len(all) > 0 {
			heads = append(heads, ready.Head{Lane: id, Position: all[0].Position, More: len(all) > 1})
		}
	}
	return heads, nil
}

func (r *rows) Due(l *ready.Lane) (int64, bool, error) {
	all := r.ready(l)
	if len(all) == 0 {
		return 0, false, nil
	}
	return all[0].due, true, nil
}

func (r *rows) Busy(worker int64) (int, error) { return r.busy(worker), nil }

func (r *rows) busy(worker int64) (n int) {
	for _, x := range r.runs {
		if x.worker == worker {
			n++
		}
	}
	return n
}

func (r *rows) SuspectExecutes() (bool, error) {
	for _, x := range r.runs {
		if x.worker != 0 && x.lane.Suspect {
			return true, nil
		}
	}
	return false, nil
}

func (r *rows) WakeAt(at int64) { r.wake = at }

// lane returns the lane with that name.
func (r *rows) lane(n ready.Name) *ready.Lane {
	l := r.set.ByName[n]
	if l == nil {
		l = r.set.AddNew(&ready.Lane{ID: int64(len(r.set.ByID) + 1), Name: n})
		r.set.ByName[n] = l
	}
	return l
}

// enqueue adds runs of priority 2 - rank.
func (r *rows) enqueue(n ready.Name, ranks ...int64) {
	l := r.lane(n)
	for _, rank := range ranks {
		r.last++
		r.runs[r.last] = &run{Position: ready.Position{Rank: rank, ID: r.last}, lane: l, due: r.now}
	}
	r.set.Touch(l)
}

func request(worker int64) *store.ClaimRequest {
	return &store.ClaimRequest{Worker: worker, Tasks: func(string) bool { return true }}
}

// choose returns the IDs of the runs that a claim takes.
func (r *rows) choose(t rapid.TB, c *store.ClaimRequest, slots int) (ids []int64) {
	t.Helper()
	var peers []ready.Peer
	if r.set.Routed {
		peers = r.peers
	}
	x, err := ready.Choose(r, &r.set, r.set.View(c, peers), c, slots)
	if err != nil {
		t.Fatal(err)
	}
	if x.Only != nil {
		all := r.ready(x.Only)
		for _, one := range all[:min(len(all), x.Most)] {
			ids = append(ids, one.ID)
		}
		if len(ids) < x.Most {
			r.set.Empty(x.Only)
		}
	}
	for _, p := range x.Runs {
		ids = append(ids, p.ID)
	}
	return ids
}

// start makes the worker execute runs.
func (r *rows) start(worker int64, ids []int64) {
	for _, id := range ids {
		r.runs[id].worker = worker
	}
}

func (r *rows) claims(t *testing.T, c *store.ClaimRequest, slots int, want ...int64) {
	t.Helper()
	got := r.choose(t, c, slots)
	if !slices.Equal(got, want) {
		t.Fatalf("takes %v, want %v", got, want)
	}
	r.start(c.Worker, got)
	r.set.Commit()
}

func name(queue, task string) ready.Name { return ready.Name{Queue: queue, Task: task} }

func TestOrder(t *testing.T) {
	r := newRows()
	r.enqueue(name("a", "t"), 1, 4, 5) // 1 to 3
	r.claims(t, request(1), 1, 1)
	r.enqueue(name("b", "t"), 2, 6) // 4, 5
	r.enqueue(name("b", "u"), 3)    // 6
	r.claims(t, request(1), 4, 4, 6, 2, 3)
	r.claims(t, request(1), 4, 5)
	r.claims(t, request(1), 4)
	r.enqueue(name("b", "t"), 9)
	r.claims(t, request(1), 4, 7)
}

func TestOnlyWhatTheWorkerHas(t *testing.T) {
	r := newRows()
	r.enqueue(name("a", "t"), 1)
	r.enqueue(name("b", "u"), 2)
	r.enqueue(name("b", "t"), 3)
	c := request(1)
	c.Queues, c.Tasks = []string{"b"}, func(task string) bool { return task == "t" }
	r.claims(t, c, 9, 3)
	c.Queues = []string{}
	r.claims(t, c, 9)
	c.Queues = nil
	r.enqueue(name("b", "t"), 4)
	r.enqueue(name("b", "v"), 5)
	r.claims(t, c, 9, 1, 4)
	r.runs[1].worker = 0
	r.set.Touch(r.lane(name("a", "t")))
	r.set.Paused["a"] = true
	r.claims(t, request(2), 9, 2, 5)
}

func TestCosts(t *testing.T) {
	r := newRows()
	r.enqueue(name("a", "small"), 1, 3)
	r.enqueue(name("a", "large"), 2)
	c := request(1)
	c.Cost = func(task string) int { return map[string]int{"small": 1, "large": 2}[task] }
	r.claims(t, c, 2, 1) // the next does not fit, and holds up those behind it
	r.claims(t, c, 3, 3, 2)
	r.enqueue(name("a", "too large"), 1)
	r.enqueue(name("a", "small"), 2)
	r.claims(t, c, 3, 5)
}

func TestSuspects(t *testing.T) {
	r := newRows()
	suspect := ready.Name{Queue: "a", Task: "t", Suspect: true}
	r.enqueue(suspect, 1, 2)
	r.enqueue(name("a", "t"), 3, 4)
	r.claims(t, request(1), 1, 3)
	c := request(1)
	c.Cost = func(string) int { return 1 }
	r.claims(t, c, 3, 4) // costs: alone
	r.claims(t, c, 3, 1)
	r.claims(t, request(1), 3) // one executes
	delete(r.runs, 1)
	r.enqueue(name("a", "t"), 5)
	r.claims(t, request(1), 3, 5, 2)
}

// A run waits for a better worker while that has slots free, for a second at most.
func TestPreference(t *testing.T) {
	soft := store.Route{To: "better"}
	r := newRows(ready.Peer{ID: 1, Name: "w", Slots: 2}, ready.Peer{ID: 2, Name: "better", Slots: 1})
	r.enqueue(ready.Name{Queue: "a", Task: "t", Route: soft.Text()}, 1, 2, 3)
	r.enqueue(name("a", "t"), 4)
	due := r.now
	r.claims(t, request(1), 1, 4)
	if r.wake != due+1000 {
		t.Errorf("claims are served again at %d, want %d", r.wake, due+1000)
	}
	r.now += 999
	r.claims(t, request(1), 1)
	r.claims(t, request(2), 1, 1)
	r.claims(t, request(1), 1, 2) // the better one has no slots free
	delete(r.runs, 1)
	r.claims(t, request(1), 1)
	r.now++
	r.claims(t, request(1), 1, 3)
}

func TestRequiredWorker(t *testing.T) {
	hard, label := store.Route{To: "w", Hard: true}, store.Route{Wants: []store.Want{{Label: "gpu", Op: "=", Value: "yes"}}}
	r := newRows(ready.Peer{ID: 1, Name: "w", Slots: 2}, ready.Peer{ID: 2, Name: "x", Slots: 2, Labels: map[string]string{"gpu": "yes"}})
	r.enqueue(ready.Name{Queue: "a", Task: "t", Route: hard.Text()}, 1)
	r.enqueue(ready.Name{Queue: "a", Task: "t", Route: label.Text()}, 2)
	r.enqueue(ready.Name{Queue: "a", Task: "t", Route: "changed by hand"}, 3)
	r.claims(t, request(1), 9, 1)
	r.claims(t, request(2), 9, 2)
	r.peers = r.peers[:1]
	r.claims(t, request(2), 9) // it is dead
}

// A worker whose labels change may take other runs.
func TestLabelsChange(t *testing.T) {
	r := newRows(ready.Peer{ID: 1, Name: "w", Slots: 2})
	route := store.Route{Wants: []store.Want{{Label: "gpu", Op: "=", Value: "yes"}}}
	r.enqueue(ready.Name{Queue: "a", Task: "t", Route: route.Text()}, 1, 2)
	r.claims(t, request(1), 1)
	has := ready.Peer{ID: 1, Name: "w", Slots: 2, Labels: map[string]string{"gpu": "yes"}}
	r.peers = []ready.Peer{has}
	r.claims(t, request(1), 1, 1)
	before := r.set.View(request(1), r.peers)
	r.peers = []ready.Peer{has} // read again
	r.claims(t, request(1), 1, 2)
	if r.set.View(request(1), r.peers) != before {
		t.Error("the view is made anew, and nothing has changed")
	}
}

// What is rolled back is ready again, and lanes that were created are gone.
func TestRollback(t *testing.T) {
	r := newRows()
	r.enqueue(name("a", "t"), 1)
	r.enqueue(name("b", "t"), 2)
	r.set.Commit()
	r.enqueue(name("c", "t"), 3)
	r.choose(t, request(1), 9)
	delete(r.runs, 3)
	r.set.Rollback()
	if n := len(r.set.ByID); n != 2 {
		t.Errorf("%d lanes, want 2", n)
	}
	r.claims(t, request(1), 9, 1, 2)
}

// did compares what was read since the last call.
func (r *rows) did(t *testing.T, calls, reads, asked int) {
	t.Helper()
	if r.calls != calls || r.reads != reads || r.asked != asked {
		t.Errorf("%d calls, %d reads, %d positions; want %d, %d and %d", r.calls, r.reads, r.asked, calls, reads, asked)
	}
	r.calls, r.reads, r.asked = 0, 0, 0
}

// A claim reads as many lanes as it takes runs, however many there are.
func TestReadsOfManyLanes(t *testing.T) {
	r := newRows()
	for i := range 1500 {
		r.enqueue(name(fmt.Sprint(i), "t"), int64(i))
	}
	c := request(1)
	r.claims(t, c, 1, 1)
	r.did(t, 2, 1500, 0) // each is read once, in parts
	for i := range int64(100) {
		r.claims(t, c, 2, 2*i+2, 2*i+3)
	}
	r.did(t, 100, 200, 0)
	r.enqueue(name("700", "t"), -1)
	r.claims(t, c, 1, 1501)
	r.did(t, 2, 2, 1) // and what follows in the lane
}

// Of a few lanes it reads many runs at a time.
func TestReadsOfManyRuns(t *testing.T) {
	r := newRows()
	want := make([]int64, 30)
	for i := range want {
		want[i] = int64(i + 1)
		r.enqueue(name(fmt.Sprint(i%3), "t"), int64(i))
	}
	r.claims(t, request(1), 12, want[:12]...)
	r.did(t, 4, 6, 24)
	r.claims(t, request(1), 12, want[12:24]...)
	r.did(t, 3, 3, 24)
	r.claims(t, request(1), 3, want[24:27]...)
	r.did(t, 3, 3, 9)
	r.enqueue(ready.Name{Queue: "a", Task: "t", Suspect: true}, 1, 2, 3, 4)
	r.claims(t, request(1), 10, append(want[27:30:30], 31)...)
	r.did(t, 5, 5, 20) // one suspect at a time
}

// Claims take what a plain list of all runs gives, whatever happened before.
func TestRandom(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := newRows(ready.Peer{ID: 1, Name: "w1", Slots: 3}, ready.Peer{ID: 2, Name: "w2", Slots: 2, Queues: []string{"a"}},
			ready.Peer{ID: 3, Name: "w3", Slots: 4, Labels: map[string]string{"gpu": "2"}})
		claims := map[int64]*store.ClaimRequest{}
		for _, p := range r.peers {
			claims[p.ID] = drawClaim(t, p)
		}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			r.step(t, claims)
		}
	})
}

func drawClaim(t *rapid.T, p ready.Peer) *store.ClaimRequest {
	c := request(p.ID)
	c.Queues = p.Queues
	if has := rapid.SampledFrom([]string{"", "t", "u"}).Draw(t, "task"); has != "" {
		c.Tasks = func(task string) bool { return task == has }
	}
	if rapid.Bool().Draw(t, "costs") {
		c.Cost = func(task string) int { return map[string]int{"t": 1, "u": 2}[task] }
	}
	return c
}

var routes = []store.Route{{}, {}, {To: "w1"}, {To: "w2", Hard: true}, {Wants: []store.Want{{Label: "gpu", Op: ">", Value: "1"}}},
	{To: "w2"}, {To: "w1", Wants: []store.Want{{Label: "gpu", Op: ">", Value: "1", Weight: 5}}},
	{Wants: []store.Want{{Label: "gpu", Op: ">", Value: "1", Weight: 5}}}, {Wants: []store.Want{{Label: "gpu", Op: "!=", Value: "2", Weight: -1}}}}

// step does one thing, and commits it or rolls it back.
func (r *rows) step(t *rapid.T, claims map[int64]*store.ClaimRequest) {
	before := maps.Clone(r.runs)
	for id, x := range before {
		was := *x
		before[id] = &was
	}
	if rapid.IntRange(0, 3).Draw(t, "enqueues") == 0 {
		n := ready.Name{Queue: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "queue"),
			Task:    rapid.SampledFrom([]string{"t", "u"}).Draw(t, "task"),
			Suspect: rapid.IntRange(0, 4).Draw(t, "suspect") == 0}
		route := rapid.SampledFrom(routes).Draw(t, "route")
		n.Route = route.Text()
		r.enqueue(n, rapid.SliceOfN(rapid.Int64Range(0, 20), 1, 12).Draw(t, "ranks")...)
	}
	if executing := r.executing(); len(executing) > 0 && rapid.Bool().Draw(t, "ends") {
		delete(r.runs, rapid.SampledFrom(executing).Draw(t, "run"))
	}
	r.now += rapid.Int64Range(0, 700).Draw(t, "passes")
	r.check(t)
	worker := rapid.Int64Range(1, 3).Draw(t, "worker")
	c := claims[worker]
	if free := r.peers[worker-1].Slots - r.busy(worker); free > 0 {
		got, want := r.choose(t, c, free), r.expected(c, free)
		if !slices.Equal(got, want) {
			t.Fatalf("worker %d takes %v, want %v", worker, got, want)
		}
		r.start(worker, got)
	}
	if rapid.IntRange(0, 5).Draw(t, "rolls back") == 0 {
		for id := range r.runs {
			if before[id] == nil {
				delete(r.runs, id)
			}
		}
		r.runs = before
		r.set.Rollback()
		return
	}
	r.set.Commit()
}

// check reports lanes with ready runs that claims would not find.
func (r *rows) check(t rapid.TB) {
	t.Helper()
	for id, l := range r.set.ByID {
		if all := r.ready(l); len(all) > 0 {
			if wrong := r.set.Check(id, all[0].Position); wrong != "" {
				t.Fatal(wrong)
			}
		}
	}
}

func TestCheck(t *testing.T) {
	r := newRows()
	r.enqueue(name("a", "t"), 5)
	r.claims(t, request(1), 1, 1)
	l := r.lane(name("a", "t"))
	r.claims(t, request(1), 1)
	r.runs[9] = &run{Position: ready.Position{Rank: 9, ID: 9}, lane: l} // without Touch
	for _, lane := range []int64{l.ID, l.ID + 1} {
		if r.set.Check(lane, r.runs[9].Position) == "" {
			t.Error("a run that no claim finds is not reported")
		}
	}
	r.claims(t, request(2), 1) // the lane is known to be empty
	r.set.Touch(l)
	r.check(t)
	r.set.Paused["a"] = true // without a new set
	if r.set.Check(l.ID, r.runs[9].Position) == "" {
		t.Error("a run that a claim takes from a paused queue is not reported")
	}
}

func (r *rows) executing() (ids []int64) {
	for id, x := range r.runs {
		if x.worker != 0 {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// expected returns what a claim takes of a plain list of all runs.
func (r *rows) expected(c *store.ClaimRequest, free int) []int64 {
	take := func(suspect bool, slots, most int) (ids []int64) {
		first := map[*ready.Lane]*run{}
		for _, x := range r.ready(nil) {
			first[x.lane] = cmp.Or(first[x.lane], x)
			l := x.lane
			if l.Suspect != suspect || !c.Tasks(l.Task) || c.Queues != nil && !slices.Contains(c.Queues, l.Queue) ||
				!r.mayTake(c.Worker, first[l]) {
				continue
			}
			if slots -= ready.Cost(c, l.Task); slots < 0 || len(ids) == most {
				break
			}
			ids = append(ids, x.ID)
		}
		return ids
	}
	usual := take(false, free, free)
	if executes, _ := r.SuspectExecutes(); executes || len(usual) > 0 && c.Cost != nil || len(usual) == free {
		return usual
	}
	return append(usual, take(true, free, 1)...)
}

// mayTake reports whether a worker may take a run now that is the first of its lane.
func (r *rows) mayTake(worker int64, x *run) bool {
	route, _ := store.ParseRoute(x.lane.Route)
	score := func(p ready.Peer) int {
		n, ok := route.Score(p.Name, p.Labels)
		if !ok {
			return math.MinInt32
		}
		return n
	}
	mine := score(r.peers[worker-1])
	if mine == math.MinInt32 {
		return false
	}
	for _, p := range r.peers {
		if score(p) > mine && (p.Queues == nil || slices.Contains(p.Queues, x.lane.Queue)) && r.busy(p.ID) < p.Slots && r.now < x.due+1000 {
			return false
		}
	}
	return true
}

// A claim whose slots one task uses up ends there, though lanes of another come next.
func TestCostsUseAllSlots(t *testing.T) {
	r := newRows()
	for i := range 3 {
		queue := fmt.Sprint(i)
		r.enqueue(name(queue, "large"), int64(2*i))
		r.enqueue(name(queue, "small"), int64(2*i+1))
	}
	c := request(1)
	c.Cost = func(task string) int { return map[string]int{"small": 1, "large": 2}[task] }
	r.claims(t, c, 2, 1)
	r.claims(t, c, 1, 2)
	r.claims(t, c, 2, 3)
}

// What is rolled back puts a lane's bound back to where it was, not to the start of the lane: the next claim begins there.
func TestRollbackKeepsBounds(t *testing.T) {
	r := newRows()
	r.enqueue(name("a", "t"), 1, 2, 3)
	l := r.lane(name("a", "t"))
	took := func(id int64) {
		r.start(1, []int64{id})
		r.set.Took(l, r.runs[id].Position)
	}
	took(1)
	r.set.Commit()
	bound := l.Bound()
	took(2)
	r.set.Empty(l)
	r.runs[2].worker = 0
	r.set.Rollback()
	if got := l.Bound(); got != bound {
		t.Errorf("the bound is %+v, want %+v", got, bound)
	}
	r.claims(t, request(1), 9, 2, 3)
}

// A suspect is the last of a claim, wherever it is in the order.
func TestCompareStarts(t *testing.T) {
	early, late := ready.Position{Rank: 1, ID: 9}, ready.Position{Rank: 2, ID: 1}
	for _, c := range []struct{ early, late, want int }{
		{0, 0, -1}, {1, 0, -1}, {0, 1, -1},
		{store.SuspectCrashes, 1, 1}, {1, store.SuspectCrashes, -1},
		{store.SuspectCrashes + 2, store.SuspectCrashes, -1}, {store.SuspectCrashes, store.SuspectCrashes + 2, -1},
	} {
		if got := ready.CompareStarts(early, c.early, late, c.late); got != c.want {
			t.Errorf("after %d and %d crashes: %d, want %d", c.early, c.late, got, c.want)
		}
		if got := ready.CompareStarts(late, c.late, early, c.early); got != -c.want {
			t.Errorf("the other way round, after %d and %d crashes: %d, want %d", c.late, c.early, got, -c.want)
		}
	}
}
