package ui

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf16"

	"github.com/stint-dev/stint"
)

var errNoPage = errors.New("there is no such page")

// timestamp returns a time element. It holds the exact time in UTC; app.js shows it relative to
// now, in the viewer's zone.
func timestamp(t time.Time) node {
	if t.IsZero() {
		return placeholder("–")
	}
	return el("time", attr("datetime", t.UTC().Format(time.RFC3339Nano)), t.UTC().Format("2006-01-02 15:04:05.000 MST"))
}

// formatDuration returns a duration with about three digits.
func formatDuration(d time.Duration) string {
	switch {
	case d < 0:
		return "–"
	case d < time.Microsecond:
		return "0"
	case d < time.Millisecond:
		return fmt.Sprintf("%.3g ms", float64(d)/1e6)
	case d < time.Second:
		return fmt.Sprintf("%.0f ms", float64(d)/1e6)
	case d < time.Minute:
		return strings.TrimSuffix(strings.TrimRight(fmt.Sprintf("%.2f", d.Seconds()), "0"), ".") + " s"
	case d < time.Hour:
		return fmt.Sprintf("%d min %d s", int(d.Minutes()), int(d.Seconds())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}

// stateBadge returns a state as a sign, which tells it without colour, and a word.
func stateBadge(s stint.State) node {
	return el("span.st.st-"+s.String(), icon("st-"+s.String()), el("span", s))
}

// stateSign returns a state as a sign alone.
func stateSign(s stint.State) node {
	return el("span.st.st-"+s.String(), attr("title", s.String()), icon("st-"+s.String()), el("span.vh", s))
}

// escapeInvisible returns s with escapes in place of characters that are invisible or change the
// direction or look of their neighbours.
func escapeInvisible(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '\n' || r == '\t', unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			for _, unit := range utf16.AppendRune(nil, r) { // as in JSON, so that a payload stays valid
				fmt.Fprintf(&b, `\u%04x`, unit)
			}
		}
	}
	return b.String()
}

// truncate returns the first n characters of a text.
func truncate(n int, s string) string {
	if len(s) > 4*n {
		s = s[:4*n+4] // enough for n characters: do not decode the rest
	}
	if r := []rune(s); len(r) > n {
		return string(r[:n]) + "…"
	}
	return s
}

// shortID returns the end of an ID, which differs also between runs of the same moment.
func shortID(id string) string { return id[max(len(id)-8, 0):] }

func formatBytes(n int64) string {
	switch {
	case n < 1<<10:
		return fmt.Sprintf("%d B", n)
	case n < 1<<20:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	case n < 1<<30:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.2f GiB", float64(n)/(1<<30))
}

// formatCount returns a number with thousands separators; "10,000+" where the client stopped counting.
func formatCount(n any) string {
	var s string
	switch n := n.(type) {
	case int:
		if n == maxCounted {
			return "10,000+"
		}
		s = strconv.Itoa(n)
	case int64:
		s = strconv.FormatInt(n, 10)
	case float64:
		return strconv.FormatFloat(n, 'g', 3, 64)
	}
	return thousands(s)
}

// thousands inserts thousands separators.
func thousands(s string) string {
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// formatNumber returns an exact number with thousands separators.
func formatNumber(n int) string { return thousands(strconv.Itoa(n)) }

const (
	maxCounted   = 10_000 // the client stops counting here
	maxOpenItems = 100    // entries of one list or object that are shown at first
	maxDepth     = 64     // of a payload that is shown as a tree
)

// A treeSize bounds the tree of a payload.
type treeSize struct {
	bytes   int // of a payload; a larger one is shown as text, truncated to preview
	nodes   int // values that are shown
	preview int // characters of a payload that is too large
}

var (
	wholeTree = treeSize{64 << 10, 2000, 4096} // on the run's own page
	smallTree = treeSize{1 << 10, 100, 300}    // in lists
)

// jsonTree returns a payload as nested lists that open and close. All of it is escaped.
func jsonTree(payload json.RawMessage, size treeSize) node {
	if len(payload) == 0 {
		return placeholder("none")
	}
	beginning := func(text string) node { return el("pre.json", attr("tabindex", "0"), text) }
	inAll := el("p.none", formatBytes(int64(len(payload)))+" in all; the beginning:")
	if len(payload) > size.bytes {
		return group(inAll, beginning(truncate(size.preview, string(payload))))
	}
	t := treeReader{json.NewDecoder(bytes.NewReader(payload)), size.nodes}
	t.d.UseNumber()
	tree, err := t.value(0)
	switch {
	case errors.Is(err, errTreeFull):
		return group(inAll, el("div.json", tree))
	case err != nil:
		return beginning(string(payload))
	}
	return el("div.json", tree)
}

type treeReader struct {
	d    *json.Decoder
	left int // values that may still be shown
}

// errTreeFull ends a tree of too many values. What came before is shown.
var errTreeFull = errors.New("the tree is full")

// value returns the next value, its fields in the order of the payload.
func (t *treeReader) value(depth int) (node, error) {
	token, err := t.d.Token()
	if err != nil {
		return nil, err
	}
	t.left--
	opens, ok := token.(json.Delim)
	if !ok {
		return scalar(token), nil
	}
	brackets, kind := "{}", "object"
	if opens == '[' {
		brackets, kind = "[]", "list"
	}
	if !t.d.More() {
		_, err := t.d.Token()
		return el("span", brackets), err
	}
	if depth == maxDepth {
		return nil, errors.New("too deep")
	}
	items, err := t.items(opens, depth)
	if err != nil && !errors.Is(err, errTreeFull) {
		return nil, err
	}
	if err == nil {
		_, err = t.d.Token()
	}
	return el("details", when(depth < 3, attr("open")), el("summary", kind), el("ul", items...)), err
}

// items returns the values of a list or an object, with errTreeFull if there are more than may
// be shown.
func (t *treeReader) items(opens json.Delim, depth int) (items []any, err error) {
	for n := 0; t.d.More(); n++ {
		if t.left <= 0 {
			return append(items, el("li", placeholder("…"))), errTreeFull
		}
		item := "li"
		if n >= maxOpenItems {
			item = "li.more"
		}
		var key node
		if opens == '{' {
			name, err := t.d.Token()
			if err != nil {
				return nil, err
			}
			key = group(el("span.key", userText(fmt.Sprint(name))), " ")
		}
		value, err := t.value(depth + 1)
		if err != nil && !errors.Is(err, errTreeFull) {
			return nil, err
		}
		if items = append(items, el(item, key, value)); err != nil {
			return items, err
		}
	}
	return items, nil
}

func scalar(t json.Token) node {
	switch v := t.(type) {
	case string:
		return el("span.text", userText(strconv.Quote(v)))
	case nil:
		return placeholder("null")
	}
	return el("span.number", t)
}

func escapeHTML(s string) string { return html.EscapeString(s) }
