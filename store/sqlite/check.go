package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"time"

	"github.com/stint-dev/stint/store/internal/reading"
)

// Check implements store.Health.
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

// Check looks for damage in a file, which may be in use, and returns a description of each problem. It runs SQLite's
// integrity check, and looks for references to missing rows and for limit counters that differ from a recount. It changes
// nothing. Its time is proportional to the file's size.
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
	found, err := reading.Check(u)
	if err != nil {
		return nil, explain(err)
	}
	problems = append(problems, found...)
	var moved int
	if err := u.one("SELECT count(*) FROM stint_transitions", nil, &moved); err != nil {
		return nil, explain(err)
	}
	if moved > 0 {
		problems = append(problems, fmt.Sprintf("%d moves that nobody has led to their limiters", moved))
	}
	wrong, err := u.limiters.recount()
	for _, w := range wrong {
		problems = append(problems, "limit "+w)
	}
	return problems, err
}
