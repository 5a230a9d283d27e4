package doctest

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Litestream takes the configuration that the page about backups shows.
func TestLitestream(t *testing.T) {
	program, err := exec.LookPath("litestream")
	if err != nil {
		t.Skip("Litestream is not here")
	}
	all, err := pages()
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(all, func(p page) bool { return p.path == "docs/backup.md" })
	if i < 0 {
		t.Fatal("there is no docs/backup.md")
	}
	n := 0
	for _, b := range all[i].blocks() {
		if b.info != "yaml" {
			continue
		}
		n++
		config := filepath.Join(t.TempDir(), "litestream.yml")
		if err := os.WriteFile(config, []byte(b.text), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(program, "databases", "-config", config).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "/var/lib/app/app.db") {
			t.Errorf("%s:%d: %v\n%s", b.page, b.line, err, out)
		}
	}
	if n != 1 {
		t.Errorf("%d configurations, want 1", n)
	}
}
