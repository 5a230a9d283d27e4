package reading

import (
	"strings"
	"testing"
	"testing/quick"
	"unicode/utf8"
)

// What begins with a prefix comes before the text after it, and all else that comes after the prefix does not.
func TestAfterPrefix(t *testing.T) {
	for prefix, want := range map[string]string{
		"": "", "a": "b", "worker/": "worker0", "é": "ê", "\ud7ff": "\ue000", "a\U0010ffff": "b", "\U0010ffff": "", "\x7f": "\u0080",
	} {
		if got := afterPrefix(prefix); got != want {
			t.Errorf("after %q: %q, want %q", prefix, got, want)
		}
	}
	err := quick.Check(func(prefix, other string) bool {
		prefix, other = strings.ToValidUTF8(prefix, "x"), strings.ToValidUTF8(other, "y")
		end := afterPrefix(prefix)
		for _, s := range []string{other, prefix + other} {
			within := s >= prefix && (end == "" || s < end)
			if within != strings.HasPrefix(s, prefix) {
				return false
			}
		}
		return utf8.ValidString(end)
	}, nil)
	if err != nil {
		t.Error(err)
	}
}
