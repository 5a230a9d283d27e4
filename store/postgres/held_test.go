package postgres

import (
	"context"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stint-dev/stint/store"
)

// A connLog notes the server's processes that serve a store.
type connLog struct {
	tripCounter
	mu   sync.Mutex
	pids map[uint32]bool
}

func (l *connLog) TraceQueryStart(ctx context.Context, conn *pgx.Conn, d pgx.TraceQueryStartData) context.Context {
	l.note(conn)
	return ctx
}

func (l *connLog) TraceBatchStart(ctx context.Context, conn *pgx.Conn, d pgx.TraceBatchStartData) context.Context {
	l.note(conn)
	return ctx
}

func (l *connLog) note(conn *pgx.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pids[conn.PgConn().PID()] = true
}

// gone waits until the processes have ended, and so have told what they read.
func (l *connLog) gone(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	var pids []int64
	for pid := range l.pids {
		pids = append(pids, int64(pid))
	}
	for left := 1; left > 0; {
		err := conn.QueryRow(withinMinutes(t), "SELECT count(pg_sleep(0.01))::int FROM pg_stat_activity WHERE pid = ANY ($1)", pids).Scan(&left)
		if err != nil {
			t.Fatal(err)
		}
	}
}

// hold begins a transaction that holds a snapshot; versions before 15 of the server tell later what they have read.
func hold(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	var version int
	if err := conn.QueryRow(t.Context(), "SELECT current_setting('server_version_num')::int").Scan(&version); err != nil {
		t.Fatal(err)
	}
	if version < 150000 {
		t.Skip("the server is older than 15")
	}
	if _, err := conn.Exec(t.Context(), "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class"); err != nil {
		t.Fatal(err)
	}
}

// cycle has a worker come, execute runs, and go.
func (t *tripsTest) cycle(runs int) {
	t.Helper()
	worker, err := t.s.Register(t.ctx, store.WorkerInfo{Name: "w", Slots: runs})
	t.must(err)
	for _, task := range []string{"a", "b"} { // claims of one lane, and of several
		all := make([]store.NewRun, runs)
		for i := range all {
			all[i] = store.NewRun{Task: task, Queue: "q", Input: []byte("1")}
		}
		t.enqueue(all...)
	}
	for _, want := range []int{runs, runs / 2, runs / 2} {
		c := t.claimOf("a", want)
		if c.Worker = worker; want < runs {
			c.Tasks = func(string) bool { return true }
		}
		got, err := t.s.Claim(t.ctx, c)
		if t.must(err); len(got) != want {
			t.Fatalf("claimed %d runs, want %d", len(got), want)
		}
		t.finish(got, nil)
	}
	t.must(t.s.Unregister(t.ctx, worker))
}

// While somebody holds a snapshot, what has left the lanes and the groups stays in their indexes. The life of a run reads
// no more of it for that, however much there is: not even when workers come and go.
func TestHeldSnapshotIsNotWalked(t *testing.T) {
	const cycles, runs, groups = 300, 8, 8
	set := noTables(t)
	log := &connLog{pids: map[uint32]bool{}}
	set.pool.Tracer = log
	s := openStore(t, set)
	set.pool.Tracer = nil
	s.sweeper.close() // it looks from the starts of lanes, beside claims
	holds := dial(t, set)
	hold(t, holds)
	r := &tripsTest{T: t, s: s, ctx: withinMinutes(t)}
	for i := range cycles {
		if i == cycles/6 { // the server learns that the table has few rows, as it does after a while
			_, err := dial(t, set).Exec(r.ctx, "VACUUM ANALYZE "+set.Schema+".groups")
			r.must(err)
		}
		r.cycle(runs)
	}
	r.must(s.Close())
	log.gone(t, holds)
	for index, most := range map[string]int64{"runs_ready": 30 * cycles * runs, "groups_pkey": 100 * cycles * groups} {
		var read int64
		err := dial(t, set).QueryRow(r.ctx, "SELECT idx_tup_read FROM pg_stat_user_indexes WHERE schemaname = $1 AND indexrelname = $2",
			set.Schema, index).Scan(&read)
		if r.must(err); read > most {
			t.Errorf("%d entries of %s were read, want at most %d", read, index, most)
		}
	}
}
