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

// timestamp is a time element: exact, for the script to write relative, in the viewer's zone.
func timestamp(t time.Time) node {
	if t.IsZero() {
		return placeholder("–")
	}
	return el("time", attr("datetime", t.UTC().Format(time.RFC3339Nano)), t.UTC().Format("2006-01-02 15:04:05.000 MST"))
}

// formatDuration is a duration with three digits.
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

// stateSigns tell states apart without colour.
var stateSigns = map[stint.State]string{
	stint.StateScheduled: "◷", stint.StateQueued: "•", stint.StateRunning: "▶", stint.StateWaiting: "‖", stint.StateBlocked: "■",
	stint.StateSucceeded: "✓", stint.StateFailed: "✗", stint.StateCanceled: "⊘", stint.StateSkipped: "↷",
}

func stateBadge(s stint.State) node {
	return el("span.state."+s.String(), el("span", attr("aria-hidden", "true"), stateSigns[s]), " ", s)
}

// escapeInvisible has text show what it is: characters that change the direction or the look of
// their neighbours, or that have none, are written as escapes.
func escapeInvisible(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '\n' || r == '\t', unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			for _, unit := range utf16.AppendRune(nil, r) { // as JSON has it, so that a payload stays one
				fmt.Fprintf(&b, `\u%04x`, unit)
			}
		}
	}
	return b.String()
}

// truncate is the beginning of a text.
func truncate(n int, s string) string {
	if len(s) > 4*n {
		s = s[:4*n+4] // enough, and no more to look at
	}
	if r := []rune(s); len(r) > n {
		return string(r[:n]) + "…"
	}
	return s
}

// shortID is the end of an ID, which tells those of one moment apart.
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

// formatCount is a number with its thousands apart; one at which counting stopped says so.
func formatCount(n any) string {
	var s string
	switch n := n.(type) {
	case int:
		if n == countsTo {
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

// thousands sets the thousands of a whole number apart.
func thousands(s string) string {
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// formatNumber is a number at which no counting stopped.
func formatNumber(n int) string { return thousands(strconv.Itoa(n)) }

const (
	countsTo = 10_000 // as the client counts
	listOpen = 100    // entries of one list or object that are open
	maxDepth = 12
)

// A treeSize is how much of a payload is shown as a tree.
type treeSize struct {
	bytes  int // of a payload; of one that has more the beginning is shown, as text
	nodes  int // values; then the tree ends
	begins int // characters of a beginning
}

var (
	wholeTree = treeSize{64 << 10, 2000, 4096} // on the run's own page
	smallTree = treeSize{1 << 10, 100, 300}    // in lists
)

// jsonTree is a payload as nested lists that open and close. It is data: nothing in it
// becomes markup.
func jsonTree(payload json.RawMessage, size treeSize) node {
	if len(payload) == 0 {
		return placeholder("none")
	}
	beginning := func(text string) node { return el("pre.json", attr("tabindex", "0"), text) }
	inAll := el("p.none", formatBytes(int64(len(payload)))+" in all; the beginning:")
	if len(payload) > size.bytes {
		return group(inAll, beginning(truncate(size.begins, string(payload))))
	}
	t := treeReader{json.NewDecoder(bytes.NewReader(payload)), size.nodes}
	t.d.UseNumber()
	tree, err := t.next(0)
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

// errTreeFull ends a tree that is shown as far as it goes.
var errTreeFull = errors.New("the tree is full")

// next is the next value, its fields in the order in which they stand.
func (t *treeReader) next(depth int) (node, error) {
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

// items are the values in a list or an object, with errTreeFull if there are more than can
// be shown.
func (t *treeReader) items(opens json.Delim, depth int) (items []any, err error) {
	for n := 0; t.d.More(); n++ {
		if t.left <= 0 {
			return append(items, el("li", placeholder("…"))), errTreeFull
		}
		item := "li"
		if n >= listOpen {
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
		value, err := t.next(depth + 1)
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
