package stint_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stint-dev/stint"
)

// This test is what a gateway does for a durable function of a program in another language: docs/design/durable.md
// describes it. The program sends operations, each when the one before is acknowledged, and hears later of their ends.

// A remoteOp is an operation of the program: a wait, a memo, or a start of children.
type remoteOp struct {
	kind, name string
	cond       stint.Condition
	inputs     []int
	ack        chan remoteAck
}

// A remoteAck answers an operation: its number, or a memo's value, if there is one.
type remoteAck struct {
	nodes []int
	value json.RawMessage
	err   error
}

// An invocation is one execution of the program.
type invocation struct {
	ops      chan remoteOp
	memos    chan remoteMemo
	ends     chan remoteEnd // delivered
	evict    chan struct{}
	returned chan remoteEnd
	stopped  chan struct{} // the program is cut off
}

type remoteMemo struct {
	node  int
	value json.RawMessage
}

type remoteEnd struct {
	node  int
	value string
	err   error
	wait  *stint.Future[stint.Fired] // has the value
}

func (i *invocation) do(op remoteOp) remoteAck {
	op.ack = make(chan remoteAck, 1)
	select {
	case i.ops <- op:
		select {
		case a := <-op.ack:
			return a
		case <-i.stopped:
		}
	case <-i.stopped:
	}
	return remoteAck{err: errors.New("cut off")}
}

// A remote serves one program.
type remote struct {
	c       *stint.Client
	child   *stint.Task[int, int]
	program func(*invocation) (string, error)
}

// drive is the handler of the program's task.
func (r *remote) drive(ctx context.Context, _ int) (string, error) {
	inv := &invocation{ops: make(chan remoteOp), memos: make(chan remoteMemo), ends: make(chan remoteEnd, 100), evict: make(chan struct{}, 1),
		returned: make(chan remoteEnd, 1), stopped: make(chan struct{})}
	d := &driver{remote: r, ctx: ctx, inv: inv, ended: make(chan remoteEnd), memos: map[int]*stint.OpenStep{},
		ends: map[int]*stint.OpenStep{}, ready: map[int]*remoteEnd{}, byOrder: map[int]int{}, runs: map[int]string{}}
	var stop context.CancelFunc
	d.outside, stop = context.WithCancel(context.Background())
	defer d.others.Wait()
	defer close(inv.stopped)
	defer stop()
	if err := d.readOrder(); err != nil {
		return "", err
	}
	d.others.Go(func() {
		out, err := r.program(inv)
		inv.returned <- remoteEnd{value: out, err: err}
	})
	for {
		select {
		case op := <-inv.ops:
			op.ack <- d.operate(&op)
		case m := <-inv.memos:
			if err := d.memos[m.node].Complete(ctx, m.value); err != nil {
				return "", err
			}
		case e := <-d.ended:
			d.ready[e.node] = &e
		case <-inv.evict:
			return "", stint.Suspend(ctx, slices.Collect(maps.Values(d.runs))...)
		case end := <-inv.returned:
			return end.value, end.err
		case <-ctx.Done():
			return "", context.Cause(ctx)
		}
		if err := d.deliver(); err != nil {
			return "", err
		}
	}
}

// A driver is the gateway's side of an invocation. Only the handler's goroutine uses it.
type driver struct {
	*remote
	ctx     context.Context
	outside context.Context // of waits for children, which are not durable calls
	inv     *invocation
	others  sync.WaitGroup
	ended   chan remoteEnd // operations that have ended, in no order
	nodes   int
	memos   map[int]*stint.OpenStep
	ends    map[int]*stint.OpenStep // record which end was told first, second, ...
	ready   map[int]*remoteEnd
	runs    map[int]string // children whose end was not told

	recorded []int       // the numbers of ends that were told in earlier invocations
	byOrder  map[int]int // their nodes, as far as this invocation knows them
	last     int         // the highest number
}

