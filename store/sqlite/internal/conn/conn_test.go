package conn

import (
	"bytes"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"go.uber.org/goleak"
	_ "modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const memory = "file::memory:"

func open(t testing.TB, uri string) *Conn {
	t.Helper()
	c, err := Open(uri)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func run(t testing.TB, c *Conn, script string) {
	t.Helper()
	if err := c.Exec(script); err != nil {
		t.Fatal(err)
	}
}

func prepare(t testing.TB, c *Conn, text string) *Stmt {
	t.Helper()
	s, err := c.Prepare(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// one scans the only row of a statement.
func one(c *Conn, text string, args []any, into ...any) error {
	rows, err := c.Query(text, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	if !rows.Next() {
		return errors.Join(rows.Err(), sql.ErrNoRows)
	}
	return rows.Scan(into...)
}

type (
	level int8
	name  string
	body  []byte
)

// What is bound comes back as it was: also what the driver, by which others read the file, reads and binds.
func TestValues(t *testing.T) {
	c := open(t, memory)
	db, err := sql.Open("sqlite", memory)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	n, text := int64(-1<<62), "é\x00 x"
	for _, x := range []struct{ in, out any }{
		{int64(1<<63 - 1), int64(1<<63 - 1)}, {7, int64(7)}, {true, int64(1)}, {false, int64(0)}, {1.5, 1.5}, {nil, nil},
		{"", ""}, {text, text}, {strings.Repeat("x", 3*keptRoom), strings.Repeat("x", 3*keptRoom)},
		{[]byte(nil), nil}, {[]byte{}, []byte{}}, {[]byte{0, 255}, []byte{0, 255}},
		{level(-3), int64(-3)}, {uint16(9), int64(9)}, {name("n"), "n"}, {body("b"), []byte("b")},
		{&n, n}, {(*int64)(nil), nil}, {float32(0.5), 0.5},
	} {
		var got, driver any
		if err := one(c, "SELECT ?", []any{x.in}, &got); err != nil || !reflect.DeepEqual(got, x.out) {
			t.Errorf("%T %.20v: %T %.20v, %v; want %T %.20v", x.in, x.in, got, got, err, x.out, x.out)
		}
		if err := db.QueryRow("SELECT ?", x.in).Scan(&driver); err != nil || fmt.Sprintf("%T %v", driver, driver) != fmt.Sprintf("%T %v", x.out, x.out) {
			t.Errorf("the driver: %T %.20v: %T %.20v, %v", x.in, x.in, driver, driver, err)
		}
	}
	for _, in := range []any{uint64(1), struct{}{}, []int{1}, make(chan int)} {
		if _, err := c.Query("SELECT ?", in); err == nil || !strings.Contains(err.Error(), "argument 1: no value of SQLite for") {
			t.Errorf("%T: %v", in, err)
		}
	}
}

func TestScan(t *testing.T) {
	c := open(t, memory)
	for _, x := range []struct {
		text string
		into any
		want any // what it then is, or the error
	}{
		{"1", new(int64), int64(1)}, {"1", new(int), 1}, {"1", new(bool), true}, {"0", new(bool), false}, {"1", new(float64), 1.0},
		{"1.5", new(float64), 1.5}, {"'x'", new(string), "x"}, {"x'00ff'", new(string), "\x00\xff"}, {"'x'", new([]byte), []byte("x")},
		{"''", new([]byte), []byte{}}, {"x''", new([]byte), []byte{}}, {"NULL", new([]byte), []byte(nil)}, {"5", new(level), level(5)},
		{"200", new(uint8), uint8(200)}, {"'n'", new(name), name("n")}, {"'b'", new(body), body("b")}, {"1", new(any), any(int64(1))},
		{"'x'", new(sql.NullString), sql.NullString{String: "x", Valid: true}}, {"NULL", new(sql.NullString), sql.NullString{}},
		{"NULL", new(*int64), (*int64)(nil)}, {"NULL", new(*string), (*string)(nil)}, {"NULL", new(any), nil},

		{"NULL", new(int64), errors.New(`column "v": is NULL, want an integer`)},
		{"NULL", new(string), errors.New("is NULL, want a text or a blob")},
		{"'1'", new(int64), errors.New("is a text, want an integer")},
		{"1.0", new(int), errors.New("is a float, want an integer")},
		{"1", new(string), errors.New("is an integer, want a text or a blob")},
		{"x'01'", new(float64), errors.New("is a blob, want a number")},
		{"2", new(bool), errors.New("2 is neither 0 nor 1")},
		{"128", new(level), errors.New("128 is out of range")},
		{"-1", new(uint8), errors.New("-1 is out of range")},
		{"1", new(struct{}), errors.New("cannot scan into *struct {}")},
		{"1", 5, errors.New("cannot scan into int: want a pointer")},
	} {
		err := one(c, "SELECT "+x.text+" AS v", nil, x.into)
		if want, bad := x.want.(error); bad {
			if err == nil || !strings.Contains(err.Error(), want.Error()) {
				t.Errorf("%s into %T: %v, want %v", x.text, x.into, err, want)
			}
			continue
		}
		if got := reflect.ValueOf(x.into).Elem().Interface(); err != nil || !reflect.DeepEqual(got, x.want) {
			t.Errorf("%s into %T: %#v, %v; want %#v", x.text, x.into, got, err, x.want)
		}
	}
	var n int64
	if p := &n; one(c, "SELECT 5", nil, &p) != nil || *p != 5 {
		t.Errorf("a pointer: %d", *p)
	}
	if err := one(c, "SELECT 1, 2", nil, &n); err == nil || !strings.Contains(err.Error(), "has 2 columns, scanned into 1") {
		t.Errorf("too few: %v", err)
	}
}

// A statement may be executed again while its rows are read, as often as one likes, and after an error.
func TestNested(t *testing.T) {
	c := open(t, memory)
	run(t, c, "CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT) STRICT; INSERT INTO t VALUES (1, 'x'), (2, 'y'), (3, 'z')")
	s := prepare(t, c, "SELECT a FROM t WHERE a > ? ORDER BY a")
	var pairs [][2]int64
	outer, err := s.Query(0)
	if err != nil {
		t.Fatal(err)
	}
	for outer.Next() {
		var a, b int64
		if err := outer.Scan(&a); err != nil {
			t.Fatal(err)
		}
		inner, err := s.Query(a)
		if err != nil {
			t.Fatal(err)
		}
		for inner.Next() {
			if err := inner.Scan(&b); err != nil {
				t.Fatal(err)
			}
			pairs = append(pairs, [2]int64{a, b})
		}
		inner.Close()
	}
	if want := [][2]int64{{1, 2}, {1, 3}, {2, 3}}; !reflect.DeepEqual(pairs, want) || outer.Err() != nil {
		t.Errorf("%v, %v; want %v", pairs, outer.Err(), want)
	}
	again, err := s.Query(2)
	if err != nil {
		t.Fatal(err)
	}
	outer.Close() // of rows that have ended: it must not end those that are read
	if !again.Next() || again.Next() || again.Next() || again.Err() != nil {
		t.Errorf("the rows of a later query have ended with an earlier one's: %v", again.Err())
	}
	if err := again.Scan(new(int64)); err == nil {
		t.Error("scanned after the last row")
	}
	insert := prepare(t, c, "INSERT INTO t VALUES (?, ?)")
	if _, err := insert.Exec(1, "again"); codeOf(err) != lib.SQLITE_CONSTRAINT_PRIMARYKEY {
		t.Errorf("a key twice: %v", err)
	}
	if n, err := insert.Exec(4, nil); n != 1 || err != nil {
		t.Errorf("after an error: %d, %v", n, err)
	}
	update := prepare(t, c, "UPDATE t SET b = ? RETURNING a")
	if n, err := update.Exec("all"); n != 4 || err != nil {
		t.Errorf("Exec of a statement with rows: %d, %v; want 4", n, err)
	}
}

func codeOf(err error) int {
	if e := (*Error)(nil); errors.As(err, &e) {
		return e.Code()
	}
	return 0
}

func TestErrors(t *testing.T) {
	if _, err := Open("file:" + filepath.Join(t.TempDir(), "none.db") + "?mode=rw"); codeOf(err)&0xff != lib.SQLITE_CANTOPEN {
		t.Errorf("a missing file: %v", err)
	}
	c := open(t, memory)
	for _, text := range []string{"", " ", "SELECT 1; SELECT 2", "SELECT 1;;x"} {
		if _, err := c.Prepare(text); err == nil {
			t.Errorf("Prepare(%q): no error", text)
		}
	}
	if s, err := c.Prepare("SELECT 1; "); err != nil {
		t.Errorf("a semicolon at the end: %v", err)
	} else {
		s.Close()
	}
	if _, err := c.Prepare("SELECT nonsense"); codeOf(err) != lib.SQLITE_ERROR || !strings.Contains(err.Error(), "no such column: nonsense (1)") {
		t.Errorf("an unknown column: %v", err)
	}
	if _, err := c.Query("SELECT ?1, ?2", 1); err == nil || !strings.Contains(err.Error(), "has 2 parameters, got 1 arguments") {
		t.Errorf("too few arguments: %v", err)
	}
	if err := c.Exec("CREATE TABLE t (a); INSERT INTO t VALUES (1); nonsense; DROP TABLE t"); err == nil {
		t.Error("a script with a mistake: no error")
	}
	var n int
	if err := one(c, "SELECT count(*) FROM t", nil, &n); n != 1 || err != nil {
		t.Errorf("before the mistake: %d rows, %v", n, err)
	}
	if err := c.Exec("PRAGMA writable_schema = 1; DELETE FROM sqlite_schema"); err == nil {
		t.Error("the schema was damaged")
	}
	if err := c.Exec("SELECT '\x00'"); err == nil {
		t.Error("a text with a byte 0: no error")
	}
}

func TestFunction(t *testing.T) {
	c := open(t, memory)
	var got []any
	if err := c.Function("f", 5, func(args []any) any { got = args; return len(args) == 5 }); err != nil {
		t.Fatal(err)
	}
	if err := c.Function("g", 0, func([]any) any { return nil }); err != nil {
		t.Fatal(err)
	}
	var yes, none any
	if err := one(c, "SELECT f(1, 1.5, 'x', x'00', NULL), g()", nil, &yes, &none); err != nil || yes != any(int64(1)) || none != nil {
		t.Errorf("%v, %v, %v", yes, none, err)
	}
	if want := []any{int64(1), 1.5, "x", []byte{0}, nil}; !reflect.DeepEqual(got, want) {
		t.Errorf("arguments %v, want %v", got, want)
	}
}

// A file is shared with connections of the driver in the same process: neither drops the other's locks.
func TestSharedFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec("PRAGMA journal_mode = wal; CREATE TABLE t (a BLOB)"); err != nil {
		t.Fatal(err)
	}
	c := open(t, "file:"+path+"?mode=rw")
	run(t, c, "BEGIN IMMEDIATE")
	big := bytes.Repeat([]byte("x"), 1<<20)
	insert := prepare(t, c, "INSERT INTO t VALUES (?)")
	if _, err := insert.Exec(big); err != nil {
		t.Fatal(err)
	}
	if other, err := sql.Open("sqlite", path); err != nil { // it is opened and closed meanwhile
		t.Fatal(err)
	} else if _, err := other.Exec("INSERT INTO t VALUES ('late')"); err == nil || !strings.Contains(err.Error(), "SQLITE_BUSY") {
		t.Errorf("a second writer: %v", err)
	} else if err := other.Close(); err != nil {
		t.Error(err)
	}
	if _, err := db.Exec("INSERT INTO t VALUES ('late')"); err == nil || !strings.Contains(err.Error(), "SQLITE_BUSY") {
		t.Errorf("a second writer, after another connection was closed: %v", err)
	}
	run(t, c, "COMMIT")
	var got []byte
	if err := db.QueryRow("SELECT a FROM t").Scan(&got); err != nil || !bytes.Equal(got, big) {
		t.Errorf("read %d bytes, %v", len(got), err)
	}
}

func BenchmarkExec(b *testing.B) {
	c := open(b, memory)
	run(b, c, "CREATE TABLE t (a INTEGER PRIMARY KEY, b INTEGER, c BLOB) STRICT; INSERT INTO t VALUES (1, 1, NULL); BEGIN")
	s := prepare(b, c, "UPDATE t SET b = ?2, c = ?3 WHERE a = ?1")
	args := []any{int64(1), int64(1 << 40), []byte("0123456789")}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Exec(args...); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkQuery(b *testing.B) {
	c := open(b, memory)
	run(b, c, "CREATE TABLE t (a INTEGER PRIMARY KEY, b INTEGER, c TEXT) STRICT; INSERT INTO t VALUES (1, 1, 'x'), (2, 2, NULL)")
	s := prepare(b, c, "SELECT a, b, c FROM t WHERE a >= ?")
	args := []any{int64(1)}
	b.ReportAllocs()
	for b.Loop() {
		rows, err := s.Query(args...)
		if err != nil {
			b.Fatal(err)
		}
		for rows.Next() {
			var x, y int64
			var text []byte
			if err := rows.Scan(&x, &y, &text); err != nil {
				b.Fatal(err)
			}
		}
		if rows.Err() != nil {
			b.Fatal(rows.Err())
		}
	}
}
