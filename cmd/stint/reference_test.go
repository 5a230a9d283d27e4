package main

import (
	"bytes"
	"cmp"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/urfave/cli/v3"
)

var update = flag.Bool("update", false, "write docs/command.md")

const referenceHead = `# The command stint

<!-- Written by TestReference from the command's definitions: go test ./cmd/stint -run Reference -update -->

` + "    go install github.com/stint-dev/stint/cmd/stint@latest\n    stint COMMAND [-flags] DATABASE [arguments]" + `

DATABASE is a SQLite file, or a PostgreSQL URL as of libpq. Leave it out if ` + "`-db`, `$STINT_DB` or `$STINT_DATABASE_URL`" + ` names one. If a variable
does, a first argument is DATABASE only if it is a URL or a SQLite file. Programs may have the database open meanwhile. Commands that only list or show change nothing.

Flags may stand anywhere, with one dash or two; ` + "`--`" + ` ends them. Those that may be given several times also take a list with commas. A name of a
command, flag, task, queue or state that is not known is an error that suggests similar ones.

` + "`-o json`" + ` prints what the [page's HTTP API](http-api.md) answers to the same question, ` + "`-o ndjson`" + ` the objects in that answer, one a line; an
action answers ` + "`changed`, `run`, `event` or `done`" + `. The exit status is 0, 1 if something failed, or 2 if the command was used wrongly; then nothing was done.

` + "`stint completion bash`" + ` (or zsh, fish) prints a script that completes commands, flags, states, and the names that the database knows.

`

// writeReference writes the reference of all commands and flags.
func writeReference(w io.Writer) {
	root := newApp(io.Discard, io.Discard)
	fmt.Fprint(w, referenceHead, "## Flags of all commands\n\n")
	referenceFlags(w, root.Flags)
	for _, group := range groupNames(root) {
		fmt.Fprintf(w, "## %s\n\n", cmp.Or(group, "Others"))
		for _, c := range root.Commands {
			if c.Category != group || c.Hidden {
				continue
			}
			fmt.Fprintf(w, "### %s\n\n    %s\n\n%s%s.\n\n", c.Name, usageLine(c), strings.ToUpper(c.Usage[:1]), c.Usage[1:])
			referenceFlags(w, c.Flags)
		}
	}
}

func referenceFlags(w io.Writer, flags []cli.Flag) {
	for _, f := range flags {
		name, text := flagTexts(f)
		fmt.Fprintf(w, "- `%s`: %s\n", name, text)
	}
	if len(flags) > 0 {
		fmt.Fprintln(w)
	}
}

// docs/command.md lists the commands and flags as they are.
func TestReference(t *testing.T) {
	const path = "../../docs/command.md"
	var want bytes.Buffer
	writeReference(&want)
	text := append(bytes.TrimRight(want.Bytes(), "\n"), '\n')
	if *update {
		if err := os.WriteFile(path, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(bytes.ReplaceAll(got, []byte("\r\n"), []byte("\n")), text) {
		t.Errorf("%s is not what the definitions say (%v): go test ./cmd/stint -run Reference -update", path, err)
	}
}
