package main

import (
	"context"
	"fmt"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/internal/wire"
)

func showJournal(ctx context.Context, s *session) error {
	id, err := s.arg(0, "the run's ID")
	if err != nil {
		return err
	}
	l := list[stint.JournalEntry]{s: s, field: "entries", header: "AT\tWHERE\tKIND\tNAME\tDONE\tOUTPUT\tERROR",
		row: func(e *stint.JournalEntry) string {
			return columns(formatTime(e.At), e.Address, e.Kind, truncate(e.Name), e.Done, truncate(e.Output), truncate(e.Error))
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

func exportJournal(ctx context.Context, s *session) error {
	id, err := s.arg(0, "the run's ID")
	if err != nil {
		return err
	}
	if err := s.c.WriteJournal(ctx, id, s.out); err != nil {
		return err
	}
	_, err = fmt.Fprintln(s.out)
	return err
}
