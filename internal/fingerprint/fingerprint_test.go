package fingerprint

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestMask(t *testing.T) {
	for _, test := range []struct{ name, message, want string }{
		{"nothing varies", "card declined", "card declined"},
		{"empty", "", ""},
		{"the first line that is not blank", "\n  \n\tno such user\nat line 3", "no such user"},
		{"numbers", "row 17 of 3200: short by 1.5 at -3", "row <n> of <n>: short by <n> at <n>"},
		{"a number beside a name", "worker web-2: shard12 is gone", "worker web-<n>: shard<n> is gone"},
		{"brackets", "index out of range [5] with length 3", "index out of range [<n>] with length <n>"},
		{"key=value", "order=8177 total=12,50", "order=<n> total=<n>"},
		{"a list is one", "missing ids: 1, 2, 3 and 4 5", "missing ids: <n> and <n>"},
		{"addresses", "dial tcp 10.0.0.7:443: connect: connection refused", "dial tcp <ip>: connect: connection refused"},
		{"an IPv6 address", "dial tcp [::1]:5432: refused", "dial tcp [<ip>]:<n>: refused"},
		{"UUID", "run 01a21fa4-0e91-7c3e-b000-0123456789ab: gone", "run <id>: gone"},
		{"hexadecimal", "commit deadbeef01 at 0xc000012345", "commit <id> at <id>"},
		{"a random name", "pod api-7f9c4-x2k is evicted", "pod api-<id>-<id> is evicted"},
		{"words that look hexadecimal", "bad face added", "bad face added"},
		{"quoted", `task "parse-07" said 'no way', not ` + "`yes`", "task \"<text>\" said '<text>', not `<text>`"},
		{"an apostrophe", "can't open the user's file", "can't open the user's file"},
		{"a quote within", `key "a\"b" is taken`, `key "<text>" is taken`},
		{"no end of the quote", `unexpected " here`, `unexpected " here`},
		{"an e-mail address", "550 no such user joe.doe@example.com", "<n> no such user <email>"},
		{"a status", "http 429: slow down, retry after 30", "http 429: slow down, retry after <n>"},
		{"an exit", "exit status 2", "exit status 2"},
		{"SQLSTATE", "duplicate key (SQLSTATE 23505)", "duplicate key (SQLSTATE 23505)"},
		{"a long number after such a word", "error 1234567", "error <n>"},
		{"a URL", "GET https://api.example.com/v1/users/42?token=abc: EOF", "GET https://api.example.com/v<n>/users/<n>?<text>: EOF"},
		{"a path", "open /var/tmp/job-123/part0007.csv: no such file", "open /var/tmp/job-<n>/part<n>.csv: no such file"},
		{"durations", "took longer than 1m30s, then 250ms", "took longer than <duration>, then <duration>"},
		{"a time", "expired at 2024-05-01T10:30:00Z", "expired at <time>"},
		{"a date", "expired on 2024-05-01 10:30:00", "expired on <n>"},
		{"spaces", "too   many\t spaces", "too many spaces"},
		{"other scripts", "Datei „bericht“ fehlt", "Datei „bericht“ fehlt"},
		{"not UTF-8", "bad \xff byte", "bad \uFFFD byte"},
	} {
		if got := Mask(test.message); got != test.want {
			t.Errorf("%s: %q is %q, want %q", test.name, test.message, got, test.want)
		}
	}
}

// A masked text has a bound, whatever the message is.
func TestMaskIsBounded(t *testing.T) {
	for _, message := range []string{strings.Repeat("é", 1<<20), strings.Repeat("7 a ", 1<<18), strings.Repeat(`"`, 1<<16),
		strings.Repeat("x\"", 1<<16), strings.Repeat("12,", 1<<16)} {
		if got := Mask(message); len(got) > MaxText || !utf8.ValidString(got) {
			t.Errorf("%.20q becomes %d bytes", message, len(got))
		}
	}
}

func TestOf(t *testing.T) {
	a, text := Of("charge", "order 1: refused")
	b, _ := Of("charge", "order 2: refused\nmore")
	other, _ := Of("refund", "order 1: refused")
	if a != b || a == other || a == 0 || text != "order <n>: refused" {
		t.Errorf("IDs %x, %x and %x, text %q", a, b, other, text)
	}
}
