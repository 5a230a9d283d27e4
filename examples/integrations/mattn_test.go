package integrations

import (
	"database/sql"
	"strings"
	"testing"

	_ "github.com/mattn/go-sqlite3"
	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/store/sqlite"
)

// An app whose driver is another SQLite library is told so: on its *sql.DB, and in its transactions.
func TestOtherDriver(t *testing.T) {
	s := newShop(t)
	var path string
	if err := s.db.QueryRow("SELECT file FROM pragma_database_list WHERE name = 'main'").Scan(&path); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite3", "file:"+path+"?_txlock=immediate&_busy_timeout=10000")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := sqlite.New(db, sqlite.Options{}); err == nil || !strings.Contains(err.Error(), "open it with modernc.org/sqlite") {
		t.Errorf("New on a database of mattn's driver: %v", err)
	}
	tx, err := db.Begin()
	if err != nil {
		t.Skipf("the driver does not work here: %v", err) // without cgo
	}
	defer tx.Rollback()
	_, err = s.confirm.Enqueue(t.Context(), 1, stint.WithTx(tx))
	if err == nil || !strings.Contains(err.Error(), "another SQLite library") {
		t.Errorf("Enqueue in a transaction of mattn's driver: %v", err)
	}
}
