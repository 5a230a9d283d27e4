package sqlite

import (
	"fmt"
	"strings"

	"github.com/stint-dev/stint/internal/selfcheck"
	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/sqlite/internal/conn"
)

// reportIllegal makes the connection report each change of a run's state that is not store.Legal. The
// change is made: an error would be retried, and hide the fault.
func reportIllegal(c *conn.Conn) error {
	var legal []string
	for _, from := range store.States {
		for _, to := range store.States {
			if store.Legal(from, to) {
				legal = append(legal, fmt.Sprintf("(%d,%d)", from, to))
			}
		}
	}
	err := c.Function("stint_illegal", 2, func(args []any) any {
		selfcheck.Report(fmt.Sprintf("store.Legal has no transition from %v to %v", store.State(args[0].(int64)),
			store.State(args[1].(int64))))
		return nil
	})
	if err != nil {
		return err
	}
	return c.Exec(`CREATE TEMP TRIGGER stint_legal AFTER UPDATE OF state ON main.stint_runs
		WHEN OLD.state <> NEW.state AND (OLD.state, NEW.state) NOT IN (VALUES ` + strings.Join(legal, ",") + `)
		BEGIN SELECT stint_illegal(OLD.state, NEW.state); END`)
}
