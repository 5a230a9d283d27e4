package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"strings"
	"sync"

	"github.com/stint-dev/stint/internal/selfcheck"
	"github.com/stint-dev/stint/store"
	"modernc.org/sqlite"
)

// registerReport registers the function that reportIllegal's trigger calls, once a process.
var registerReport = sync.OnceValue(func() error {
	return sqlite.RegisterScalarFunction("stint_illegal", 2, func(_ *sqlite.FunctionContext, args []driver.Value) (driver.Value, error) {
		selfcheck.Report(fmt.Sprintf("store.Legal has no transition from %v to %v", store.State(args[0].(int64)),
			store.State(args[1].(int64))))
		return nil, nil
	})
})

// reportIllegal makes the connection report each change of a run's state that is not store.Legal. The
// change is made: an error would be retried, and hide the fault.
func reportIllegal(ctx context.Context, conn *sql.Conn) error {
	var legal []string
	for _, from := range store.States {
		for _, to := range store.States {
			if store.Legal(from, to) {
				legal = append(legal, fmt.Sprintf("(%d,%d)", from, to))
			}
		}
	}
	_, err := conn.ExecContext(ctx, `CREATE TEMP TRIGGER stint_legal AFTER UPDATE OF state ON main.stint_runs
		WHEN OLD.state <> NEW.state AND (OLD.state, NEW.state) NOT IN (VALUES `+strings.Join(legal, ",")+`)
		BEGIN SELECT stint_illegal(OLD.state, NEW.state); END`)
	return err
}
