package hatchet_test

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/hatchet"
	"github.com/stint-dev/stint/hatchet/internal/wire"
)

// How a worker's process, or the way to it, fails, and when another worker has its runs: after the last sign of life.
func TestSilentWorker(t *testing.T) {
	for name, c := range map[string]struct {
		from  string // the worker's address
		fail  func(*pipe)
		after time.Duration
	}{
		"killed on this machine":    {"127.0.0.1", (*pipe).close, 2 * time.Second},
		"killed on another machine": {"192.0.2.1", (*pipe).close, 10 * time.Second},
		"cut off":                   {"192.0.2.1", (*pipe).cut, 20 * time.Second},
		"frozen":                    {"127.0.0.1", func(*pipe) {}, 30 * time.Second}, // the kernel, say, answers pings
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { loseWorker(t, c.from, c.fail, c.after) })
		})
	}
}

// loseWorker has a worker fail while it executes a run, and checks that another gets the run in time.
func loseWorker(t *testing.T, from string, fail func(*pipe), after time.Duration) {
	n := serveOnPipes(t, hatchet.Options{})
	k := n.dial("127.0.0.1")
	k.define(t, "job")
	failing := n.dial(from)
	first := failing.work(t, "job")
	run := k.trigger(t, "job", "{}")
	a := first.start()
	first.started(a)
	silent := time.Now()
	fail(n.last)
	second := k.work(t, "job")
	stop := beat(t, second)
	defer stop()

	<-time.After(12*time.Second + time.Second) // a worker that is silent gets no more runs
	var later *wire.AssignedAction
	if after > 13*time.Second {
		id := k.trigger(t, "job", "{}")
		if later = second.start(); later.TaskRunExternalId != id || later.RetryCount != 0 {
			t.Errorf("%v began, want run %s", later, id)
		}
	}
	b := second.start()
	info := must[*stint.RunInfo](t)(n.c.GetRun(t.Context(), run))
	if took := info.Started.Sub(silent); took < after || took > after+time.Second {
		t.Errorf("another worker got the run after %v, want %v", took, after)
	}
	if b.TaskRunExternalId != run || b.RetryCount != 1 {
		t.Errorf("the other worker got %v", b)
	}
	first.k = k // its report comes late, by another way
	first.complete(a, `"late"`)
	if info := must[*stint.RunInfo](t)(n.c.GetRun(t.Context(), run)); info.State != stint.StateRunning {
		t.Errorf("run is %v after a late report", info.State)
	}
	second.complete(b, `"in time"`)
	first.complete(a, `"later"`)
	info = must[*stint.RunInfo](t)(n.c.GetRun(t.Context(), run))
	if string(info.Output) != `"in time"` || info.Attempt != 1 || info.Executions != 2 {
		t.Errorf("output is %s of attempt %d and execution %d", info.Output, info.Attempt, info.Executions)
	}
	if later != nil {
		second.complete(later, `1`)
	}
}

// When there are as many workers as may be, one that was silent for half a minute makes room. It may come back.
func TestSilentWorkerMakesRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := serveOnPipes(t, hatchet.Options{MaxWorkers: 2}).dial("127.0.0.1")
		var ids []string
		for range 2 {
			ids = append(ids, must[*wire.RegisterResponse](t)(k.Register(t.Context(), &wire.RegisterRequest{WorkerName: "w"})).WorkerId)
		}
		_, err := k.Register(t.Context(), &wire.RegisterRequest{WorkerName: "w"})
		wantCode(t, err, codes.ResourceExhausted, "MaxWorkers")
		<-time.After(31 * time.Second)
		must[*wire.RegisterResponse](t)(k.Register(t.Context(), &wire.RegisterRequest{WorkerName: "w"}))
		for _, id := range ids {
			w := &fakeWorker{t: t, k: k, id: id}
			w.listen()
			w.cut()
			synctest.Wait()
			<-time.After(31 * time.Second)
		}
	})
}

