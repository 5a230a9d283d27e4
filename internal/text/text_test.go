package text

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestCut(t *testing.T) {
	for _, test := range []struct {
		name, s string
		max     int
		want    string
	}{
		{"empty", "", 0, ""},
		{"short", "short", 10, "short"},
		{"exactly", "exactly", 7, "exactly"},
		{"with a mark", strings.Repeat("a", 100), 40, strings.Repeat("a", 20) + "… [cut: 100 bytes]"},
		{"between characters", strings.Repeat("é", 50), 41, strings.Repeat("é", 10) + "… [cut: 100 bytes]"},
		{"four bytes a character", strings.Repeat("🙂", 25), 43, strings.Repeat("🙂", 5) + "… [cut: 100 bytes]"},
		{"no room for a mark", "ééééé", 5, "éé"},
		{"no room at all", "é", 1, ""},
		{"a negative size", "abc", -1, ""},
		{"not UTF-8", strings.Repeat("\x80", 30), 8, strings.Repeat("\x80", 8)},
	} {
		if got := Cut(test.s, test.max); got != test.want {
			t.Errorf("%s: Cut(%d bytes, %d) = %q, want %q", test.name, len(test.s), test.max, got, test.want)
		}
	}
}

func FuzzCut(f *testing.F) {
	f.Add("aé🙂\x80", 4)
	f.Add("", -14)
	f.Add(strings.Repeat("🙂", 40), 61)
	f.Fuzz(func(t *testing.T, s string, max int) {
		max %= 1 << 10
		got := Cut(s, max)
		if len(s) > max && len(got) > max && max >= 0 {
			t.Errorf("Cut(%q, %d) has %d bytes", s, max, len(got))
		}
		if utf8.ValidString(s) && !utf8.ValidString(got) {
			t.Errorf("Cut(%q, %d) = %q: a character is cut in two", s, max, got)
		}
	})
}
