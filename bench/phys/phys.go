// Package phys measures the limits of the disk and of a SQLite driver, in one process with one
// connection. The caller chooses the driver.
package phys

import (
	"context"
	"crypto/rand"
	"database/sql"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/stint-dev/stint/bench/hb"
)

var (
	flags = flag.NewFlagSet("phys", flag.ExitOnError)
	fReps = flags.Int("reps", 3, "repetitions")
	fDir  = flags.String("dir", filepath.Join(os.TempDir(), "stint-bench"), "data directory")
	fOnly = flags.String("only", "", "prefix of the cases to run")
	fCap  = flags.Duration("cap", 2*time.Second, "time limit of one measurement")
)

func must(err error) {
	if err != nil {
		panic(err)
	}
}

type bench struct {
	driver string
	dsn    func(path string) string
	most   int           // rows of a measurement
	cap    time.Duration // of a measurement
}

// A result is what was done in a time, with the latency of each part.
type result struct {
	n    int
	took time.Duration
	lat  []time.Duration
	note string
}

// Main runs every case for one driver.
func Main(peer, driver string, dsn func(path string) string) {
	flags.Parse(os.Args[1:])
	b := &bench{driver, dsn, 400_000, *fCap}
	for _, c := range []struct {
		name string
		f    func(dir string) result
	}{
		{"disk/append+fdatasync4k", b.appends(0)},
		{"disk/append+fdatasync4k/each20ms", b.appends(20 * time.Millisecond)},
		{"commit/full", b.commits},
		{"bulk/full/tx1000/values50", b.bulk(50)},
		{"life/full/group100/update", b.life(100)},
		{"life/full/group1000/update", b.life(1000)},
	} {
		if !strings.HasPrefix(c.name, *fOnly) {
			continue
		}
		for range *fReps {
			dir := filepath.Join(*fDir, "phys-"+peer)
			os.RemoveAll(dir)
			must(os.MkdirAll(dir, 0o755))
			r := c.f(dir)
			hb.Emit(hb.Line{Peer: peer, Case: c.name, N: r.n, Seconds: float64(r.took.Microseconds()) / 1e6,
				PerS: float64(int(float64(r.n)/r.took.Seconds()*10)) / 10, P50: hb.Percentile(r.lat, .5), P99: hb.Percentile(r.lat, .99),
				Notes: r.note})
			os.RemoveAll(dir)
		}
	}
}

// Life runs the life of n rows, inserted, claimed and updated in groups of 100, in a new database in dir.
func Life(driver, dir string, dsn func(path string) string, n int) {
	b := &bench{driver: driver, dsn: dsn, most: n, cap: time.Hour}
	b.life(100)(dir)
}

// repeat calls f, which does n at a time, until the measurement is over. Before each call it waits as long as pause says.
func (b *bench) repeat(n int, pause time.Duration, note string, f func()) result {
	r := result{note: note}
	begun := time.Now()
	for time.Since(begun) < b.cap && r.n < b.most {
		time.Sleep(pause)
		t := time.Now()
		f()
		r.lat = append(r.lat, time.Since(t))
		r.n += n
	}
	r.took = time.Since(begun)
	return r
}

// appends measures an append of 4 KiB with its fdatasync. With a pause of 20 ms it is the minimum time of a single enqueue on an
// idle machine (C5 has the same pace); it then lasts 5 s.
func (b *bench) appends(pause time.Duration) func(dir string) result {
	return func(dir string) result {
		f, err := os.Create(filepath.Join(dir, "f"))
		must(err)
		defer f.Close()
		page := make([]byte, 4096)
		rand.Read(page)
		paced, note := *b, "write 4 KiB + fdatasync"
		if pause > 0 {
			paced.cap, note = 250*pause, fmt.Sprintf("every %v: %s", pause, note)
		}
		return paced.repeat(1, pause, note, func() {
			_, err := f.Write(page)
			must(err)
			must(syscall.Fdatasync(int(f.Fd())))
		})
	}
}

const payload = `{"t":1234567890123456789,"pad":"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"}`

const schema = `
create table jobs(
 id integer primary key,
 queue text not null,
 state integer not null,
 priority integer not null,
 run_at integer not null,
 attempt integer not null default 0,
 payload blob not null
);
create index jobs_claim on jobs(queue, priority, run_at, id) where state = 0;
create table counter(k integer primary key, v integer);
insert into counter values (1, 0);
`

// A file is a database with one connection, which writes a log and syncs each commit.
type file struct {
	db *sql.DB
	c  *sql.Conn
}

