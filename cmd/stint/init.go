package main

import (
	"context"
	"fmt"
	"regexp"
	"strings"

	"github.com/stint-dev/stint/cmd/stint/internal/scaffold"
	"github.com/urfave/cli/v3"
)

// initCommand writes a small app. It is the one command, but for those that tell of the command itself, that works on
// no database.
func initCommand(o *options) *cli.Command {
	var opts scaffold.Options
	return &cli.Command{Name: "init", Usage: "write a small app that runs into a new folder, as a start for your own", ArgsUsage: "DIR",
		Category: ofApp,
		Flags: []cli.Flag{
			textFlag("module", "the app's module `path` (example.com/ and the folder's name without it)", &opts.Module),
			textFlag("replace", "use the source of stint in this `folder`, instead of a published version", &opts.Replace),
		},
		Action: func(_ context.Context, cmd *cli.Command) error {
			out := cmd.Root().Writer
			if o.help {
				return commandUsage(out, cmd)
			}
			if cmd.NArg() != 1 {
				return usagef("stint: init: name a folder, new or empty: stint init myapp")
			}
			dir := cmd.Args().First()
			files, err := scaffold.Write(dir, opts)
			if err != nil {
				return fmt.Errorf("stint: init: %w", err)
			}
			for _, f := range files {
				fmt.Fprintln(out, "wrote "+f)
			}
			_, err = fmt.Fprintf(out, "Now: cd %s && go mod tidy && go run .\n", shellWord(dir))
			return err
		}}
}

var plainWord = regexp.MustCompile(`^[\w./-]+$`)

// shellWord returns a text as a shell takes it for one word.
func shellWord(text string) string {
	if plainWord.MatchString(text) {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}
