package event

import (
	"slices"

	"github.com/stint-dev/stint/store"
)

// Declare replaces the triggers of a task by those of its declaration if they have changed. If they
// were undeclared for a moment, it starts the runs that they would have started meanwhile.
func Declare(r Rows, now int64, d *store.Declaration) error {
	had, err := r.Declared(d.Task)
	if err != nil {
		return err
	}
	want := make([]Declared, len(d.Triggers))
	for i := range d.Triggers {
		if want[i], err = r.Encode(&d.Triggers[i]); err != nil {
			return err
		}
		want[i].Program = d.Program
	}
	if slices.Equal(had, want) {
		return nil
	}
	if err := r.Replace(d.Task, want); err != nil || len(had) == 0 || had[0].Gone == 0 {
		return err
	}
	return catchUp(r, now, had[0].Gone, d.Triggers)
}

// catchUp starts the runs that triggers would have started since they were gone.
func catchUp(r Rows, now, gone int64, triggers []store.Trigger) error {
	if now-gone > store.CatchUpGraceTime.Milliseconds() {
		return nil
	}
	missed, err := r.Since(gone)
	if err != nil {
		return err
	}
	for i := range missed {
		d := newDelivery(r, now, missed[i].ID, &missed[i].NewEvent)
		for j := range triggers {
			if _, err := d.startBy(&triggers[j]); err != nil {
				return err
			}
		}
	}
	return nil
}
