package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/store/postgres"
)

// exported exports a database to a file, and returns its path.
func exported(t *testing.T, args ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "export.ndjson")
	if err := os.WriteFile(path, []byte(must(t, `"task":"steps"`, append([]string{"export"}, args...)...)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// A file is exported and imported: the new one has all, and its cron and its runs go on.
func TestExport(t *testing.T) {
	path := worked(t)
	id := must(t, "", "enqueue", path, "steps", `"later"`, "-delay", "1h", "-key", "k")
	file, copied := exported(t, path), filepath.Join(t.TempDir(), "new.db")
	for _, want := range []string{`{"stint_export":1,`, `"run":"` + id + `"`, `"state":"scheduled"`, `"table":"crons"`, `"table":"journal"`,
		`"table":"logs"`, `"input":{"json":"later"}`, `{"end":{"rows":`} {
		if text, err := os.ReadFile(file); err != nil || !strings.Contains(string(text), want) {
			t.Errorf("the export lacks %s (%v):\n%s", want, err, text)
		}
	}
	must(t, "2 runs would be imported", "import", "-dry-run", copied, file)
	if _, err := os.Stat(copied); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("-dry-run makes a file: %v", err)
	}
	must(t, "imported 2 runs", "import", copied, file)
	for _, args := range [][]string{{"runs"}, {"cron"}, {"run", id}, {"events"}, {"queues"}} {
		want, got := must(t, "", append(args, "-db", path, "-json")...), must(t, "", append(args, "-db", copied, "-json")...)
		if want != got {
			t.Errorf("%q tells\n%s\nof the import, and of the file\n%s", args, got, want)
		}
	}
	must(t, id, "enqueue", copied, "steps", `"again"`, "-key", "k") // the key holds
	must(t, "no problem found", "doctor", copied)
	workOn(t, opened(t, copied))

	for want, args := range map[string][]string{
		"exists: import makes a new": {"import", copied, file},
		"export printed is missing":  {"import", copied + "2"},
		"no stint_export":            {"import", copied + "2", jsonFile(t)},
		"does not exist":             {"export", copied + "2"},
		"no such file":               {"import", copied + "2", file + "2"},
	} {
		if got, err := ask(t, args...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("stint %q: %v\n%s\nwant %q", args, err, got, want)
		}
	}
}

// jsonFile returns the path of a file with JSON that is no export.
func jsonFile(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "other.json")
	if err := os.WriteFile(path, []byte("{}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// opened returns a client on a file, which is closed after the test.
func opened(t *testing.T, path string) *stint.Client {
	t.Helper()
	c, err := stint.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// A server's database is exported while a program has it open, and imported into another.
func TestExportOnServer(t *testing.T) {
	from, to := newSchema(t), newSchema(t)
	s, err := postgres.Open(t.Context(), serverURL, postgres.Options{Schema: from})
	if err != nil {
		t.Fatal(err)
	}
	c, err := stint.New(s)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	workOn(t, c)
	file := exported(t, "-schema", from, serverURL)
	must(t, "1 runs would be imported", "import", "-dry-run", "-schema", to, serverURL, file)
	must(t, `"runs":1`, "import", "-json", "-schema", to, serverURL, file)
	want, got := must(t, "succeeded", "runs", "-schema", from, serverURL), must(t, "succeeded", "runs", "-schema", to, serverURL)
	if want != got {
		t.Errorf("runs of the import:\n%s\nand of the database:\n%s", got, want)
	}
	if got, err := ask(t, "import", "-schema", to, serverURL, file); err == nil || !strings.Contains(err.Error(), "has runs: import makes a new") {
		t.Errorf("import into a database with runs: %v\n%s", err, got)
	}
	must(t, "imported 1 runs", "import", filepath.Join(t.TempDir(), "new.db"), file)
}
