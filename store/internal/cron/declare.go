package cron

import (
	"slices"
	"time"

	"github.com/stint-dev/stint/store"
)

// Declare sets the declared crons of a task to those of the declaration.
func Declare(r Rows, now time.Time, d *store.Declaration) error {
	had, err := r.Declared(d.Task)
	if err != nil {
		return err
	}
	for i := range d.Crons {
		c := d.Crons[i]
		c.Declared = true
		if err := set(r, now, &c, d.Program); err != nil {
			return err
		}
	}
	for _, name := range had {
		if slices.ContainsFunc(d.Crons, func(c store.Cron) bool { return c.Name == name }) {
			continue
		}
		if err := r.Delete(name); err != nil {
			return err
		}
	}
	if d.Graph == nil {
		return nil
	}
	return r.SetGraph(d.Task, d.Graph)
}

// Undeclare retires the declarations of a registering worker's program for tasks that it does not
// define any more, and that no living worker has.
func Undeclare(r Rows, w *store.WorkerInfo) error {
	if w.Program == "" {
		return nil
	}
	tasks, err := r.DeclaredBy(w.Program)
	if err != nil {
		return err
	}
	for _, task := range tasks {
		if slices.Contains(w.Defines, task) {
			continue
		}
		worked, err := r.HasWorker(task)
		if err == nil && !worked {
			err = r.Retire(task)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
