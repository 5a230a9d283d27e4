package sqlite_test

import (
	"database/sql"
	"path/filepath"
	"testing"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/storetest"
)

func TestDamage(t *testing.T) {
	storetest.Damage(t, func(t testing.TB, dir string) store.Store { return open(t, dir) },
		func(t testing.TB, dir, statement string) { changeByHand(t, filepath.Join(dir, "test.db"), statement) })
}

// changeByHand executes a statement on a file.
func changeByHand(t testing.TB, path, query string, args ...any) {
	t.Helper()
	db, err := sql.Open("sqlite", path+"?_pragma=busy_timeout(1000)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(query, args...); err != nil {
		t.Fatal(err)
	}
}
