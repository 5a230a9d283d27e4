package main

import (
	"context"
	"errors"
	"slices"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/internal/near"
	"github.com/urfave/cli/v3"
)

func restartFlags(o *options) []cli.Flag {
	const usage = "from the entry with this `address` in the journal, instead of a step: 3, or the number after the last"
	return []cli.Flag{textFlag("address", usage, &o.address)}
}

// restart runs an ended or blocked run again, from a step on.
func restart(ctx context.Context, s *session) error {
	id, err := s.arg(0, "the run's ID")
	if err != nil {
		return err
	}
	if s.address != "" {
		if len(s.args) > 1 {
			return usagef("stint: restart: step %q and -address %s: give one of them", s.args[1], s.address)
		}
		return s.printDone(s.c.RestartAt(ctx, id, s.address))
	}
	step, err := s.arg(1, "the name of the step to restart from, or -address,")
	if err != nil {
		return err
	}
	return s.printDone(s.checkStep(ctx, id, step, s.c.RestartFrom(ctx, id, step)))
}

// fork starts a new run with what another recorded before a step.
func fork(ctx context.Context, s *session) error {
	id, err := s.arg(0, "the run's ID")
	if err != nil {
		return err
	}
	step, err := s.arg(1, "the name of the step to begin with")
	if err != nil {
		return err
	}
	forked, err := s.c.Fork(ctx, id, step)
	if err != nil {
		return s.checkStep(ctx, id, step, err)
	}
	return s.printID("run", forked)
}

// checkStep adds to the error for a step that a run does not have which it has.
func (s *session) checkStep(ctx context.Context, id, step string, err error) error {
	if !errors.Is(err, stint.ErrNotFound) {
		return err
	}
	page, journalErr := s.c.JournalPage(ctx, id, stint.JournalFilter{Limit: 1000})
	if journalErr != nil {
		return err
	}
	var names []string
	for i := range page.Entries {
		if e := &page.Entries[i]; e.Kind == "step" && !slices.Contains(names, e.Name) {
			names = append(names, e.Name)
		}
	}
	return usagef("stint: run %s has recorded no step %q%s; stint journal lists what it has recorded: %w",
		id, step, near.Meant(step, names), err)
}

// reschedule moves a scheduled run to another time.
func reschedule(ctx context.Context, s *session) error {
	id, err := s.arg(0, "the run's ID")
	if err != nil {
		return err
	}
	text, err := s.arg(1, "the time")
	if err != nil {
		return err
	}
	at, err := parseTime(text, 1)
	if err != nil {
		return usagef("stint: reschedule: %w", err)
	}
	return s.printDone(s.c.Reschedule(ctx, id, at))
}
