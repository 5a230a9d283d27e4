package hatchet_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"testing"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/hatchet"
	"github.com/stint-dev/stint/hatchet/internal/wire"
)

var long = flag.Bool("long", false, "cut the wire under many runs, not a few")

// All connections of programs are cut again and again after any number of bytes, also within a message. Each run has one result
// all the same, which is what the database has.
func TestWireCut(t *testing.T) {
	n := 150
	if *long {
		n = 3_000
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	g := serveOn(t, openDB(t)(), "127.0.0.1:0", hatchet.Options{})
	direct := g.dial(g.token)
	retries := int32(100)
	must[*wire.PutWorkflowResponse](t)(direct.PutWorkflow(t.Context(), &wire.PutWorkflowRequest{Name: "long", Tasks: []*wire.TaskDefinition{
		{ReadableId: "long", Action: "long:long", IsDurable: true, SlotRequests: map[string]int32{"durable": 1}, Retries: retries}}}))
	direct.define(t, "job")
	p := newCutProxy(t, g.address, seed)
	f := newFleet(t, p.l.Addr().String(), g.token)
	f.rough = true
	f.failed.Store(true) // a report that is answered late may be of an execution that another has followed
	for i := range 5 {
		f.work(&wire.RegisterRequest{WorkerName: fmt.Sprint("worker-", i), Actions: []string{"job:job", "long:long"},
			SlotConfig: map[string]int32{"default": 10, "durable": 2}}, func(w *steadyWorker, a *wire.AssignedAction) {
			w.report(a, wire.StepEventType_STEP_EVENT_STARTED, "")
			if a.ActionId == "long:long" {
				w.durable.runDurable(a, func() {})
				return
			}
			w.complete(a, map[string]any{"of": a.TaskRunExternalId})
		})
	}
	var runs []string
	for i := range n {
		task := "job"
		if i%10 == 0 {
			task = "long"
		}
		runs = append(runs, direct.trigger(t, task, "{}"))
	}
	for i := range 10 {
		k, mine := f.dial(), runs[i*n/10:(i+1)*n/10]
		f.wg.Go(func() {
			for some := range slices.Chunk(mine, 15) { // a connection may last for no more
				f.awaitResults(k, some)
			}
		})
		f.wg.Go(func() { f.awaitEvents(k, mine[0]) })
	}
	for i := 0; i < n; i += 10 {
		must[*wire.Event](t)(direct.Push(t.Context(), &wire.PushEventRequest{Key: "go-" + runs[i], Payload: "{}", EventTimestamp: timestamppb.Now()}))
	}
	f.until("all runs have ended", func() bool { return len(f.results) == n })
	f.stop()
	f.wg.Wait()
	t.Logf("%d connections were cut", p.cuts())
	checkCut(t, f, g.c, runs)
}

// checkCut compares what the database has with what the programs know.
func checkCut(t *testing.T, f *fleet, c *stint.Client, runs []string) {
	for _, id := range runs {
		info := must[*stint.RunInfo](t)(c.GetRun(context.Background(), id))
		output := string(info.Output)
		switch {
		case info.State != stint.StateSucceeded || info.Task == "job" && info.Attempt != 1:
			t.Errorf("run %s is %v in attempt %d: %s", id, info.State, info.Attempt, info.Error)
		case !f.reported[id][output] || f.results[id] != output:
			t.Errorf("run %s has output %s; its result was %s, and reported were %v", id, output, f.results[id], f.reported[id])
		case f.began[id] > info.Executions:
			t.Errorf("run %s was started %d times in %d executions", id, f.began[id], info.Executions)
		}
		var fields struct{ Of string }
		if err := json.Unmarshal(info.Output, &fields); err != nil || info.Task == "job" && fields.Of != id {
			t.Errorf("run %s has the output %s of another", id, output)
		}
	}
}

// maxUncut bounds how many bytes go one way before a connection is cut.
const maxUncut = 6_000

// A cutProxy is a way to a server that cuts each connection after a number of bytes.
type cutProxy struct {
	to string
	l  net.Listener
	wg sync.WaitGroup

	mu    sync.Mutex
	dice  *rand.Rand
	n     int
	conns map[net.Conn]bool
	ended bool
}

func newCutProxy(t testing.TB, to string, seed uint64) *cutProxy {
	t.Helper()
	p := &cutProxy{to: to, l: must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0")), dice: rand.New(rand.NewPCG(seed, 0)),
		conns: map[net.Conn]bool{}}
	p.wg.Go(p.accept)
	t.Cleanup(func() {
		p.l.Close()
		p.mu.Lock()
		p.ended = true
		for c := range p.conns {
			c.Close()
		}
		p.mu.Unlock()
		p.wg.Wait()
	})
	return p
}

func (p *cutProxy) cuts() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.n
}

func (p *cutProxy) accept() {
	for {
		c, err := p.l.Accept()
		if err != nil {
			return
		}
		s, err := net.Dial("tcp", p.to)
		if err != nil {
			c.Close()
			continue
		}
		p.mu.Lock()
		up, down, abort := p.dice.Int64N(maxUncut), p.dice.Int64N(maxUncut), p.dice.IntN(2) == 0
		p.conns[c], p.conns[s] = true, true
		ended := p.ended
		p.mu.Unlock()
		cut := func() { p.cut(abort, c, s) }
		if ended {
			cut()
		}
		p.wg.Go(func() { io.CopyN(s, c, up); cut() })
		p.wg.Go(func() { io.CopyN(c, s, down); cut() })
	}
}

// cut closes connections, or aborts them: then what was sent last may be lost too.
func (p *cutProxy) cut(abort bool, conns ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.n++
	for _, c := range conns {
		if abort {
			c.(*net.TCPConn).SetLinger(0)
		}
		c.Close()
		delete(p.conns, c)
	}
}
