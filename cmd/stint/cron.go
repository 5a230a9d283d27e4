package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/internal/near"
	"github.com/stint-dev/stint/internal/wire"
)

func cron(ctx context.Context, s *session) error {
	if len(s.args) == 0 {
		l := list[stint.CronInfo]{s: s, field: "crons", header: "CRON\tTASK\tSPEC\tNEXT\tLAST\tPAUSED\tERROR\tBLOCKED",
			row: func(c *stint.CronInfo) string {
				return columns(truncate(c.Name), truncate(c.Task), truncate(c.Spec), formatTime(c.Next), formatTime(c.Last),
					c.Paused, truncate(c.Error), truncate(c.Blocked))
			},
			wire: func(c *stint.CronInfo) any { return wire.CronOf(c) }}
		if err := s.eachCronPage(ctx, l.print); err != nil {
			return err
		}
		return l.end("", nil)
	}
	name, err := s.arg(1, "the cron's name")
	if err != nil {
		return err
	}
	err = s.cronAction(ctx, s.args[0], name)
	if errors.Is(err, stint.ErrNotFound) {
		var names []string
		s.eachCronPage(ctx, func(crons []stint.CronInfo) error { // on an error, suggest from the pages read so far
			for _, c := range crons {
				names = append(names, c.Name)
			}
			return nil
		})
		return fmt.Errorf("%w%s", err, near.Meant(name, names))
	}
	return err
}

// eachCronPage calls f with all crons, a page at a time.
func (s *session) eachCronPage(ctx context.Context, f func([]stint.CronInfo) error) error {
	for cursor := ""; ; {
		page, err := s.c.CronPage(ctx, stint.CronFilter{Limit: 1000, Cursor: cursor})
		if err == nil {
			err = f(page.Crons)
		}
		if err != nil || page.Next == "" {
			return err
		}
		cursor = page.Next
	}
}

var cronVerbs = []string{"pause", "resume", "trigger", "delete"}

// cronAction does the verb to a cron.
func (s *session) cronAction(ctx context.Context, verb, name string) error {
	switch verb {
	case "pause":
		return s.printDone(s.c.PauseCron(ctx, name))
	case "resume":
		return s.printDone(s.c.ResumeCron(ctx, name))
	case "delete":
		return s.printDone(s.c.DeleteCron(ctx, name))
	case "trigger":
		id, err := s.c.TriggerCron(ctx, name)
		if err != nil {
			return err
		}
		return s.printID("run", id)
	}
	return usagef("stint: cron %s: want pause, resume, trigger or delete%s", verb, near.Meant(verb, cronVerbs))
}
