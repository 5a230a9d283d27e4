package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/internal/near"
)

func cron(ctx context.Context, s *session) error {
	if len(s.args) == 0 {
		header := "CRON\tTASK\tSPEC\tNEXT\tLAST\tPAUSED\tERROR"
		return s.eachCrons(ctx, func(crons []stint.CronInfo) error {
			err := print(s, header, crons, func(c stint.CronInfo) string {
				return fmt.Sprintf("%s\t%s\t%s\t%s\t%s\t%v\t%s", short(c.Name), short(c.Task), short(c.Spec), stamp(c.Next), stamp(c.Last), c.Paused, short(c.Error))
			})
			header = ""
			return err
		})
	}
	name, err := s.arg(1, "the cron's name")
	if err != nil {
		return err
	}
	err = s.cron(ctx, s.args[0], name)
	if errors.Is(err, stint.ErrNotFound) {
		var names []string
		s.eachCrons(ctx, func(crons []stint.CronInfo) error { // as far as they can be read
			for _, c := range crons {
				names = append(names, c.Name)
			}
			return nil
		})
		return fmt.Errorf("%w%s", err, near.Meant(name, names))
	}
	return err
}

// eachCrons reads all crons, a page at a time.
func (s *session) eachCrons(ctx context.Context, f func([]stint.CronInfo) error) error {
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

// cron acts on a cron.
func (s *session) cron(ctx context.Context, verb, name string) error {
	switch verb {
	case "pause":
		return s.c.PauseCron(ctx, name)
	case "resume":
		return s.c.ResumeCron(ctx, name)
	case "delete":
		return s.c.DeleteCron(ctx, name)
	case "trigger":
		id, err := s.c.TriggerCron(ctx, name)
		if err != nil {
			return err
		}
		return s.made("run", id)
	}
	return fmt.Errorf("stint: cron %s: want pause, resume, trigger or delete", verb)
}

func listQueues(ctx context.Context, s *session) error {
	all, err := s.c.ListQueues(ctx)
	if err != nil {
		return err
	}
	return print(s, "QUEUE\tREADY\tRUNNING\tPAUSED", all, func(q stint.QueueInfo) string {
		return fmt.Sprintf("%s\t%d\t%d\t%v", short(q.Name), q.Ready, q.Running, q.Paused)
	})
}

func listWorkers(ctx context.Context, s *session) error {
	all, err := s.c.ListWorkers(ctx)
	if err != nil {
		return err
	}
	return print(s, "WORKER\tHOST\tPID\tSLOTS\tRUNNING\tSTARTED", all, func(w stint.WorkerInfo) string {
		return fmt.Sprintf("%s\t%s\t%d\t%d\t%d\t%s", short(w.Name), short(w.Host), w.PID, w.Slots, w.Running, stamp(w.Started))
	})
}

func pauseQueue(ctx context.Context, s *session) error {
	name, err := s.arg(0, "the queue's name")
	if err != nil {
		return err
	}
	if err := s.known(ctx, nil, []string{name}); err != nil {
		return err
	}
	return s.c.PauseQueue(ctx, name)
}

func resumeQueue(ctx context.Context, s *session) error {
	name, err := s.arg(0, "the queue's name")
	if err != nil {
		return err
	}
	if err := s.known(ctx, nil, []string{name}); err != nil {
		return err
	}
	return s.c.ResumeQueue(ctx, name)
}

func doctor(ctx context.Context, s *session) error {
	found, err := s.c.Check(ctx)
	if err != nil {
		return err
	}
	if s.json {
		err = json.NewEncoder(s.out).Encode(map[string]any{"problems": append([]string{}, found...)})
	} else if len(found) == 0 {
		_, err = fmt.Fprintln(s.out, "no problem found")
	} else {
		err = print(s, "PROBLEM", found, func(p string) string { return short(p) })
	}
	if err == nil && len(found) > 0 {
		err = errors.New("stint: the file is damaged: restore a backup, or ask")
	}
	return err
}

func backup(ctx context.Context, s *session) error {
	path, err := s.arg(0, "where to write the copy")
	if err != nil {
		return err
	}
	if path, err = filepath.Abs(path); err != nil {
		return err
	}
	return s.c.Backup(ctx, path)
}