// A new server knows the workers that were there within a day, and has forgotten the others.
func TestForgottenWorkers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := serveOnPipes(t, hatchet.Options{})
		k := n.dial("127.0.0.1")
		k.define(t, "job")
		gone := must[*wire.RegisterResponse](t)(k.Register(t.Context(), &wire.RegisterRequest{WorkerName: "gone"})).WorkerId
		w := k.work(t, "job")
		stop := beat(t, w)
		<-time.After(2 * time.Hour)
		stop()
		w.cut()
		n.stop()
		<-time.After(24*time.Hour + 30*time.Minute)
		n.serve(hatchet.Options{})
		k = n.dial("127.0.0.1")
		for id, code := range map[string]codes.Code{w.id: codes.FailedPrecondition, gone: codes.NotFound} {
			_, err := k.Heartbeat(t.Context(), &wire.HeartbeatRequest{WorkerId: id})
			wantCode(t, err, code, "")
		}
	})
}

// beat sends heartbeats for a worker as SDKs do.
func beat(t *testing.T, w *fakeWorker) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(4 * time.Second)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				if _, err := w.k.Heartbeat(ctx, &wire.HeartbeatRequest{WorkerId: w.id}); err != nil && ctx.Err() == nil {
					t.Error(err)
				}
			case <-ctx.Done():
				return
			}
		}
	})
	return func() { cancel(); wg.Wait() }
}

// A pipeNet is a server on connections in memory, so that its clock may be that of a test.
type pipeNet struct {
	t     testing.TB
	c     *stint.Client
	token string
	conns chan net.Conn
	last  *pipe // that was dialed
	done  chan struct{}
	stop  func()
}

func serveOnPipes(t testing.TB, opts hatchet.Options) *pipeNet {
	t.Helper()
	n := &pipeNet{t: t, c: must[*stint.Client](t)(stint.Open(":memory:", stint.WithLogger(slog.New(slog.DiscardHandler))))}
	n.serve(opts)
	t.Cleanup(func() {
		n.stop()
		if err := n.c.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

// serve serves the database, again after stop.
func (n *pipeNet) serve(opts hatchet.Options) {
	n.t.Helper()
	n.conns, n.done = make(chan net.Conn), make(chan struct{})
	opts.Address, opts.Logger = "pipe:1", slog.New(slog.DiscardHandler)
	s := must[*hatchet.Server](n.t)(hatchet.NewServer(n.c, opts))
	n.token = must[string](n.t)(s.Token())
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, n) }()
	n.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-served; err != nil {
			n.t.Error(err)
		}
	})
}

func (n *pipeNet) Accept() (net.Conn, error) {
	select {
	case c := <-n.conns:
		return c, nil
	case <-n.done:
		return nil, net.ErrClosed
	}
}

func (n *pipeNet) Close() error {
	close(n.done)
	return nil
}

func (n *pipeNet) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

// dial connects from an address.
func (n *pipeNet) dial(from string) *sdk {
	n.t.Helper()
	return dialTo(n.t, "pipe", n.token, grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return n.connect(from) }))
}

// connect makes a connection, and returns the client's end.
func (n *pipeNet) connect(from string) (net.Conn, error) {
	client, server := net.Pipe()
	p := &pipe{Conn: server, from: from, client: client}
	n.last = p
	select {
	case n.conns <- p:
		return client, nil
	case <-n.done:
		return nil, net.ErrClosed
	}
}

// A pipe is the server's end of a connection.
type pipe struct {
	net.Conn
	from   string
	client net.Conn

	mu     sync.Mutex
	lost   bool // what is written is lost
	closed bool // by the server
}

func (p *pipe) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.ParseIP(p.from), Port: 2} }

func (p *pipe) Close() error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	return p.Conn.Close()
}

func (p *pipe) isClosed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.closed
}

// close ends the connection, as the end of the client's process does.
func (p *pipe) close() { p.client.Close() }

// cut loses all that is sent from now on, on both sides.
func (p *pipe) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lost = true
}

func (p *pipe) isLost() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lost
}

func (p *pipe) Write(b []byte) (int, error) {
	if p.isLost() {
		return len(b), nil
	}
	return p.Conn.Write(b)
}

func (p *pipe) Read(b []byte) (int, error) {
	for {
		n, err := p.Conn.Read(b)
		if err != nil || !p.isLost() {
			return n, err
		}
	}
}
