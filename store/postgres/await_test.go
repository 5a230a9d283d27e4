package postgres

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stint-dev/stint/store"
)

// awaitReads counts the statements that read results of runs, and the runs that they read, as a tracer of pgx.
type awaitReads struct {
	statements, n atomic.Int64
	first         int64
	reached       chan struct{} // closed when so many runs were read
}

func (q *awaitReads) TraceQueryStart(ctx context.Context, _ *pgx.Conn, d pgx.TraceQueryStartData) context.Context {
	if !strings.Contains(d.SQL, "state, flags & 2") {
		return ctx
	}
	q.statements.Add(1)
	runs := int64(1)
	if keys, several := d.Args[0].([]int64); several {
		runs = int64(len(keys))
	}
	if n := q.n.Add(runs); n >= q.first && n-runs < q.first {
		close(q.reached)
	}
	return ctx
}

func (q *awaitReads) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// openTraced opens a store whose reads of awaited runs are counted.
func openTraced(t *testing.T, set *settings, reads *awaitReads) *Store {
	t.Helper()
	settings, err := newSettings(serverURL(t), set.Options)
	if err != nil {
		t.Fatal(err)
	}
	settings.pool.Tracer = reads
	s, err := open(t.Context(), settings)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// Many who wait for runs of another process ask for all of them together: a run is read when the wait for it begins and
// when it ends, whatever else the other process commits, and one statement reads many.
func TestManyWait(t *testing.T) {
	const runs, others = 1500, 30
	set := newTables(t)
	reads := &awaitReads{first: runs, reached: make(chan struct{})}
	a := openTraced(t, set, reads)
	b := openStore(t, set)
	worker, err := b.Register(t.Context(), store.WorkerInfo{Name: "w", Slots: 2000})
	if err != nil {
		t.Fatal(err)
	}
	enqueued, err := a.Enqueue(t.Context(), time.Now(), manyRuns(runs))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for _, e := range enqueued {
		wg.Go(func() {
			r, err := a.Await(t.Context(), e.ID, store.Until{})
			if err != nil || r.State != store.Succeeded {
				t.Errorf("await: %+v, %v", r, err)
			}
		})
	}
	<-reads.reached
	for range others { // commits that concern nobody who waits, and that the one who waits has heard of
		before, err := a.Changed(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		finishAll(t, b, claimSome(t, b, worker, "none", enqueueSome(t, b, "none", 1)))
		if _, err := a.Changed(t.Context(), before); err != nil {
			t.Fatal(err)
		}
	}
	finishAll(t, b, claimSome(t, b, worker, "a", runs))
	wg.Wait()
	if n := reads.n.Load(); n > 2*runs+runs/5 {
		t.Errorf("%d reads for %d that wait, want 2 for each", n, runs)
	}
	if n := reads.statements.Load(); n > runs/2 {
		t.Errorf("%d statements read them for %d that wait", n, runs)
	}
}

// Who waits for the end of a run does not read it at each of its steps, whether it is executed here or by another process.
func TestStepsAreNotRead(t *testing.T) {
	const steps = 50
	set := newTables(t)
	reads := &awaitReads{first: 1, reached: make(chan struct{})}
	a := openTraced(t, set, reads)
	b := openStore(t, set)
	for _, executes := range []*Store{a, b} {
		worker, err := executes.Register(t.Context(), store.WorkerInfo{Name: "w", Slots: 1})
		if err != nil {
			t.Fatal(err)
		}
		reads.n.Store(0)
		reads.reached = make(chan struct{})
		enqueueSome(t, executes, "a", 1)
		got := claimSome(t, executes, worker, "a", 1)
		var wg sync.WaitGroup
		wg.Go(func() {
			if r, err := a.Await(t.Context(), got[0].ID, store.Until{}); err != nil || r.State != store.Succeeded {
				t.Errorf("await: %+v, %v", r, err)
			}
		})
		<-reads.reached
		for i := range steps {
			before, err := a.Changed(t.Context(), 0)
			if err != nil {
				t.Fatal(err)
			}
			_, stale, err := executes.Append(t.Context(), time.Now(), store.Call{ID: got[0].ID, Lease: got[0].Lease,
				Entry: store.Entry{Address: store.Address{Seq: i + 1}, Kind: store.EntryStep, Name: "s", Done: true}})
			if err != nil || stale {
				t.Fatal(err, stale)
			}
			if _, err := a.Changed(t.Context(), before); err != nil { // it has heard of it
				t.Fatal(err)
			}
		}
		finishAll(t, executes, got)
		wg.Wait()
		if n := reads.n.Load(); n > 5 {
			t.Errorf("%d reads of a run with %d steps by one who waits for its end", n, steps)
		}
	}
}

func manyRuns(n int) []store.NewRun {
	all := make([]store.NewRun, n)
	for i := range all {
		all[i] = store.NewRun{Task: "a", Queue: "q"}
	}
	return all
}

func enqueueSome(t *testing.T, s *Store, task string, n int) int {
	t.Helper()
	all := manyRuns(n)
	for i := range all {
		all[i].Task = task
	}
	if _, err := s.Enqueue(t.Context(), time.Now(), all); err != nil {
		t.Fatal(err)
	}
	return n
}

// claimSome claims n runs of a task.
func claimSome(t *testing.T, s *Store, worker int64, task string, n int) (all []store.Claimed) {
	t.Helper()
	for len(all) < n {
		got, err := s.Claim(t.Context(), store.ClaimRequest{Worker: worker, Free: func() int { return n - len(all) },
			Tasks: func(name string) bool { return name == task }})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, got...)
	}
	return all
}

func finishAll(t *testing.T, s *Store, claimed []store.Claimed) {
	t.Helper()
	outcomes := make([]store.Outcome, len(claimed))
	for i, c := range claimed {
		outcomes[i] = store.Outcome{ID: c.ID, Lease: c.Lease, To: store.Succeeded}
	}
	if _, err := s.Finish(t.Context(), time.Now(), outcomes); err != nil {
		t.Fatal(err)
	}
}
