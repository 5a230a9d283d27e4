package stint_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stint-dev/stint"
)

// linked makes an empty directory data, with the paths by which app.db in it may be called:
// its own, through a symbolic link to the directory, through one to the file from elsewhere,
// and relative ones.
func linked(t *testing.T) (path string, aliases map[string]string) {
	t.Helper()
	root := t.TempDir()
	path = filepath.Join(root, "data", "app.db")
	current, other := filepath.Join(root, "current"), filepath.Join(root, "other")
	for _, err := range []error{
		os.Mkdir(filepath.Dir(path), 0o700), os.Mkdir(other, 0o700), os.Symlink("data", current),
		os.Symlink("../data/app.db", filepath.Join(other, "link.db")), os.Symlink("link.db", filepath.Join(other, "twice.db")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return path, map[string]string{
		"itself": path, "directory": filepath.Join(current, "app.db"),
		"file": filepath.Join(other, "link.db"), "twice": filepath.Join(other, "twice.db"),
	}
}

// Processes that have one file open by different paths know each other: who lives keeps its
// run, and who dies is noticed.
func TestFileByAnotherPath(t *testing.T) {
	ofFile(t)
	for _, name := range []string{"itself", "directory", "file", "twice"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path, aliases := linked(t)
			c := openedAt(t, path)
			hang := stint.NewTask[int, string](c, "hang", nil)
			kept := enqueue(t, hang, 1)
			startChild(t, "hang", aliases[name]).line(t)

			exit := stint.NewTask[int, int](c, "exit", nil)
			mine := openedAt(t, path)
			stint.NewTask(mine, "hang", func(context.Context, int) (string, error) { return "stolen", nil })
			stint.NewTask(mine, "exit", func(context.Context, int) (int, error) { return 7, nil })
			for range 2 { // the second death is looked at after all that was there at the first
				run := enqueue(t, exit, 2)
				startChild(t, "exit", aliases[name]).Wait()
				stop := working(t, mine)
				if got, err := run.Wait(t.Context()); err != nil || got != 7 {
					t.Errorf("the run of a dead process: %d, %v", got, err)
				}
				stop()
			}
			if info := infoOf(t, kept); info.State != stint.StateRunning {
				t.Errorf("the run of a process that lives is %v: %+v", info.State, info.Timeline)
			}
		})
	}
}

// A copy in the same directory, made by Backup or by hand, and put in the original's place or
// not, does not wait for what the original's processes execute.
func TestCopyBesideItsOriginal(t *testing.T) {
	ofFile(t)
	for _, how := range []string{"beside", "in place"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "app.db")
			c := openedAt(t, path)
			hang := stint.NewTask[int, string](c, "hang", nil)
			run := enqueue(t, hang, 1)
			child := startChild(t, "hang", path)
			child.line(t)
			copied := filepath.Join(filepath.Dir(path), "copy.db")
			if err := c.Backup(t.Context(), copied); err != nil {
				t.Fatal(err)
			}
			if how == "in place" {
				rename(t, path, path+".old", "", "-wal", "-shm")
				rename(t, copied, path, "")
				copied = path
				defer rename(t, path+".old", path, "", "-wal", "-shm")
			}
			again, err := stint.Open(copied)
			if err != nil {
				t.Fatal(err)
			}
			defer again.Close()
			stint.NewTask(again, "hang", func(context.Context, int) (string, error) { return "by the copy", nil })
			working(t, again)
			if got, err := stint.RunByID[string](again, run.ID()).Wait(t.Context()); err != nil || got != "by the copy" {
				t.Errorf("the copy's run: %q, %v", got, err)
			}
			if info, err := run.Info(t.Context()); how == "beside" && (err != nil || info.State != stint.StateRunning) {
				t.Errorf("the original's run: %v, %v", info, err)
			}
			child.Process.Kill()
			child.Wait()
		})
	}
}