// readOrder reads in which order the program has heard of ends before.
func (d *driver) readOrder() error {
	info, _ := stint.Info(d.ctx)
	entries, err := d.c.Journal(d.ctx, info.ID)
	for _, e := range entries {
		if n := 0; e.Name == "end" && e.Done {
			if err := json.Unmarshal(e.Output, &n); err != nil {
				return err
			}
			d.recorded, d.last = append(d.recorded, n), max(d.last, n)
		}
	}
	slices.Sort(d.recorded)
	return err
}

// operate makes the durable call of an operation, if it is what the journal has.
func (d *driver) operate(op *remoteOp) remoteAck {
	kind, name := op.kind, op.name
	if kind == "wait" {
		name = op.cond.String()
	}
	if e, ok := stint.Peek(d.ctx); ok && (e.Kind != kind || e.Name != name) {
		return remoteAck{err: fmt.Errorf("%w: entry %s is %s %q", stint.ErrDiverged, e.Address, e.Kind, e.Name)}
	}
	first := d.nodes + 1
	switch kind {
	case "wait":
		f, err := stint.StartWait(d.ctx, op.cond, stint.FromNow())
		if err != nil {
			return remoteAck{err: err}
		}
		d.others.Go(func() {
			select {
			case <-f.Done():
				d.report(remoteEnd{node: first, wait: f})
			case <-d.outside.Done():
			}
		})
		return d.begun(1)
	case "step":
		s, err := stint.StartStep(d.ctx, name)
		if err != nil {
			return remoteAck{err: err}
		}
		d.nodes++
		d.memos[first] = s
		value, _ := s.Result()
		return remoteAck{nodes: []int{first}, value: value}
	}
	runs, err := d.child.EnqueueMany(d.ctx, op.inputs)
	if err != nil {
		return remoteAck{err: err}
	}
	for i, run := range runs {
		d.runs[first+i] = run.ID()
		d.others.Go(func() {
			out, err := stint.RunByID[int](d.c, run.ID()).Wait(d.outside)
			d.report(remoteEnd{node: first + i, value: fmt.Sprint(out), err: err})
		})
	}
	return d.begun(len(runs))
}

func (d *driver) report(e remoteEnd) {
	select {
	case d.ended <- e:
	case <-d.outside.Done():
	}
}

// begun gives operations their numbers, and begins the steps that record when their ends are told.
func (d *driver) begun(n int) (a remoteAck) {
	for range n {
		s, err := stint.StartStep(d.ctx, "end")
		if err != nil {
			return remoteAck{err: err}
		}
		d.nodes++
		d.ends[d.nodes] = s
		if b, ok := s.Result(); ok {
			order := 0
			if err := json.Unmarshal(b, &order); err != nil {
				return remoteAck{err: err}
			}
			d.byOrder[order] = d.nodes
		}
		a.nodes = append(a.nodes, d.nodes)
	}
	return a
}

// deliver tells the program of ends: first of those that it has heard of before, in the same order.
func (d *driver) deliver() error {
	for {
		node := 0
		if len(d.recorded) > 0 {
			node = d.byOrder[d.recorded[0]]
		} else {
			for n := range d.ready {
				node = n
			}
		}
		end := d.ready[node]
		if end == nil {
			return nil
		}
		if len(d.recorded) > 0 {
			d.recorded = d.recorded[1:]
		} else {
			d.last++
			if err := d.ends[node].Complete(d.ctx, json.RawMessage(fmt.Sprint(d.last))); err != nil {
				return err
			}
		}
		delete(d.ready, node)
		delete(d.runs, node)
		e := *end
		if e.wait != nil {
			fired, err := e.wait.Wait(d.ctx)
			b, _ := json.Marshal(fired)
			e.value, e.err = string(b), err
		}
		d.inv.ends <- e
	}
}

