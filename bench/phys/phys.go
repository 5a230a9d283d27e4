// Package phys measures the limits of the disk and of a SQLite driver, in one process with one
// connection. The caller chooses the driver.
package phys

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"sort"
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
	driver, peer string
	dsn          func(path string) string
	most         int           // rows of a measurement
	cap          time.Duration // of a measurement
}

// Life runs the life of n rows, inserted, claimed and updated in groups of 100, in a new database in dir.
func Life(driver, dir string, dsn func(path string) string, n int) {
	b := &bench{driver: driver, dsn: dsn, most: n, cap: time.Hour}
	b.life("full", 100, "update", false)(dir)
}

const payload = `{"t":1234567890123456789,"pad":"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"}`

const schemaInt = `
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
create table history(id integer primary key, queue text not null, state integer not null, finished_at integer not null, payload blob not null);
`

var schemaBlob = strings.ReplaceAll(schemaInt, "id integer primary key", "id blob primary key") + ""

func (b *bench) open(dir, sync, schema string) (*sql.DB, *sql.Conn) {
	path := filepath.Join(dir, "p.db")
	db, err := sql.Open(b.driver, b.dsn(path))
	must(err)
	db.SetMaxOpenConns(1)
	c, err := db.Conn(context.Background())
	must(err)
	for _, q := range []string{"pragma journal_mode=wal", "pragma synchronous=" + sync, schema} {
		_, err := c.ExecContext(context.Background(), q)
		must(err)
	}
	var mode string
	var sy int
	must(c.QueryRowContext(context.Background(), "pragma journal_mode").Scan(&mode))
	must(c.QueryRowContext(context.Background(), "pragma synchronous").Scan(&sy))
	want := map[string]int{"full": 2, "normal": 1, "off": 0}[sync]
	if mode != "wal" || sy != want {
		panic(fmt.Sprint("pragmas not in force: ", mode, sy))
	}
	return db, c
}

// Main runs every physical-limit case for one driver.
func Main(peer, driver string, dsn func(string) string, disk bool) {
	flags.Parse(os.Args[1:])
	b := &bench{driver, peer, dsn, 400_000, *fCap}
	var jobs []job
	if disk {
		jobs = append(jobs, job{"disk/append+fdatasync4k", diskAppend}, job{"disk/overwrite+fdatasync4k", diskOverwrite}, job{"disk/append+fdatasync4k/each20ms", diskAppendPaced})
	}
	for _, sy := range []string{"full", "normal"} {
		jobs = append(jobs, job{"commit/" + sy, b.commit(sy)})
		for _, n := range []int{1, 10, 100, 1000} {
			jobs = append(jobs, job{fmt.Sprintf("insert/%s/int/tx%d", sy, n), b.insert(sy, n, false)})
		}
	}
	for _, n := range []int{1, 100, 1000} {
		jobs = append(jobs, job{fmt.Sprintf("insert/full/blob16/tx%d", n), b.insert("full", n, true)})
	}
	for _, n := range []int{10, 50, 100, 500} {
		jobs = append(jobs, job{fmt.Sprintf("bulk/full/tx1000/values%d", n), b.values(n)})
	}
	jobs = append(jobs,
		job{"bulk/full/tx1000/single-prepared", b.insert("full", 1000, false)},
		job{"bulk/full/tx1000/json_each-objects", b.jsonEach(0)},
		job{"bulk/full/tx1000/json_each-arrays", b.jsonEach(1)},
		job{"bulk/full/tx1000/json_each-payload-only", b.jsonEach(2)},
		job{"bulk/full/tx1000/json_each-payload-only-100", b.jsonEach(3)},
	)
	for _, sy := range []string{"full", "normal"} {
		for _, g := range []int{100, 1000} {
			for _, m := range []string{"update", "delete", "history"} {
				jobs = append(jobs, job{fmt.Sprintf("life/%s/group%d/%s", sy, g, m), b.life(sy, g, m, false)})
			}
		}
	}
	jobs = append(jobs,
		job{"life/full/group1000/delete-rowwise", b.life("full", 1000, "delete", true)},
		job{"life/full/group1000/update-rowwise", b.life("full", 1000, "update", true)},
		job{"life/normal/group1/delete", b.life("normal", 1, "delete", true)},
		job{"life/full/group1/delete", b.life("full", 1, "delete", true)},
	)
	for _, j := range jobs {
		if *fOnly != "" && !strings.HasPrefix(j.name, *fOnly) {
			continue
		}
		for range *fReps {
			dir := filepath.Join(*fDir, "phys-"+peer)
			os.RemoveAll(dir)
			must(os.MkdirAll(dir, 0o755))
			n, d, lat, note := j.f(dir)
			sort.Slice(lat, func(i, k int) bool { return lat[i] < lat[k] })
			p := func(q float64) float64 {
				if len(lat) == 0 {
					return 0
				}
				return float64(lat[int(q*float64(len(lat)-1))].Microseconds()) / 1000
			}
			hb.Emit(hb.Line{Peer: peer, Case: j.name, N: n, Seconds: float64(d.Microseconds()) / 1e6,
				PerS: float64(int(float64(n)/d.Seconds()*10)) / 10, P50: p(.5), P99: p(.99), Notes: note})
			os.RemoveAll(dir)
		}
	}
}

