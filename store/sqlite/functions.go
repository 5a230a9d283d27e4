package sqlite

import (
	"database/sql/driver"

	"github.com/stint-dev/stint/store"
	"modernc.org/sqlite"
)

// SQL functions for queries. They are registered with the driver, for each connection of the process; no
// index and no trigger uses one, so that other programs can read and write the file.
func init() {
	const errorHas = "stint_error_has"
	sqlite.MustRegisterDeterministicScalarFunction(errorHas, 2, func(_ *sqlite.FunctionContext, args []driver.Value) (driver.Value, error) {
		return store.ErrorHas(bytesOf(args[0]), string(bytesOf(args[1]))), nil
	})
}

// bytesOf returns the bytes of a TEXT or a BLOB.
func bytesOf(v driver.Value) []byte {
	switch v := v.(type) {
	case string:
		return []byte(v)
	case []byte:
		return v
	}
	return nil
}