func rename(t *testing.T, from, to string, suffixes ...string) {
	t.Helper()
	for _, s := range suffixes {
		if err := os.Rename(from+s, to+s); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
}

// What is done to a file while it is open, and what every write says from then on.
var misplacements = map[string]struct {
	do   func(t *testing.T, path, old string)
	want error // nil: nothing is wrong
}{
	"nothing": {func(*testing.T, string, string) {}, nil},
	"a file beside": {func(t *testing.T, path, old string) {
		if err := os.WriteFile(path+".txt", nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}, nil},
	"removed": {func(t *testing.T, path, _ string) {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}, stint.ErrFileGone},
	"removed with all that is beside": {func(t *testing.T, path, _ string) {
		all, _ := filepath.Glob(filepath.Join(filepath.Dir(path), "*app.db*"))
		for _, f := range all {
			if err := os.RemoveAll(f); err != nil {
				t.Fatal(err)
			}
		}
	}, stint.ErrFileGone},
	"its log removed": {func(t *testing.T, path, _ string) {
		if err := os.Remove(path + "-wal"); err != nil {
			t.Fatal(err)
		}
	}, stint.ErrFileGone},
	"an old copy renamed over": {func(t *testing.T, path, old string) { rename(t, old, path, "") }, stint.ErrReplaced},
	"moved, with a link to it": {func(t *testing.T, path, old string) {
		rename(t, path, path+".moved", "")
		if err := os.Symlink(path+".moved", path); err != nil {
			t.Fatal(err)
		}
	}, stint.ErrReplaced},
	"its directory renamed": {func(t *testing.T, path, _ string) {
		dir := filepath.Dir(path)
		rename(t, dir, dir+".moved", "")
	}, stint.ErrFileGone},
}

// A file that is no longer the one at its path acknowledges nothing, and says so.
func TestFileGone(t *testing.T) {
	ofFile(t)
	for name, m := range misplacements {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "data", "app.db")
			if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			c := must[*stint.Client](t)(stint.Open(path))
			defer c.Close()
			task := stint.NewTask(c, "double", double)
			enqueue(t, task, 1)
			old := filepath.Join(t.TempDir(), "old.db")
			if err := c.Backup(t.Context(), old); err != nil {
				t.Fatal(err)
			}
			m.do(t, path, old)
			enqueue := func(ctx context.Context) error { _, err := task.Enqueue(ctx, 2); return err }
			for what, err := range map[string]error{
				"Enqueue": enqueue(t.Context()), "Backup": c.Backup(t.Context(), filepath.Join(t.TempDir(), "new.db")),
				"Publish":    func() error { _, err := c.Publish(t.Context(), "k", 1); return err }(),
				"PauseQueue": c.PauseQueue(t.Context(), "q"), "ResumeQueue": c.ResumeQueue(t.Context(), "q"),
				"Healthy": c.Healthy(),
			} {
				if !errors.Is(err, m.want) || (m.want == nil) != (err == nil) {
					t.Errorf("%s: %v, want %v", what, err, m.want)
				}
			}
		})
	}
}

// The file of a running program that was moved away and put back goes on, with what it had
// acknowledged and nothing that it had refused.
func TestFilePutBack(t *testing.T) {
	ofFile(t)
	path := filepath.Join(t.TempDir(), "app.db")
	c := openedAt(t, path)
	task := stint.NewTask(c, "double", double)
	first := enqueue(t, task, 1)
	c.PauseQueue(t.Context(), "default")
	rename(t, path, path+".away", "")
	if _, err := task.Enqueue(t.Context(), 2); !errors.Is(err, stint.ErrFileGone) {
		t.Errorf("Enqueue: %v", err)
	}
	rename(t, path+".away", path, "")
	if err := c.ResumeQueue(t.Context(), "default"); err != nil {
		t.Fatal(err)
	}
	if err := c.Healthy(); err != nil {
		t.Error(err)
	}
	working(t, c)
	if got, err := first.Wait(t.Context()); err != nil || got != 2 {
		t.Errorf("Wait: %d, %v", got, err)
	}
	if page := listRuns(t, c, stint.RunFilter{}); len(page.Runs) != 1 {
		t.Errorf("%d runs, want 1", len(page.Runs))
	}
}

