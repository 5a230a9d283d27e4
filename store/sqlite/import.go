package sqlite

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/stint-dev/stint/internal/moving"
	"github.com/stint-dev/stint/store/internal/keys"
)

// Import creates a file at path from the output of Export. It returns the number of rows of each table, and the problems that
// Check finds in the new file, which the exported file had too. IDs, idempotency keys, journals and times stay as they
// were. Runs that were executing go on as after a crash. If Import fails, it leaves no file. A file at path is an error.
func Import(ctx context.Context, r io.Reader, path string) (tables map[string]int64, problems []string, err error) {
	path, err = filepath.Abs(path)
	if err != nil {
		return nil, nil, err
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, errors.Join(err, fmt.Errorf("sqlite: import %s: %w: name a new file", path, fs.ErrExist))
	}
	temp := path + ".importing"
	defer removeDatabase(temp)
	if err = removeDatabase(temp); err == nil { // of an import that was killed
		tables, err = importInto(ctx, r, temp)
	}
	if err == nil {
		problems, err = Check(ctx, temp)
	}
	if err == nil {
		err = os.Rename(temp, path)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("sqlite: import %s: %w", path, explain(err))
	}
	if d, err := os.Open(filepath.Dir(path)); err == nil { // makes the name durable, on systems that can
		d.Sync()
		d.Close()
	}
	return tables, problems, nil
}

