package sqlite

import (
	"database/sql/driver"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/sqlite/internal/conn"
	"modernc.org/sqlite"
)

// A SQL function for queries. It is registered with the driver, for each connection of the process, and added to
// the writer's; no index and no trigger uses it, so that other programs can read and write the file. A connection of
// another SQLite library lacks it.
const errorHas = "stint_error_has"

func init() {
	sqlite.MustRegisterDeterministicScalarFunction(errorHas, 2, func(_ *sqlite.FunctionContext, args []driver.Value) (driver.Value, error) {
		return store.ErrorHas(bytesOf(args[0]), string(bytesOf(args[1]))), nil
	})
}

func addErrorHas(c *conn.Conn) error {
	return c.Function(errorHas, 2, func(args []any) any { return store.ErrorHas(bytesOf(args[0]), string(bytesOf(args[1]))) })
}

// bytesOf returns the bytes of a TEXT or a BLOB.
func bytesOf(v any) []byte {
	switch v := v.(type) {
	case string:
		return []byte(v)
	case []byte:
		return v
	}
	return nil
}
