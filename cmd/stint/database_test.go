package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/store/postgres"
)

// newSchema returns the name of a schema of the server for tests, which is dropped after the test.
func newSchema(t *testing.T) string {
	t.Helper()
	if serverURL == "" {
		t.Skip("set STINT_DATABASE_URL to the URL of a PostgreSQL database")
	}
	schema := "c_" + strings.ToLower(rand.Text()[:12])
	t.Cleanup(func() {
		if err := postgres.Drop(context.Background(), serverURL, postgres.Options{Schema: schema}); err != nil {
			t.Error(err)
		}
	})
	return schema
}

// Tables are made by migrate, or by a program that opens the database: by no other command.
func TestMigrate(t *testing.T) {
	schema := newSchema(t)
	for _, c := range commands {
		args := []string{c.name, "-schema", schema, serverURL, "x", "x"}[:4+min(2, len(strings.Fields(c.args)))]
		if c.unopened {
			continue
		}
		if got, err := ask(t, args...); err == nil || !strings.Contains(err.Error(), "none of stint's tables") || !strings.Contains(err.Error(), "stint migrate") {
			t.Errorf("stint %s without tables: %v\n%s", c.name, err, got)
		}
	}
	must(t, "would be updated from version 0 to 1", "migrate", "-n", "-schema", schema, serverURL)
	must(t, `{"dry_run":true,"from":0,"schema":"`+schema+`","to":1}`, "migrate", "-n", "-json", "-schema", schema, serverURL)
	must(t, "the tables of version 1 were created", "migrate", "-schema", schema, serverURL)
	must(t, "has version 1: nothing to do", "migrate", "-schema", schema, serverURL)
	must(t, "no problem found", "doctor", "-schema", schema, serverURL)
	must(t, "", "runs", "-schema", schema, serverURL)
}

// The commands work on a server's database as they do on a file.
func TestCommandsOnServer(t *testing.T) {
	schema := newSchema(t)
	s, err := postgres.Open(t.Context(), serverURL, postgres.Options{Schema: schema})
	if err != nil {
		t.Fatal(err)
	}
	c, err := stint.New(s)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close() // the program has it open meanwhile
	workOn(t, c)
	defaultSchema = schema
	defer func() { defaultSchema = "stint" }()
	useAll(t, serverURL)
	copied := filepath.Join(t.TempDir(), "copy")
	if got, err := ask(t, "backup", serverURL, copied); err == nil || !strings.Contains(err.Error(), "pg_dump --format=custom --schema="+schema+" --file="+copied) {
		t.Errorf("backup: %v\n%s", err, got)
	}
}

// Without an argument that names a database, the environment's is used; it never stands in for one that
// was named.
func TestDatabaseOfTheEnvironment(t *testing.T) {
	path, other := worked(t), worked(t)
	t.Setenv(databaseVariable, path)
	must(t, "steps", "runs")
	line := must(t, "succeeded", "runs", "-json", "-limit", "1")
	var r struct{ ID string }
	if err := json.Unmarshal([]byte(line), &r); err != nil {
		t.Fatal(err)
	}
	must(t, "seen x", "run", r.ID)
	id := must(t, "", "enqueue", "steps", `"of the environment"`)
	must(t, "of the environment", "run", id)
	must(t, "", "pause", other, "default")
	must(t, "true", "queues", other)
	must(t, "false", "queues")
	for want, args := range map[string][]string{
		"$STINT_DATABASE_URL names the database": {"runs", path + "x"},
		"no task":                                {"enqueue", "app.db", `"x"`},
		"not found":                              {"run", other, r.ID},
	} {
		if got, err := ask(t, args...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("stint %q: %v\n%s\nwant %q", args, err, got, want)
		}
	}
	os.Unsetenv(databaseVariable)
	if got, err := ask(t, "runs"); err == nil || !strings.Contains(err.Error(), "name a file") {
		t.Errorf("without one: %v\n%s", err, got)
	}
}
