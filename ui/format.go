package ui

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/stint-dev/stint"
)

var errNoPage = errors.New("there is no such page")

var funcs = template.FuncMap{
	"when":    when,
	"took":    took,
	"state":   stateBadge,
	"json":    jsonTree,
	"plain":   visible,
	"short":   short,
	"bytes":   byteSize,
	"count":   count,
	"query":   func(s string) string { return url.QueryEscape(s) },
	"segment": func(s string) string { return url.PathEscape(s) },
	"list":    func(s ...any) []any { return s },
	"join":    strings.Join,
	"id8":     func(id string) string { return id[max(len(id)-8, 0):] },
}

// when is a time element: exact, for the script to write relative, in the viewer's zone.
func when(t time.Time) template.HTML {
	if t.IsZero() {
		return `<span class="none">–</span>`
	}
	return template.HTML(fmt.Sprintf(`<time datetime="%s">%s</time>`, t.UTC().Format(time.RFC3339Nano), at(t)))
}

// took is a duration with three digits.
func took(d time.Duration) string {
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

func stateBadge(s stint.State) template.HTML {
	return template.HTML(fmt.Sprintf(`<span class="state %[1]s"><span aria-hidden="true">%[2]s</span> %[1]s</span>`, s, stateSigns[s]))
}

// visible has text show what it is: characters that change the direction or the look of
// their neighbours, or that have none, are written as escapes.
func visible(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '\n' || r == '\t', unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			b.WriteString(strings.Trim(strconv.QuoteRuneToASCII(r), "'"))
		}
	}
	return b.String()
}

// short is the beginning of a text, visible.
func short(n int, s string) string {
	if r := []rune(s); len(r) > n {
		s = string(r[:n]) + "…"
	}
	return visible(s)
}

func byteSize(n int64) string {
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

// count is a number with its thousands apart; one at which counting stopped says so.
func count(n any) string {
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
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

const (
	countsTo = 10_000 // as the client counts
	showMost = 64 << 10
	listMost = 100 // entries of one list or object
	deepest  = 12
)

// jsonTree is a payload as nested lists that open and close. It is data: nothing in it
// becomes markup.
func jsonTree(payload json.RawMessage) template.HTML {
	if len(payload) == 0 {
		return `<span class="none">none</span>`
	}
	var b bytes.Buffer
	if len(payload) > showMost {
		fmt.Fprintf(&b, `<p class="none">%s in all; the beginning:</p><pre class="json" tabindex="0">%s</pre>`, byteSize(int64(len(payload))), esc(short(4096, string(payload[:4*4096]))))
		return template.HTML(b.String())
	}
	d := json.NewDecoder(bytes.NewReader(payload))
	d.UseNumber()
	if err := writeTree(&b, d, 0); err != nil {
		return template.HTML(`<pre class="json" tabindex="0">` + esc(visible(string(payload))) + `</pre>`)
	}
	return template.HTML(`<div class="json">` + b.String() + `</div>`)
}

func esc(s string) string { return template.HTMLEscapeString(s) }

// writeTree writes the next value in the order in which it stands.
func writeTree(b *bytes.Buffer, d *json.Decoder, depth int) error {
	t, err := d.Token()
	if err != nil {
		return err
	}
	open, ok := t.(json.Delim)
	if !ok {
		writeScalar(b, t)
		return nil
	}
	if !d.More() {
		_, err := d.Token()
		b.WriteString(map[json.Delim]string{'{': "{}", '[': "[]"}[open])
		return err
	}
	if depth == deepest {
		return errors.New("too deep")
	}
	state := ""
	if depth < 3 {
		state = " open"
	}
	fmt.Fprintf(b, `<details%s><summary>%s</summary><ul>`, state, map[json.Delim]string{'{': "object", '[': "list"}[open])
	for n := 0; d.More(); n++ {
		fmt.Fprintf(b, "<li%s>", map[bool]string{true: ` class="more"`}[n >= listMost])
		if open == '{' {
			key, err := d.Token()
			if err != nil {
				return err
			}
			fmt.Fprintf(b, `<span class="key"><bdi>%s</bdi></span> `, esc(visible(fmt.Sprint(key))))
		}
		if err := writeTree(b, d, depth+1); err != nil {
			return err
		}
		b.WriteString("</li>")
	}
	b.WriteString("</ul></details>")
	_, err = d.Token()
	return err
}

func writeScalar(b *bytes.Buffer, t json.Token) {
	switch v := t.(type) {
	case string:
		fmt.Fprintf(b, `<span class="text"><bdi>%s</bdi></span>`, esc(strconv.Quote(v)))
	case nil:
		b.WriteString(`<span class="none">null</span>`)
	default:
		fmt.Fprintf(b, `<span class="number">%s</span>`, esc(fmt.Sprint(v)))
	}
}
