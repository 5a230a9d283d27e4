package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"time"
)

// checks count rows that no sequence of commits and crashes can leave.
var checks = []struct{ what, query string }{
	{"keys of runs that are not there", "SELECT count(*) FROM stint_keys k WHERE gone = 0 AND NOT EXISTS (SELECT 1 FROM stint_runs r " +
		"WHERE r.id = k.run)"},
	{"tasks of workflow runs that are not there", "SELECT count(*) FROM stint_runs n WHERE n.node IS NOT NULL AND n.parent IS NOT NULL " +
		"AND n.flags & 1 = 0 AND NOT EXISTS (SELECT 1 FROM stint_runs r WHERE r.id = n.parent)"},
	{"running workflow runs of which no task is left", "SELECT count(*) FROM stint_runs r WHERE r." + stateRunning + " AND r.flags & 2 " +
		"AND NOT EXISTS (SELECT 1 FROM stint_runs n WHERE n.parent = r.id AND n.node IS NOT NULL AND n." + notEnded + ")"},
	{"tasks of a workflow that are there twice", "SELECT count(*) FROM (SELECT 1 FROM stint_runs WHERE node IS NOT NULL " +
		"AND parent IS NOT NULL GROUP BY parent, node HAVING count(*) > 1)"},
	{"running runs of no worker", "SELECT count(*) FROM stint_runs r WHERE r." + stateRunning + " AND r.worker > 0 " +
		"AND NOT EXISTS (SELECT 1 FROM stint_workers w WHERE w.id = r.worker)"},
	{"crons that never tick and do not say why", "SELECT count(*) FROM stint_crons WHERE next_at IS NULL AND paused = 0 " +
		"AND gone_at IS NULL AND error IS NULL"},
	{"waits of runs that are not there", "SELECT count(*) FROM stint_waits w WHERE NOT EXISTS (SELECT 1 FROM stint_runs r " +
		"WHERE r.id = w.run)"},
	{"journal entries of runs that are not there", "SELECT count(*) FROM stint_journal j WHERE NOT EXISTS (SELECT 1 FROM stint_runs r " +
		"WHERE r.id = j.run)"},
	{"moves that nobody has led to their limiters", "SELECT count(*) FROM stint_transitions"},
}

// Check implements store.Stats.
func (s *Store) Check(ctx context.Context) ([]string, error) {
	if s.path == Memory {
		return nil, nil // no other program can have changed it
	}
	if err := s.at.check(); err != nil {
		return nil, err
	}
	if !s.opts.ReadOnly {
		return Check(ctx, s.path)
	}
	var problems []string
	err := s.view(ctx, func(querier) error {
		tx, err := s.read.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer tx.Rollback()
		problems, err = s.check(ctx, tx)
		return err
	})
	return problems, err
}

// Check looks for damage in a file, which may be in use: by SQLite's integrity check, for references to
// missing rows, and for counts of limiters that differ from a recount. It returns descriptions of what it
// found. It changes nothing, and its time is proportional to the file's size.
func Check(ctx context.Context, path string) (problems []string, err error) {
	s := &Store{}
	if s.path, err = resolve(path); err != nil {
		return nil, err
	}
	db, err := sql.Open("sqlite", s.fileDSN(url.Values{"mode": {"rw"}, "_txlock": {"immediate"},
		"_pragma": {pragma("busy_timeout", readerBusy.Milliseconds())}}))
	if err != nil {
		return nil, err
	}
	defer db.Close()
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return nil, explain(err)
	}
	defer tx.Rollback()
	return s.check(ctx, tx)
}

func (s *Store) check(ctx context.Context, tx *sql.Tx) (problems []string, err error) {
	u := s.appUnit(ctx, time.Now(), tx)
	for _, pragma := range []string{"SELECT integrity_check FROM pragma_integrity_check",
		`SELECT "table" || ' row ' || rowid || ' refers to no ' || parent FROM pragma_foreign_key_check`} {
		found, err := column[string](u, pragma)
		if err != nil {
			return nil, explain(err)
		}
		problems = append(problems, found...)
	}
	if problems[0] != "ok" {
		return problems, nil // the rows are not reliable
	}
	problems = problems[1:]
	for _, c := range checks {
		var n int
		if err := u.one(c.query, nil, &n); err != nil {
			return nil, explain(err)
		}
		if n > 0 {
			problems = append(problems, fmt.Sprintf("%d %s", n, c.what))
		}
	}
	wrong, err := u.limiters.recount()
	for _, w := range wrong {
		problems = append(problems, "limit "+w)
	}
	return problems, err
}