type job struct {
	name string
	f    func(dir string) (int, time.Duration, []time.Duration, string)
}

func diskAppend(dir string) (int, time.Duration, []time.Duration, string) {
	f, err := os.Create(filepath.Join(dir, "f"))
	must(err)
	defer f.Close()
	return fsyncLoop(f, false)
}

// diskAppendPaced measures one append and fdatasync every 20 ms: the minimum time of a single
// enqueue on an idle machine (C5 has the same pace).
func diskAppendPaced(dir string) (int, time.Duration, []time.Duration, string) {
	f, err := os.Create(filepath.Join(dir, "f"))
	must(err)
	defer f.Close()
	buf := make([]byte, 4096)
	rand.Read(buf)
	var lat []time.Duration
	t := time.Now()
	for range 250 {
		time.Sleep(20 * time.Millisecond)
		s := time.Now()
		_, err := f.Write(buf)
		must(err)
		must(syscall.Fdatasync(int(f.Fd())))
		lat = append(lat, time.Since(s))
	}
	return len(lat), time.Since(t), lat, "every 20 ms: write 4 KiB + fdatasync"
}

func diskOverwrite(dir string) (int, time.Duration, []time.Duration, string) {
	f, err := os.Create(filepath.Join(dir, "f"))
	must(err)
	defer f.Close()
	_, err = f.Write(make([]byte, 4<<20))
	must(err)
	must(f.Sync())
	return fsyncLoop(f, true)
}

func fsyncLoop(f *os.File, over bool) (int, time.Duration, []time.Duration, string) {
	buf := make([]byte, 4096)
	rand.Read(buf)
	var lat []time.Duration
	t := time.Now()
	n := 0
	for time.Since(t) < *fCap {
		s := time.Now()
		off := int64(n) * 4096
		if over {
			off %= 4 << 20
		}
		_, err := f.WriteAt(buf, off)
		must(err)
		must(syscall.Fdatasync(int(f.Fd())))
		lat = append(lat, time.Since(s))
		n++
	}
	return n, time.Since(t), lat, "write 4 KiB + fdatasync"
}

func (b *bench) commit(sy string) func(string) (int, time.Duration, []time.Duration, string) {
	return func(dir string) (int, time.Duration, []time.Duration, string) {
		db, c := b.open(dir, sy, "create table t(k integer primary key, v integer); insert into t values(1,0)")
		defer db.Close()
		defer c.Close()
		ctx := context.Background()
		st, err := c.PrepareContext(ctx, "update t set v=v+1 where k=1")
		must(err)
		var lat []time.Duration
		t := time.Now()
		n := 0
		for time.Since(t) < *fCap {
			s := time.Now()
			_, err := st.ExecContext(ctx)
			must(err)
			lat = append(lat, time.Since(s))
			n++
		}
		return n, time.Since(t), lat, "autocommit one-row update, prepared, synchronous=" + sy
	}
}

func begin(c *sql.Conn)  { _, err := c.ExecContext(context.Background(), "begin immediate"); must(err) }
func commit(c *sql.Conn) { _, err := c.ExecContext(context.Background(), "commit"); must(err) }

