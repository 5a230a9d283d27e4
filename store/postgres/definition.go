package postgres

import (
	"cmp"

	"github.com/jackc/pgx/v5"
	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/definition"
)

// definitionRows are the definitions of a unit.
type definitionRows struct{ *unit }

var _ definition.Rows = definitionRows{}

type versionRow struct {
	version string
	number  int64
}

// definitionParts makes the parts of the set that have definitions.
func (u *unit) definitionParts() {
	u.versions = newLookup("SELECT version, number FROM stint.definitions WHERE task = $1 ORDER BY number DESC LIMIT 1",
		func(task string) []any { return []any{task} }, func(r pgx.CollectableRow) (v versionRow, err error) {
			return v, r.Scan(&v.version, &v.number)
		})
}

// definitionLock is followed by the name of a task: who defines the task holds the lock alone.
const definitionLock = "definition of "

// Newest implements definition.Rows.
func (u definitionRows) Newest(task string) (version string, number int64, err error) {
	locked := u.eventLocks.take(definitionLock+task, true)
	rows, err := u.versions.get(task)
	if err = cmp.Or(locked, err); err != nil || len(rows) == 0 {
		return "", 0, err
	}
	return rows[0].version, rows[0].number, nil
}

// Put implements definition.Rows.
func (u definitionRows) Put(d *store.Definition, number int64) error {
	u.queued = append(u.queued, func(b *pgx.Batch) {
		b.Queue(u.s.sql(`INSERT INTO stint.definitions (task, version, number, at, body) VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (task, version) DO UPDATE SET number = excluded.number, at = excluded.at, body = excluded.body`),
			d.Task, d.Version, number, u.now, string(d.Body))
	})
	return nil
}

// Drop implements definition.Rows.
func (u definitionRows) Drop(task string, number int64) error {
	u.queued = append(u.queued, func(b *pgx.Batch) {
		b.Queue(u.s.sql("DELETE FROM stint.definitions WHERE task = $1 AND number <= $2"), task, number)
	})
	return nil
}

// SetFilters implements definition.Rows.
func (u definitionRows) SetFilters(task string, filters []store.TaskFilter) error {
	u.newEpoch = true
	u.queued = append(u.queued, func(b *pgx.Batch) {
		b.Queue(u.s.sql("DELETE FROM stint.filters WHERE task = $1 AND declared"), task)
		for _, f := range filters {
			b.Queue(u.s.sql("INSERT INTO stint.filters (task, scope, expr, payload, declared) VALUES ($1, $2, $3, $4, true)"),
				task, f.Scope, f.Expr, f.Payload)
		}
	})
	return nil
}
