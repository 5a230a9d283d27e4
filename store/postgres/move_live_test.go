package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/store"
)

// moverVariable makes the test program a mover: PATH, SCHEMA, the number of the message at which it kills itself, and
// whether it moves back to the path, between spaces.
const moverVariable = "STINT_TEST_MOVE"

func moveAndDie() {
	var path, schema string
	var at, n int
	var back bool
	if _, err := fmt.Sscan(os.Getenv(moverVariable), &path, &schema, &at, &back); err != nil {
		panic(err)
	}
	opts := MoveOptions{Options: Options{Schema: schema}, Progress: func(text string) {
		if n++; n == at {
			fmt.Println("killed after: " + text)
			p, _ := os.FindProcess(os.Getpid())
			p.Kill()
			select {}
		}
	}}
	var err error
	if url := os.Getenv("STINT_DATABASE_URL"); back {
		_, err = MoveBack(context.Background(), url, path, opts)
	} else {
		_, err = Move(context.Background(), path, url, opts)
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	os.Exit(0)
}

// moveUntil runs a mover that kills itself at its message n, and reports what it had done; "": it ended.
func moveUntil(t *testing.T, path string, opts Options, n int, back bool) string {
	t.Helper()
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), moverVariable+"="+fmt.Sprint(path, " ", opts.Schema, " ", n, " ", back))
	out, err := c.CombinedOutput()
	text, killed := strings.CutPrefix(string(out), "killed after: ")
	if err != nil && !killed {
		t.Fatalf("mover: %v: %s", err, out)
	}
	return strings.TrimSpace(text)
}

// A program enqueues and works, and counts what it was told and what it did.
type program struct {
	*stint.Client
	task     *stint.Task[int, int]
	durable  *stint.Task[int, int]
	stop     func()
	wg       sync.WaitGroup
	enqueues sync.WaitGroup
	enough   chan struct{}
	over     sync.Once
	mu       sync.Mutex
	told     map[int]bool
	did      map[int]int
	steps    map[int]int
	gate     chan struct{} // durable runs go on when it is closed
	began    atomic.Int64
}

// newProgram starts a program on a store.
func newProgram(t testing.TB, s store.Store, opts ...stint.WorkerOption) *program {
	t.Helper()
	c, err := stint.New(s, stint.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	p := &program{Client: c, told: map[int]bool{}, did: map[int]int{}, steps: map[int]int{}, gate: make(chan struct{}), enough: make(chan struct{})}
	p.task = stint.NewTask(c, "count", func(_ context.Context, n int) (int, error) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.did[n]++
		return n, nil
	})
	p.durable = stint.NewTask(c, "durable", func(ctx context.Context, n int) (int, error) {
		step := func(k int) (int, error) {
			return stint.Step(ctx, fmt.Sprint("step", k), func(context.Context) (int, error) {
				p.mu.Lock()
				defer p.mu.Unlock()
				p.steps[10*n+k]++
				return k, nil
			})
		}
		if _, err := step(1); err != nil {
			return 0, err
		}
		p.began.Add(1)
		select {
		case <-p.gate: // it runs while the file moves
		case <-ctx.Done():
			return 0, ctx.Err()
		}
		return step(2)
	})
	w, err := c.NewWorker(append(opts, stint.WithSlots(16))...)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	p.wg.Go(func() {
		if err := w.Run(ctx); err != nil && !errors.Is(err, stint.ErrMoved) {
			t.Error(err)
		}
	})
	p.stop = cancel
	return p
}

// enqueue enqueues one run after another until finish, each with what other calls it needs.
func (p *program) enqueue(t testing.TB, from int) {
	p.enqueues.Go(func() {
		for n := from; ; n++ {
			select {
			case <-p.enough:
				return
			default:
			}
			run, err := p.task.Enqueue(context.Background(), n)
			if err != nil {
				t.Errorf("enqueue of %d: %v", n, err)
				return
			}
			p.mu.Lock()
			p.told[n] = true
			p.mu.Unlock()
			if n%7 == 0 {
				if _, err := run.Wait(context.Background()); err != nil {
					t.Errorf("wait for %d: %v", n, err)
					return
				}
			}
		}
	})
}

// begun waits until so many durable runs have begun.
func (p *program) begun(t testing.TB, n int) (runs []*stint.Run[int]) {
	t.Helper()
	for i := range n {
		r, err := p.durable.Enqueue(t.Context(), i)
		if err != nil {
			t.Fatal(err)
		}
		runs = append(runs, r)
	}
	for p.began.Load() < int64(n) {
		if _, err := p.task.Run(t.Context(), -1-int(time.Now().UnixNano()>>10)); err != nil {
			t.Fatal(err)
		}
	}
	return runs
}

