package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
)

// printRows prints values as a table, or with -json each as a line of JSON.
func printRows[T any](s *session, header string, all []T, row func(T) string) error {
	if s.json {
		var failed error
		for _, v := range all {
			line, err := json.Marshal(v)
			if err != nil {
				failed = errors.Join(failed, err) // print the others all the same
				continue
			}
			if _, err := s.out.Write(append(line, '\n')); err != nil {
				return err
			}
		}
		return failed
	}
	t := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
	if len(all) > 0 && header != "" {
		fmt.Fprintln(t, header)
	}
	for _, v := range all {
		fmt.Fprintln(t, row(v))
	}
	return t.Flush()
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
	if s.json {
		return json.NewEncoder(s.out).Encode(map[string]string{what: id})
	}
	_, err := fmt.Fprintln(s.out, id)
	return err
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
