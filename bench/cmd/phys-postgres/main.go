// Command phys-postgres measures what PostgreSQL can do with the life of a run: statements of arrays, one round trip a
// commit, two connections that do nothing else.
//
//	STINT_DATABASE_URL=... go run ./cmd/phys-postgres -length 4s
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stint-dev/stint/bench/hb"
	"github.com/stint-dev/stint/bench/pg"
)

var length = flag.Duration("length", 4*time.Second, "of a case")

const schema = "bench_phys"

// Columns and indexes are as many as a queue needs.
const tables = `create schema bench_phys;
create table bench_phys.runs (id bigint primary key, lane int not null, state smallint not null, priority smallint not null,
 attempt int not null default 0,
 rank bigint not null, turn bigint not null default 0, lease bigint not null default 0, worker bigint,
 due_at bigint, started_at bigint, ended_at bigint,
 cancel_at bigint, start_by bigint, parent bigint, gate bigint, key text, metadata text,
 limits text, input bytea, output bytea, error text);
create index on bench_phys.runs (lane, rank, turn, id) where state = 3 and gate is null;
create index on bench_phys.runs (due_at) where state = 2;
create index on bench_phys.runs (start_by) where start_by is not null;
create index on bench_phys.runs (worker) where state = 4;
create index on bench_phys.runs (state) where state > 4 and state < 7;
create index on bench_phys.runs (state) where state > 7;
create index on bench_phys.runs (parent) where parent is not null`

const (
	insert = `insert into bench_phys.runs (id, lane, state, priority, rank, input)
select id, 1, 3, 2, id, input from unnest($1::bigint[], $2::bytea[]) as u(id, input)`
	claim = `with c as (select id from bench_phys.runs where lane = 1 and state = 3 and gate is null and rank >= $2
 order by rank, turn, id limit $1 for update skip locked)
update bench_phys.runs r set state = 4, attempt = attempt + 1, lease = $3, worker = $3, started_at = $4, start_by = null
from c where r.id = c.id
returning r.id, r.rank, r.attempt, r.priority, r.input, r.metadata`
	finish = `update bench_phys.runs r set state = 7, ended_at = $4, output = u.output
from unnest($1::bigint[], $2::bigint[], $3::bytea[]) as u(id, lease, output)
where r.id = u.id and r.lease = u.lease and r.state + 0 = 4 and r.cancel_at is null returning r.id`
)

// A client is a connection with the runs that it has claimed.
type client struct {
	c      *pgx.Conn
	lease  int64
	mark   int64
	claims int
	held   []int64
}

var lastID atomic.Int64

func open(ctx context.Context) (*client, error) {
	cfg, err := pgx.ParseConfig(pg.URL())
	if err != nil {
		return nil, err
	}
	for _, plan := range []string{"enable_seqscan", "enable_hashjoin", "enable_mergejoin", "jit"} {
		cfg.RuntimeParams[plan] = "off"
	}
	c, err := pgx.ConnectConfig(ctx, cfg)
	return &client{c: c, lease: lastID.Add(1)}, err
}

func (c *client) insert(ctx context.Context, n int) error {
	ids, inputs := make([]int64, n), slices.Repeat([][]byte{[]byte(`{"t":1234567890123456789,"pad":"` + hb.Pad + `"}`)}, n)
	for i, last := 0, lastID.Add(int64(n)); i < n; i++ {
		ids[i] = last - int64(n) + int64(i) + 1
	}
	_, err := c.c.Exec(ctx, insert, ids, inputs)
	return err
}

// next ends what the client has claimed, and claims n others, in one commit. It returns how many ended.
func (c *client) next(ctx context.Context, n int) (int, error) {
	b, ended := &pgx.Batch{}, len(c.held)
	if ended > 0 {
		b.Queue(finish, c.held, slices.Repeat([]int64{c.lease}, ended),
			slices.Repeat([][]byte{[]byte("null")}, ended), time.Now().UnixMilli())
	}
	if c.claims++; c.claims%100 == 0 { // now and then from the start, as a claim must that leaves nothing behind
		c.mark = 0
	}
	held := make([]int64, 0, n)
	b.Queue(claim, n, c.mark, c.lease, time.Now().UnixMilli()).Query(func(rows pgx.Rows) error {
		for rows.Next() {
			var id, rank int64
			var attempt, priority int
			var input, metadata []byte
			if err := rows.Scan(&id, &rank, &attempt, &priority, &input, &metadata); err != nil {
				return err
			}
			held, c.mark = append(held, id), max(c.mark, rank)
		}
		return rows.Err()
	})
	err := c.c.SendBatch(ctx, b).Close()
	c.held = held
	return ended, err
}

func measure(ctx context.Context, clients, fill int, f func(*client) (int, error)) (int, time.Duration, error) {
	if err := pg.Reset(ctx, schema); err != nil {
		return 0, 0, err
	}
	all := make([]*client, clients)
	for i := range all {
		c, err := open(ctx)
		if err != nil {
			return 0, 0, err
		}
		defer c.c.Close(ctx)
		all[i] = c
	}
	if _, err := all[0].c.Exec(ctx, tables); err != nil {
		return 0, 0, err
	}
	for ; fill > 0; fill -= 5000 {
		if err := all[0].insert(ctx, 5000); err != nil {
			return 0, 0, err
		}
	}
	if _, err := all[0].c.Exec(ctx, "vacuum analyze bench_phys.runs"); err != nil {
		return 0, 0, err
	}
	var sum atomic.Int64
	var wg sync.WaitGroup
	failed := make(chan error, clients)
	began := time.Now()
	for _, c := range all {
		wg.Go(func() {
			for time.Since(began) < *length {
				n, err := f(c)
				if err != nil {
					failed <- err
					return
				}
				if sum.Add(int64(n)); n == 0 && len(c.held) == 0 {
					return // there is no run any more
				}
			}
		})
	}
	wg.Wait()
	took := time.Since(began) // less than length if the runs did not last so long
	select {
	case err := <-failed:
		return 0, 0, err
	default:
		return int(sum.Load()), took, nil
	}
}

func run(ctx context.Context) error {
	cases := []struct {
		name    string
		clients int
		fill    int
		f       func(*client) (int, error)
	}{
		{"insert/group1", 1, 0, func(c *client) (int, error) { return 1, c.insert(ctx, 1) }},
		{"insert/group1000", 1, 0, func(c *client) (int, error) { return 1000, c.insert(ctx, 1000) }},
		{"finish+claim/group100", 2, int(120_000 * length.Seconds()), func(c *client) (int, error) { return c.next(ctx, 100) }},
		{"finish+claim/group1000", 2, int(120_000 * length.Seconds()), func(c *client) (int, error) { return c.next(ctx, 1000) }},
	}
	for _, k := range cases {
		n, took, err := measure(ctx, k.clients, k.fill, k.f)
		if err != nil {
			return fmt.Errorf("%s: %w", k.name, err)
		}
		hb.Emit(hb.Line{Peer: "pgx", Case: k.name, N: n, Seconds: took.Seconds(), PerS: float64(n) / took.Seconds(), Notes: pg.Notes})
	}
	return nil
}

func main() {
	flag.Parse()
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "phys-postgres:", err)
		os.Exit(1)
	}
}
