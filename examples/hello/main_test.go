package main

import (
	"bytes"
	"os"
	"testing"
)

// The README shows this program, word for word; it runs.
func TestReadme(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	src, err := os.ReadFile("main.go")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(readme, append([]byte("```go\n"), append(src, "```\n"...)...)) {
		t.Error("README.md does not show examples/hello/main.go as it is")
	}
	t.Chdir(t.TempDir())
	main()
	if _, err := os.Stat("hello.db"); err != nil {
		t.Error(err)
	}
}
