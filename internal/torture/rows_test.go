//go:build unix

package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stint-dev/stint"
)

// hostile are values that somebody may write into a column by hand.
var hostile = []any{nil, "", "{", "\x00[]", -1, int64(1) << 62, []byte{0xff}}

// killedFile is a file as a killed program leaves it, with runs of all kinds in all states.
func killedFile(t *testing.T) []byte {
	path := filepath.Join(t.TempDir(), "shop.db")
	c, err := startChild("shop", path)
	if err != nil {
		t.Fatal(err)
	}
	<-c.open
	for enough := false; !enough; wait(t.Context(), 100*time.Millisecond) {
		acks, err := readLedger(path + ".ledger")
		if err != nil {
			t.Fatal(err)
		}
		enough = len(acks) >= leastAcks
	}
	if err := c.kill(); err != nil {
		t.Fatal(err)
	}
	err = inDatabase(path, func(db *sql.DB) error {
		_, err := db.Exec("PRAGMA wal_checkpoint(TRUNCATE)")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Whatever somebody writes into a column of all rows, or of half of them: the file is
// refused, or the program works on, with what can be understood (R8).
func TestRowsChangedByHand(t *testing.T) {
	file := killedFile(t)
	type column struct{ table, name string }
	var columns []column
	first := filepath.Join(t.TempDir(), "shop.db")
	if err := os.WriteFile(first, file, 0o600); err != nil {
		t.Fatal(err)
	}
	err := inDatabase(first, func(db *sql.DB) error {
		return rowsOf(db, "SELECT m.name, c.name FROM sqlite_schema m, pragma_table_info(m.name) c WHERE m.type = 'table' "+
			"AND m.name LIKE 'stint%'", func(scan func(...any) error) error {
			columns = append(columns, column{})
			c := &columns[len(columns)-1]
			return scan(&c.table, &c.name)
		})
	})
	if err != nil || len(columns) < 100 {
		t.Fatalf("%d columns, %v", len(columns), err)
	}
	done := 0
	for i, c := range columns {
		for j, v := range hostile {
			if !*long && rand.IntN(20) > 0 {
				continue
			}
			done++
			query := fmt.Sprintf("UPDATE OR IGNORE %s SET %s = ? WHERE ? OR abs(random()) %% 2", c.table, c.name)
			if err := worksOn(t, file, query, v, (i+j)%2); err != nil {
				t.Errorf("%s.%s = %#v: %v", c.table, c.name, v, err)
			}
		}
	}
	t.Logf("%d changes", done)
}

// worksOn changes a copy of the file, and runs a program on it.
func worksOn(t *testing.T, file []byte, query string, args ...any) error {
	dir, err := os.MkdirTemp(t.TempDir(), "")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "shop.db")
	if err := os.WriteFile(path, file, 0o600); err != nil {
		return err
	}
	err = inDatabase(path, func(db *sql.DB) error { _, err := db.Exec(query, args...); return err })
	if err != nil {
		return nil // SQLite itself refuses it
	}
	s, err := openShop(path)
	if err != nil {
		return nil // the file is refused
	}
	ctx, stop := context.WithTimeout(t.Context(), patience)
	worked := make(chan error, 1)
	go func() { worked <- s.work(ctx, 8) }()
	if _, err = s.refund.Run(ctx, 1); err == nil {
		err = looks(ctx, s.c)
	} else {
		err = fmt.Errorf("new work: %w (healthy: %v)", err, s.c.Healthy())
	}
	stop()
	if werr := <-worked; err == nil {
		err = werr
	}
	return joinClose(err, s)
}

// looks reads everything that a person can look at.
func looks(ctx context.Context, c *stint.Client) error {
	page, err := c.ListRuns(ctx, stint.RunFilter{Limit: 1000})
	if err != nil {
		return err
	}
	for _, r := range page.Runs {
		if _, err := c.GetRun(ctx, r.ID); err != nil {
			return err
		}
	}
	_, err = c.ListEvents(ctx, stint.EventFilter{Limit: 1000})
	for _, list := range []func() error{
		func() error { _, err := c.ListCrons(ctx); return err },
		func() error { _, err := c.ListQueues(ctx); return err },
		func() error { _, err := c.ListWorkers(ctx); return err },
		func() error { _, err := c.ListConcurrency(ctx); return err },
	} {
		err = errors.Join(err, list())
	}
	return err
}
