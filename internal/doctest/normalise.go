package doctest

import (
	"fmt"
	"regexp"
	"strings"
)

var (
	idPattern = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)

	// What differs from one time to the next, and what it becomes.
	varying = []struct {
		pattern *regexp.Regexp
		to      string
	}{
		{regexp.MustCompile(`\d{4}[-/]\d\d[-/]\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)?( UTC)?`), "TIME"},
		{regexp.MustCompile(`\b\d\d:\d\d:\d\d(\.\d+)?\b`), "TIME"},
		{regexp.MustCompile(`\b(\d+(\.\d+)?(h|min|ms|µs|us|ns|m|s))+\b`), "DURATION"},
		{regexp.MustCompile(`\b\d+(\.\d+)? ?([KMG]i?B|bytes)\b`), "SIZE"},
		{regexp.MustCompile(`localhost:\d+|127\.0\.0\.1:\d+`), "ADDRESS"},
		{regexp.MustCompile(`token=\w+`), "token=TOKEN"},
		{regexp.MustCompile(`-{2,}|─{2,}`), "--"}, // rules are as wide as the columns
		{regexp.MustCompile(`[ \t]+`), " "},
	}
)

// normalise replaces what differs from one run of a program to the next. IDs become their number in the order of their first
// appearance, so that a text and another with different IDs are the same if the same places have the same ID.
func normalise(text string) string {
	seen := map[string]string{}
	text = idPattern.ReplaceAllStringFunc(text, func(id string) string {
		if seen[id] == "" {
			seen[id] = fmt.Sprintf("ID%d", len(seen)+1)
		}
		return seen[id]
	})
	for _, v := range varying {
		text = v.pattern.ReplaceAllString(text, v.to)
	}
	lines := strings.Split(strings.TrimSpace(text), "\n")
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	return strings.Join(lines, "\n")
}

// matches reports whether got is what a page shows. A line "…" of the page stands for any lines.
func matches(shown, got string) bool {
	pattern := "(?s)^" + regexp.QuoteMeta(normalise(shown)) + "$"
	pattern = strings.ReplaceAll(pattern, "…\n", "(.*\n)?")
	pattern = strings.ReplaceAll(pattern, "\n…", "(\n.*)?")
	return regexp.MustCompile(pattern).MatchString(normalise(got))
}
