//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/postgres"
	"github.com/stint-dev/stint/store/sqlite"
)

// history makes many callers change and read few runs at once, over two stores on one file, and checks that the
// store is linearizable: there is an order of all calls, each between its beginning and its end, in which every
// result is right. Porcupine finds such an order, or shows that there is none.
func history(ctx context.Context, r *round) error {
	for range r.count {
		path := filepath.Join(r.dir("history"), "h.db")
		if err := r.ordered(ctx, func() (store.Store, error) { return sqlite.Open(path, sqlite.Options{}) }); err != nil {
			return err
		}
	}
	return nil
}

// linear is history over two stores on one PostgreSQL database.
func linear(ctx context.Context, r *round) error {
	for range r.count {
		place, drop, err := newDatabase()
		if err != nil {
			return err
		}
		err = r.ordered(ctx, func() (store.Store, error) { return postgres.Open(ctx, place, postgres.Options{}) })
		if drop(); err != nil {
			return err
		}
	}
	return nil
}

// ordered records a history over two stores, and looks for its order.
func (r *round) ordered(ctx context.Context, open func() (store.Store, error)) error {
	h, err := record(ctx, open, int64(r.rng.IntN(1<<30)))
	if err != nil {
		return err
	}
	switch porcupine.CheckOperationsTimeout(runModel, h.ops, patience) {
	case porcupine.Illegal:
		r.verdict.add(&r.verdict.Doubled, 1, "a history of %d calls has no order", len(h.ops))
	case porcupine.Unknown:
		return fmt.Errorf("no verdict on a history of %d calls within %v", len(h.ops), patience)
	}
	r.faults += len(h.ops)
	return nil
}

// What a caller asks of a run.
type call struct {
	run   store.ID
	verb  string
	lease store.Lease // of claim, what it gave; of finish, what it had
	to    store.State // of finish
	state store.State // of get, what it gave
	did   bool        // of finish and cancel: it was current, it changed the run
}

// A state of a run, as far as calls tell.
type modelState struct {
	state    store.State // 0: not there
	lease    store.Lease
	given    string // all leases
	canceled bool   // asked to
}

// runModel is the model of one run. Runs are independent.
var runModel = porcupine.Model{
	Partition: func(all []porcupine.Operation) [][]porcupine.Operation {
		parts := map[store.ID][]porcupine.Operation{}
		for _, op := range all {
			id := op.Input.(call).run
			parts[id] = append(parts[id], op)
		}
		list := make([][]porcupine.Operation, 0, len(parts))
		for _, p := range parts {
			list = append(list, p)
		}
		return list
	},
	Init: func() any { return modelState{} },
	Step: func(state, input, _ any) (bool, any) { return state.(modelState).step(input.(call)) },
}

func (s modelState) step(c call) (bool, any) {
	switch c.verb {
	case "enqueue":
		return s.state == 0, modelState{state: store.Queued}
	case "claim":
		lease := fmt.Sprintf(" %d ", c.lease)
		ok := s.state == store.Queued && !strings.Contains(s.given, lease)
		return ok, modelState{state: store.Running, lease: c.lease, given: s.given + lease}
	case "finish":
		current := s.state == store.Running && s.lease == c.lease
		if current != c.did {
			return false, s
		}
		if current && s.canceled {
			s.state = store.Canceled
		} else if current {
			s.state = c.to
		}
		return true, s
	case "cancel":
		open := s.state == store.Queued || s.state == store.Running && !s.canceled
		if open != c.did {
			return false, s
		}
		if s.state == store.Queued {
			s.state = store.Canceled
		} else if open {
			s.canceled = true
		}
		return true, s
	default:
		return s.state == c.state, s
	}
}

// A recording is a history in the making.
type recording struct {
	mu    sync.Mutex
	ops   []porcupine.Operation
	began time.Time
	runs  []store.ID
}

func (h *recording) now() int64 { return int64(time.Since(h.began)) }

func (h *recording) add(client int, from int64, c call) {
	to := h.now()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, porcupine.Operation{ClientId: client, Input: c, Call: from, Return: to})
}

// one of the runs, by a number.
func (h *recording) one(n int) (store.ID, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.runs) == 0 {
		return store.ID{}, false
	}
	return h.runs[n%len(h.runs)], true
}

