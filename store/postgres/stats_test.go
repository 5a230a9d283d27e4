package postgres

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Facts tell what may go wrong on a server: an old snapshot and whose it is, dead rows, connections, the clock.
func TestFacts(t *testing.T) {
	set := noTables(t)
	s := openStore(t, set)
	f, err := s.Facts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	v := f.Server
	if v == nil || v.Schema != set.Schema || v.Database == "" || v.Address == "" || v.Processes != 1 || !v.Listens || v.Connections < 2 ||
		v.MaxConnections < v.Connections || v.Skew.Abs() > time.Minute || f.Path != "" || f.Size == 0 || f.Schema != 1 || !strings.HasPrefix(f.Engine, "PostgreSQL ") {
		t.Errorf("%+v, %+v", f, v)
	}
	other := dial(t, set)
	if _, err := other.Exec(t.Context(), "SET application_name = 'a report'"); err != nil {
		t.Fatal(err)
	}
	tx, err := other.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), "SELECT 1"); err != nil { // it takes its snapshot
		t.Fatal(err)
	}
	open, err := s.Facts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// Another user of the server may hold an older one, so it is not known whose is named.
	if open.Server.SnapshotOf == "" || open.Server.OldestSnapshot <= 0 {
		t.Errorf("with an open snapshot: %+v", open.Server)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := dial(t, set).Exec(t.Context(), qualify(`CREATE ROLE `+set.Schema+` LOGIN PASSWORD 'x'; GRANT USAGE ON SCHEMA `+set.Schema+` TO `+set.Schema+`;
		GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA `+set.Schema+` TO `+set.Schema, set.Schema)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dial(t, set).Exec(context.Background(), "DROP OWNED BY "+set.Schema+"; DROP ROLE "+set.Schema) })
	// A role that may only use the tables gets all but the names of others' sessions.
	only := dial(t, set)
	if _, err := only.Exec(t.Context(), "SET ROLE "+set.Schema); err != nil {
		t.Fatal(err)
	}
	var connections, most int
	var who string
	var rest [9]any
	err = only.QueryRow(t.Context(), qualify(factsSQL, set.Schema), set.Schema).Scan(&rest[0], &rest[1], &rest[2], &connections, &most, &rest[3],
		&rest[4], &rest[5], &rest[6], &who, &rest[7], &rest[8])
	if err != nil || connections < 2 || most < connections {
		t.Errorf("a role with few rights: %d of %d connections, %v", connections, most, err)
	}
}
