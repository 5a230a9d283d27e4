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

// A node is a piece of a page. Pages are made with el, which escapes every text.
// Rejected: html/template, since it calls methods by name, so the linker would keep every
// exported method of the program (4 MiB).
type node = g.Node

// el returns an element: el("td.number", "12") is a td of the class number. Its contents are
// nodes, attributes, nil for nothing, and anything else as text.
func el(spec string, contents ...any) node {
	name, class, ok := strings.Cut(spec, ".")
	nodes := toNodes(contents)
	if ok {
		nodes = append(nodes, g.Attr("class", strings.ReplaceAll(class, ".", " ")))
	}
	return g.El(name, nodes...)
}

// group returns its contents as one node.
func group(contents ...any) node { return g.Group(toNodes(contents)) }

func toNodes(contents []any) []node {
	nodes := make([]node, 0, len(contents)+1)
	for _, c := range contents {
		switch c := c.(type) {
		case nil:
		case node:
			nodes = append(nodes, c)
		default:
			nodes = append(nodes, g.Text(escapeInvisible(fmt.Sprint(c))))
		}
	}
	return nodes
}

// attr returns an attribute, or without a value a boolean one. In a value that people see,
// invisible characters are escaped as in texts. Other values must come back from forms as they
// are, so there such characters are written as character references.
func attr(name string, value ...string) node {
	if len(value) == 0 {
		return g.Attr(name)
	}
	if visibleAttrs[name] {
		return g.Attr(name, escapeInvisible(value[0]))
	}
	return attribute{name, value[0]}
}

// visibleAttrs are the attributes that a browser shows or reads aloud.
var visibleAttrs = map[string]bool{"title": true, "aria-label": true, "placeholder": true, "alt": true, "label": true}

// An attribute is written without invisible characters in the page's source.
type attribute struct{ name, value string }

// Type says that it belongs inside the opening tag.
func (a attribute) Type() g.NodeType { return g.AttributeType }

// Render implements node.
func (a attribute) Render(w io.Writer) error {
	var b strings.Builder
	for _, r := range escapeHTML(a.value) {
		if r == '\n' || r == '\t' || unicode.IsPrint(r) || r >= 0x80 && r < 0xa0 {
			b.WriteRune(r) // also 0x80 to 0x9f: HTML reads references to these as other characters
		} else {
			fmt.Fprintf(&b, "&#x%x;", r)
		}
	}
	_, err := fmt.Fprintf(w, ` %s="%s"`, a.name, b.String())
	return err
}

// when returns its contents if the condition is true, else nil.
func when(condition bool, contents ...any) node {
	if !condition {
		return nil
	}
	return group(contents...)
}

// each returns f of each item of a list.
func each[T any](list []T, f func(T) node) node {
	nodes := make([]node, len(list))
	for i, x := range list {
		nodes[i] = f(x)
	}
	return g.Group(nodes)
}

// userText returns a text of a user's. Its writing direction does not affect its neighbours.
func userText(text string) node { return el("bdi", text) }

// placeholder returns a dim text, such as "none", for a value that is missing.
func placeholder(text string) node { return el("span.none", text) }

// tableHead returns the heading row of a table: "Failed.figure" has the class figure.
func tableHead(titles ...string) node {
	return el("thead", el("tr", each(titles, func(t string) node {
		title, class, _ := strings.Cut(t, ".")
		return el(strings.TrimSuffix("th."+class, "."), title)
	})))
}

// lines returns a table that is as wide as its place, and whose rows have one line each.
func lines(head node, rows ...any) node { return linesOf("", head, rows...) }

// linesOf returns such a table of a class.
func linesOf(class string, head node, rows ...any) node {
	return el("div.scroll", attr("tabindex", "0"), el(strings.TrimSuffix("table.lines."+class, "."), head, el("tbody", rows...)))
}

// table returns a table that scrolls if it is wider than the window.
func table(head node, rows ...any) node {
	return el("div.scroll", attr("tabindex", "0"), el("table", head, el("tbody", rows...)))
}

// fact returns a name and its value in a dl.
func fact(name any, value ...any) node { return group(el("dt", name), el("dd", value...)) }

// emptyState returns the text in place of an empty list: what to do to fill it.
func emptyState(contents ...any) node { return el("p.empty", contents...) }