// record runs callers, each with a random generator of its own.
func record(ctx context.Context, open func() (store.Store, error), seed int64) (*recording, error) {
	h := &recording{began: time.Now()}
	var stores [2]store.Store
	for i := range stores {
		s, err := open()
		if err != nil {
			return nil, err
		}
		defer s.Close()
		stores[i] = s
	}
	const callers, calls = 6, 60
	var wg sync.WaitGroup
	errs := make([]error, callers)
	for i := range callers {
		wg.Go(func() {
			c := caller{h: h, s: stores[i%2], n: i, rng: uint64(seed)*callers + uint64(i)}
			if c.worker, errs[i] = c.s.Register(ctx, store.WorkerInfo{Name: fmt.Sprint("w", i)}); errs[i] != nil {
				return
			}
			for range calls {
				if errs[i] = c.call(ctx); errs[i] != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	return h, errors.Join(errs...)
}

// claimFor bounds the wait of a caller for a run that it may claim.
const claimFor = 5 * time.Millisecond

type caller struct {
	h      *recording
	s      store.Store
	n      int
	worker int64
	rng    uint64
	held   []call
}

// random returns a number below n (xorshift64*, Vigna 2016).
func (c *caller) random(n int) int {
	c.rng |= 1
	c.rng ^= c.rng >> 12
	c.rng ^= c.rng << 25
	c.rng ^= c.rng >> 27
	return int(c.rng * 0x2545F4914F6CDD1D >> 33 % uint64(n))
}

func (c *caller) call(ctx context.Context) error {
	switch c.random(6) {
	case 0:
		return c.enqueue(ctx)
	case 1, 2:
		return c.claim(ctx)
	case 3:
		return c.finish(ctx)
	case 4:
		return c.cancel(ctx)
	}
	return c.get(ctx)
}

func (c *caller) enqueue(ctx context.Context) error {
	from := c.h.now()
	got, err := c.s.Enqueue(ctx, time.Now(), []store.NewRun{{Task: "t", Queue: "q", Input: []byte("1")}})
	if err != nil {
		return err
	}
	c.h.add(c.n, from, call{run: got[0].ID, verb: "enqueue"})
	c.h.mu.Lock()
	defer c.h.mu.Unlock()
	c.h.runs = append(c.h.runs, got[0].ID)
	return nil
}

func (c *caller) claim(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, claimFor)
	defer cancel()
	from := c.h.now()
	got, err := c.s.Claim(ctx, store.ClaimRequest{Worker: c.worker, Free: func() int { return 2 },
		Tasks: func(string) bool { return true }})
	for _, r := range got {
		op := call{run: r.ID, verb: "claim", lease: r.Lease}
		c.h.add(c.n, from, op)
		c.held = append(c.held, op)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = nil
	}
	return err
}

// finish ends one of the runs that the caller has claimed, now or ever.
func (c *caller) finish(ctx context.Context) error {
	if len(c.held) == 0 {
		return nil
	}
	op := c.held[c.random(len(c.held))]
	op.verb, op.to = "finish", []store.State{store.Succeeded, store.Failed, store.Queued}[c.random(3)]
	o := store.Outcome{ID: op.run, Lease: op.lease, To: op.to, Uncounted: op.to == store.Queued}
	if op.to == store.Failed {
		o.Error = []byte(`"bad"`)
	}
	from := c.h.now()
	stale, err := c.s.Finish(ctx, time.Now(), []store.Outcome{o})
	if err != nil {
		return err
	}
	op.did = !stale[0]
	c.h.add(c.n, from, op)
	return nil
}

func (c *caller) cancel(ctx context.Context) error {
	id, ok := c.h.one(c.random(1 << 20))
	if !ok {
		return nil
	}
	from := c.h.now()
	n, err := c.s.Act(ctx, time.Now(), store.Action{Kind: store.ActCancel}, store.Filter{IDs: []store.ID{id}})
	if err == nil {
		c.h.add(c.n, from, call{run: id, verb: "cancel", did: n == 1})
	}
	return err
}

func (c *caller) get(ctx context.Context) error {
	id, ok := c.h.one(c.random(1 << 20))
	if !ok {
		return nil
	}
	from := c.h.now()
	r, err := c.s.Get(ctx, id)
	if err == nil {
		c.h.add(c.n, from, call{run: id, verb: "get", state: r.State})
	}
	return err
}
