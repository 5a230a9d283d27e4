//go:build unix

package stint_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stint-dev/stint"
)

// looksAt runs lookChild as a user who has no more rights than the files give.
func looksAt(t *testing.T, path string) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "looks")
	if err := os.WriteFile(program, must[[]byte](t)(os.ReadFile(os.Args[0])), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program)
	cmd.Env = append(os.Environ(), "STINT_CHILD=look", "STINT_FILE="+path)
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		for dir := filepath.Dir(program); dir != "/"; dir = filepath.Dir(dir) {
			if info, err := os.Stat(dir); err == nil && info.Mode().Perm()&0o005 != 0o005 {
				chmod(t, dir, 0o755)
			}
		}
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return strings.TrimSpace(string(out))
}

func chmod(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

// A file that one may not write, in a directory that one may not write, can be looked at, with
// its log and without; where SQLite has no way, the error says which there is.
func TestReadOnlyNeedsNoRights(t *testing.T) {
	ofFile(t)
	for name, c := range map[string]struct {
		prepare func(t *testing.T, path string)
		rights  os.FileMode
		want    string
	}{
		"closed":                {func(*testing.T, string) {}, 0o444, "4 runs"},
		"open":                  {func(t *testing.T, path string) { openedAt(t, path) }, 0o444, "4 runs"},
		"killed":                {func(t *testing.T, path string) { kill(t, path) }, 0o444, "4 runs"},
		"killed, and its index": {func(t *testing.T, path string) { kill(t, path); os.Remove(path + "-shm") }, 0o444, "read the copy"},
		"killed before its log had more than a header": {func(t *testing.T, path string) {
			kill(t, path)
			if err := os.Truncate(path+"-wal", 32); err != nil {
				t.Error(err)
			}
		}, 0o444, "4 runs"},
		"not to be read": {func(*testing.T, string) {}, 0o200, "error"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data")
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, "app.db")
			if err := os.WriteFile(path, nil, 0o644); err != nil { // for all to read, with what lies beside it
				t.Fatal(err)
			}
			o := must[*stint.Client](t)(stint.Open(path))
			enqueueMany(t, stint.NewTask(o, "double", double), make([]int, 3))
			enqueueJSON(t, o, "hang", json.RawMessage("1"))
			if err := o.Close(); err != nil {
				t.Fatal(err)
			}
			c.prepare(t, path)
			all, _ := filepath.Glob(path + "*")
			for _, f := range all {
				chmod(t, f, c.rights)
			}
			chmod(t, dir, 0o555)
			before := files(t, dir)
			got := looksAt(t, path)
			if !strings.Contains(got, c.want) || strings.Contains(got, "runs") && !strings.Contains(got, stint.ErrReadOnly.Error()) {
				t.Errorf("%s, want %q", got, c.want)
			}
			after := files(t, dir)
			for f := range before {
				if strings.HasSuffix(f, ".db") && before[f] != after[f] || len(before) != len(after) {
					t.Errorf("%s has changed", f)
				}
			}
			chmod(t, dir, 0o755)
			for _, f := range all {
				chmod(t, f, 0o600)
			}
		})
	}
}

// kill leaves a file as a program does that is killed while it works a run of "hang".
func kill(t *testing.T, path string) {
	t.Helper()
	child := startChild(t, "hang", path)
	child.line(t)
	child.Process.Kill()
	child.Wait()
}
