package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/internal/wire"
)

func showJournal(ctx context.Context, s *session) error {
	id, err := s.arg(0, "the run's ID")
	if err != nil {
		return err
	}
	l := list[stint.JournalEntry]{s: s, field: "entries", header: "BEGAN\tTOOK\tWHERE\tKIND\tNAME\tDONE\tOUTPUT\tERROR",
		row: func(e *stint.JournalEntry) string {
			took := "-"
			if e.Done {
				took = e.Ended().Sub(e.Began).Round(time.Millisecond).String()
			}
			return columns(formatTime(e.Began), took, e.Address, e.Kind, truncate(e.Name), e.Done, truncate(e.Output), truncate(triesOf(e)))
		},
		wire: func(e *stint.JournalEntry) any { return wire.EntryOf(e) }}
	for cursor := ""; ; { // a page at a time: a journal may have any length
		page, err := s.c.JournalPage(ctx, id, stint.JournalFilter{Limit: 1000, Cursor: cursor})
		if err == nil {
			err = l.print(page.Entries)
		}
		if err != nil {
			return err
		}
		if cursor = page.Next; cursor == "" {
			return l.end("", nil)
		}
	}
}

// triesOf returns the errors of a call: of the last try, and of those before it.
func triesOf(e *stint.JournalEntry) string {
	all := []string{}
	if e.Error != "" {
		all = append(all, e.Error)
	}
	for i, t := range e.Tries {
		if t.Error != "" && t.Error != e.Error {
			all = append(all, fmt.Sprintf("try %d: %s", i+1, t.Error))
		}
	}
	return strings.Join(all, "; ")
}
