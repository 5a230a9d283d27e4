package main

import (
	"bufio"
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stint-dev/stint/examples/internal/database"
)

// The test binary is the program if the environment says so.
func TestMain(m *testing.M) {
	if os.Getenv("QUICKSTART_MAIN") != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// The report is the same, however often the program was killed.
func TestKilledReportIsTheSame(t *testing.T) {
	dir := sources(t, 400)
	database.Empty(t, "quickstart")
	_, want := start(t, filepath.Join(t.TempDir(), "whole.db"), dir, -1)
	if !strings.Contains(want, "2 files do not parse") {
		t.Fatalf("report:\n%s", want)
	}
	db := filepath.Join(t.TempDir(), "killed.db")
	database.Empty(t, "quickstart")
	kills := 0
	for range 12 {
		if killed, _ := start(t, db, dir, rand.IntN(24)); killed {
			kills++
		}
	}
	if kills == 0 {
		t.Error("it was never killed")
	}
	if _, got := start(t, db, dir, -1); got != want {
		t.Errorf("after %d kills the report is\n%s\nwant\n%s", kills, got, want)
	}
	t.Logf("killed %d times", kills)
}

// The README shows what the program prints, at its first start and after it was stopped.
func TestReadme(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, shown, found := strings.Cut(string(readme), "```console\n$ go run ./examples/quickstart\n")
	if shown, _, _ = strings.Cut(shown, "```"); !found {
		t.Fatal("the README does not show it")
	}
	first, second, found := strings.Cut(shown, "^CStopped. Run it again to continue.\n$ go run ./examples/quickstart\n")
	if !found {
		t.Fatalf("the README shows no second start:\n%s", shown)
	}
	db, dir := filepath.Join(t.TempDir(), "readme.db"), sources(t, 400)
	database.Empty(t, "quickstart")
	for i, want := range []string{first, second} {
		cmd := exec.Command(os.Args[0], "-db", db, dir)
		cmd.Env = append(os.Environ(), "QUICKSTART_MAIN=1")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		got := shape(string(out))
		for line := range strings.Lines(strings.TrimSuffix(want, "…\n")) {
			var found bool
			if _, got, found = strings.Cut("\n"+got, "\n"+shape(line)); !found {
				t.Errorf("start %d does not print %q behind what the README shows before it:\n%s", i+1, line, out)
			}
		}
	}
}

// shape replaces what differs from one machine to another: numbers, paths, and the rows of tables.
func shape(text string) string {
	for _, v := range []struct{ pattern, to string }{
		{`\d+(\.\d+)?`, "N"}, {`under .*; state in .*`, "under DIR; state in DB"}, {`(?m)^(  N (?:lines|files)) .*$`, "$1 ROW"},
	} {
		text = regexp.MustCompile(v.pattern).ReplaceAllString(text, v.to)
	}
	return text
}

// start runs the program and kills it after some lines about its progress (never, if negative). It
// returns the report of a program that was not killed.
func start(t *testing.T, db, dir string, lines int) (killed bool, report string) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-db", db, "-slots", "2", dir)
	cmd.Env = append(os.Environ(), "QUICKSTART_MAIN=1")
	var out bytes.Buffer
	cmd.Stdout = &out
	said, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for s := bufio.NewScanner(said); s.Scan(); lines-- {
		fmt.Fprintln(&all, s.Text())
		if lines == 0 {
			cmd.Process.Kill()
		}
	}
	err = cmd.Wait()
	if err != nil && cmd.ProcessState.Exited() {
		t.Fatalf("%v\n%s", err, all.String())
	}
	return err != nil, out.String()
}

// sources writes n Go files, two of which do not parse.
func sources(t *testing.T, n int) string {
	dir := t.TempDir()
	for i := range n {
		text := fmt.Sprintf("package p%d\n\nimport \"fmt\"\n\nfunc F%d() {\n%s}\n", i%20, i, strings.Repeat("\tfmt.Println()\n", i%50))
		if i%200 == 7 {
			text = "package broken\n\nfunc {\n"
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("f%03d.go", i)), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
