// Package definition decides what a declaration changes, which versions of definitions are kept, and which is the newest.
//
// It has no SQL, no clock and no goroutine: it reads and changes definitions by Rows, which a store
// implements in a transaction.
package definition

import (
	"time"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/cron"
	"github.com/stint-dev/stint/store/internal/event"
)

// Rows are the definitions of a transaction. The versions of a task are numbered: the newest has
// the highest number.
type Rows interface {
	// Newest returns the newest version of a task's definition, and its number; 0: it has none.
	Newest(task string) (version string, number int64, err error)
	// Put stores a version with a number, also in place of the row with that version.
	Put(d *store.Definition, number int64) error
	// Drop deletes the versions of a task up to a number.
	Drop(task string, number int64) error
	// SetFilters makes these the declared filters of a task.
	SetFilters(task string, filters []store.TaskFilter) error
}

// Declare makes the crons, triggers and definitions of declarations those of their tasks. One with a definition that is the
// newest already changes nothing.
func Declare(r Rows, crons cron.Rows, events event.Rows, now time.Time, ds []store.Declaration) error {
	for i := range ds {
		d := &ds[i]
		if d.Definition != nil {
			if changed, err := define(r, d); err != nil {
				return err
			} else if !changed {
				continue
			}
		}
		if err := cron.Declare(crons, now, d); err != nil {
			return err
		}
		if err := event.Declare(events, now.UnixMilli(), d); err != nil {
			return err
		}
	}
	return nil
}

// define makes the definition of a declaration the newest of its task, and its filters the declared
// ones. changed reports whether it was not so before.
func define(r Rows, d *store.Declaration) (changed bool, err error) {
	version, number, err := r.Newest(d.Task)
	if err != nil || version == d.Definition.Version {
		return false, err
	}
	if err := r.SetFilters(d.Task, d.Filters); err != nil {
		return false, err
	}
	if d.Definition.Version == "" {
		return true, r.Drop(d.Task, number)
	}
	if err := r.Put(d.Definition, number+1); err != nil {
		return false, err
	}
	return true, r.Drop(d.Task, number+1-store.MaxVersions)
}
