package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/internal/build"
	"github.com/stint-dev/stint/internal/near"
	"github.com/urfave/cli/v3"
)

// runCommand runs the command that the arguments name.
func runCommand(ctx context.Context, args []string, out, errs io.Writer) error {
	root := newApp(out, errs)
	return root.Run(ctx, append([]string{root.Name}, markNumbers(root, args)...))
}

// The library's own -h would read DATABASE as the name of a command.
func init() { cli.HelpFlag = nil }

// newApp returns the definitions of all commands and flags.
func newApp(out, errs io.Writer) *cli.Command {
	o := new(options)
	root := &cli.Command{
		Name: "stint", Usage: "shows what a stint database holds, and acts on it, also while programs have it open",
		Writer: out, ErrWriter: errs, Flags: globalFlags(o),
		HideHelp: true, HideHelpCommand: true, HideVersion: true,
		ExitErrHandler:        func(context.Context, *cli.Command, error) {}, // main says how the process ends
		EnableShellCompletion: true, ConfigureShellCompletionCommand: configureCompletion(o), ShellComplete: completeRoot,
	}
	root.Action = func(_ context.Context, cmd *cli.Command) error {
		switch {
		case o.help && !cmd.Args().Present():
			return usage(out, root)
		case o.version:
			_, err := fmt.Fprintln(out, version())
			return err
		case !cmd.Args().Present():
			usage(errs, root)
			return usagef("stint: name a command")
		}
		return unknownCommand(root, cmd.Args().First())
	}
	for i := range commands {
		root.Commands = append(root.Commands, commands[i].define(o))
	}
	root.Commands = append(root.Commands, initCommand(o), helpCommand(o), versionCommand(o))
	for _, c := range root.Commands {
		c.OnUsageError = usageErrorOf
	}
	root.OnUsageError = usageErrorOf
	return root
}

// define returns the library's definition of a command.
func (c *command) define(o *options) *cli.Command {
	d := &cli.Command{Name: c.name, Usage: c.what, ArgsUsage: strings.TrimSpace("DATABASE " + c.args), Category: c.group()}
	if c.flags != nil {
		d.Flags = c.flags(o)
	}
	d.Action = func(ctx context.Context, cmd *cli.Command) error { return c.execute(ctx, cmd, o) }
	d.ShellComplete = func(ctx context.Context, cmd *cli.Command) { c.complete(ctx, cmd, o) }
	return d
}

func helpCommand(o *options) *cli.Command {
	return &cli.Command{Name: "help", Usage: "list the commands, or say what one does and list its flags", ArgsUsage: "[COMMAND]",
		ShellComplete: func(_ context.Context, cmd *cli.Command) { printCommands(cmd.Root()) },
		Action: func(_ context.Context, cmd *cli.Command) error {
			name := cmd.Args().First()
			if name == "" || o.help {
				return usage(cmd.Root().Writer, cmd.Root())
			}
			if c := cmd.Root().Command(name); c != nil {
				return commandUsage(cmd.Root().Writer, c)
			}
			return unknownCommand(cmd.Root(), name)
		}}
}

func versionCommand(o *options) *cli.Command {
	return &cli.Command{Name: "version", Usage: "say how this program was built",
		Action: func(_ context.Context, cmd *cli.Command) error {
			if o.help {
				return commandUsage(cmd.Root().Writer, cmd)
			}
			_, err := fmt.Fprintln(cmd.Root().Writer, version())
			return err
		}}
}

// version returns the version of the module, the commit if it is known, and the version of Go.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "stint, built without modules"
	}
	text := "stint " + build.Version()
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			text += ", commit " + s.Value
		}
	}
	return text + ", " + info.GoVersion
}

func unknownCommand(root *cli.Command, name string) error {
	var names []string
	for _, c := range root.Commands {
		names = append(names, c.Name)
	}
	return usagef("stint: there is no command %q%s; stint help lists them", name, near.Meant(name, names))
}