// A remote program has several waits open, hears of their ends in an order that is the same each time, is evicted and comes back,
// and goes on in another process.
func TestRemoteProgram(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file.db")
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		memos, asks, longest := 0, "go", ""
		program := func(inv *invocation) (string, error) {
			var nodes []int
			mu.Lock()
			event := asks
			mu.Unlock()
			for _, op := range []remoteOp{{kind: "wait", cond: stint.Named("short", stint.SleepFor(20*time.Second))},
				{kind: "wait", cond: stint.AnyOf(stint.UserEvent(event), stint.Named("long", stint.SleepFor(time.Hour)))},
				{kind: "step", name: "memo 1"}, {kind: "child", name: "child", inputs: []int{3, 30}}} {
				a := inv.do(op)
				if a.err != nil {
					return "", a.err
				}
				nodes = append(nodes, a.nodes...)
				if op.kind == "step" && a.value == nil {
					mu.Lock()
					memos++
					value, _ := json.Marshal(memos)
					mu.Unlock()
					select {
					case inv.memos <- remoteMemo{a.nodes[0], value}:
					case <-inv.stopped:
						return "", errors.New("cut off")
					}
				}
			}
			var heard []string
			for len(heard) < 4 {
				idle := time.NewTimer(2 * time.Second)
				select {
				case e := <-inv.ends:
					heard = append(heard, fmt.Sprint(e.node, "=", e.value, e.err))
				case <-idle.C:
					inv.evict <- struct{}{}
					<-inv.stopped
					return "", errors.New("cut off")
				case <-inv.stopped:
					return "", errors.New("cut off")
				}
				idle.Stop()
				mu.Lock()
				if was := strings.Join(heard, " "); !strings.HasPrefix(longest, was) && !strings.HasPrefix(was, longest) {
					t.Errorf("an invocation heard %s, another %s", was, longest)
				} else if len(was) > len(longest) {
					longest = was
				}
				mu.Unlock()
			}
			return fmt.Sprint(nodes, strings.Join(heard, " ")), nil
		}
		define := func() (*stint.Client, *stint.Task[int, string]) {
			c := openedAt(t, path)
			r := &remote{c: c, program: program}
			r.child = stint.NewTask(c, "child", func(ctx context.Context, n int) (int, error) {
				return n, stint.Sleep(ctx, time.Duration(n)*time.Second)
			})
			return c, stint.NewTask(c, "remote", r.drive, stint.WithRetries(1))
		}
		c, task := define()
		run := enqueue(t, task, 0)
		stop := working(t, c)
		time.Sleep(10 * time.Second) // a child has ended, and the program was evicted twice
		publish(t, c, "go", 7)
		time.Sleep(5 * time.Second)
		if info := infoOf(t, run); info.State != stint.StateWaiting || info.Attempt > 1 || info.Executions < 3 {
			t.Errorf("it is %v, attempt %d, execution %d", info.State, info.Attempt, info.Executions)
		}
		stop()
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		c, _ = define()
		working(t, c)
		again := stint.RunByID[string](c, run.ID())
		want := `[1 2 3 4 5]4=3<nil> 2={"go":7}<nil> 1={"short":null}<nil> 5=30<nil>`
		if got := output(t, again); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		if memos != 1 {
			t.Errorf("the memo was made %d times", memos)
		}
		if n := len(listRuns(t, c, stint.RunFilter{Tasks: []string{"child"}}).Runs); n != 2 {
			t.Errorf("%d children", n)
		}

		// Node 3 is entry 5: what comes from it on is recorded anew, the waits stay.
		longest = ""
		if err := c.RestartAt(t.Context(), run.ID(), "5"); err != nil {
			t.Fatal(err)
		}
		if got := output(t, again); got != `[1 2 3 4 5]2={"go":7}<nil> 1={"short":null}<nil> 4=3<nil> 5=30<nil>` {
			t.Errorf("after a restart: %s", got)
		}
		if memos != 2 {
			t.Errorf("the memo was made %d times", memos)
		}

		// A program that asks for something else is told, and fails; the run is not blocked.
		mu.Lock()
		asks = "other"
		mu.Unlock()
		if err := c.RestartAt(t.Context(), run.ID(), "9"); err != nil {
			t.Fatal(err)
		}
		if _, err := again.Wait(t.Context()); !errors.Is(err, stint.ErrDiverged) {
			t.Errorf("a program that has changed: %v", err)
		}
		if info := infoOf(t, again); info.State != stint.StateFailed {
			t.Errorf("it is %v: %s", info.State, info.Blocked)
		}
	})
}
