package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/urfave/cli/v3"
	"golang.org/x/term"
)

func topFlags(o *options) []cli.Flag {
	return []cli.Flag{
		boolFlag("once", "print one view and end, as when the output is no terminal", &o.once),
		&cli.DurationFlag{Name: "every", Usage: "`interval` between two views", Value: time.Second, Destination: &o.refresh},
	}
}

// Sequences of terminals: https://invisible-island.net/xterm/ctlseqs/ctlseqs.html.
const (
	enterScreen = "\x1b[?1049h\x1b[?25l" // the other screen, without a cursor
	leaveScreen = "\x1b[?25h\x1b[?1049l"
	homeCursor  = "\x1b[H"
	clearLine   = "\x1b[K"
	clearBelow  = "\x1b[J"
	bold, plain = "\x1b[1m", "\x1b[m"
)

// top shows what a database does, live on a terminal.
func top(ctx context.Context, s *session) error {
	v := &view{s: s, width: 160, height: 60, name: s.db.name()}
	file, ok := s.out.(*os.File)
	if s.once || !ok || !term.IsTerminal(int(file.Fd())) {
		lines, err := v.lines(ctx)
		if err == nil {
			err = v.write(s.out, lines, false)
		}
		return err
	}
	keys, restore := readKeys()
	defer restore()
	io.WriteString(file, enterScreen)
	defer io.WriteString(file, leaveScreen)
	tick := time.NewTicker(max(s.refresh, 100*time.Millisecond))
	defer tick.Stop()
	for {
		if w, h, err := term.GetSize(int(file.Fd())); err == nil && w > 0 && h > 0 {
			v.width, v.height = w, h
		}
		lines, err := v.lines(ctx)
		if err != nil {
			return ignoreInterrupt(ctx, err)
		}
		if err := v.write(file, lines, true); err != nil {
			return err
		}
		if !v.waitFor(ctx, tick.C, keys) {
			return nil
		}
	}
}

// waitFor waits for the time of the next view. It returns false if the person has seen enough.
func (v *view) waitFor(ctx context.Context, tick <-chan time.Time, keys <-chan byte) bool {
	for {
		select {
		case <-ctx.Done():
			return false
		case <-tick:
			if !v.held {
				return true
			}
		case k := <-keys:
			switch k {
			case 'q', 'Q', 3, 27: // also Ctrl-C and Escape
				return false
			case ' ', 'p':
				v.held = !v.held
			}
			return true
		}
	}
}

// readKeys returns the keys that are pressed, and a function that makes the terminal as it was. A read that waits for a key
// ends with the process.
func readKeys() (keys chan byte, restore func()) {
	in := int(os.Stdin.Fd())
	before, err := term.MakeRaw(in)
	if err != nil {
		return nil, func() {} // no keys; an interrupt ends it
	}
	keys = make(chan byte)
	go func() {
		for b := make([]byte, 1); ; {
			if n, err := os.Stdin.Read(b); err != nil || n == 0 {
				return
			}
			keys <- b[0]
		}
	}()
	return keys, func() { term.Restore(in, before) }
}

// write prints a view: the first lines that fit, without what was there before.
func (v *view) write(w io.Writer, lines []viewLine, screen bool) error {
	text := ""
	for i, l := range lines {
		if screen && i >= v.height {
			break
		}
		if !screen {
			text += l.text + "\n"
			continue
		}
		if i > 0 {
			text += "\r\n"
		}
		line := cutColumns(l.text, v.width)
		if l.head {
			line = bold + line + plain
		}
		text += clearLine + line // in this order: after the last column it would clear that
	}
	if screen {
		text = homeCursor + text + clearBelow
	}
	_, err := io.WriteString(w, text)
	return err
}

// cutColumns returns what fits into a number of columns.
func cutColumns(text string, width int) string {
	n := 0
	for i := range text {
		if n++; n > width {
			return text[:i]
		}
	}
	return text
}

// name returns how a person names the database: without a password.
func (d *database) name() string {
	if d.url == "" {
		return d.path
	}
	return fmt.Sprintf("PostgreSQL, schema %s", d.options.Schema)
}
