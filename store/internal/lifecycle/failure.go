package lifecycle

import "encoding/json"

// Failure returns an error, encoded as the engine encodes them.
func Failure(kind, message string) []byte {
	b, _ := json.Marshal(map[string]string{"kind": kind, "message": message}) // strings always encode
	return b
}
