package sqlite

import (
	"database/sql/driver"

	"github.com/stint-dev/stint/store"
	"modernc.org/sqlite"
)

// The functions of queries that SQL has no words for. They are the driver's, so each
// connection of the process knows them; no index and no trigger uses any, so that other
// programs can read and write the file.
func init() {
	sqlite.MustRegisterDeterministicScalarFunction("stint_error_has", 2, func(_ *sqlite.FunctionContext, args []driver.Value) (driver.Value, error) {
		return store.ErrorHas(bytesOf(args[0]), string(bytesOf(args[1]))), nil
	})
}

// bytesOf is a text or a blob of SQLite's.
func bytesOf(v driver.Value) []byte {
	switch v := v.(type) {
	case string:
		return []byte(v)
	case []byte:
		return v
	}
	return nil
}
