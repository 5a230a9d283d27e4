// Package blocked says in words why a run does not go on: what it waits for, or what it lacks.
package blocked

import (
	"fmt"
	"strings"

	"github.com/stint-dev/stint/internal/text"
	"github.com/stint-dev/stint/store"
)

// Limit describes the limit that a queued run waits for.
func Limit(l *store.LimitInfo) string {
	if !l.Rate() {
		what := fmt.Sprintf("concurrency limit %q", l.Name)
		if l.Key != "" {
			what += fmt.Sprintf(" (key %q)", l.Key)
		}
		if l.Paused {
			return what + " is paused"
		}
		return fmt.Sprintf("%s: %d at once", what, l.Max)
	}
	what := fmt.Sprintf("rate limit %q", l.Key)
	if l.Paused {
		return what + " is paused"
	}
	if !l.ReadyAt.IsZero() {
		what += ": until " + l.ReadyAt.UTC().Format("2006-01-02T15:04:05.000Z07:00")
	}
	return what
}

// Failure says why a run in a state goes on only after a change of code: it is blocked with a failure, or no worker
// has its task, which a worker has found out.
func Failure(task string, state store.State, noHandler bool, failure string) string {
	switch {
	case state == store.Blocked:
		return text.Cut(failure, text.Listed)
	case noHandler:
		return fmt.Sprintf("no worker has task %s: it waits for one whose code has %q", task, task)
	}
	return ""
}

// Cleanup says what a canceled run that has not ended waits for. why is what keeps it from starting, or "".
func Cleanup(r *store.Run, why string) string {
	switch {
	case r.State == store.Blocked:
		return "canceled, but it cannot clean up: " + why + "; cancel it again to end it as it is"
	case r.State == store.Running && r.Workflow:
		return "canceled; its tasks clean up"
	case r.State == store.Running:
		return "canceled; its handler has yet to return or to clean up"
	case why != "":
		return "canceled; to clean up it waits for " + why
	}
	return "canceled; waits for a worker to clean up"
}

// Condition describes a condition; nil: it is not known.
func Condition(c *store.Condition) string {
	list := func(cs []store.Condition, sep string) string {
		words := make([]string, len(cs))
		for i := range cs {
			words[i] = Condition(&cs[i])
		}
		return "(" + strings.Join(words, sep) + ")"
	}
	switch {
	case c == nil:
		return "its conditions"
	case c.Any != nil:
		return list(c.Any, " or ")
	case c.All != nil:
		return list(c.All, " and ")
	case c.Event != nil:
		return event(c.Event)
	case c.Test != nil:
		return "a parent's output"
	}
	return fmt.Sprintf("a sleep of %v", c.Sleep)
}

func event(m *store.Match) string {
	what := fmt.Sprintf("event %q", m.Key)
	if strings.Contains(m.Key, "*") {
		what += " (a wait has no patterns: * is part of the key)"
	}
	scope, field, value := m.Parts()
	if scope != "" {
		what += fmt.Sprintf(" of scope %q", scope)
	}
	if field != "" {
		what += fmt.Sprintf(" with %s = %s", field, value)
	}
	if m.Filter != "" {
		what += " where " + m.Filter
	}
	return what
}
