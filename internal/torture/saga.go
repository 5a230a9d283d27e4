//go:build unix

package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/stint-dev/stint"
)

// sagaTables keep what sagas did, and what was undone of it.
const sagaTables = `
CREATE TABLE IF NOT EXISTS sagas (run TEXT NOT NULL, step TEXT NOT NULL, PRIMARY KEY (run, step));
CREATE TABLE IF NOT EXISTS undone (run TEXT NOT NULL, step TEXT NOT NULL, PRIMARY KEY (run, step))`

// notUndone lists what sagas that have ended did and did not undo.
const notUndone = "FROM sagas s WHERE NOT EXISTS (SELECT 1 FROM undone u WHERE u.run = s.run AND u.step = s.step)"

// doSaga does two things, each with its compensation, and then waits until it
// is canceled: what it did is to be undone before it ends.
func (s *shop) doSaga(ctx context.Context, n int) (int, error) {
	info, _ := stint.Info(ctx)
	for i := range 2 {
		step := fmt.Sprint("step ", i)
		_, err := stint.StepTx(ctx, step, func(ctx context.Context, tx *sql.Tx) (int, error) {
			_, err := tx.ExecContext(ctx, fmt.Sprintf("INSERT INTO sagas VALUES ('%s', '%s')", info.ID, step))
			return n, err
		})
		if err != nil {
			return 0, err
		}
		stint.Compensate(ctx, step, func(ctx context.Context) error {
			return s.undo(ctx, fmt.Sprintf("INSERT INTO undone VALUES ('%s', '%s') ON CONFLICT DO NOTHING", info.ID, step))
		})
	}
	return 0, stint.Sleep(ctx, time.Hour)
}

// undo runs a statement of a compensation until it has worked: a compensation has six tries, and the attacks may break the
// app's own connection in each.
func (s *shop) undo(ctx context.Context, query string) error {
	for {
		err := inDatabase(s.place, func(db *sql.DB) error { _, err := db.ExecContext(ctx, query); return err })
		if err == nil || ctx.Err() != nil {
			return err
		}
		wait(ctx, 10*time.Millisecond)
	}
}

// cancelSagas cancels those that their customers did not come to cancel.
func (s *shop) cancelSagas(ctx context.Context) error {
	_, err := s.c.CancelRuns(ctx, stint.RunFilter{
		Tasks: []string{"saga"}, States: []stint.State{stint.StateScheduled, stint.StateQueued, stint.StateRunning, stint.StateWaiting},
	})
	return err
}

// describeSagas describes the runs of what was not undone: how each ended, and its journal.
func describeSagas(db *sql.DB, place string) (text string) {
	journal := "stint_journal"
	if onServer(place) {
		journal = "stint.journal"
	}
	var ids []string
	err := rowsOf(db, "SELECT DISTINCT s.run "+notUndone+" LIMIT 3", func(scan func(...any) error) error {
		ids = append(ids, "")
		return scan(&ids[len(ids)-1])
	})
	for _, id := range ids {
		key, _ := keyOf(id)
		text += fmt.Sprintf("%s: %s", id, describe(db, fmt.Sprint("id = ", key)))
		err = errors.Join(err, rowsOf(db, fmt.Sprintf("SELECT scope, seq, kind, name, done, attempts, at, coalesce(error, '') FROM %s "+
			"WHERE run = %d ORDER BY at, scope, seq", journal, key), func(scan func(...any) error) error {
			var scope, name, reason string
			var seq, kind, attempts, at int64
			var done bool
			err := scan(&scope, &seq, &kind, &name, &done, &attempts, &at, &reason)
			text += fmt.Sprintf("[%s%d kind %d %q done %v attempts %d at %d %s] ", scope, seq, kind, name, done, attempts, at, reason)
			return err
		}))
	}
	if err != nil {
		text += err.Error()
	}
	return text
}
