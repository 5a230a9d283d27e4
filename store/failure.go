package store

import (
	"encoding/json"
	"strings"
)

// ErrorHas reports whether an error's message contains text, in any case of letters. stored is
// a Run.Error: its encoding, kind and stack do not count. An error that somebody edited, so that
// it is not an encoded one, is its own message, as in the engine.
func ErrorHas(stored []byte, text string) bool {
	var f struct {
		Message string `json:"message"`
	}
	if len(stored) > 0 && json.Unmarshal(stored, &f) != nil {
		f.Message = string(stored)
	}
	return strings.Contains(strings.ToLower(f.Message), strings.ToLower(text))
}
