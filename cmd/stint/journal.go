package main

import (
	"context"
	"fmt"

	"github.com/stint-dev/stint"
)

func showJournal(ctx context.Context, s *session) error {
	id, err := s.arg(0, "the run's ID")
	if err != nil {
		return err
	}
	header := "AT\tWHERE\tKIND\tNAME\tDONE\tOUTPUT\tERROR"
	for cursor := ""; ; { // a page at a time, with one header: a journal may have any length
		page, err := s.c.JournalPage(ctx, id, stint.JournalFilter{Limit: 1000, Cursor: cursor})
		if err != nil {
			return err
		}
		err = printRows(s, header, page.Entries, func(e stint.JournalEntry) string {
			return columns(formatTime(e.At), e.Address, e.Kind, truncate(e.Name), e.Done, truncate(e.Output), truncate(e.Error))
		})
		if header, cursor = "", page.Next; err != nil || cursor == "" {
			return err
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
