//go:build unix

package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/store/postgres"
	"github.com/stint-dev/stint/store/sqlite"
)

// A place is where a shop keeps its runs: the path of a file, or the URL of a PostgreSQL database that is
// the shop's alone.

// onServer reports whether a place is a database.
func onServer(place string) bool { return strings.HasPrefix(place, "postgres://") }

// ledgerOf returns the path of a place's ledger: that of a file is beside it.
func ledgerOf(place string) string {
	if u, err := url.Parse(place); onServer(place) && err == nil {
		return filepath.Join(os.TempDir(), u.Port()+filepath.Base(u.Path)+".ledger")
	}
	return place + ".ledger"
}

// openClient opens a place.
func openClient(place string, opts ...stint.ClientOption) (*stint.Client, error) {
	if !onServer(place) {
		return stint.Open(place, opts...)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	s, err := postgres.Open(ctx, place, postgres.Options{})
	if err != nil {
		return nil, err
	}
	c, err := stint.New(s, opts...)
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return c, nil
}

// inDatabase calls f with the app's own connections to a place.
func inDatabase(place string, f func(*sql.DB) error) error {
	driver, name := "pgx", place // package postgres registers it
	if !onServer(place) {
		driver, name = "sqlite", fmt.Sprintf("file:%s?_txlock=immediate&_pragma=busy_timeout(%d)", place, patience.Milliseconds())
	}
	db, err := sql.Open(driver, name)
	if err != nil {
		return err
	}
	return errors.Join(f(db), db.Close())
}

// problemsOf returns what the store finds wrong with a place, which it leaves as it is.
func problemsOf(ctx context.Context, place string) (problems []string, err error) {
	if !onServer(place) {
		return sqlite.Check(ctx, place)
	}
	s, err := postgres.Open(ctx, place, postgres.Options{ReadOnly: true})
	if err != nil {
		return nil, err
	}
	problems, err = s.Check(ctx)
	return problems, errors.Join(err, s.Close())
}

const appTables = "CREATE TABLE IF NOT EXISTS effects (run TEXT NOT NULL, step TEXT NOT NULL);" + sagaTables

// makeTables creates the app's tables, and in a database what the checks need.
func makeTables(db *sql.DB, server bool) error {
	if !server {
		_, err := db.Exec(appTables)
		return err
	}
	// Several programs may come at once.
	_, err := db.Exec("BEGIN; SELECT pg_advisory_xact_lock(1);" + appTables + ";" + serverChecks + "COMMIT")
	return err
}

// serverChecks give a database's tables the names and types that a file's have, for the checks. A trigger notes, at the
// end of each transaction that starts a run of pay, whether that is above the limit of its key.
var serverChecks = fmt.Sprintf(`
DO $do$ BEGIN IF to_regclass('public.over_limit') IS NULL THEN
CREATE FUNCTION number_of(b bytea) RETURNS bigint LANGUAGE sql IMMUTABLE AS
  $$ SELECT CASE WHEN convert_from(b, 'UTF8') ~ '^-?[0-9]+$' THEN convert_from(b, 'UTF8')::bigint END $$;
CREATE VIEW stint_runs AS SELECT id, lane, state, attempt, lease, ended_at, flags, parent, node, error,
  number_of(input) AS input, convert_from(output, 'UTF8') AS output FROM stint.runs;
CREATE VIEW stint_lanes AS SELECT id, task, queue FROM stint.lanes;
CREATE VIEW stint_events AS SELECT id, key, convert_from(payload, 'UTF8')::json AS payload FROM stint.events;
CREATE VIEW stint_event_runs AS SELECT event, run, woke FROM stint.event_runs;
CREATE VIEW stint_limiters AS SELECT id, rate, active, admitted, waiting FROM stint.limiters;
CREATE VIEW stint_runs_view AS SELECT r.id, l.task, l.queue, r.attempt, r.due_at AS due,
  (ARRAY['scheduled', 'queued', 'running', 'waiting', 'blocked', 'succeeded', 'failed', 'canceled', 'skipped'])[r.state - 1] AS state,
  number_of(r.input) AS input, number_of(r.output) AS output, r.error, r.metadata::json AS metadata
FROM stint.runs r JOIN stint.lanes l ON l.id = r.lane;
CREATE TABLE over_limit (run bigint, running bigint);
CREATE FUNCTION note_over() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE n bigint;
BEGIN
  SELECT count(*) INTO n FROM stint.runs r JOIN stint.lanes l ON l.id = r.lane WHERE l.task = 'pay'
    AND public.number_of(r.input) %% 3 = public.number_of(NEW.input) %% 3
    AND (r.state = 4 OR r.state > 4 AND r.state < 7 AND r.state = 5 AND r.lease <> 0);
  IF n > %d THEN INSERT INTO public.over_limit VALUES (NEW.id, n); END IF;
  RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER note_over AFTER UPDATE OF state ON stint.runs DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
  WHEN (NEW.state = 4 AND NEW.limits IS NOT NULL) EXECUTE FUNCTION note_over();
END IF; END $do$;
`, limitMax)
