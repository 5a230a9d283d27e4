package main

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const root = "../.."

var noticed = regexp.MustCompile(`(?i)copyright|licen[cs]e`)

// copied reports whether a file of the page looks as if it came from elsewhere: it is minified, of a kind that is
// not written by hand, or speaks of its licence.
func copied(name string, content []byte) bool {
	switch filepath.Ext(name) {
	case ".svg", ".json":
		return noticed.Match(content)
	case ".js", ".css":
		for line := range strings.Lines(string(content)) {
			if len(line) > 500 {
				return true
			}
		}
		return noticed.Match(content)
	}
	return true
}

var vendored = regexp.MustCompile("(?m)^\\| `(ui/assets/\\S+)` \\| \\[.+\\]\\(https://.+\\) \\S+ \\| \\S+ \\| `([0-9a-f]{64})` \\|$")

// What was copied into the page has its version, its licence and its content named.
func TestVendored(t *testing.T) {
	doc, err := os.ReadFile(filepath.Join(root, "docs", "licences.md"))
	if err != nil {
		t.Fatal(err)
	}
	sums := map[string]string{}
	for _, row := range vendored.FindAllStringSubmatch(string(doc), -1) {
		sums[row[1]] = row[2]
	}
	files, err := os.ReadDir(filepath.Join(root, "ui", "assets"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		name := "ui/assets/" + f.Name()
		content, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		if !copied(name, content) && sums[name] == "" {
			continue
		}
		sum := sha256.Sum256(content)
		if got := hex.EncodeToString(sum[:]); sums[name] != got {
			t.Errorf("%s has the checksum %s: docs/licences.md has %q; it names each copied file with version and licence", name, got, sums[name])
		}
		delete(sums, name)
	}
	if len(sums) > 0 {
		t.Errorf("docs/licences.md names %v, which are not there", sums)
	}
}

// Each module that a released program links has its licence in what a release contains.
func TestWrite(t *testing.T) {
	var all strings.Builder
	if err := write(&all, root); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"stint: LICENSE", "Go: LICENSE", "github.com/jackc/pgx/v5 v", "modernc.org/sqlite v", "google.golang.org/grpc v",
		"github.com/hibiken/asynq v", "Zero-Clause BSD"} {
		if !strings.Contains(all.String(), name) {
			t.Errorf("%s is not among the licences", name)
		}
	}
}

var (
	buildsOf = regexp.MustCompile(`(?s)\nbuilds:\n(.*?)\n\n`)
	setting  = regexp.MustCompile(`(?m)^    (\w+): (.*)$`)
)

// A release is made of the programs whose licences it has: each is a command, on every system, and is told its version.
func TestRelease(t *testing.T) {
	config, err := os.ReadFile(filepath.Join(root, ".goreleaser.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	found := buildsOf.FindStringSubmatch(string(config))
	if found == nil {
		t.Fatal(".goreleaser.yaml has no builds")
	}
	builds := strings.Split(found[1], "  - id: ")[1:]
	if len(builds) != len(programs) {
		t.Fatalf("%d builds for %d programs", len(builds), len(programs))
	}
	for i, b := range builds {
		p := programs[i]
		got := map[string]string{"dir": "."}
		for _, s := range setting.FindAllStringSubmatch(b, -1) {
			got[s[1]] = s[2]
		}
		flags := `["-s -w -X github.com/stint-dev/stint/internal/build.release=v{{.Version}}"]`
		for name, want := range map[string]string{"dir": p.dir, "main": p.pkg, "binary": filepath.Base(p.pkg), "env": "[CGO_ENABLED=0]",
			"goos": "[" + strings.Join(systems, ", ") + "]", "goarch": "[amd64, arm64]", "ldflags": flags} {
			if got[name] != want {
				t.Errorf("%s: %s is %q, want %q", p.pkg, name, got[name], want)
			}
		}
		list := exec.Command("go", "list", "-f", "{{.Name}}", p.pkg)
		list.Dir = filepath.Join(root, p.dir)
		if out, err := list.CombinedOutput(); err != nil || string(out) != "main\n" {
			t.Errorf("%s is no command: %s, %v", p.pkg, out, err)
		}
	}
}
