package reading

import (
	"strconv"
	"strings"
)

// Rewrite returns a statement of this package for PostgreSQL: tables are in a schema, "stint".runs instead
// of stint_runs, and placeholders are $1 instead of ? and ?1. It changes no string literal. schema is a
// quoted name.
func Rewrite(text, schema string) string {
	var b strings.Builder
	highest := 0
	for i := 0; i < len(text); {
		switch c := text[i]; {
		case c == '\'' || c == '"': // a doubled quote is two literals
			n := literal(text[i:])
			b.WriteString(text[i : i+n])
			i += n
		case c == '?':
			n := 1
			for i+n < len(text) && text[i+n] >= '0' && text[i+n] <= '9' {
				n++
			}
			number := highest + 1
			if n > 1 {
				number, _ = strconv.Atoi(text[i+1 : i+n])
			}
			highest = max(highest, number)
			b.WriteString("$" + strconv.Itoa(number))
			i += n
		case isWord(c):
			n := 1
			for i+n < len(text) && isWord(text[i+n]) {
				n++
			}
			word := text[i : i+n]
			if name, ok := strings.CutPrefix(word, "stint_"); ok {
				word = schema + "." + name
			}
			b.WriteString(word)
			i += n
		default:
			b.WriteByte(c)
			i++
		}
	}
	return b.String()
}

// literal returns the length of the quoted text that s begins with.
func literal(s string) int {
	end := strings.IndexByte(s[1:], s[0])
	if end < 0 {
		return len(s)
	}
	return end + 2
}

func isWord(c byte) bool {
	return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}
