package store

import (
	"encoding/json"
	"strings"
)

// ErrorHas reports whether a person who reads an error finds a text in it, in any case of
// letters. stored is a Run.Error: only its message is read, not how it is encoded, nor its
// kind or stack. An error that somebody edited, so that it is no such object, is read as it
// stands, as the engine does.
func ErrorHas(stored []byte, text string) bool {
	var f struct {
		Message string `json:"message"`
	}
	if len(stored) > 0 && json.Unmarshal(stored, &f) != nil {
		f.Message = string(stored)
	}
	return strings.Contains(strings.ToLower(f.Message), strings.ToLower(text))
}