// finish ends the program, and compares what it was told with what it did.
func (p *program) finish(t testing.TB, runs []*stint.Run[int]) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	close(p.gate)
	p.over.Do(func() { close(p.enough) })
	p.enqueues.Wait()
	for i, r := range runs {
		if got, err := r.Wait(ctx); got != 2 || err != nil {
			t.Errorf("durable run %d: %d, %v", i, got, err)
		}
	}
	for { // until all that was enqueued has ended
		page, err := p.ListRuns(ctx, stint.RunFilter{States: []stint.State{stint.StateQueued, stint.StateRunning}})
		if err != nil {
			t.Fatal(err)
		}
		if len(page.Runs) == 0 {
			break
		}
		if _, err := p.task.Run(ctx, -1-int(time.Now().UnixNano()>>10)); err != nil {
			t.Fatal(err)
		}
	}
	p.stop()
	p.wg.Wait()
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	for n := range p.told {
		if p.did[n] != 1 {
			t.Errorf("run %d was executed %d times", n, p.did[n])
		}
	}
	for n, times := range p.did {
		if n >= 0 && !p.told[n] {
			t.Errorf("run %d was executed %d times, and its enqueue failed", n, times)
		}
	}
	for n, times := range p.steps {
		if times != 1 {
			t.Errorf("step %d of durable run %d was executed %d times", n%10, n/10, times)
		}
	}
}

// Programs enqueue and work while their file moves, and the mover is killed after each of its steps and run again:
// nothing is lost, nothing is done twice, and handlers that run meanwhile end as if nothing had happened.
func TestMoveKilledAtEachStep(t *testing.T) {
	serverURL(t)
	for n := 1; ; n++ {
		done := false
		t.Run(strconv.Itoa(n), func(t *testing.T) {
			opts, path := newTarget(t), filepath.Join(t.TempDir(), "app.db")
			s, err := FollowWith(path, serverURL(t), opts) // there is neither a file nor a schema
			if err != nil {
				t.Fatal(err)
			}
			p := newProgram(t, s)
			runs := p.begun(t, 3)
			p.enqueue(t, 0)
			p.enqueue(t, 1_000_000)
			step := moveUntil(t, path, opts, n, false)
			if done = step == ""; !done {
				t.Logf("killed after: %s", step)
				move(t, path, opts)
			}
			p.finish(t, runs)
			if _, file := s.(*follower).now.Store.(*Store); !file {
				t.Error("the program works on the file still")
			}
		})
		if done || t.Failed() {
			break
		}
	}
}

// A program that does not follow is told, and what it executed runs again.
func TestMoveUnderAnotherProgram(t *testing.T) {
	opts, path := newTarget(t), filepath.Join(t.TempDir(), "app.db")
	old := newProgram(t, openedFile(t, path))
	runs := old.begun(t, 1)
	move(t, path, opts)
	if _, err := old.task.Enqueue(t.Context(), 1); !errors.Is(err, stint.ErrMoved) || !strings.Contains(err.Error(), "postgres://") {
		t.Errorf("enqueue: %v; want ErrMoved and the URL", err)
	}
	if _, err := runs[0].Wait(t.Context()); !errors.Is(err, stint.ErrMoved) {
		t.Errorf("wait: %v; want ErrMoved", err)
	}
	set, err := newSettings(serverURL(t), opts)
	if err != nil {
		t.Fatal(err)
	}
	set.deadSilent = time.Second
	s, err := open(t.Context(), set)
	if err != nil {
		t.Fatal(err)
	}
	p := newProgram(t, s)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	close(p.gate)
	for {
		info, err := p.GetRun(ctx, runs[0].ID())
		if err != nil {
			t.Fatal(err)
		}
		if info.State == stint.StateSucceeded {
			break
		}
		if _, err := p.task.Run(ctx, -1-int(time.Now().UnixNano()>>10)); err != nil {
			t.Fatal(err)
		}
	}
	if p.steps[1] != 0 || p.steps[2] != 1 {
		t.Errorf("steps after the move: %v; want only the second, once", p.steps)
	}
	p.stop()
	p.wg.Wait()
	p.Close()
	close(old.gate)
	old.stop()
	old.wg.Wait()
	old.Close()
}

// A mover back that is killed after any of its steps is run again: programs get the database or the file, never both.
func TestMoveBackKilledAtEachStep(t *testing.T) {
	opts, path := newTarget(t), filepath.Join(t.TempDir(), "app.db")
	x := newShop(t, openedFile(t, path))
	x.fill(t)
	x.Close()
	s := openedFile(t, path)
	before := dump(t, s, true)
	s.Close()
	move(t, path, opts)
	back := filepath.Join(t.TempDir(), "back.db")
	for n := 1; ; n++ {
		step := moveUntil(t, back, opts, n, true)
		if step == "" {
			break
		}
		t.Logf("killed after: %s", step)
		if _, err := os.Stat(back); err == nil {
			t.Errorf("killed after %s: the file is at its path", step)
		}
		if _, err := Open(t.Context(), serverURL(t), opts); err == nil {
			t.Errorf("killed after %s: the database was opened", step)
		}
		if n == 3 { // this time the program goes on with the database
			if err := CancelMoveBack(t.Context(), serverURL(t), MoveOptions{Options: opts}); err != nil {
				t.Fatal(err)
			}
			p, err := Open(t.Context(), serverURL(t), opts)
			if err != nil {
				t.Fatal(err)
			}
			same(t, before, dump(t, p, true))
			p.Close()
		}
	}
	s = openedFile(t, back)
	defer s.Close()
	same(t, before, dump(t, s, true))
}

