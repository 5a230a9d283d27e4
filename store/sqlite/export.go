package sqlite

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/stint-dev/stint/internal/moving"
	"github.com/stint-dev/stint/store"
)

// ExportVersion is the version of the format that Export writes and Import reads. docs/export.md describes it.
const ExportVersion = 1

// An exportHead is the first line of an export.
type exportHead struct {
	Version int       `json:"stint_export"`
	Schema  int       `json:"schema"` // of the file
	At      time.Time `json:"at"`
	Secret  []byte    `json:"secret"` // of which the IDs of runs are made
	Limits  bool      `json:"limits"` // a run has limits, or had
}

// An exportLine is any line of an export after the first. Of a row's line all but Table and Row is for the reader's
// eye alone.
type exportLine struct {
	Table string                     `json:"table,omitempty"`
	Row   map[string]json.RawMessage `json:"row,omitempty"`
	End   *exportEnd                 `json:"end,omitempty"`
}

// An exportEnd is the last line of an export: without it, the file is cut off.
type exportEnd struct {
	Rows   int64            `json:"rows"`
	Tables map[string]int64 `json:"tables"` // their rows
}

// Export writes all rows of the store, as of one moment, as JSON with one object a line: runs with their attempts, journals,
// logs and streams, events, crons, limits and settings. It returns the number of rows of each table. Programs may work
// meanwhile. Import reads the output. A database in memory is an error.
func (s *Store) Export(ctx context.Context, w io.Writer) (map[string]int64, error) {
	if s.path == Memory {
		return nil, errors.New("sqlite: export: a database in memory has one connection, which is the engine's: open a file")
	}
	if s.opts.ReadOnly {
		if _, err := s.refresh(); err != nil {
			return nil, err
		}
		s.reading.RLock() // without a log, the file must not change meanwhile
		defer s.reading.RUnlock()
	}
	tx, err := s.read.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return nil, explain(err)
	}
	defer tx.Rollback()
	x := &exporter{ctx: ctx, s: s, tx: tx, w: bufio.NewWriterSize(w, 1<<16), end: exportEnd{Tables: map[string]int64{}}}
	err = x.write()
	if err == nil {
		err = s.at.check()
	}
	if err == nil && s.opts.ReadOnly && !s.isStill() {
		err = errMoving
	}
	if err != nil {
		return nil, fmt.Errorf("sqlite: export %s: %w", s.path, explain(err))
	}
	return x.end.Tables, nil
}

// An exporter writes one export.
type exporter struct {
	ctx   context.Context
	s     *Store
	tx    *sql.Tx
	w     *bufio.Writer
	line  []byte
	lanes map[int64][2]string // queue and task
	end   exportEnd
}

func (x *exporter) write() error {
	head := exportHead{Version: ExportVersion, At: time.Now().UTC()}
	for query, to := range map[string]any{secretSQL: &head.Secret, "SELECT version FROM stint_schema": &head.Schema,
		"SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'trigger' AND name = 'stint_runs_transition')": &head.Limits} {
		if err := x.tx.QueryRowContext(x.ctx, query).Scan(to); err != nil {
			return err
		}
	}
	if err := x.object(head); err != nil {
		return err
	}
	if err := x.readLanes(); err != nil {
		return err
	}
	for _, t := range moving.Tables {
		if err := x.table(t); err != nil {
			return fmt.Errorf("%s: %w", t.Name, err)
		}
	}
	if err := x.object(exportLine{End: &x.end}); err != nil {
		return err
	}
	return x.w.Flush()
}

func (x *exporter) object(v any) error {
	b, err := json.Marshal(v)
	if err == nil {
		_, err = x.w.Write(append(b, '\n'))
	}
	return err
}

func (x *exporter) readLanes() error {
	rows, err := x.tx.QueryContext(x.ctx, "SELECT id, queue, task FROM stint_lanes")
	if err != nil {
		return err
	}
	defer rows.Close()
	x.lanes = map[int64][2]string{}
	for rows.Next() {
		var id int64
		var name [2]string
		if err := rows.Scan(&id, &name[0], &name[1]); err != nil {
			return err
		}
		x.lanes[id] = name
	}
	return rows.Err()
}

// table writes the rows of a table, in the order of its key.
func (x *exporter) table(t moving.Table) error {
	rows, err := x.tx.QueryContext(x.ctx, "SELECT * FROM stint_"+t.Name+" ORDER BY "+strings.Join(t.Key, ", "))
	if err != nil {
		return err
	}
	defer rows.Close()
	names, err := rows.Columns()
	if err != nil {
		return err
	}
	values, into := make([]any, len(names)), make([]any, len(names))
	for i := range into {
		into[i] = &values[i]
	}
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return err
		}
		if err := x.row(t.Name, names, values); err != nil {
			return err
		}
		x.end.Rows++
		x.end.Tables[t.Name]++
	}
	return rows.Err()
}

// row writes a row. Columns that are NULL are left out.
func (x *exporter) row(table string, names []string, values []any) error {
	x.line = append(x.line[:0], `{"table":"`...)
	x.line = append(x.line, table...)
	x.line = append(x.line, '"')
	for i, name := range names {
		id, isInt := values[i].(int64)
		switch {
		case !isInt:
		case name == "run" || name == "id" && (table == "runs" || table == "inputs"):
			x.line = fmt.Appendf(x.line, `,"run":"%s"`, x.s.ids.ID(id))
		case name == "event" || name == "id" && table == "events":
			x.line = fmt.Appendf(x.line, `,"event":"%s"`, x.s.ids.ID(id))
		case name == "lane":
			x.line = appendText(append(x.line, `,"task":`...), x.lanes[id][1])
			x.line = appendText(append(x.line, `,"queue":`...), x.lanes[id][0])
		case name == "state" && table == "runs":
			x.line = fmt.Appendf(x.line, `,"state":"%s"`, store.State(id))
		}
	}
	x.line = append(x.line, `,"row":{`...)
	first := true
	for i, name := range names {
		if values[i] == nil {
			continue
		}
		if !first {
			x.line = append(x.line, ',')
		}
		first = false
		x.line = append(append(append(x.line, '"'), name...), '"', ':')
		x.line = appendValue(x.line, values[i])
	}
	_, err := x.w.Write(append(x.line, '}', '}', '\n'))
	return err
}

// appendValue appends a value of a row as JSON: numbers and texts as such, and bytes as an object that says how they are
// written.
func appendValue(line []byte, v any) []byte {
	switch v := v.(type) {
	case int64:
		return strconv.AppendInt(line, v, 10)
	case float64:
		if math.IsInf(v, 0) {
			return fmt.Appendf(line, `{"real":"%v"}`, v)
		}
		return strconv.AppendFloat(line, v, 'g', -1, 64)
	case string:
		if !utf8.ValidString(v) {
			return fmt.Appendf(line, `{"text64":"%s"}`, base64.StdEncoding.EncodeToString([]byte(v)))
		}
		return appendText(line, v)
	}
	b, _ := v.([]byte)
	var compact bytes.Buffer
	switch {
	case utf8.Valid(b) && json.Compact(&compact, b) == nil && bytes.Equal(compact.Bytes(), b):
		return append(append(append(line, `{"json":`...), b...), '}')
	case utf8.Valid(b):
		return append(appendText(append(line, `{"text":`...), string(b)), '}')
	}
	return fmt.Appendf(line, `{"base64":"%s"}`, base64.StdEncoding.EncodeToString(b))
}

func appendText(line []byte, text string) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.Encode(text) // of a string it cannot fail
	return append(line, bytes.TrimSuffix(b.Bytes(), []byte{'\n'})...)
}
