package integrations

import (
	"os"
	"strings"
	"testing"
)

// The code that the cookbook shows of these libraries stands in the tests of transactions, in its order.
func TestCookbook(t *testing.T) {
	page, err := os.ReadFile("../../docs/cookbook/outbox.md")
	if err != nil {
		t.Fatal(err)
	}
	tests, err := os.ReadFile("transactions_test.go")
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(strings.ReplaceAll(string(page), "\r\n", "\n"), "```go integrations\n")[1:]
	if len(blocks) < 2 {
		t.Fatalf("%d blocks: want one of sqlc and one of GORM", len(blocks))
	}
	for _, block := range blocks {
		code, _, _ := strings.Cut(block, "```")
		rest := string(tests)
		for line := range strings.Lines(code) {
			line = strings.TrimSpace(line)
			_, after, found := strings.Cut(rest, line)
			if !found && line != "…" {
				t.Errorf("%q is not in transactions_test.go, behind the lines before it", line)
			}
			if found {
				rest = after
			}
		}
	}
}