func removeDatabase(path string) error {
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.Remove(path + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func importInto(ctx context.Context, r io.Reader, path string) (map[string]int64, error) {
	s, err := Open(path, Options{}) // makes the tables
	if err != nil {
		return nil, err
	}
	if err := s.Close(); err != nil {
		return nil, err
	}
	db, err := sql.Open("sqlite", s.fileDSN(url.Values{"_pragma": {pragma("synchronous", "FULL")}}))
	if err != nil {
		return nil, err
	}
	defer db.Close()
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer tx.Rollback()
	x := &importer{ctx: ctx, tx: tx, inserts: map[string]*importTable{}, read: exportEnd{Tables: map[string]int64{}}}
	if err := x.readAll(r); err != nil {
		return nil, err
	}
	return x.read.Tables, tx.Commit()
}

// An importer reads one export.
type importer struct {
	ctx     context.Context
	tx      *sql.Tx
	inserts map[string]*importTable
	read    exportEnd
	line    int64
}

// An importTable inserts the rows of a table.
type importTable struct {
	columns []string
	kinds   []string // INTEGER, REAL, TEXT or BLOB
	insert  *sql.Stmt
}

func (x *importer) readAll(r io.Reader) error {
	lines := bufio.NewReaderSize(r, 1<<16)
	var head exportHead
	if err := x.next(lines, &head); err != nil {
		return err
	}
	if err := x.begin(head); err != nil {
		return err
	}
	for {
		var l exportLine
		err := x.next(lines, &l)
		if errors.Is(err, io.EOF) {
			return errors.New("the export is cut off: its last line is missing")
		}
		switch {
		case err != nil:
		case l.End != nil:
			if l.End.Rows != x.read.Rows {
				return fmt.Errorf("the export has %d rows, but says at its end that it has %d", x.read.Rows, l.End.Rows)
			}
			return nil
		default:
			err = x.row(l)
		}
		if err != nil {
			return fmt.Errorf("line %d: %w", x.line, err)
		}
	}
}

// next reads a line.
func (x *importer) next(r *bufio.Reader, to any) error {
	line, err := r.ReadBytes('\n')
	if len(line) == 0 && err != nil {
		return err
	}
	x.line++
	if err := json.Unmarshal(line, to); err != nil {
		return fmt.Errorf("this is no line of an export, or it is cut off: %w", err)
	}
	return nil
}

// begin takes what the first line says.
func (x *importer) begin(head exportHead) error {
	var schema int
	if err := x.tx.QueryRowContext(x.ctx, "SELECT version FROM stint_schema").Scan(&schema); err != nil {
		return err
	}
	switch {
	case head.Version == 0:
		return errors.New("this is no export: its first line has no stint_export")
	case head.Version != ExportVersion:
		return fmt.Errorf("the export has version %d of the format, this program reads %d", head.Version, ExportVersion)
	case head.Schema != schema:
		return fmt.Errorf("the export is of schema %d, this program has %d: import it with the version of stint that wrote it; "+
			"this one updates the file when it opens it", head.Schema, schema)
	case len(head.Secret) != keys.SecretSize:
		return fmt.Errorf("the secret has %d bytes: want %d", len(head.Secret), keys.SecretSize)
	}
	_, err := x.tx.ExecContext(x.ctx, "UPDATE stint_meta SET value = ? WHERE key = 'id_secret'", head.Secret)
	if err == nil && head.Limits {
		_, err = x.tx.ExecContext(x.ctx, LimitsTrigger)
	}
	return err
}

// row inserts a row.
func (x *importer) row(l exportLine) error {
	t, err := x.table(l.Table)
	if err != nil {
		return err
	}
	values, known := make([]any, len(t.columns)), 0
	for i, c := range t.columns {
		raw, ok := l.Row[c]
		if !ok {
			continue // NULL
		}
		known++
		if values[i], err = importValue(raw, t.kinds[i]); err != nil {
			return fmt.Errorf("column %s of %s: %w", c, l.Table, err)
		}
	}
	if known < len(l.Row) {
		for c := range l.Row {
			if !slices.Contains(t.columns, c) {
				return fmt.Errorf("%s has no column %q", l.Table, c)
			}
		}
	}
	if _, err := t.insert.ExecContext(x.ctx, values...); err != nil {
		return fmt.Errorf("a row of %s: %w", l.Table, err)
	}
	x.read.Rows++
	x.read.Tables[l.Table]++
	return nil
}

// table returns what inserts the rows of a table.
func (x *importer) table(name string) (*importTable, error) {
	if t := x.inserts[name]; t != nil {
		return t, nil
	}
	if !slices.ContainsFunc(moving.Tables, func(t moving.Table) bool { return t.Name == name }) {
		return nil, fmt.Errorf("there is no table %q", name)
	}
	rows, err := x.tx.QueryContext(x.ctx, "SELECT name, type FROM pragma_table_info(?)", "stint_"+name)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	t := &importTable{}
	for rows.Next() {
		var column, kind string
		if err := rows.Scan(&column, &kind); err != nil {
			return nil, err
		}
		t.columns, t.kinds = append(t.columns, column), append(t.kinds, kind)
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	t.insert, err = x.tx.PrepareContext(x.ctx, "INSERT INTO stint_"+name+" ("+strings.Join(t.columns, ", ")+") VALUES (?"+
		strings.Repeat(", ?", len(t.columns)-1)+")")
	x.inserts[name] = t
	return t, err
}

// importValue reads what appendValue wrote.
func importValue(raw json.RawMessage, kind string) (any, error) {
	var wrapped struct {
		Real   *string         `json:"real"`
		Text64 []byte          `json:"text64"`
		JSON   json.RawMessage `json:"json"`
		Text   *string         `json:"text"`
		Bytes  []byte          `json:"base64"`
	}
	if len(raw) > 0 && raw[0] == '{' {
		if err := json.Unmarshal(raw, &wrapped); err != nil {
			return nil, err
		}
	}
	switch {
	case kind == "BLOB" && wrapped.JSON != nil:
		return []byte(wrapped.JSON), nil
	case kind == "BLOB" && wrapped.Text != nil:
		return []byte(*wrapped.Text), nil
	case kind == "BLOB" && wrapped.Bytes != nil:
		return wrapped.Bytes, nil
	case kind == "TEXT" && wrapped.Text64 != nil:
		return string(wrapped.Text64), nil
	case kind == "REAL" && wrapped.Real != nil:
		var f float64
		_, err := fmt.Sscan(*wrapped.Real, &f)
		return f, err
	}
	var err error
	switch kind {
	case "INTEGER":
		var n int64
		err = json.Unmarshal(raw, &n)
		return n, err
	case "REAL":
		var f float64
		err = json.Unmarshal(raw, &f)
		return f, err
	case "TEXT":
		var s string
		err = json.Unmarshal(raw, &s)
		return s, err
	}
	return nil, errors.New("bytes are an object with json, text or base64")
}
