package sqlite

import (
	"fmt"
	"strings"
	"sync"

	"github.com/stint-dev/stint/internal/moving"
	"github.com/stint-dev/stint/store/sqlite/internal/conn"
)

// A schemaRow is a row of sqlite_schema.
type schemaRow struct{ kind, name, table, text string }

// knownSchema is the schema that the migrations create, by name, with what is only there at times: the trigger of
// the first limits, and the notes of a move.
var knownSchema = sync.OnceValues(func() (map[string]schemaRow, error) {
	c, err := conn.Open("file:" + Memory)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if err := migrate(c); err != nil {
		return nil, err
	}
	if err := c.Exec(LimitsTrigger + ";\n" + moving.NotesSQL()); err != nil {
		return nil, err
	}
	rows, err := readSchema(onConn(c))
	known := make(map[string]schemaRow, len(rows))
	for _, r := range rows {
		known[r.name] = r
	}
	return known, err
})

// readSchema reads all but the indexes that SQLite creates by itself.
func readSchema(q querier) ([]schemaRow, error) {
	return rowsOf(q, func(r *schemaRow) []any { return []any{&r.kind, &r.name, &r.table, &r.text} },
		"SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE sql IS NOT NULL")
}

// isRequired reports whether each file has it.
func (r *schemaRow) isRequired() bool { return r.kind != "trigger" && r.name != moving.Notes }

// checkSchema refuses a file in which something else has the name of a table or view of stint's, or which has
// a trigger on one: it would run in stint's transactions. The app's own tables, views and triggers, and its
// indexes on stint's tables, are allowed.
func checkSchema(q querier) error {
	known, err := knownSchema()
	if err != nil {
		return fmt.Errorf("make the schema to compare with: %w", err)
	}
	rows, err := readSchema(q)
	if err != nil {
		return err
	}
	found := 0
	for _, r := range rows {
		k, ours := known[strings.ToLower(r.name)]
		switch {
		case ours && r == k:
			if r.isRequired() {
				found++
			}
		case ours:
			return fmt.Errorf("%s %s is not as stint made it: put it back, or restore a backup", r.kind, r.name)
		case r.kind == "trigger" && known[strings.ToLower(r.table)] != (schemaRow{}): // SQLite keeps table and text equal
			return fmt.Errorf("trigger %s is on stint's own %s, where it would run in each transaction: drop it", r.name, r.table)
		}
	}
	want := 0
	for _, k := range known {
		if k.isRequired() {
			want++
		}
	}
	if found < want {
		return fmt.Errorf("%d of stint's own tables and indexes are missing: restore a backup", want-found)
	}
	return nil
}
