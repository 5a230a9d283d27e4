package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v3"
)

// usage prints what commands there are.
func usage(w io.Writer, root *cli.Command) error {
	fmt.Fprintln(w, "usage: stint COMMAND [-flags] DATABASE [arguments]   (flags may stand anywhere; -- ends them)")
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, group := range groupNames(root) {
		fmt.Fprintf(t, "\n%s:\n", cmp.Or(group, "Others"))
		for _, c := range root.Commands {
			if c.Category == group && !c.Hidden {
				fmt.Fprintf(t, "  %s %s\t%s\n", c.Name, strings.TrimSpace(strings.TrimPrefix(c.ArgsUsage, "DATABASE")), c.Usage)
			}
		}
	}
	t.Flush()
	fmt.Fprintf(w, "\nFlags of all commands:\n")
	if err := printFlags(w, root.Flags); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\nDATABASE: a SQLite file, or postgres://user@host/database. Leave it out if -db, $%s or $%s names one.\n"+
		"stint help COMMAND lists the flags of one; stint version says how this program was built.\n", fileVariable, databaseVariable)
	return err
}

// groupNames returns the groups of commands in the order of the first command of each; that without a name is last.
func groupNames(root *cli.Command) (names []string) {
	for _, c := range root.Commands {
		if !slices.Contains(names, c.Category) && c.Category != "" {
			names = append(names, c.Category)
		}
	}
	return append(names, "")
}

// commandUsage prints how to use a command.
func commandUsage(w io.Writer, c *cli.Command) error {
	fmt.Fprintf(w, "usage: %s\n%s\n", usageLine(c), c.Usage)
	if len(c.Flags) > 0 {
		fmt.Fprintln(w, "\nflags:")
		if err := printFlags(w, c.Flags); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintln(w, "\nflags of all commands: -db, -schema, -o, -json, -h (stint help)")
	return err
}

// usageLine returns a command's name, with its arguments.
func usageLine(c *cli.Command) string {
	return strings.TrimSpace("stint " + c.Name + " [-flags] " + c.ArgsUsage)
}

func printFlags(w io.Writer, flags []cli.Flag) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, f := range flags {
		name, text := flagTexts(f)
		fmt.Fprintf(t, "  %s\t%s\n", name, text)
	}
	return t.Flush()
}

// flagTexts returns how a flag is written, and what it does. The word of its usage that stands in backquotes names its value,
// as in package flag.
func flagTexts(f cli.Flag) (name, text string) {
	for i, n := range f.Names() {
		if i > 0 {
			name += ", "
		}
		name += "-" + n
	}
	doc, ok := f.(cli.DocGenerationFlag)
	if !ok {
		return name, ""
	}
	text = doc.GetUsage()
	if before, rest, ok := strings.Cut(text, "`"); ok {
		value, after, _ := strings.Cut(rest, "`")
		name, text = name+" "+strings.ToUpper(strings.ReplaceAll(value, " ", "-")), before+value+after
	} else if doc.TakesValue() {
		name += " " + strings.ToUpper(doc.TypeName())
	}
	if v := doc.GetValue(); doc.TakesValue() && v != "" && v != "0" && v != "0s" {
		text += " (default " + strings.Trim(v, `"`) + ")"
	}
	return name, text
}
