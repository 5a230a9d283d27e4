package ui

import (
	"fmt"
	"io"
	"net/url"
	"regexp"
	"strings"
	"unicode"

	g "maragu.dev/gomponents"
)

// A node is a piece of a page. Pages are made with el, so every text on them is escaped,
// and shows what it is, without anybody having to think of it. html/template would have
// the linker keep every exported method of the program, for 4 MiB.
type node = g.Node

// el is an element: el("td.number", "12") is a td whose class is number. What it holds are
// nodes, attributes among them, nil, which is nothing, and else texts.
func el(spec string, holds ...any) node {
	name, class, ok := strings.Cut(spec, ".")
	all := nodes(holds)
	if ok {
		all = append(all, g.Attr("class", strings.ReplaceAll(class, ".", " ")))
	}
	return g.El(name, all...)
}

// group is nodes one after the other.
func group(holds ...any) node { return g.Group(nodes(holds)) }

func nodes(holds []any) []node {
	made := make([]node, 0, len(holds)+1)
	for _, h := range holds {
		switch h := h.(type) {
		case nil:
		case node:
			made = append(made, h)
		default:
			made = append(made, g.Text(escapeInvisible(fmt.Sprint(h))))
		}
	}
	return made
}

// attr is an attribute; without a value, one that is there or not. What people see shows
// what it is, as texts do; a value that comes back with a form stays what it is, and has
// its odd characters written as references.
func attr(name string, value ...string) node {
	if len(value) == 0 {
		return g.Attr(name)
	}
	if shownAttrs[name] {
		return g.Attr(name, escapeInvisible(value[0]))
	}
	return attribute{name, value[0]}
}

// shownAttrs are the attributes that a browser shows or reads out.
var shownAttrs = map[string]bool{"title": true, "aria-label": true, "placeholder": true, "alt": true, "label": true}

// An attribute is written so that the page's source has no character that turns its
// neighbours around, or that is not seen.
type attribute struct{ name, value string }

// Type tells el where it stands.
func (a attribute) Type() g.NodeType { return g.AttributeType }

// Render implements node.
func (a attribute) Render(w io.Writer) error {
	var b strings.Builder
	for _, r := range escapeHTML(a.value) {
		if r == '\n' || r == '\t' || unicode.IsPrint(r) || r >= 0x80 && r < 0xa0 { // of those a reference is another character
			b.WriteRune(r)
		} else {
			fmt.Fprintf(&b, "&#x%x;", r)
		}
	}
	_, err := fmt.Fprintf(w, ` %s="%s"`, a.name, b.String())
	return err
}

// when is what it holds if the condition is true.
func when(when bool, holds ...any) node {
	if !when {
		return nil
	}
	return group(holds...)
}

// each is a node for each of a list.
func each[T any](list []T, f func(T) node) node {
	made := make([]node, len(list))
	for i, x := range list {
		made[i] = f(x)
	}
	return g.Group(made)
}

// userText is a text that users wrote: its direction is its own.
func userText(text string) node { return el("bdi", text) }

// placeholder stands where there is nothing.
func placeholder(text string) node { return el("span.none", text) }

// tableHead is the row of headings of a table: "Failed.figure" has a class.
func tableHead(titles ...string) node {
	return el("thead", el("tr", each(titles, func(t string) node {
		title, class, _ := strings.Cut(t, ".")
		return el(strings.TrimSuffix("th."+class, "."), title)
	})))
}

// table is one that scrolls where it is wider than its window.
func table(head node, rows ...any) node {
	return el("div.scroll", attr("tabindex", "0"), el("table", head, el("tbody", rows...)))
}

// fact is a line of a list of facts.
func fact(name any, value ...any) node { return group(el("dt", name), el("dd", value...)) }

// emptyState says what to do where nothing is shown.
func emptyState(holds ...any) node { return el("p.empty", holds...) }

func code(text string) node { return el("code", text) }

