// Package others compiles the code of other libraries that docs/from shows, against those libraries.
package others

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	// What the pages import, for go.mod.
	_ "github.com/dbos-inc/dbos-transact-golang/dbos"
	_ "github.com/dbos-inc/dbos-transact-golang/dbos/driver/sqlite"
	_ "github.com/hatchet-dev/hatchet/sdks/go"
	_ "github.com/hibiken/asynq"
	_ "github.com/riverqueue/river"
	_ "github.com/riverqueue/river/riverdriver/riversqlite"
	_ "github.com/robfig/cron/v3"
	_ "go.temporal.io/sdk/worker"
	_ "modernc.org/sqlite"
)

// Blocks "go other" of docs/from compile. They are files of this module for the compiler alone.
func TestOthersCompile(t *testing.T) {
	paths, err := filepath.Glob("../../../docs/from/*.md")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	replace := map[string]string{}
	args := []string{"build", "-overlay", filepath.Join(dir, "overlay.json")}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for i, block := range strings.Split(string(text), "```go other\n")[1:] {
			code, _, _ := strings.Cut(block, "```\n")
			name := fmt.Sprintf("%s%d", strings.TrimSuffix(filepath.Base(path), ".md"), i)
			file := filepath.Join(dir, name+".go")
			if err := os.WriteFile(file, []byte(code), 0o600); err != nil {
				t.Fatal(err)
			}
			at, err := filepath.Abs(filepath.Join(name, "main.go"))
			if err != nil {
				t.Fatal(err)
			}
			replace[at] = file
			args = append(args, "./"+name)
		}
	}
	if len(replace) < 5 {
		t.Errorf("%d blocks: want one of each library", len(replace))
	}
	spec, err := json.Marshal(map[string]any{"Replace": replace})
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "overlay.json"), spec, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
