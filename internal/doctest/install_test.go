package doctest

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	remote  = regexp.MustCompile(`go (?:install|run) github\.com/stint-dev/stint([\w/.-]*)`)
	inOther = regexp.MustCompile(`^/(hatchet|import|bench)/`)
)

// What the pages install or run by its path is a command of the main module. One of another module cannot be installed
// by its path while that module replaces this one.
func TestInstallPaths(t *testing.T) {
	pages := []string{"../../README.md"}
	err := filepath.WalkDir("../../docs", func(path string, _ fs.DirEntry, err error) error {
		if strings.HasSuffix(path, ".md") {
			pages = append(pages, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range remote.FindAllStringSubmatch(string(text), -1) {
			found++
			if _, err := os.Stat("../.." + m[1] + "/main.go"); err != nil || inOther.MatchString(m[1]) {
				t.Errorf("%s: %q names no command of the main module", page, m[0])
			}
		}
	}
	if found == 0 {
		t.Error("no page installs anything")
	}
}
