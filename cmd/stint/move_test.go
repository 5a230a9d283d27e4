package main

import (
	"path/filepath"
	"strings"
	"testing"
)

// A file moves into a schema and back, and each command says what has become of what it names.
func TestMove(t *testing.T) {
	schema, path := newSchema(t), worked(t)
	runs := must(t, "succeeded", "runs", path)
	for want, args := range map[string][]string{
		"the database to move to is missing": {"move", path},
		"is neither":                         {"move", path, path + "2"},
		"does not exist":                     {"move", path + "2", serverURL},
	} {
		if got, err := ask(t, args...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("stint %q: %v\n%s\nwant %q", args, err, got, want)
		}
	}
	must(t, "the move is forgotten", "move", "-cancel", "-schema", schema, path, serverURL)
	must(t, "the file refuses every write", "move", "-schema", schema, path, serverURL)
	must(t, "nothing is left to do", "move", "-schema", schema, path, serverURL)
	if got := must(t, "succeeded", "runs", "-schema", schema, serverURL); got != runs {
		t.Errorf("runs after the move:\n%s\nbefore:\n%s", got, runs)
	}
	for _, args := range [][]string{{"runs", path}, {"enqueue", path, "steps", "1"}, {"move", "-cancel", "-schema", schema, path, serverURL}} {
		if got, err := ask(t, args...); err == nil || !strings.Contains(err.Error(), "has moved to postgres://") {
			t.Errorf("stint %q: %v\n%s", args, err, got)
		}
	}
	back := filepath.Join(t.TempDir(), "back.db")
	must(t, `"runs":1`, "move", "-json", "-schema", schema, serverURL, back)
	if got := must(t, "succeeded", "runs", back); got != runs {
		t.Errorf("runs after the move back:\n%s\nbefore:\n%s", got, runs)
	}
	if got, err := ask(t, "runs", "-schema", schema, serverURL); err == nil || !strings.Contains(err.Error(), "has moved to "+back) {
		t.Errorf("runs of the database that has moved: %v\n%s", err, got)
	}
	must(t, "no problem found", "doctor", back)
}
