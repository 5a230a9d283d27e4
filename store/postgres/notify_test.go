package postgres

import (
	"encoding/json"
	"runtime"
	"testing"
	"time"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/limits"
)

// noticesOf listens for notices, and returns a function that returns those of a process that were sent before its call.
func noticesOf(t *testing.T, set *settings, process string) func() []notice {
	t.Helper()
	c, by := dial(t, set), dial(t, set)
	if _, err := c.Exec(t.Context(), "LISTEN "+set.channel()); err != nil {
		t.Fatal(err)
	}
	return func() (all []notice) {
		t.Helper()
		mark := notice{From: randomHex()}
		if _, err := by.Exec(t.Context(), "SELECT pg_notify($1, $2)", set.channel(), mark.encode()); err != nil {
			t.Fatal(err)
		}
		for {
			n, err := c.WaitForNotification(withinMinutes(t))
			if err != nil {
				t.Fatal(err)
			}
			var x notice
			if err := json.Unmarshal([]byte(n.Payload), &x); err != nil {
				t.Fatal(err)
			}
			if x.From == mark.From {
				return all
			}
			if x.From == process {
				all = append(all, x)
			}
		}
	}
}

// told waits until a store has told others all that it has to tell, or rests.
func (s *Store) told() {
	for done := false; !done; runtime.Gosched() {
		rest, some := s.notifier.rests(time.Now())
		s.notifier.mu.Lock()
		done = !s.notifier.sends && (!some || rest > 0)
		s.notifier.mu.Unlock()
	}
}

// startOne enqueues and claims a run.
func startOne(t *testing.T, s *Store) store.Claimed {
	t.Helper()
	if _, err := s.Enqueue(t.Context(), s.Now(), []store.NewRun{{Task: "t", Queue: "q", Input: []byte("1")}}); err != nil {
		t.Fatal(err)
	}
	got, err := s.Claim(withinMinutes(t), any1(1))
	if err != nil || len(got) != 1 {
		t.Fatalf("claimed %v, %v", got, err)
	}
	return got[0]
}

func endRun(t *testing.T, s *Store, r store.Claimed) {
	t.Helper()
	stale, err := s.Finish(t.Context(), s.Now(), []store.Outcome{{ID: r.ID, Lease: r.Lease, To: store.Succeeded, Output: []byte("2"),
		Queue: r.Queue, Task: r.Task}})
	if err != nil || stale[0] {
		t.Fatal(stale, err)
	}
}

func openTwo(t *testing.T) (s, other *Store, set *settings) {
	t.Helper()
	set = newTables(t)
	for _, to := range []**Store{&s, &other} {
		var err error
		if *to, err = Open(t.Context(), serverURL(t), set.Options); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := (*to).Close(); err != nil {
				t.Error(err)
			}
		})
	}
	return s, other, set
}

// What a process has heard of it does not tell others again: they would tell it again, and so on.
func TestHeardLanesAreNotToldAgain(t *testing.T) {
	s, other, set := openTwo(t)
	r := startOne(t, s)
	lane, _ := s.lanes.id(laneOf{queue: "q", task: "t"})
	notices := noticesOf(t, set, s.direct.process.name)
	s.told()
	s.heard(notice{From: other.direct.process.name, Lanes: []int64{lane}, Ranks: []int64{5}})
	endRun(t, s, r)
	if _, err := s.Enqueue(t.Context(), s.Now(), []store.NewRun{{Task: "u", Queue: "q", Input: []byte("1")}}); err != nil {
		t.Fatal(err)
	}
	another, _ := s.lanes.id(laneOf{queue: "q", task: "u"})
	s.told()
	lanes := map[int64]bool{}
	for _, x := range notices() {
		for _, l := range x.Lanes {
			lanes[l] = true
		}
	}
	if lanes[lane] || !lanes[another] {
		t.Errorf("told of lanes %v; want %d, in which it has enqueued, and not %d, of which it was told", lanes, another, lane)
	}
}

// Who waits for no run is not told of ends. Who begins to wait is, also by a process that has found before that nobody
// waits.
func TestEndsAreToldToThoseWhoWait(t *testing.T) {
	s, other, set := openTwo(t)
	notices := noticesOf(t, set, s.direct.process.name)
	endRun(t, s, startOne(t, s))
	s.told()
	before, r := notices(), startOne(t, s)
	for _, x := range before {
		if len(x.Lanes) == 0 {
			t.Errorf("%+v was told, and nobody waits", x)
		}
	}
	done := make(chan error, 1)
	go func() {
		got, err := other.Await(withinMinutes(t), r.ID, store.Until{})
		if err == nil && got.State != store.Succeeded {
			t.Errorf("waited for %+v", got)
		}
		done <- err
	}()
	for !other.direct.process.awaits.Load() {
		runtime.Gosched()
	}
	for rests := true; rests; runtime.Gosched() { // it hears of that
		s.notifier.mu.Lock()
		rests = !s.notifier.restEnds.IsZero()
		s.notifier.mu.Unlock()
	}
	endRun(t, s, r)
	if err := receive(t, done); err != nil {
		t.Fatal(err)
	}
	s.told()
	told := false
	for _, x := range notices() {
		told = told || len(x.Runs) > 0
	}
	if !told {
		t.Error("it was not told of the end")
	}
	var awaits bool
	row := dial(t, set).QueryRow(t.Context(), qualify("SELECT awaits FROM stint.processes WHERE name = $1", set.Schema), s.direct.process.name)
	if err := row.Scan(&awaits); awaits || err != nil {
		t.Errorf("who only works awaits: %t, %v", awaits, err)
	}
}

// A rest of notices of ends lasts while there are no others, and a process that comes meanwhile ends it.
func TestNotifierRests(t *testing.T) {
	n := &notifier{s: &Store{settings: &settings{}, direct: &direct{process: &process{}}}, signaled: make(chan struct{}, 1)}
	n.clear()
	now := time.Now()
	rests := func(want time.Duration, wantSome bool) {
		t.Helper()
		if got, some := n.rests(now); some != wantSome || some && max(got, 0) != want {
			t.Errorf("rests %v, %t; want %v, %t", got, some, want, wantSome)
		}
	}
	ends := &told{ended: []ending{{run: 1}}, wakeAt: limits.Never}
	lanes := &told{lanes: lanesFrom{7: 1}, wakeAt: limits.Never}
	signaled := func(want bool) {
		t.Helper()
		select {
		case <-n.signaled:
			if !want {
				t.Error("it was signaled")
			}
		default:
			if want {
				t.Error("it was not signaled")
			}
		}
	}
	rests(0, false)
	n.add(ends)
	signaled(true)
	rests(0, true)
	n.restEnds = now.Add(time.Second)
	n.add(ends)
	signaled(false) // there is no more than before
	rests(time.Second, true)
	n.add(lanes)
	signaled(true)
	rests(0, true)
	n.rest = now.Add(time.Minute)
	rests(time.Minute, true)
	n.othersCame()
	signaled(true)
	rests(0, true)
	if x, tells, came := n.take(); tells != tellsMore || came != 1 || len(x.Runs) != 2 || len(x.Lanes) != 1 {
		t.Errorf("takes %+v, %d, %d", x, tells, came)
	}
	rests(0, false)
}
