package postgres

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/store"
)

// A stall keeps what passes a proxy until it is over, as a frozen program or a cut network does.
type stall struct {
	mu   sync.Mutex
	over chan struct{} // nil: nothing is kept
}

func newStall(p *proxy) *stall {
	x := &stall{}
	wait := func([]byte) bool {
		x.mu.Lock()
		over := x.over
		x.mu.Unlock()
		if over != nil {
			<-over
		}
		return true
	}
	p.set(wait, wait)
	return x
}

func (x *stall) begin() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.over = make(chan struct{})
}

func (x *stall) end() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.over != nil {
		close(x.over)
		x.over = nil
	}
}

// openStalled returns two stores on the same tables; the first is soon taken for dead while the stall lasts.
func openStalled(t *testing.T) (frozen, other *Store, x *stall) {
	t.Helper()
	set := newTables(t)
	p, through := newProxy(t, set)
	x = newStall(p)
	through.silentAfter, set.deadSilent = 300*time.Millisecond, 2*time.Second
	open1 := func(set *settings) *Store {
		s, err := open(t.Context(), set)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	frozen, other = open1(through), open1(set)
	t.Cleanup(func() {
		x.end()
		if err := errors.Join(frozen.Close(), other.Close()); err != nil {
			t.Error(err)
		}
	})
	return frozen, other, x
}

// A process that the server does not answer stops: its workers are told that they are lost, and it is given no
// runs. Others take it for dead, and have its runs; what it says of them later is refused, and it works again.
func TestCutOffProcessStops(t *testing.T) {
	s, other, x := openStalled(t)
	ctx := withinMinutes(t)
	worker, err := s.Register(ctx, store.WorkerInfo{Name: "w", Slots: 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Enqueue(ctx, s.Now(), []store.NewRun{{Task: "t", Queue: "q", Input: []byte("1")}}); err != nil {
		t.Fatal(err)
	}
	request := any1(1)
	request.Worker = worker
	old, err := s.Claim(ctx, request)
	if err != nil || len(old) != 1 {
		t.Fatalf("claimed %v, %v", old, err)
	}
	lost := make(chan error, 1)
	go func() {
		sig, err := s.Watch(ctx, worker)
		if err == nil && !sig.Lost {
			err = errors.New("a signal, but not Lost")
		}
		lost <- err
	}()

	x.begin()
	if err := receive(t, lost); err != nil {
		t.Fatal(err)
	}
	if err := s.Healthy(); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Healthy of a store that is cut off: %v; want ErrUnavailable", err)
	}
	if r, err := other.Recover(ctx); r.Requeued != 1 || err != nil {
		t.Fatalf("recovered %+v, %v; want one run", r, err)
	}
	again, err := other.Claim(ctx, any1(1))
	if err != nil || len(again) != 1 || again[0].ID != old[0].ID {
		t.Fatalf("the other process claimed %v, %v; want the run", again, err)
	}

	x.end()
	stale, err := s.Finish(ctx, s.Now(), []store.Outcome{{ID: old[0].ID, Lease: old[0].Lease, To: store.Succeeded, Output: []byte("1"),
		Queue: "q", Task: "t"}})
	if err != nil || !stale[0] {
		t.Errorf("the outcome of before: stale %v, %v; want true", stale, err)
	}
	if _, err := other.Enqueue(ctx, other.Now(), []store.NewRun{{Task: "t", Queue: "q", Input: []byte("2")}}); err != nil {
		t.Fatal(err)
	}
	got, err := s.Claim(ctx, request)
	if err != nil || len(got) != 1 || string(got[0].Input) != "2" {
		t.Fatalf("it claimed %v after that, %v; want the second run", got, err)
	}
	var list store.WorkerList
	err = other.Read(ctx, &list)
	if living := list.Workers; err != nil || len(living) != 1 || living[0].ID != worker || living[0].Running != 1 {
		t.Errorf("living: %+v, %v; want the worker, which executes a run", living, err)
	}
	if err := s.Healthy(); err != nil {
		t.Errorf("Healthy after that: %v", err)
	}
}

// A worker whose process was taken for dead is given nothing until it lives again: a run that it began then would
// never be recovered.
func TestDeadWorkerClaimsNothing(t *testing.T) {
	set := newTables(t)
	s, other := openStore(t, set), openStore(t, set)
	ctx := withinMinutes(t)
	worker, err := s.Register(ctx, store.WorkerInfo{Name: "w", Slots: 1})
	if err != nil {
		t.Fatal(err)
	}
	err = other.do(ctx, func(u *unit) error { return u.releaseWorker(worker, true) }) // as it is while the process has not noticed
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Enqueue(ctx, s.Now(), []store.NewRun{{Task: "t", Queue: "q", Input: []byte("1")}}); err != nil {
		t.Fatal(err)
	}
	request := any1(1)
	request.Worker = worker
	got := make(chan []store.Claimed, 1)
	go func() {
		c, _ := s.Claim(ctx, request)
		got <- c
	}()
	for range 3 { // groups in which the claim waits
		if _, err := s.Enqueue(ctx, s.Now(), []store.NewRun{{Task: "t", Queue: "q", Input: []byte("1")}}); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case c := <-got:
		t.Fatalf("a dead worker was given %v", c)
	default:
	}
	removeProcess(t, set, s.direct.process)
	if c := receive(t, got); len(c) != 1 {
		t.Errorf("given %v after it lives again, want a run", c)
	}
}

// Workers that a process registers after it was taken for dead are recovered if it dies before it notices.
func TestOrphanedWorkers(t *testing.T) {
	set := newTables(t)
	s, other := openStore(t, set), openStore(t, set)
	ctx := withinMinutes(t)
	worker, err := s.Register(ctx, store.WorkerInfo{Name: "w", Slots: 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Enqueue(ctx, s.Now(), []store.NewRun{{Task: "t", Queue: "q", Input: []byte("1")}}); err != nil {
		t.Fatal(err)
	}
	request := any1(1)
	request.Worker = worker
	if got, err := s.Claim(ctx, request); err != nil || len(got) != 1 {
		t.Fatalf("claimed %v, %v", got, err)
	}
	s.Crash()
	removeProcess(t, set, s.direct.process)
	if r, err := other.Recover(ctx); r.Requeued != 1 || err != nil {
		t.Errorf("recovered %+v, %v; want one run", r, err)
	}
}

// The handler of a process that is cut off ends with a cause that says so, and another process executes the run.
func TestHandlerOfACutOffProcess(t *testing.T) {
	s, other, x := openStalled(t)
	ctx := withinMinutes(t)
	started, causes := make(chan struct{}, 10), make(chan error, 10)
	handle := func(ctx context.Context, _ int) (int, error) {
		if info, _ := stint.Info(ctx); info.Executions > 1 {
			return info.Executions, nil
		}
		started <- struct{}{}
		<-ctx.Done()
		causes <- context.Cause(ctx)
		return 0, ctx.Err()
	}
	begin := func(s *Store) (*stint.Client, *stint.Task[int, int]) {
		c, err := stint.New(s)
		if err != nil {
			t.Fatal(err)
		}
		task := stint.NewTask(c, "t", handle)
		w, err := c.NewWorker()
		if err != nil {
			t.Fatal(err)
		}
		working, stop := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() { defer close(done); w.Run(working) }()
		t.Cleanup(func() {
			x.end()
			stop()
			<-done
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		})
		return c, task
	}
	_, task := begin(s)
	run, err := task.Enqueue(ctx, 1)
	if err != nil {
		t.Fatal(err)
	}
	receive(t, started)
	second, _ := begin(other)
	x.begin()
	cause := receive(t, causes)
	if !errors.Is(cause, stint.ErrShutdown) || !strings.Contains(cause.Error(), "taken for dead") {
		t.Errorf("the handler's context ended with %v", cause)
	}
	r := stint.RunByID[int](second, run.ID())
	if n, err := r.Wait(ctx); err != nil || n < 2 {
		t.Errorf("execution %d, %v; want another", n, err)
	}
}

// removeProcess removes a process from the table, as others do that take it for dead.
func removeProcess(t *testing.T, set *settings, p *process) {
	t.Helper()
	if _, err := dial(t, set).Exec(t.Context(), qualify("DELETE FROM stint.processes WHERE name = $1", set.Schema), p.name); err != nil {
		t.Fatal(err)
	}
}

func withinMinutes(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	t.Cleanup(cancel)
	return ctx
}
