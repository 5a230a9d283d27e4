package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/stint-dev/stint/internal/near"
)

// Forms of what is printed.
const (
	asTable = "table"
	asJSON  = "json"   // what the HTTP API answers
	asLines = "ndjson" // the objects of that, one a line
	asGo    = "go"     // -json: an object a line, with the names of Go's fields
)

var formats = []string{asTable, asJSON, asLines}

// checkOutput returns an error if -o has no known value.
func (o *options) checkOutput() error {
	switch {
	case o.output == "":
		return nil
	case !slices.Contains(formats, o.output):
		return usagef("stint: -o %s: want %s%s", o.output, strings.Join(formats, ", "), near.Meant(o.output, formats))
	case o.json:
		return usagef("stint: -json and -o %s: give one of them", o.output)
	}
	return nil
}

// format returns how answers are printed.
func (o *options) format() string {
	if o.json {
		return asGo
	}
	return cmp.Or(o.output, asTable)
}

// A list prints values, in parts.
type list[T any] struct {
	s      *session
	field  string // of the API's answer
	header string // of the table; "": none
	row    func(*T) string
	wire   func(*T) any // the API's object
	n      int          // printed
}

// print prints some of the values.
func (l *list[T]) print(all []T) error {
	if l.s.format() == asTable {
		t := tabwriter.NewWriter(l.s.out, 0, 0, 2, ' ', 0)
		if l.n == 0 && len(all) > 0 && l.header != "" {
			fmt.Fprintln(t, l.header)
		}
		for i := range all {
			fmt.Fprintln(t, l.row(&all[i]))
		}
		l.n += len(all)
		return t.Flush()
	}
	var failed error
	for i := range all {
		line, err := l.encode(&all[i])
		if err != nil {
			failed = errors.Join(failed, err) // print the others all the same
			continue
		}
		if _, err := l.s.out.Write(line); err != nil {
			return err
		}
		l.n++
	}
	return failed
}

// encode returns what is printed of a value in JSON.
func (l *list[T]) encode(v *T) ([]byte, error) {
	if l.s.format() == asGo {
		line, err := json.Marshal(v)
		return append(line, '\n'), err
	}
	line, err := json.Marshal(l.wire(v))
	switch {
	case err != nil:
		return nil, err
	case l.s.format() == asLines:
		return append(line, '\n'), nil
	case l.n == 0:
		return append([]byte(l.begin()), line...), nil
	}
	return append([]byte(","), line...), nil
}

func (l *list[T]) begin() string { return `{"` + l.field + `":[` }

// end prints what follows the last value: in a document of JSON a field of the given name, such as next, if it has a value.
func (l *list[T]) end(name string, value any) error {
	if l.s.format() != asJSON {
		return nil
	}
	text := "]}\n"
	if l.n == 0 {
		text = l.begin() + text
	}
	if value != nil && value != "" {
		v, err := json.Marshal(value)
		if err != nil {
			return err
		}
		text = strings.Replace(text, "]}", fmt.Sprintf(`],"%s":%s}`, name, v), 1)
	}
	_, err := io.WriteString(l.s.out, text)
	return err
}

// printAll prints a list that is all there is.
func (l *list[T]) printAll(all []T) error {
	if err := l.print(all); err != nil {
		return err
	}
	return l.end("", nil)
}

// encode prints an object: of the HTTP API, or with -json another.
func (s *session) encode(wire, old any) error {
	if s.format() == asGo {
		wire = old
	}
	return json.NewEncoder(s.out).Encode(wire)
}

// columns returns a row of a table.
func columns(values ...any) string {
	texts := make([]string, len(values))
	for i, v := range values {
		texts[i] = fmt.Sprint(v)
	}
	return strings.Join(texts, "\t")
}

// printID prints the ID of a new run or event.
func (s *session) printID(what, id string) error {
	if s.format() != asTable {
		return json.NewEncoder(s.out).Encode(map[string]string{what: id})
	}
	_, err := fmt.Fprintln(s.out, id)
	return err
}

// printDone answers what has nothing to print but that it was done.
func (s *session) printDone(err error) error {
	if err != nil || s.output == "" || s.output == asTable {
		return err
	}
	return json.NewEncoder(s.out).Encode(map[string]bool{"done": true})
}

func formatTime(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Local().Format("2006-01-02 15:04:05")
}

// truncate returns the beginning of a text as one printable line.
func truncate[T ~[]byte | ~string](text T) string {
	const most = 60
	var b strings.Builder
	for i, r := range string(text) {
		if i > most {
			return b.String() + "…"
		}
		b.WriteRune(printable(r))
	}
	return b.String()
}

// oneLine returns a text as one printable line.
func oneLine(text string) string { return strings.Map(printable, text) }

// printableLines returns a text of several lines as printable lines.
func printableLines(text string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' {
			return r
		}
		return printable(r)
	}, text)
}

// printable returns r, or a space if r could move the cursor or change colours or the direction of
// text.
func printable(r rune) rune {
	if !unicode.IsPrint(r) {
		return ' '
	}
	return r
}

// yesOrEmpty returns "yes" or "".
func yesOrEmpty(is bool) string {
	if is {
		return "yes"
	}
	return ""
}