func (b *bench) insert(sy string, txn int, blob bool) func(string) (int, time.Duration, []time.Duration, string) {
	return func(dir string) (int, time.Duration, []time.Duration, string) {
		sch := schemaInt
		if blob {
			sch = schemaBlob
		}
		db, c := b.open(dir, sy, sch)
		defer db.Close()
		defer c.Close()
		ctx := context.Background()
		st, err := c.PrepareContext(ctx, "insert into jobs(id,queue,state,priority,run_at,payload) values(?,?,0,?,?,?)")
		must(err)
		bg, err := c.PrepareContext(ctx, "begin immediate")
		must(err)
		cm, err := c.PrepareContext(ctx, "commit")
		must(err)
		pl := []byte(payload)
		var lat []time.Duration
		t := time.Now()
		n := 0
		for time.Since(t) < b.cap && n < b.most {
			s := time.Now()
			if txn > 1 {
				_, err = bg.ExecContext(ctx)
				must(err)
			}
			for range txn {
				var id any = int64(n + 1)
				if blob {
					id = uuid7(n)
				}
				_, err := st.ExecContext(ctx, id, "default", 1, s.UnixMilli(), pl)
				must(err)
				n++
			}
			if txn > 1 {
				_, err = cm.ExecContext(ctx)
				must(err)
			}
			lat = append(lat, time.Since(s))
		}
		return n, time.Since(t), lat, fmt.Sprintf("prepared one-row inserts, %d per transaction, synchronous=%s; p50/p99 per transaction", txn, sy)
	}
}

func uuid7(n int) []byte {
	id := make([]byte, 16)
	ms := uint64(time.Now().UnixMilli())
	for i := range 6 {
		id[i] = byte(ms >> (40 - 8*i))
	}
	rand.Read(id[6:])
	id[6] = id[6]&0x0f | 0x70
	id[8] = id[8]&0x3f | 0x80
	return id
}

func (b *bench) values(k int) func(string) (int, time.Duration, []time.Duration, string) {
	return func(dir string) (int, time.Duration, []time.Duration, string) {
		db, c := b.open(dir, "full", schemaInt)
		defer db.Close()
		defer c.Close()
		ctx := context.Background()
		q := "insert into jobs(id,queue,state,priority,run_at,payload) values" + strings.TrimSuffix(strings.Repeat("(?,?,0,?,?,?),", k), ",")
		st, err := c.PrepareContext(ctx, q)
		must(err)
		pl := []byte(payload)
		args := make([]any, 5*k)
		var lat []time.Duration
		t := time.Now()
		n := 0
		for time.Since(t) < b.cap && n < b.most {
			s := time.Now()
			begin(c)
			for range 1000 / k {
				for i := range k {
					n++
					args[5*i], args[5*i+1], args[5*i+2], args[5*i+3], args[5*i+4] = int64(n), "default", 1, s.UnixMilli(), pl
				}
				_, err := st.ExecContext(ctx, args...)
				must(err)
			}
			commit(c)
			lat = append(lat, time.Since(s))
		}
		return n, time.Since(t), lat, fmt.Sprintf("INSERT ... VALUES of %d rows, 1000 rows per transaction; p50/p99 per transaction", k)
	}
}

func (b *bench) jsonEach(mode int) func(string) (int, time.Duration, []time.Duration, string) {
	return func(dir string) (int, time.Duration, []time.Duration, string) {
		db, c := b.open(dir, "full", schemaInt)
		defer db.Close()
		defer c.Close()
		ctx := context.Background()
		q := []string{
			`insert into jobs(id,queue,state,priority,run_at,payload) select value->>'id', value->>'queue', 0, value->>'priority', value->>'run_at', value->>'payload' from json_each(?)`,
			`insert into jobs(id,queue,state,priority,run_at,payload) select value->>0, value->>1, 0, value->>2, value->>3, value->>4 from json_each(?)`,
			`insert into jobs(id,queue,state,priority,run_at,payload) select ?1+key, ?2, 0, ?3, ?4, value from json_each(?5)`,
			`insert into jobs(id,queue,state,priority,run_at,payload) select ?1+key, ?2, 0, ?3, ?4, value from json_each(?5)`,
		}[mode]
		st, err := c.PrepareContext(ctx, q)
		must(err)
		var lat []time.Duration
		per := 1000
		if mode == 3 {
			per = 100
		}
		t := time.Now()
		n := 0
		for time.Since(t) < b.cap && n < b.most {
			s := time.Now()
			begin(c)
			for range 1000 / per {
				var doc []byte
				switch mode {
				case 0:
					type row struct {
						ID       int64  `json:"id"`
						Queue    string `json:"queue"`
						Priority int    `json:"priority"`
						RunAt    int64  `json:"run_at"`
						Payload  string `json:"payload"`
					}
					rows := make([]row, per)
					for i := range rows {
						rows[i] = row{int64(n + i + 1), "default", 1, s.UnixMilli(), payload}
					}
					doc, _ = json.Marshal(rows)
				case 1:
					rows := make([][5]any, per)
					for i := range rows {
						rows[i] = [5]any{int64(n + i + 1), "default", 1, s.UnixMilli(), payload}
					}
					doc, _ = json.Marshal(rows)
				default:
					rows := make([]string, per)
					for i := range rows {
						rows[i] = payload
					}
					doc, _ = json.Marshal(rows)
				}
				if mode >= 2 {
					_, err = st.ExecContext(ctx, n+1, "default", 1, s.UnixMilli(), string(doc))
				} else {
					_, err = st.ExecContext(ctx, string(doc))
				}
				must(err)
				n += per
			}
			commit(c)
			lat = append(lat, time.Since(s))
		}
		return n, time.Since(t), lat, fmt.Sprintf("INSERT ... SELECT FROM json_each(?) of %d rows, 1000 rows per transaction, Go json.Marshal included", per)
	}
}

