package sqlite

import (
	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/definition"
)

var _ definition.Rows = (*definitions)(nil)

// Newest implements definition.Rows.
func (ds *definitions) Newest(task string) (version string, number int64, err error) {
	type row struct {
		version string
		number  int64
	}
	rows, err := rowsOf(ds, func(r *row) []any { return []any{&r.version, &r.number} },
		"SELECT version, number FROM stint_definitions WHERE task = ? ORDER BY number DESC LIMIT 1", task)
	if err != nil || len(rows) == 0 {
		return "", 0, err
	}
	return rows[0].version, rows[0].number, nil
}

// Put implements definition.Rows.
func (ds *definitions) Put(d *store.Definition, number int64) error {
	return ds.exec("INSERT OR REPLACE INTO stint_definitions (task, version, number, at, body) VALUES (?, ?, ?, ?, ?)",
		d.Task, d.Version, number, ds.now, string(d.Body))
}

// Drop implements definition.Rows.
func (ds *definitions) Drop(task string, number int64) error {
	return ds.exec("DELETE FROM stint_definitions WHERE task = ? AND number <= ?", task, number)
}

// SetFilters implements definition.Rows.
func (ds *definitions) SetFilters(task string, filters []store.TaskFilter) error {
	ds.triggers.forget()
	if err := ds.exec("DELETE FROM stint_filters WHERE task = ? AND declared = 1", task); err != nil {
		return err
	}
	for _, f := range filters {
		err := ds.exec("INSERT INTO stint_filters (task, scope, expr, payload, declared) VALUES (?, ?, ?, ?, 1)", task, f.Scope, f.Expr,
			text(f.Payload))
		if err != nil {
			return err
		}
	}
	return nil
}
