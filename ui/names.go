package ui

import (
	"context"
	"errors"
	"fmt"
	"net/url"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/internal/near"
)

// byName returns an operation that calls do with a name. An unknown name is an error that
// suggests similar ones.
func byName(param string, do func(*stint.Client, context.Context, string) error) operationFunc {
	return func(h *handler, ctx context.Context, in url.Values) (any, error) {
		name := in.Get(param)
		if param == "queue" {
			if err := h.checkNames(ctx, in, nil, []string{name}); err != nil {
				return nil, err
			}
		}
		err := do(h.c, ctx, name)
		if errors.Is(err, stint.ErrNotFound) {
			err = fmt.Errorf("%w%s", err, near.Meant(name, h.namesOf(ctx, param)))
		}
		return wireDone{true}, err
	}
}

// namesOf returns the names of crons or workers, without those that cannot be read.
func (h *handler) namesOf(ctx context.Context, what string) (names []string) {
	switch what {
	case "cron":
		h.eachCron(ctx, func(c *stint.CronInfo) { names = append(names, c.Name) })
	case "worker":
		workers, _ := h.c.ListWorkers(ctx)
		for _, w := range workers {
			names = append(names, w.Name)
		}
	}
	return names
}

// eachCron calls f with each cron.
func (h *handler) eachCron(ctx context.Context, f func(*stint.CronInfo)) error {
	for cursor := ""; ; {
		page, err := h.c.CronPage(ctx, stint.CronFilter{Limit: 1000, Cursor: cursor})
		if err != nil {
			return err
		}
		for i := range page.Crons {
			f(&page.Crons[i])
		}
		if cursor = page.Next; cursor == "" {
			return nil
		}
	}
}

// checkNames returns an error if a name is unknown, unless the request has force=true.
func (h *handler) checkNames(ctx context.Context, in url.Values, tasks, queues []string) error {
	force, err := boolParam(in, "force")
	if err != nil || force || len(tasks)+len(queues) == 0 {
		return err
	}
	names, err := h.c.Names(ctx)
	if err != nil {
		return err
	}
	if err := names.Unknown(tasks, queues); err != nil {
		return fmt.Errorf("%w (force=true insists)", err)
	}
	return nil
}
