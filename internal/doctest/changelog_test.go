package doctest

import (
	"os"
	"strings"
	"testing"
)

// Each version of the changelog says what to do before it says what is new.
func TestChangelog(t *testing.T) {
	text, err := os.ReadFile("../../CHANGELOG.md")
	if err != nil {
		t.Fatal(err)
	}
	versions := strings.Split(string(text), "\n## ")[1:]
	if len(versions) == 0 {
		t.Error("there is no version")
	}
	for _, v := range versions {
		name, _, _ := strings.Cut(v, "\n")
		_, first, _ := strings.Cut(v, "\n### ")
		if title, todo, _ := strings.Cut(first, "\n"); title != "What to do" || strings.HasPrefix(strings.TrimSpace(todo), "#") {
			t.Errorf("%s begins with %q, want what to do", name, title)
		}
	}
}