func (b *bench) open(dir string) *file {
	ctx := context.Background()
	db, err := sql.Open(b.driver, b.dsn(filepath.Join(dir, "p.db")))
	must(err)
	db.SetMaxOpenConns(1)
	c, err := db.Conn(ctx)
	must(err)
	for _, q := range []string{"pragma journal_mode=wal", "pragma synchronous=full", schema} {
		_, err := c.ExecContext(ctx, q)
		must(err)
	}
	var mode string
	var synchronous int
	must(c.QueryRowContext(ctx, "pragma journal_mode").Scan(&mode))
	must(c.QueryRowContext(ctx, "pragma synchronous").Scan(&synchronous))
	if mode != "wal" || synchronous != 2 {
		panic(fmt.Sprint("pragmas not in force: ", mode, synchronous))
	}
	return &file{db, c}
}

func (f *file) close() {
	f.c.Close()
	f.db.Close()
}

func (f *file) prepare(q string) *sql.Stmt {
	s, err := f.c.PrepareContext(context.Background(), q)
	must(err)
	return s
}

// tx runs f in a transaction.
func (f *file) tx(do func()) {
	_, err := f.c.ExecContext(context.Background(), "begin immediate")
	must(err)
	do()
	_, err = f.c.ExecContext(context.Background(), "commit")
	must(err)
}

func exec(s *sql.Stmt, args ...any) {
	_, err := s.ExecContext(context.Background(), args...)
	must(err)
}

// commits measures commits of one change.
func (b *bench) commits(dir string) result {
	f := b.open(dir)
	defer f.close()
	update := f.prepare("update counter set v=v+1 where k=1")
	return b.repeat(1, 0, "autocommit one-row update, prepared", func() { exec(update) })
}

// bulk measures inserts of 1,000 rows in a transaction, k in a statement.
func (b *bench) bulk(k int) func(dir string) result {
	return func(dir string) result {
		f := b.open(dir)
		defer f.close()
		insert := f.prepare("insert into jobs(id,queue,state,priority,run_at,payload) values" +
			strings.TrimSuffix(strings.Repeat("(?,?,0,?,?,?),", k), ","))
		data, args, id := []byte(payload), make([]any, 0, 5*k), int64(0)
		note := fmt.Sprintf("INSERT ... VALUES of %d rows, 1000 rows per transaction; p50/p99 per transaction", k)
		return b.repeat(1000, 0, note, func() {
			now := time.Now().UnixMilli()
			f.tx(func() {
				for range 1000 / k {
					args = args[:0]
					for range k {
						id++
						args = append(args, id, "default", 1, now, data)
					}
					exec(insert, args...)
				}
			})
		})
	}
}

// life measures the life of rows beside 10,000 that wait: group rows are inserted, claimed and completed, with a commit for each.
func (b *bench) life(group int) func(dir string) result {
	const per = 100 // rows in a statement
	return func(dir string) result {
		f := b.open(dir)
		defer f.close()
		insert := f.prepare("insert into jobs(queue,state,priority,run_at,payload) values(?,0,?,?,?)")
		claim := f.prepare(fmt.Sprintf(`update jobs set state=1, attempt=attempt+1 where id in
(select id from jobs where queue=? and state=0 and run_at<=? order by priority, run_at, id limit %d) returning id, payload, attempt`, per))
		complete := f.prepare("update jobs set state=2 where id in (" + strings.TrimSuffix(strings.Repeat("?,", per), ",") + ")")
		data, ids := []byte(payload), make([]any, 0, group)
		add := func(n int) {
			now := time.Now().UnixMilli()
			for range n {
				exec(insert, "default", 1, now, data)
			}
		}
		f.tx(func() { add(10_000) })
		note := fmt.Sprintf("insert, claim and complete, 3 commits per %d rows, backlog 10000", group)
		return b.repeat(group, 0, note, func() {
			f.tx(func() { add(group) })
			f.tx(func() {
				for ids = ids[:0]; len(ids) < group; {
					ids = claimed(claim, ids)
				}
			})
			f.tx(func() {
				for i := 0; i < group; i += per {
					exec(complete, ids[i:i+per]...)
				}
			})
		})
	}
}

// claimed claims rows, reads what a handler would be given, and returns ids with theirs.
func claimed(claim *sql.Stmt, ids []any) []any {
	rows, err := claim.QueryContext(context.Background(), "default", time.Now().UnixMilli()+1000)
	must(err)
	defer rows.Close()
	for rows.Next() {
		var id int64
		var data sql.RawBytes
		var attempt int
		must(rows.Scan(&id, &data, &attempt))
		ids = append(ids, id)
	}
	must(rows.Err())
	return ids
}
