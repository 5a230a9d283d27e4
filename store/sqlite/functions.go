package sqlite

import (
	"cmp"
	"database/sql/driver"
	"strings"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/sqlite/internal/conn"
	"modernc.org/sqlite"
)

const errorHas = "stint_error_has"

// SQL functions for queries: what a text is searched by. They are registered with the driver, for each connection of the
// process, and added to the writer's; no index and no trigger uses them, so that other programs can read and write the file. A
// connection of another SQLite library lacks them.
var functions = map[string]func(stored []byte, text string) bool{
	errorHas: store.ErrorHas,
	"stint_text_has": func(stored []byte, text string) bool {
		return strings.Contains(strings.ToLower(string(stored)), strings.ToLower(text))
	},
}

func init() {
	for name, has := range functions {
		sqlite.MustRegisterDeterministicScalarFunction(name, 2, func(_ *sqlite.FunctionContext, args []driver.Value) (driver.Value, error) {
			return has(bytesOf(args[0]), string(bytesOf(args[1]))), nil
		})
	}
}

func addFunctions(c *conn.Conn) (err error) {
	for name, has := range functions {
		err = cmp.Or(err, c.Function(name, 2, func(args []any) any { return has(bytesOf(args[0]), string(bytesOf(args[1]))) }))
	}
	return err
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