// The names of other libraries' databases are refused with what to write instead, and make
// no file.
func TestDSN(t *testing.T) {
	ofFile(t)
	dir := t.TempDir()
	t.Chdir(dir)
	for dsn, instead := range map[string]string{
		"file:app.db": `write "app.db"`, "FILE:app.db": `write "app.db"`, "file:a%20b.db?cache=shared": `write "a b.db"`, "file:///x/app.db": `write "/x/app.db"`,
		"app.db?mode=ro": `write "app.db"`, "app.db?_pragma=journal_mode(wal)": `write "app.db"`, "app.db?x=1&_txlock=immediate": `write "app.db"`,
		"sqlite:app.db": `write "app.db"`, "sqlite3:///app.db": `write "/app.db"`,
		"file::memory:": `write ":memory:"`, "file::memory:?cache=shared": `write ":memory:"`, ":memory:?cache=shared": `write ":memory:"`,
		"file:x?mode=memory&cache=shared": `write ":memory:"`,
	} {
		c, err := stint.Open(dsn)
		if err == nil {
			c.Close()
		}
		if err == nil || !strings.Contains(err.Error(), instead) {
			t.Errorf("Open(%q): %v, want %q", dsn, err, instead)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("files were made: %v, %v", left, err)
	}
	c := openedAt(t, filepath.Join(dir, "what?#%.db")) // a strange name is a name
	for _, bad := range []string{"file:copy.db", "copy.db?mode=rwc", ":memory:", "file::memory:", "", "what?#%.db-journal", ".what?#%.db-stint/copy.db", "what?#%.db"} {
		if err := c.Backup(t.Context(), bad); err == nil {
			t.Errorf("Backup(%q) = nil", bad)
		}
	}
	if err := c.Backup(t.Context(), "copy.db"); err != nil {
		t.Error(err)
	}
	left, err := filepath.Glob("*copy*")
	if info, serr := os.Stat("copy.db"); err != nil || serr != nil || len(left) != 1 || info.Mode().Perm() != 0o600 {
		t.Errorf("after a backup: %q, %v, %v", left, info, errors.Join(err, serr))
	}
}

// A file that is made through a link to nothing is made where the link leads, readable for
// its owner alone.
func TestDanglingLink(t *testing.T) {
	ofFile(t)
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "vol"), 0o755); err != nil {
		t.Fatal(err)
	}
	link, real := filepath.Join(dir, "link.db"), filepath.Join(dir, "vol", "real.db")
	if err := os.Symlink("vol/real.db", link); err != nil {
		t.Fatal(err)
	}
	c := openedAt(t, link)
	enqueue(t, stint.NewTask(c, "double", double), 1)
	for _, name := range []string{real, real + "-wal", real + "-shm"} {
		if info, err := os.Lstat(name); err != nil || info.Mode() != 0o600 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	if err := os.Symlink("loop", filepath.Join(dir, "loop")); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"loop", "vol", ".", "nowhere/app.db", "/dev/null"} {
		if !filepath.IsAbs(bad) {
			bad = dir + "/" + bad
		}
		if c, err := stint.Open(bad); err == nil {
			c.Close()
			t.Errorf("Open(%s) = nil", bad)
		}
	}
}

// Nothing stays beside a file that was closed, whoever else had it open.
func TestNothingStaysBeside(t *testing.T) {
	ofFile(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "app.db")
	child := startChild(t, "echo", path)
	child.line(t)
	c := must[*stint.Client](t)(stint.Open(path))
	child.Process.Kill()
	child.Wait()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	c = must[*stint.Client](t)(stint.Open(path))
	run := enqueue(t, stint.NewTask(c, "double", double), 1)
	working(t, c)
	if _, err := run.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	for tick := time.NewTicker(5 * time.Millisecond); ; <-tick.C { // until what the child left is cleared up
		if locks := must[[]os.DirEntry](t)(os.ReadDir(filepath.Join(dir, ".app.db-stint"))); len(locks) == 1 {
			tick.Stop()
			break
		}
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(dir)
	if err != nil || fmt.Sprint(left) != "[- app.db]" {
		t.Errorf("left: %v, %v", left, err)
	}
}