// pre is a text that is longer than a line.
func pre(text string, more ...any) node {
	return el("pre", append(more, attr("tabindex", "0"), text)...)
}

func details(summary string, holds ...any) node {
	return el("details", el("summary", summary), group(holds...))
}

func h2(holds ...any) node { return el("h2", holds...) }

// progressBar is a part of a whole.
func progressBar(label string, part, whole int64) node {
	return el("progress", attr("max", fmt.Sprint(whole)), attr("value", fmt.Sprint(part)), attr("aria-label", label))
}

func hidden(name, value string) node {
	return el("input", attr("type", "hidden"), attr("name", name), attr("value", value))
}

// input is a field with its label: input("Key", attr("name", "key")).
func input(label string, attrs ...any) node { return el("label", label, el("input", attrs...)) }

// textArea is a field for JSON, which keeps what is typed while the page changes.
func textArea(label, name, value string) node {
	return el("label.wide", label, el("textarea", attr("name", name), attr("data-keep"), attr("spellcheck", "false"), value))
}

func row(holds ...any) node { return el("div.row", holds...) }

// button is of a class, or of none.
func button(class, label string, attrs ...any) node {
	return el(strings.TrimSuffix("button."+class, "."), append(attrs, label)...)
}

// link leads to another page of this handler.
func (h *handler) link(path string, holds ...any) node {
	return el("a", append(holds, attr("href", h.base+path))...)
}

// linkedRow is a row of a table, which leads to a page.
func (h *handler) linkedRow(path string, cells ...any) node {
	return el("tr", append(cells, attr("data-url", h.base+path))...)
}

// form posts to an operation, and comes back to a page if next is not empty.
func (h *handler) form(class, operation, next string, holds ...any) node {
	return el(strings.TrimSuffix("form."+class, "."), attr("method", "post"), attr("action", h.base+"/api/"+operation), when(next != "", hidden("next", h.base+next)), group(holds...))
}

// actionButton is a button that does something; nil on a page that is read-only.
func (h *handler) actionButton(class, label, operation, next string, holds ...any) node {
	if h.readOnly {
		return nil
	}
	return h.form("inline", operation, next, append(holds, button(class, label))...)
}

// pauseToggle pauses what works, and resumes what is paused.
func (h *handler) pauseToggle(paused bool, of, next string, holds ...any) node {
	if paused {
		return h.actionButton("primary", "Resume", of+"resume", next, holds...)
	}
	return h.actionButton("", "Pause", of+"pause", next, holds...)
}

// pausedBadge marks what is paused.
func pausedBadge(paused bool) node {
	return when(paused, " ", el("span.state.blocked", "■ paused"))
}

// actions is a heading, or a cell, for actions where there are some.
func (h *handler) actions() string {
	if h.readOnly {
		return ""
	}
	return "Actions"
}

// escapeSegment returns a name as a segment of a path. Browsers take the segments "." and "..", also
// when their dots are escaped, for steps in the path, and http.ServeMux the segment "%2F" for
// the path's end: such a name gets a tilde before it, and so does one that has tildes there
// already. app.js does the same.
func escapeSegment(name string) string {
	if dots.MatchString(name) {
		name = "~" + name
	}
	return url.PathEscape(name)
}

// unescapeSegment returns the name that seg was given, of a segment whose escapes are decoded.
func unescapeSegment(segment string) string {
	if strings.HasPrefix(segment, "~") && dots.MatchString(segment) {
		return segment[1:]
	}
	return segment
}

var dots = regexp.MustCompile(`^~*(\.{1,2}|/)$`)

func taskPath(task string) string { return "/tasks/" + escapeSegment(task) }

func runPath(id string) string { return "/runs/" + id }

// runsPath is the list of the runs that a query selects: names and values.
func runsPath(pairs ...string) string {
	q := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		q.Add(pairs[i], pairs[i+1])
	}
	return "/runs?" + q.Encode()
}