// usageErrorOf makes the library's error for a wrong flag one that names similar flags. The error for a command that does
// not exist comes first: its flags are not known.
func usageErrorOf(_ context.Context, cmd *cli.Command, err error, isCommand bool) error {
	if !isCommand && cmd.Args().Present() {
		return unknownCommand(cmd, cmd.Args().First())
	}
	text, name := err.Error(), ""
	if _, flag, ok := strings.Cut(text, "not defined: -"); ok {
		var names []string
		for _, f := range append(slices.Clone(cmd.Flags), cmd.Root().Flags...) {
			names = append(names, "-"+f.Names()[0])
		}
		name = near.Meant("-"+strings.TrimLeft(flag, "-"), names)
	}
	if !isCommand {
		return usagef("stint: %s; the flags of a command follow its name, and stint help COMMAND lists them", text)
	}
	return usagef("stint: %s: %s; stint help %s lists the flags%s", cmd.Name, text, cmd.Name, name)
}

// execute runs a command whose flags are in o.
func (c *command) execute(ctx context.Context, cmd *cli.Command, o *options) error {
	out, errs := cmd.Root().Writer, cmd.Root().ErrWriter
	if o.help {
		return commandUsage(out, cmd)
	}
	args := slices.Clone(cmd.Args().Slice())
	for i := range args {
		args[i] = strings.TrimPrefix(args[i], numberMark)
	}
	db, args, err := findDatabase(args, o)
	if err != nil {
		return err
	}
	if err := errors.Join(c.checkArgs(&db, args), c.checkFlags(cmd, o)); err != nil {
		return err
	}
	s := &session{options: o, db: db, args: args, out: out}
	if c.unopened {
		return c.run(ctx, s)
	}
	log := slog.New(slog.NewTextHandler(errs, &slog.HandlerOptions{Level: slog.LevelWarn}))
	if s.c, err = db.open(ctx, c.onlyReads(o, args), stint.WithLogger(log)); err != nil {
		return err
	}
	return errors.Join(c.run(ctx, s), s.c.Close())
}

// checkArgs returns an error if there are too many arguments.
func (c *command) checkArgs(db *database, args []string) error {
	most := len(strings.Fields(c.args))
	if len(args) > most && !strings.Contains(c.args, "...") {
		where := ""
		if db.from != "" {
			where = "; " + db.from + " names the database"
		}
		return usagef("stint: %q is too much: want stint %s%s", args[most], strings.TrimSpace(c.name+" [-flags] DATABASE "+c.args), where)
	}
	return nil
}

// checkFlags returns an error if a flag has an empty text, such as an unset variable of a script.
// The command would ignore such a flag and do more than what was meant.
func (c *command) checkFlags(cmd *cli.Command, o *options) (err error) {
	for _, f := range append(slices.Clone(cmd.Flags), cmd.Root().Flags...) {
		if text, ok := f.Get().(interface{ String() string }); f.IsSet() && (f.Get() == "" || ok && text.String() == "") {
			err = usagef("stint: -%s is empty: give a value, or leave it out", f.Names()[0])
		}
	}
	if c.onlyText() && (o.output != "" || o.json) {
		return usagef("stint: %s has no answer for -o or -json: leave it out", c.name)
	}
	if o.limit < 0 {
		return usagef("stint: -limit %d: want 0, for 100, or more", o.limit)
	}
	return errors.Join(err, o.checkOutput())
}

// numberMark begins an argument that is a negative number. The library would read it, and all arguments after it, flags
// included, as no flags.
const numberMark = "\x00"

// markNumbers returns the arguments with a mark before negative numbers that are no values of flags.
func markNumbers(root *cli.Command, args []string) []string {
	args = slices.Clone(args)
	for i, a := range args {
		if a == "--" {
			break
		}
		number := strings.TrimSpace(a) // as the library does
		if _, err := strconv.ParseFloat(number, 64); err == nil && number[0] == '-' && (i == 0 || !takesValue(root, args[i-1])) {
			args[i] = numberMark + a
		}
	}
	return args
}

// takesValue reports whether an argument is a flag whose value is the next argument.
func takesValue(root *cli.Command, arg string) bool {
	name := strings.TrimLeft(arg, "-")
	if name == arg || strings.Contains(name, "=") {
		return false
	}
	all := slices.Clone(root.Flags)
	for _, c := range root.Commands {
		all = append(all, c.Flags...)
	}
	return slices.ContainsFunc(all, func(f cli.Flag) bool {
		doc, ok := f.(cli.DocGenerationFlag)
		return ok && doc.TakesValue() && slices.Contains(f.Names(), name)
	})
}
