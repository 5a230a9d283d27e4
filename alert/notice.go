package alert

import (
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/stint-dev/stint/internal/text"
)

// Kinds of notices.
const (
	Firing    = "firing"    // the rule has begun to fire
	Digest    = "digest"    // the rule still fires
	Recovered = "recovered" // the rule's condition is no longer met
	Test      = "test"      // sent by Alerts.Test
)

// A Notice is a message to a sink.
type Notice struct {
	Rule   string    `json:"rule"`
	Kind   string    `json:"kind"`
	At     time.Time `json:"at"`
	Since  time.Time `json:"since"`            // when the rule began to fire
	Task   string    `json:"task"`             // "": all
	State  string    `json:"state"`            // the rule's
	Count  int64     `json:"count"`            // runs in State within Window
	Ended  int64     `json:"ended"`            // runs that ended within Window
	Window string    `json:"window"`           // as time.Duration prints it
	Newest []Failure `json:"newest,omitempty"` // the newest runs in State, at most 5
	Link   string    `json:"link,omitempty"`   // to the list of runs in State
}

// A Failure is a run that a notice reports.
type Failure struct {
	Run   string    `json:"run"`
	Task  string    `json:"task"`
	Error string    `json:"error"`
	At    time.Time `json:"at"`
	Link  string    `json:"link,omitempty"`
}

// Subject returns the notice in one line.
func (n *Notice) Subject() string { return n.formatSubject(oneLine) }

// formatSubject formats the app's names with show.
func (n *Notice) formatSubject(show func(string) string) string {
	what := show(n.Task)
	if what == "" {
		what = "all tasks"
	}
	switch n.Kind {
	case Recovered:
		return fmt.Sprintf("[recovered] %s: %s", show(n.Rule), what)
	case Test:
		return fmt.Sprintf("[test] %s", show(n.Rule))
	}
	return fmt.Sprintf("[%s] %s: %d of %d runs of %s %s in %s", n.Kind, show(n.Rule), n.Count, n.Ended, what, n.State, n.Window)
}

// Text returns the notice in several lines.
func (n *Notice) Text() string { return n.format(oneLine, oneLine) }

// format formats the app's names with name, and the errors of its runs with failure. Both get
// one line of text.
func (n *Notice) format(name, failure func(string) string) string {
	var b strings.Builder
	b.WriteString(n.formatSubject(func(s string) string { return name(oneLine(s)) }) + "\n")
	if !n.Since.IsZero() {
		fmt.Fprintf(&b, "since %s\n", n.Since.UTC().Format(time.RFC1123))
	}
	for _, f := range n.Newest {
		fmt.Fprintf(&b, "- %s %s: %s %s\n", name(oneLine(f.Task)), f.Run, failure(oneLine(f.Error)), f.Link)
	}
	if n.Link != "" {
		b.WriteString(n.Link + "\n")
	}
	return b.String()
}

// maxLine bounds a text of the app in a line of a notice, in bytes.
const maxLine = 400

// oneLine returns the first line of s, truncated, with spaces in place of control characters: a
// bare CR ends a line in some mail programs, and ESC controls terminals.
func oneLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
			return ' '
		}
		return r
	}, text.Cut(strings.TrimRight(line, "\r"), maxLine))
}