// A move that was killed is canceled: the file is as before. A later one begins anew.
func TestMoveCanceled(t *testing.T) {
	opts, path := newTarget(t), filepath.Join(t.TempDir(), "app.db")
	p := newProgram(t, openedFile(t, path))
	runs := p.begun(t, 3)
	p.enqueue(t, 0)
	step := moveUntil(t, path, opts, 7, false)
	if _, err := Open(t.Context(), serverURL(t), opts); err == nil || !strings.Contains(err.Error(), "being moved into it") {
		t.Errorf("killed after %s: open of the database: %v; want an error that says so", step, err)
	}
	if err := CancelMove(t.Context(), path, serverURL(t), MoveOptions{Options: opts}); err != nil {
		t.Fatal(err)
	}
	if s, err := Open(t.Context(), serverURL(t), opts); err != nil {
		t.Errorf("open after the cancel: %v", err)
	} else {
		if got := dump(t, s, false); strings.Contains(strings.Join(got, " "), "run ") {
			t.Errorf("the database has runs: %v", got)
		}
		s.Close()
	}
	p.finish(t, runs)
	s := openedFile(t, path)
	before := dump(t, s, true)
	s.Close()
	move(t, path, opts)
	moved, err := Open(t.Context(), serverURL(t), opts)
	if err != nil {
		t.Fatal(err)
	}
	defer moved.Close()
	same(t, before, dump(t, moved, true))
}

// A file whose database cannot be reached is neither lost nor written to: the program waits, and says so.
func TestFollowWithoutServer(t *testing.T) {
	opts, path := newTarget(t), filepath.Join(t.TempDir(), "app.db")
	set, err := newSettings(serverURL(t), opts)
	if err != nil {
		t.Fatal(err)
	}
	proxy, through := newProxy(t, set)
	makeFile(t, path)
	s, err := FollowWith(path, through.pool.ConnString(), opts)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	proxy.set(func([]byte) bool { return false }, nil)
	move(t, path, opts)
	if err := s.Read(t.Context(), &store.StateCount{}); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("call: %v; want ErrUnavailable", err)
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for s.Healthy() == nil { // until the file's store has seen the mark
		<-tick.C
	}
	if err := s.Healthy(); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("healthy: %v; want ErrUnavailable", err)
	}
	if _, err := FollowWith(filepath.Join(t.TempDir(), "new.db"), through.pool.ConnString(), opts); err == nil {
		t.Error("a new file was made, though nobody knows whether the old one has moved")
	}
	proxy.set(nil, nil)
	if err := s.Read(t.Context(), &store.StateCount{}); err != nil {
		t.Errorf("call once the server is there: %v", err)
	}
	other, err := FollowWith(filepath.Join(t.TempDir(), "new.db"), through.pool.ConnString(), opts)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if _, ok := other.(*follower).now.Store.(*Store); !ok {
		t.Error("on a machine without the file the program works on a file")
	}
}

// Of two programs that follow, one makes no call while the file moves: it only waits, for runs and for a run's end. It
// learns of the move all the same.
func TestMoveUnderIdleProgram(t *testing.T) {
	opts, path := newTarget(t), filepath.Join(t.TempDir(), "app.db")
	follow := func(queue string) *program {
		s, err := FollowWith(path, serverURL(t), opts)
		if err != nil {
			t.Fatal(err)
		}
		return newProgram(t, s, stint.WithQueues(queue))
	}
	idle, busy := follow("idle"), follow(stint.DefaultQueue)
	waits, err := idle.task.Enqueue(t.Context(), 7, stint.WithDelay(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := waits.Wait(context.Background())
		ended <- err
	}()
	busy.enqueue(t, 0)
	move(t, path, opts)
	busy.finish(t, nil)

	other, err := Open(t.Context(), serverURL(t), opts)
	if err != nil {
		t.Fatal(err)
	}
	c, err := stint.New(other)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.CancelRuns(t.Context(), stint.RunFilter{IDs: []string{waits.ID()}}); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, stint.ErrCanceled) {
		t.Errorf("wait for a run that was canceled after the move: %v", err)
	}
	count := stint.NewTask(c, "count", func(context.Context, int) (int, error) { return 0, errors.New("not here") })
	if got, err := count.Run(t.Context(), -5, stint.WithQueue("idle")); got != -5 || err != nil {
		t.Errorf("a run that another program enqueued after the move: %d, %v", got, err)
	}
	idle.stop()
	idle.wg.Wait()
	if err := idle.Close(); err != nil {
		t.Error(err)
	}
}
