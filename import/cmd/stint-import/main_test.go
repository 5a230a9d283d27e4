package main

import (
	"bytes"
	"database/sql"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riversqlite"
	"github.com/riverqueue/river/rivermigrate"
)

type email struct {
	To string `json:"to"`
}

func (email) Kind() string { return "email" }

// riverFile returns the path of a SQLite file with a job that River's client has inserted.
func riverFile(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "river.db")
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	m, err := rivermigrate.New(riversqlite.New(db), nil)
	if err == nil {
		_, err = m.Migrate(t.Context(), rivermigrate.DirectionUp, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	c, err := river.NewClient(riversqlite.New(db), &river.Config{})
	if err == nil {
		_, err = c.Insert(t.Context(), email{"ann"}, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func TestCommand(t *testing.T) {
	from, dir := riverFile(t), t.TempDir()
	to, good, bad := filepath.Join(dir, "app.db"), filepath.Join(dir, "map.json"), filepath.Join(dir, "bad.json")
	for path, text := range map[string]string{good: `{"kinds": {"email": "send-mail"}}`, bad: `{"kinds": {}}`} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct{ want, args string }{
		{"! the kind is not mapped", "river -map " + bad + " " + from + " " + to},
		{"1 jobs would be enqueued", "river -map " + good + " -dry-run " + from},
		{"1 jobs were enqueued, 0 had been before", "river -map " + good + " " + from + " " + to},
		{"0 jobs were enqueued, 1 had been before", "river -map " + good + " " + from + " " + to},
	} {
		if _, err := os.Stat(to); strings.Contains(tt.args, "-dry-run") && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the database exists before the first import: %v", err)
		}
		var out bytes.Buffer
		err := run(t.Context(), strings.Fields(tt.args), &out)
		if !strings.Contains(out.String(), tt.want) || (err != nil) != strings.Contains(tt.args, bad) {
			t.Errorf("stint-import %s: %v\n%s\nwant %q", tt.args, err, &out, tt.want)
		}
	}
	for _, wrong := range []string{"", "river", "river -map " + good + " " + from, "oban -map " + good + " a b"} {
		if err := run(t.Context(), strings.Fields(wrong), &bytes.Buffer{}); !errors.Is(err, errUsage) {
			t.Errorf("stint-import %s: %v", wrong, err)
		}
	}
}

// Which version is installed is asked without a source.
func TestVersion(t *testing.T) {
	var out bytes.Buffer
	if err := run(t.Context(), []string{"-version"}, &out); err != nil || !strings.HasPrefix(out.String(), "stint-import ") {
		t.Errorf("stint-import -version: %v\n%s", err, &out)
	}
}
