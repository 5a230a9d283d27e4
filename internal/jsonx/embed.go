package jsonx

import (
	"bytes"
	"encoding/json"
	"strings"
	"unicode/utf8"

	"github.com/stint-dev/stint/internal/text"
)

// maxBroken is the number of bytes shown of a payload that is not JSON.
const maxBroken = 1024

// Embed returns payload as it may stand within a JSON document, which one broken value
// would otherwise make unreadable as a whole: payload itself if it is JSON, nil if it is
// empty, and else a JSON string that says that it is not JSON, with its first bytes.
// Bytes that are not UTF-8 become U+FFFD.
func Embed(payload []byte) json.RawMessage {
	switch {
	case len(payload) == 0:
		return nil
	case !json.Valid(payload):
		shown := text.Cut(strings.ToValidUTF8(string(payload), "\ufffd"), maxBroken)
		b, _ := json.Marshal("(not JSON: " + shown + ")") // a text always encodes
		return b
	case !utf8.Valid(payload):
		return bytes.ToValidUTF8(payload, []byte("\ufffd"))
	}
	return payload
}

// Texts returns an object of texts, such as metadata. What somebody has broken by hand counts as none.
func Texts(object []byte) map[string]string {
	if object == nil {
		return nil
	}
	var m map[string]string
	json.Unmarshal(object, &m)
	return m
}