// life runs insert -> claim -> complete over a standing backlog of 10,000 rows.
// group is the number of rows covered by one commit. Claims take up to 100 rows
// per statement; completions cover up to 100 rows per statement unless rowwise.
func (b *bench) life(sy string, group int, mode string, rowwise bool) func(string) (int, time.Duration, []time.Duration, string) {
	return func(dir string) (int, time.Duration, []time.Duration, string) {
		db, c := b.open(dir, sy, schemaInt)
		defer db.Close()
		defer c.Close()
		ctx := context.Background()
		prep := func(q string) *sql.Stmt { s, err := c.PrepareContext(ctx, q); must(err); return s }
		ins := prep("insert into jobs(queue,state,priority,run_at,payload) values(?,0,?,?,?)")
		per := min(group, 100)
		claim := prep(fmt.Sprintf(`update jobs set state=1, attempt=attempt+1 where id in (select id from jobs where queue=? and state=0 and run_at<=? order by priority, run_at, id limit %d) returning id, payload, attempt`, per))
		in := strings.TrimSuffix(strings.Repeat("?,", per), ",")
		var fin []*sql.Stmt
		switch {
		case rowwise && mode == "update":
			fin = []*sql.Stmt{prep("update jobs set state=2 where id=?")}
		case rowwise:
			fin = []*sql.Stmt{prep("delete from jobs where id=?")}
		case mode == "update":
			fin = []*sql.Stmt{prep("update jobs set state=2 where id in (" + in + ")")}
		case mode == "delete":
			fin = []*sql.Stmt{prep("delete from jobs where id in (" + in + ")")}
		case mode == "history":
			fin = []*sql.Stmt{prep("insert into history select id, queue, 2, 0, payload from jobs where id in (" + in + ")"), prep("delete from jobs where id in (" + in + ")")}
		}
		pl := []byte(payload)
		insert := func(k int) {
			now := time.Now().UnixMilli()
			for range k {
				_, err := ins.ExecContext(ctx, "default", 1, now, pl)
				must(err)
			}
		}
		begin(c)
		insert(10000)
		commit(c)
		var lat []time.Duration
		ids := make([]any, 0, group)
		t := time.Now()
		n := 0
		var ti, tc, tf time.Duration
		for time.Since(t) < b.cap && n < b.most {
			s := time.Now()
			begin(c)
			insert(group)
			commit(c)
			s1 := time.Now()
			begin(c)
			ids = ids[:0]
			for len(ids) < group {
				rows, err := claim.QueryContext(ctx, "default", s.UnixMilli()+1000)
				must(err)
				for rows.Next() {
					var id int64
					var p sql.RawBytes
					var a int
					must(rows.Scan(&id, &p, &a))
					ids = append(ids, id)
				}
				must(rows.Err())
				rows.Close()
			}
			commit(c)
			s2 := time.Now()
			begin(c)
			if rowwise {
				for _, id := range ids {
					_, err := fin[0].ExecContext(ctx, id)
					must(err)
				}
			} else {
				for i := 0; i < len(ids); i += per {
					for _, st := range fin {
						_, err := st.ExecContext(ctx, ids[i:i+per]...)
						must(err)
					}
				}
			}
			commit(c)
			e := time.Now()
			ti += s1.Sub(s)
			tc += s2.Sub(s1)
			tf += e.Sub(s2)
			lat = append(lat, e.Sub(s))
			n += group
		}
		d := time.Since(t)
		return n, d, lat, fmt.Sprintf("insert+claim+complete(%s), 3 commits per %d rows, synchronous=%s, backlog 10000; us/row insert %.1f claim %.1f complete %.1f",
			mode, group, sy, us(ti, n), us(tc, n), us(tf, n))
	}
}

func us(d time.Duration, n int) float64 { return float64(d.Nanoseconds()) / 1000 / float64(n) }
