package stint_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stint-dev/stint"
)

// inSQL changes a file as another program would.
func inSQL(t *testing.T, path string, statements ...string) {
	t.Helper()
	ofFile(t)
	db := asAnother(t, path)
	defer db.Close()
	for _, s := range statements {
		if _, err := db.Exec(s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

// recoversDead has a process die at a run, and waits until c's worker has had it. Whoever
// looked for dead processes has looked at all else that was left.
func recoversDead(t *testing.T, c *stint.Client, path string) {
	t.Helper()
	exit := stint.NewTask(c, "exit", func(context.Context, int) (int, error) { return 7, nil })
	run := enqueue(t, exit, 2)
	startChild(t, "exit", path).Wait()
	working(t, c)
	if got, err := run.Wait(t.Context()); err != nil || got != 7 {
		t.Errorf("the run of a dead process: %d, %v", got, err)
	}
}

// No row, and no name beside the file, has a worker remove or open what is not its own.
func TestFilesOfOthersStay(t *testing.T) {
	ofFile(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "app.db")
	if err := must[*stint.Client](t)(stint.Open(path)).Close(); err != nil {
		t.Fatal(err)
	}
	names := []string{"precious.txt", "app.db-stint-backup.db", "app.db-stint-0", "app.db-stint-0123456789abcdef0123456789abcdef",
		"0123456789abcdef0123456789abcdef", "app.db-stint.txt"}
	for _, n := range names {
		if err := os.WriteFile(filepath.Join(dir, n), []byte("precious"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for i, lock := range append(names, "app.db", "", ".", "..", "/", "../"+filepath.Base(dir)+"/precious.txt", filepath.Join(dir, "precious.txt")) {
		inSQL(t, path, fmt.Sprintf("INSERT INTO stint_workers (name, lock, pid, host, slots, queues, labels, tasks, build, started_at) VALUES ('w%d', '%s', 1, 'h', 1, '[]', '{}', '[]', 'b', 1)", i, lock))
	}
	inSQL(t, path, "INSERT INTO stint_lanes (queue, task, staged) VALUES ('q', 't', 'precious.txt:1'), ('q', 't', 'app.db:1')")
	c := openedAt(t, path)
	recoversDead(t, c, path)
	for _, n := range append(names, "app.db") {
		if b, err := os.ReadFile(filepath.Join(dir, n)); err != nil || n != "app.db" && string(b) != "precious" {
			t.Errorf("%s: %q, %v", n, b, err)
		}
	}
	if all := must[[]stint.WorkerInfo](t)(c.ListWorkers(t.Context())); len(all) != 1 {
		t.Errorf("%d workers live, want c's own", len(all))
	}
	os.Remove(filepath.Join(dir, "app.db-stint-backup.db"))
	if err := c.Backup(t.Context(), filepath.Join(dir, "app.db-stint-backup.db")); err != nil {
		t.Error(err)
	}
}

// readerChild looks into a file and closes it again, as any program that uses SQLite does. If
// it is the last, SQLite removes the log.
func readerChild(path string) {
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(60000)")
	if err != nil {
		panic(err)
	}
	defer db.Close()
	var n int
	if err := db.QueryRow("SELECT count(*) FROM stint_runs").Scan(&n); err != nil {
		panic(err)
	}
}

// Links to the database under the names of what stint keeps beside it do not have it drop
// SQLite's locks: what was acknowledged is there after a kill.
func TestLinksToTheDatabase(t *testing.T) {
	ofFile(t)
	links := map[string]func(of, link string) error{"none": func(string, string) error { return nil }, "symbolic": os.Symlink, "hard": os.Link}
	for name, link := range links {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "app.db")
			c := openedAt(t, path)
			ours := filepath.Join(dir, ".app.db-stint")
			mine := must[[]os.DirEntry](t)(os.ReadDir(ours))[0].Name()
			forged := mine[:16] + "0123456789abcdef"
			for _, at := range []string{path + "-stint-0", path + "-stint-" + forged, filepath.Join(ours, forged)} {
				if err := link(path, at); err != nil {
					t.Fatal(err)
				}
			}
			recoversDead(t, c, path)
			if _, err := os.Lstat(filepath.Join(ours, forged)); (err == nil) != (name != "none") {
				t.Errorf("the link in the directory of presences was taken for one: %v", err)
			}
			startChild(t, "reader", path).Wait()
			task := stint.NewTask[int, int](c, "later", nil)
			enqueueMany(t, task, make([]int, 50))
			killed := filepath.Join(t.TempDir(), "app.db") // as a kill leaves it
			for _, suffix := range []string{"", "-wal"} {
				if err := os.WriteFile(killed+suffix, must[[]byte](t)(os.ReadFile(path+suffix)), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if page := listRuns(t, openedAt(t, killed), stint.RunFilter{}); len(page.Runs) != 51 {
				t.Errorf("%d runs, want 51", len(page.Runs))
			}
		})
	}
}

// A schema that would run something in stint's transactions is refused; what an app has
// beside it, and asks of it, is not.
func TestHostileSchema(t *testing.T) {
	ofFile(t)
	hidden := "CREATE TRIGGER app_t AFTER INSERT ON app BEGIN SELECT 1; END"
	for name, c := range map[string]struct {
		want string // "": it opens
		sql  []string
	}{
		"tables, views and triggers of the app": {"", []string{
			"CREATE TABLE app (x)", "CREATE TABLE log (x)", "CREATE TRIGGER app_t AFTER INSERT ON app BEGIN INSERT INTO log SELECT count(*) FROM stint_runs; END",
			"CREATE VIEW app_runs AS SELECT * FROM stint_runs", "CREATE INDEX app_index ON stint_runs (started_at)", `CREATE TRIGGER "on" INSTEAD OF INSERT ON app_runs BEGIN SELECT 1; END`,
		}},
		"a trigger":                     {"trigger evil", []string{"CREATE TRIGGER evil AFTER INSERT ON stint_runs BEGIN SELECT 1; END"}},
		"a trigger in other letters":    {"trigger evil", []string{"CREATE TRIGGER evil BEFORE UPDATE OF state /* ON app */ ON\n--x\n [Stint_RUNS] BEGIN SELECT 1; END"}},
		"a trigger of a schema":         {"trigger evil", []string{`CREATE TRIGGER main."evil" AFTER DELETE ON "main" . 'stint_runs' BEGIN SELECT 1; END`}},
		"a trigger on a view":           {"trigger evil", []string{"CREATE TRIGGER evil INSTEAD OF DELETE ON stint_runs_view BEGIN SELECT 1; END"}},
		"a trigger that says otherwise": {"damaged", []string{"CREATE TABLE app (x)", hidden, "PRAGMA writable_schema = on", "UPDATE sqlite_schema SET name = 'evil', sql = 'CREATE TRIGGER evil AFTER INSERT ON stint_runs BEGIN SELECT 1; END' WHERE name = 'app_t'"}},
		"the trigger of limits changed": {"stint_runs_transition", []string{"CREATE TRIGGER stint_runs_transition AFTER INSERT ON stint_runs BEGIN SELECT 1; END"}},
		"a view for a table":            {"view stint_progress", []string{"DROP TABLE stint_progress", "CREATE VIEW stint_progress AS SELECT 1 AS run, 2 AS done, 3 AS total, '' AS message"}},
		"a column more":                 {"table stint_progress", []string{"ALTER TABLE stint_progress ADD COLUMN x INTEGER DEFAULT 1"}},
		"a table less":                  {"missing", []string{"DROP TABLE stint_progress"}},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "app.db")
			if err := must[*stint.Client](t)(stint.Open(path)).Close(); err != nil {
				t.Fatal(err)
			}
			inSQL(t, path, c.sql...)
			client, err := stint.Open(path)
			if c.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				defer client.Close()
				working(t, client)
				if n, err := stint.NewTask(client, "double", double).Run(t.Context(), 2); err != nil || n != 4 {
					t.Errorf("Run: %d, %v", n, err)
				}
				return
			}
			if err == nil {
				client.Close()
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Open: %v, want %q", err, c.want)
			}
		})
	}
}

// A workflow's run and its tasks are shown if what says how they hang together was changed by hand (R8).
func TestUnreadableGraph(t *testing.T) {
	ofFile(t)
	for _, change := range []string{"SET node = -1", "SET node = NULL", "SET node = 1 << 62", "SET flags = 0"} {
		path := filepath.Join(t.TempDir(), "app.db")
		c := openedAt(t, path)
		w := stint.NewWorkflow[int](c, "w")
		stint.AddTask(w, "a", func(_ context.Context, n int) (int, error) { return n, nil }, stint.WithWaitFor(stint.UserEvent("e")))
		enqueue(t, w, 1)
		inSQL(t, path, "UPDATE stint_runs "+change)
		page := listRuns(t, c, stint.RunFilter{})
		if len(page.Runs) == 0 {
			t.Errorf("%s: no run is listed", change)
		}
		for _, r := range page.Runs {
			if _, err := c.GetRun(t.Context(), r.ID); err != nil {
				t.Errorf("%s: %s: %v", change, r.Task, err)
			}
		}
	}
}

// A run that is due, and no longer what its time is for because somebody changed its row, is blocked: it is not due for
// ever, which would keep the store from closing (R8).
func TestStuckTimers(t *testing.T) {
	ofFile(t)
	for _, change := range []string{"node = NULL", "lease = -1", "flags = 2"} {
		path := filepath.Join(t.TempDir(), "app.db")
		c := openedAt(t, path)
		w := stint.NewWorkflow[int](c, "w")
		stint.AddTask(w, "a", func(_ context.Context, n int) (int, error) { return n, nil }, stint.WithWaitFor(stint.SleepFor(time.Hour)))
		other := stint.NewTask(c, "other", double)
		enqueue(t, w, 1)
		leave := working(t, c)
		if got := output(t, enqueue(t, other, 2)); got != 4 {
			t.Errorf("%s: got %d", change, got)
		}
		leave()
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		inSQL(t, path, "UPDATE stint_runs SET due_at = 1, "+change+" WHERE node IS NOT NULL AND due_at IS NOT NULL AND state = 5")
		c = openedAt(t, path)
		leave = working(t, c)
		if got := output(t, enqueue(t, stint.NewTask(c, "other", double), 3)); got != 6 {
			t.Errorf("%s: got %d", change, got)
		}
		leave()
		if n := len(listRuns(t, c, stint.RunFilter{States: []stint.State{stint.StateBlocked}}).Runs); n != 1 {
			t.Errorf("%s: %d blocked runs, want 1", change, n)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}
