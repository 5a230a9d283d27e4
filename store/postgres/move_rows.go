package postgres

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/stint-dev/stint/internal/moving"
)

// A moveColumn is a column of the server's table, with where its values come from.
type moveColumn struct {
	name, kind string
	from       string // an SQL expression over the row t of the file
	key        bool
	summed     bool // sums of both sides are compared
}

// Where a column has not the same name and meaning in both tables: an SQL expression over the row t of the file,
// and one over the row t of the server.
var (
	fromFile = map[string]string{
		"workers.process": "t.lock", "attempts.n": "t.lease", "runs.executions": "t.lease",
		"runs.limiter":   "max(t.limiter, 0)", // less than 0: it comes to its limiters after the bulk that it is part of
		"events.pending": "coalesce(t.pending, 0)",
	}
	fromServer = map[string]string{
		"workers.lock": "t.process", "attempts.lease": "t.n",
		"runs.lease":     "CASE WHEN t.lease = 0 THEN 0 ELSE greatest(t.executions, 1) END",
		"events.pending": "CASE WHEN t.pending THEN 1 END",
		"lanes.staged":   "NULL", "lanes.stamp": "0",
	}
)

var columnOfFile = regexp.MustCompile(`\bt\.(\w+)`)

// pair finds the columns of both sides. Each has its counterpart, or the programs differ.
func (m *mover) pair(ctx context.Context) (map[string][]moveColumn, error) {
	server, err := m.set.columnsOf(ctx, m.conn)
	if err != nil {
		return nil, err
	}
	all := map[string][]moveColumn{}
	for _, t := range moving.Tables {
		names, err := fileColumns(ctx, m.reader, t.Name)
		if err != nil {
			return nil, err
		}
		used := map[string]bool{"staged": t.Name == "lanes", "stamp": t.Name == "lanes"}
		for _, c := range server[t.Name] {
			from, ok := fromFile[t.Name+"."+c.name]
			if !ok {
				from = "t." + c.name
			}
			name := columnOfFile.FindStringSubmatch(from)[1]
			if !slices.Contains(names, name) {
				return nil, fmt.Errorf("column %s of %s is unknown to the file: upgrade its programs, and `stint`", c.name, t.Name)
			}
			used[name] = true
			c.from, c.key = from, slices.Contains(t.Key, name)
			c.summed = c.kind != "double precision" && (t.Name != "runs" || c.name != "lane")
			all[t.Name] = append(all[t.Name], c)
		}
		for _, name := range names {
			if !used[name] {
				return nil, fmt.Errorf("column %s of %s is unknown to the server's tables: upgrade the programs, and `stint`", name, t.Name)
			}
		}
	}
	return all, nil
}

// columnsOf reads the columns of the server's tables, by table.
func (s *settings) columnsOf(ctx context.Context, c *pgx.Conn) (map[string][]moveColumn, error) {
	rows, err := c.Query(ctx, "SELECT table_name::text, column_name::text, data_type::text FROM information_schema.columns "+
		"WHERE table_schema = $1 ORDER BY table_name, ordinal_position", s.Schema)
	if err != nil {
		return nil, explain(err)
	}
	all := map[string][]moveColumn{}
	var table string
	var x moveColumn
	_, err = pgx.ForEachRow(rows, []any{&table, &x.name, &x.kind}, func() error {
		all[table] = append(all[table], x)
		return nil
	})
	return all, explain(err)
}

func fileColumns(ctx context.Context, c *sql.Conn, table string) ([]string, error) {
	rows, err := c.QueryContext(ctx, "SELECT name FROM pragma_table_info(?)", "stint_"+table)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var names []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, err
		}
		names = append(names, name)
	}
	return names, rows.Err()
}

// selectSQL is the statement that reads the rows of a table from the file: all, or those of notes in (?1, ?2].
func selectSQL(t moving.Table, columns []moveColumn, noted bool) string {
	list := make([]string, len(columns))
	for i, c := range columns {
		list[i] = c.from
	}
	if !noted {
		return "SELECT " + strings.Join(list, ", ") + " FROM stint_" + t.Name + " t"
	}
	on := make([]string, len(t.Key))
	for i, k := range t.Key {
		on[i] = fmt.Sprintf("t.%s = k.k%d", k, i+1)
	}
	return "SELECT " + strings.Join(list, ", ") + " FROM (" + notedSQL(t) + ") k CROSS JOIN stint_" + t.Name + " t ON " +
		strings.Join(on, " AND ")
}

// notedSQL reads the keys of a table's notes in (?1, ?2].
func notedSQL(t moving.Table) string {
	keys := make([]string, len(t.Key))
	for i := range t.Key {
		keys[i] = fmt.Sprintf("k%d", i+1)
	}
	return "SELECT DISTINCT " + strings.Join(keys, ", ") + " FROM " + moving.Notes + " WHERE n > ?1 AND n <= ?2 AND t = '" + t.Name + "'"
}

