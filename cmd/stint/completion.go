package main

import (
	"context"
	"embed"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/stint-dev/stint"
	"github.com/urfave/cli/v3"
)

// The scripts of shells call stint with the words before the cursor and the library's flag --generate-shell-completion, and
// read a candidate a line, with what it means after a tab. The library's own scripts are not used: that of bash evaluates
// what is typed, and that of fish completes no names of files.

//go:embed completion
var scripts embed.FS

var shells = []string{"bash", "zsh", "fish"}

// completionTime is how long the database is asked for names.
const completionTime = 2 * time.Second

// configureCompletion has the library's command print our scripts.
func configureCompletion(o *options) func(*cli.Command) {
	return func(c *cli.Command) {
		c.Hidden, c.Description, c.Commands = false, "", nil
		c.Usage, c.ArgsUsage = "print the script that completes commands, flags and names: source <(stint completion bash)", "bash|zsh|fish"
		c.OnUsageError = usageErrorOf
		c.ShellComplete = func(_ context.Context, cmd *cli.Command) { candidates(cmd.Root().Writer, shells, "") }
		c.Action = func(_ context.Context, cmd *cli.Command) error {
			if o.help {
				return commandUsage(cmd.Root().Writer, cmd)
			}
			script, err := scripts.ReadFile("completion/" + cmd.Args().First())
			if !slices.Contains(shells, cmd.Args().First()) || err != nil || cmd.NArg() > 1 {
				return usagef("stint: completion: name a shell: %s", strings.Join(shells, ", "))
			}
			_, err = cmd.Root().Writer.Write(script)
			return err
		}
	}
}

// candidates prints candidates of one meaning. Those that a shell would split are left out.
func candidates(w io.Writer, all []string, what string) {
	for _, c := range all {
		if c != "" && !strings.ContainsFunc(c, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }) {
			fmt.Fprintf(w, "%s\t%s\n", c, what)
		}
	}
}

func printCommands(root *cli.Command) {
	for _, c := range root.Commands {
		if !c.Hidden {
			candidates(root.Writer, []string{c.Name}, c.Usage)
		}
	}
}

func completeRoot(_ context.Context, root *cli.Command) {
	if last, ok := lastFlag(root); ok {
		completeFlags(root, last)
		return
	}
	printCommands(root)
}

// lastFlag returns the word at or before the cursor, if it is a flag.
func lastFlag(cmd *cli.Command) (string, bool) {
	words := cmd.Args().Slice()
	if len(words) == 0 || !strings.HasPrefix(words[len(words)-1], "-") {
		return "", false
	}
	return words[len(words)-1], true
}

// completeFlags prints the flags that begin with a word.
func completeFlags(cmd *cli.Command, word string) {
	flags := slices.Clone(cmd.Flags)
	if cmd != cmd.Root() {
		flags = append(flags, cmd.Root().Flags...)
	}
	dashes := word[:len(word)-len(strings.TrimLeft(word, "-"))]
	for _, f := range flags {
		if name := dashes + f.Names()[0]; strings.HasPrefix(name, word) {
			_, text := flagTexts(f)
			candidates(cmd.Root().Writer, []string{name}, text)
		}
	}
}

// complete prints what may stand where the cursor is.
func (c *command) complete(ctx context.Context, cmd *cli.Command, o *options) {
	ctx, cancel := context.WithTimeout(ctx, completionTime)
	defer cancel()
	args := cmd.Args().Slice()
	last, isFlag := lastFlag(cmd)
	if isFlag {
		args = args[:len(args)-1]
	}
	known := known{ctx: ctx, o: o, args: args}
	defer known.close()
	w := cmd.Root().Writer
	name := strings.TrimLeft(last, "-")
	switch {
	case isFlag && takesValue(cmd.Root(), last):
		candidates(w, known.values(name), "")
	case isFlag:
		completeFlags(cmd, last)
	case known.open():
		places := strings.Fields(c.args)
		if at := len(known.rest); at < len(places) {
			candidates(w, known.values(strings.Trim(places[at], "[].")), "")
		}
	}
}

// known finds names that the database knows, for completion.
type known struct {
	ctx  context.Context
	o    *options
	args []string
	rest []string // after the database
	c    *stint.Client
}

// open opens the database that the words name, to read.
func (k *known) open() bool {
	db, rest, err := findDatabase(k.args, k.o)
	if err != nil {
		return false
	}
	k.rest = rest
	k.c, err = db.open(k.ctx, true)
	return err == nil
}

func (k *known) close() {
	if k.c != nil {
		k.c.Close()
	}
}

// values returns what a flag's value, or an argument of a name, may be.
func (k *known) values(what string) []string {
	switch what {
	case "state":
		return stateNames
	case "o":
		return formats
	case "span":
		return spans
	}
	if strings.Contains(what, "|") {
		return strings.Split(what, "|")
	}
	if k.c == nil && !k.open() {
		return nil
	}
	switch what {
	case "task", "TASK", "queue", "QUEUE":
		names, err := k.c.Names(k.ctx)
		if err != nil {
			return nil
		}
		if strings.EqualFold(what, "task") {
			return names.Tasks
		}
		return names.Queues
	case "ID":
		return k.runs()
	case "NAME":
		return k.crons()
	case "worker":
		return k.workers()
	case "LIMIT":
		return k.limits()
	}
	return nil
}

// runs returns the IDs of the newest runs.
func (k *known) runs() (ids []string) {
	if page, err := k.c.ListRuns(k.ctx, stint.RunFilter{Limit: 20}); err == nil {
		for i := range page.Runs {
			ids = append(ids, page.Runs[i].ID)
		}
	}
	return ids
}

func (k *known) crons() (names []string) {
	if page, err := k.c.CronPage(k.ctx, stint.CronFilter{Limit: 1000}); err == nil {
		for i := range page.Crons {
			names = append(names, page.Crons[i].Name)
		}
	}
	return names
}

func (k *known) workers() (names []string) {
	if all, err := k.c.ListWorkers(k.ctx); err == nil {
		for i := range all {
			names = append(names, all[i].Name)
		}
	}
	return names
}

func (k *known) limits() (names []string) {
	if all, err := k.c.ListConcurrency(k.ctx); err == nil {
		for i := range all {
			names = append(names, all[i].Name)
		}
	}
	return slices.Compact(names)
}
