// Package definition decides which versions of definitions are kept, and which is the newest.
//
// It has no SQL, no clock and no goroutine: it reads and changes definitions by Rows, which a store
// implements in a transaction.
package definition

import "github.com/stint-dev/stint/store"

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

// Declare makes the definition of a declaration the newest of its task, and its filters the declared
// ones. changed reports whether it was not so before.
func Declare(r Rows, d *store.Declaration) (changed bool, err error) {
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
