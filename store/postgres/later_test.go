package postgres

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stint-dev/stint/store"
)

// A laterCounter counts the groups whose commits need not wait for the disk, and those that must.
type laterCounter struct {
	set         *settings
	later, sync atomic.Int64
}

func (c *laterCounter) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return ctx
}
func (c *laterCounter) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}
func (c *laterCounter) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	return ctx
}
func (c *laterCounter) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData) {}

func (c *laterCounter) TraceBatchQuery(_ context.Context, _ *pgx.Conn, q pgx.TraceBatchQueryData) {
	switch q.SQL {
	case c.set.sql(laterGroupSQL):
		c.later.Add(1)
	case c.set.sql(groupSQL), c.set.sql(freshSQL), c.set.sql(freshFlowSQL), c.set.sql(freshOneSQL):
		c.sync.Add(1)
	}
}

// The commit of a claim need not wait for the disk. All that a caller takes for durable must, and so must the start of runs
// with limits: a server that crashes must not let more of them execute at once.
func TestClaimsAloneCommitLater(t *testing.T) {
	set := noTables(t)
	count := &laterCounter{set: set}
	set.pool.Tracer = count
	s, err := open(t.Context(), set)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	x := &tripsTest{T: t, s: s, ctx: t.Context()}
	both := func() {
		r := x.claimOf("", 8)
		r.Tasks = func(s string) bool { return s == "two" || s == "three" }
		if got, err := s.Claim(x.ctx, r); err != nil || len(got) != 8 {
			t.Fatalf("claimed %d runs, %v, want 8", len(got), err)
		}
	}
	var got []store.Claimed
	for _, c := range []struct {
		name    string
		prepare func()
		group   func()
		later   bool
	}{
		{"a claim", func() { x.enqueue(many(9, store.NewRun{Task: "c"})...) }, func() { got = x.claim("c", 9) }, true},
		{"ends", func() {}, func() { x.finish(got, nil) }, false},
		{"an enqueue", func() {}, func() { x.enqueue(many(1, store.NewRun{Task: "e"})...) }, false},
		{"a claim of two tasks", func() {
			x.enqueue(append(many(4, store.NewRun{Task: "two"}), many(4, store.NewRun{Task: "three"})...)...)
		}, both, true},
		{"a claim of runs with limits", func() { x.enqueue(many(2, store.NewRun{Task: "l", Limits: limited})...) },
			func() { x.claim("l", 2) }, false},
	} {
		c.prepare()
		later, sync := count.later.Load(), count.sync.Load()
		c.group()
		later, sync = count.later.Load()-later, count.sync.Load()-sync
		if c.later != (later > 0) || c.later == (sync > 0) {
			t.Errorf("%s: %d groups committed later, and %d waited for the disk", c.name, later, sync)
		}
	}
}
