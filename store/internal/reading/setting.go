package reading

import (
	"unicode/utf8"

	"github.com/stint-dev/stint/store"
)

// settings reads a store.SettingList.
func settings(q Querier, prefix, after string, limit int) (all []store.Setting, more bool, err error) {
	text, args := "SELECT key, value FROM stint_settings WHERE key >= ? AND key > ?", []any{prefix, after}
	if end := afterPrefix(prefix); end != "" {
		text, args = text+" AND key < ?", append(args, end)
	}
	all, more, err = page(q, limit, func(s *store.Setting) []any { return []any{&s.Key, &s.Value} }, (*store.Setting).Size,
		text+" ORDER BY key LIMIT ?", append(args, limit+1)...)
	for i := range all {
		if all[i].Value == nil { // a database may read an empty value so
			all[i].Value = []byte{}
		}
	}
	return all, more, err
}

// afterPrefix returns the first text after all that begin with prefix; "": there is none. It is UTF-8 if
// prefix is, whose bytes are in the order of its runes.
func afterPrefix(prefix string) string {
	for prefix != "" {
		r, n := utf8.DecodeLastRuneInString(prefix)
		prefix = prefix[:len(prefix)-n]
		if r == utf8.MaxRune {
			continue
		}
		if r++; r == 0xD800 { // surrogates are no runes
			r = 0xE000
		}
		return prefix + string(r)
	}
	return ""
}