// fileRows are rows of the file, as the server takes them.
type fileRows struct {
	rows    *sql.Rows
	columns []moveColumn
	lane    int // the column that is a lane's number; -1: none
	lanes   map[int64]int64
	values  []any
	into    []any
	n       int64
	err     error
}

func newFileRows(rows *sql.Rows, columns []moveColumn, lanes map[int64]int64) *fileRows {
	f := &fileRows{rows: rows, columns: columns, lane: -1, lanes: lanes, values: make([]any, len(columns)), into: make([]any, len(columns))}
	for i := range columns {
		f.into[i] = &f.values[i]
		if lanes != nil && columns[i].name == "lane" {
			f.lane = i
		}
	}
	return f
}

// Next implements pgx.CopyFromSource.
func (f *fileRows) Next() bool { return f.err == nil && f.rows.Next() }

// Err implements pgx.CopyFromSource.
func (f *fileRows) Err() error { return errors.Join(f.err, f.rows.Err()) }

// Values implements pgx.CopyFromSource.
func (f *fileRows) Values() ([]any, error) {
	if f.err = f.rows.Scan(f.into...); f.err != nil {
		return nil, f.err
	}
	f.n++
	for i, v := range f.values {
		f.values[i] = toServer(v, f.columns[i].kind)
	}
	if f.lane >= 0 {
		id, ok := f.lanes[f.values[f.lane].(int64)]
		if !ok {
			f.err = fmt.Errorf("a run is in lane %v, which does not exist: run `stint doctor`", f.values[f.lane])
			return nil, f.err
		}
		f.values[f.lane] = id
	}
	return f.values, nil
}

// toServer returns a value of the file as the server takes it. A text of the server holds neither NUL nor bytes
// that are not UTF-8: a ? stands for each.
func toServer(v any, kind string) any {
	switch x := v.(type) {
	case int64:
		if kind == "boolean" {
			return x != 0
		}
	case []byte:
		if x == nil { // the driver's empty blob: NULL has no type
			return []byte{}
		}
	case string:
		if strings.IndexByte(x, 0) < 0 && utf8.ValidString(x) {
			return x
		}
		b := bytes.ReplaceAll([]byte(x), []byte{0}, []byte("?"))
		for i := 0; i < len(b); {
			r, size := utf8.DecodeRune(b[i:])
			if r == utf8.RuneError && size == 1 {
				b[i] = '?'
			}
			i += size
		}
		return string(b)
	}
	return v
}

// copyRows copies what a statement reads from the file into a table, and returns the number of rows.
func (m *mover) copyRows(
	ctx context.Context, c *sql.Conn, tx pgx.Tx, t moving.Table, lanes map[int64]int64, query string, args ...any,
) (int64, error) {
	rows, err := c.QueryContext(ctx, query, args...)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	columns := m.columns[t.Name]
	if t.Name != "runs" {
		lanes = nil
	}
	source := newFileRows(rows, columns, lanes)
	_, err = tx.CopyFrom(ctx, pgx.Identifier{m.set.Schema, t.Name}, namesOf(columns), source)
	if err != nil {
		return 0, fmt.Errorf("copy %s: %w", t.Name, explain(err))
	}
	return source.n, nil
}

func namesOf(columns []moveColumn) []string {
	names := make([]string, len(columns))
	for i, c := range columns {
		names[i] = c.name
	}
	return names
}

// laneID returns the number that a lane has on the server. The file may have several lanes of one name, which
// large bulks made; the server has one. A digest needs no record of which became which.
func laneID(queue, task string, suspect bool, route string) int64 {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %v %q", queue, task, suspect, route))
	return int64(binary.BigEndian.Uint64(sum[:])>>2) | 1 // not 0, and far from the highest
}

// readLanes reads the lanes of the file: their numbers on the server by those in the file, and the rows there.
func (m *mover) readLanes(ctx context.Context, c *sql.Conn) (ids map[int64]int64, rows [][]any, err error) {
	all, err := c.QueryContext(ctx, "SELECT id, queue, task, suspect, route FROM stint_lanes")
	if err != nil {
		return nil, nil, err
	}
	defer all.Close()
	ids = map[int64]int64{}
	known := map[int64]bool{}
	for all.Next() {
		var id int64
		var queue, task, route string
		var suspect bool
		if err := all.Scan(&id, &queue, &task, &suspect, &route); err != nil {
			return nil, nil, err
		}
		ids[id] = laneID(queue, task, suspect, route)
		if !known[ids[id]] {
			known[ids[id]] = true
			rows = append(rows, []any{ids[id], queue, task, suspect, route})
		}
	}
	return ids, rows, all.Err()
}

// copyLanes replaces the lanes of the server. There are few.
func (m *mover) copyLanes(ctx context.Context, tx pgx.Tx, rows [][]any) error {
	if _, err := tx.Exec(ctx, m.sql("DELETE FROM stint.lanes")); err != nil {
		return explain(err)
	}
	_, err := tx.CopyFrom(ctx, pgx.Identifier{m.set.Schema, "lanes"}, []string{"id", "queue", "task", "suspect", "route"},
		pgx.CopyFromRows(rows))
	return explain(err)
}