func code(text string) node { return el("code", text) }

// pre returns a text of several lines.
func pre(text string, more ...any) node {
	return el("pre", append(more, attr("tabindex", "0"), text)...)
}

func details(summary string, contents ...any) node {
	return el("details", el("summary", summary), group(contents...))
}

func h2(contents ...any) node { return el("h2", contents...) }

func progressBar(label string, part, whole int64) node {
	return el("progress", attr("max", fmt.Sprint(whole)), attr("value", fmt.Sprint(part)), attr("aria-label", label))
}

func hidden(name, value string) node {
	return el("input", attr("type", "hidden"), attr("name", name), attr("value", value))
}

// input returns a field with its label: input("Key", attr("name", "key")).
func input(label string, attrs ...any) node { return el("label", label, el("input", attrs...)) }

// textArea returns a field for JSON. Live updates of the page keep what is typed in it.
func textArea(label, name, value string) node {
	return el("label.wide", label, el("textarea", attr("name", name), attr("data-keep"), attr("spellcheck", "false"), value))
}

func row(contents ...any) node { return el("div.row", contents...) }

// button returns a button of a class; "" for none.
func button(class, label string, attrs ...any) node {
	return el(strings.TrimSuffix("button.btn."+class, "."), append(attrs, label)...)
}

// link returns a link to a page of this handler.
func (h *handler) link(path string, contents ...any) node {
	return el("a", append(contents, attr("href", h.base+path))...)
}

// linkedRow returns a row of a table that opens a page.
func (h *handler) linkedRow(path string, cells ...any) node {
	return el("tr", append(cells, attr("data-url", h.base+path))...)
}

// form returns a form that posts to an operation of the API. Afterwards the browser shows the
// page next, or the operation's result if next is empty.
func (h *handler) form(class, operation, next string, contents ...any) node {
	return el(strings.TrimSuffix("form."+class, "."), attr("method", "post"), attr("action", h.base+"/api/"+operation),
		when(next != "", hidden("next", h.base+next)), group(contents...))
}

// actionButton returns a form of one button, or nil if the page is read-only.
func (h *handler) actionButton(class, label, operation, next string, contents ...any) node {
	if h.readOnly {
		return nil
	}
	return h.form("inline", operation, next, append(contents, button(class, label))...)
}

// pauseToggle returns a button that pauses, or if paused resumes. prefix is what comes before
// "pause" or "resume" in the operation's path.
func (h *handler) pauseToggle(paused bool, prefix, next string, contents ...any) node {
	if paused {
		return h.actionButton("primary", "Resume", prefix+"resume", next, contents...)
	}
	return h.actionButton("", "Pause", prefix+"pause", next, contents...)
}

func pausedBadge(paused bool) node {
	return when(paused, " ", el("span.st.st-blocked", icon("st-blocked"), el("span", "paused")))
}

// actions returns the heading of a table's column of buttons; "" if the page is read-only.
func (h *handler) actions() string {
	if h.readOnly {
		return ""
	}
	return "Actions"
}

// escapeSegment returns a name as a segment of a path. Browsers resolve the segments "." and "..",
// also with escaped dots, and http.ServeMux ends the path at the segment "%2F". So such a name
// gets a leading tilde, and so does one that already has leading tildes. app.js does the same.
func escapeSegment(name string) string {
	if dots.MatchString(name) {
		name = "~" + name
	}
	return url.PathEscape(name)
}

// unescapeSegment undoes escapeSegment, for a segment whose percent-escapes are decoded.
func unescapeSegment(segment string) string {
	if strings.HasPrefix(segment, "~") && dots.MatchString(segment) {
		return segment[1:]
	}
	return segment
}

var dots = regexp.MustCompile(`^~*(\.{1,2}|/)$`)

func taskPath(task string) string { return "/tasks/" + escapeSegment(task) }

func runPath(id string) string { return "/runs/" + id }

// runsPath returns the path of the list of runs with a filter of names and values.
func runsPath(pairs ...string) string { return "/runs?" + pathQuery(pairs...) }

// pathQuery returns names and values as the query of a path.
func pathQuery(pairs ...string) string {
	q := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		q.Add(pairs[i], pairs[i+1])
	}
	return q.Encode()
}
