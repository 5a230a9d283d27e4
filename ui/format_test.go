package ui

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"testing/quick"
	"time"
	"unicode"
)

// A spec is described in words, or not at all.
func TestReadSpec(t *testing.T) {
	for spec, want := range map[string]string{
		"0 9 * * *":                     "at 09:00",
		"30 4 * * 1-5":                  "at 04:30 on Monday to Friday",
		"CRON_TZ=Europe/Oslo 0 9 * * 1": "at 09:00 on Monday (Europe/Oslo)",
		"*/5 * * * *":                   "every 5 minutes",
		"* * * * *":                     "every minute",
		"15 * * * *":                    "every hour at minute 15",
		"0 */2 * * *":                   "every 2 hours at minute 0",
		"*/10 8 * * *":                  "every 10 minutes from 08:00 to 08:59",
		"0 0 1 * *":                     "at 00:00 on day 1 of the month",
		"0 0 1 1,jul *":                 "at 00:00 on day 1 of the month in January, July",
		"0 12 * 6-8 sat":                "at 12:00 on Saturday in June to August",
		"*/30 * * * * *":                "every 30 seconds",
		"0 0 9 * * *":                   "at 09:00",
		"15 0 9 * * *":                  "at 09:00 and 15 seconds",
		"@daily":                        "every day at 00:00",
		"@every 90s":                    "every 90s",
		"TZ=UTC @hourly":                "every hour (UTC)",
		"1,2 3 * * *":                   "",
		"0 9 1 * 1":                     "",
		"0 9 * * 9":                     "",
		"nonsense":                      "",
		"0 9 * 0 *":                     "",
	} {
		if got := readSpec(spec); got != want {
			t.Errorf("%s reads %q, want %q", spec, got, want)
		}
	}
}

// A shown text has no invisible character and none that changes its direction.
func TestVisible(t *testing.T) {
	err := quick.Check(func(s string) bool {
		for _, r := range escapeInvisible(s + "\u202e\u200b\x00\u2066") {
			if r != '\n' && r != '\t' && !unicode.IsPrint(r) {
				return false
			}
		}
		return true
	}, nil)
	if err != nil {
		t.Error(err)
	}
}

var ours = regexp.MustCompile(`</?(details|summary|ul|li|span|bdi|div|pre|p)( (class|tabindex)="[a-z0-9 ]*"| open)*>`)

// A payload never becomes markup: the tree has only its own tags.
func FuzzJSONTree(f *testing.F) {
	for _, s := range []string{`{"a": [1, "<b>", null, true], "</ul>": {}}`, `[`, `"<script>"`, strings.Repeat("[", 40) + strings.Repeat("]", 40), `<img src=x>`, "\xff", `{"a": "\u202e"}`, strings.Repeat("9", wholeTree.bytes+9)} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		var b strings.Builder
		if err := jsonTree(json.RawMessage(payload), wholeTree).Render(&b); err != nil {
			t.Fatal(err)
		}
		if rest := ours.ReplaceAllString(b.String(), ""); strings.ContainsAny(rest, "<>") {
			t.Errorf("markup in %.200q", rest)
		}
	})
}

// Durations and counts are short.
func TestFigures(t *testing.T) {
	for d, want := range map[time.Duration]string{0: "0", 1500 * time.Microsecond: "2 ms", 250 * time.Microsecond: "0.25 ms", 1200 * time.Millisecond: "1.2 s", 90 * time.Second: "1 min 30 s", 3 * time.Hour: "3 h 0 min", 72 * time.Hour: "3 days", -1: "–"} {
		if got := formatDuration(d); got != want {
			t.Errorf("%d is %q, want %q", d, got, want)
		}
	}
	for n, want := range map[any]string{1234567: "1,234,567", 999: "999", maxCounted: "10,000+", int64(10_000): "10,000"} {
		if got := formatCount(n); got != want {
			t.Errorf("%v is %q, want %q", n, got, want)
		}
	}
}
