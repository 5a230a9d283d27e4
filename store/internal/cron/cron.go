// Package cron decides which runs crons start, who may change a cron, and which declarations of
// crons and triggers hold.
//
// It has no SQL, no clock and no goroutine: it reads and changes crons by Rows, which a store
// implements in a transaction.
package cron

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/limits"
)

// A Cron is a stored cron.
type Cron struct {
	store.Cron
	Program string    // that declares it
	Gone    time.Time // since when its declaration is gone; zero: it is not
	Broken  error     // why it starts no runs; of its template only the task is known
}

// StoredCatchUp returns the CatchUp that a row has as a number. It returns an error for a number that no
// store writes: somebody changed the row by hand.
func StoredCatchUp(n int64) (store.CatchUp, error) {
	if n < 0 || n > int64(store.CatchUpAll) {
		return store.CatchUpGrace, fmt.Errorf("stored catch-up: %d is none", n)
	}
	return store.CatchUp(n), nil
}

// Rows are the crons of a transaction.
type Rows interface {
	// Cron returns the cron with that name, or nil.
	Cron(name string) (*Cron, error)
	// Due returns up to n crons whose Next has come and is not before from, in milliseconds, the earliest first.
	Due(from int64, now time.Time, n int) ([]Cron, error)
	// Put stores a cron, also in place of the one with its name.
	Put(c *Cron) error
	// Update stores whether a cron is paused, its times, its last run and its error.
	Update(c *Cron) error
	// Delete deletes a cron.
	Delete(name string) error
	// Enqueue enqueues a run.
	Enqueue(r *store.NewRun) (store.ID, error)

	// Declared returns the names of a task's declared crons.
	Declared(task string) ([]string, error)
	// SetGraph changes the graph of all crons of a workflow.
	SetGraph(task string, g *store.Graph) error
	// DeclaredBy returns the tasks of which a program declares crons or triggers that are not gone.
	DeclaredBy(program string) (tasks []string, err error)
	// Retire marks the declared crons and triggers of a task as gone.
	Retire(task string) error
	// HasWorker reports whether a living worker has a handler for a task.
	HasWorker(task string) (bool, error)
}

// perTick is the number of missed ticks of a cron that start runs in one transaction.
const perTick = 100

// Tick starts the runs of up to n crons that are due, and that missed does not leave alone.
func Tick(r Rows, missed *Missed, now time.Time, n int) error {
	from, _ := missed.From(now.UnixMilli())
	due, err := r.Due(from, now, n)
	if err != nil {
		return err
	}
	for i := range due {
		if err := tick(r, now, &due[i]); err != nil {
			return err
		}
	}
	return nil
}

// tick starts the runs of a cron's ticks. A cron that cannot tick, because it was changed by hand or
// its zone is not known here, does not hold up others.
func tick(r Rows, now time.Time, c *Cron) error {
	ticks, next, err := c.Due(c.Next, now, perTick)
	if err = errors.Join(c.Broken, err); err != nil {
		c.Next, c.Error = time.Time{}, err.Error()
		return r.Update(c)
	}
	c.Next, c.Error = next, ""
	for _, at := range ticks {
		id, err := start(r, c, at)
		switch {
		case errors.Is(err, store.ErrNotFound), errors.Is(err, limits.ErrUnits):
			c.Error = err.Error()
		case err != nil:
			return err
		default:
			c.Last, c.LastRun = at, id
		}
	}
	return r.Update(c)
}

// start enqueues a cron's run for a tick.
func start(r Rows, c *Cron, at time.Time) (store.ID, error) {
	run := c.Template.Run
	run.Metadata = store.AddMetadata(run.Metadata, store.MetaCron, c.Name, store.MetaTick, at.UTC().Format(time.RFC3339))
	return r.Enqueue(&run)
}

// set creates a cron, or replaces the one with its name. If the spec is the same, its ticks continue.
func set(r Rows, now time.Time, c *store.Cron, program string) error {
	had, err := r.Cron(c.Name)
	if err != nil {
		return err
	}
	after := now
	switch {
	case had == nil:
	case !had.Gone.IsZero() && c.Declared:
		after = had.Gone // its CatchUp decides about the ticks since
	case !had.Gone.IsZero():
		had = nil
	case had.Template.Run.Task != c.Template.Run.Task && !(had.Declared && c.Declared): // the name of a declared one contains its task's
		return fmt.Errorf("cron %q is one of task %q: %w", c.Name, had.Template.Run.Task, store.ErrTaken)
	case had.Declared && !c.Declared:
		return fmt.Errorf("cron %q is declared in code: %w", c.Name, store.ErrTaken)
	}
	next, err := store.NextTick(c.Spec, after)
	if err != nil {
		return err
	}
	row := Cron{Cron: *c, Program: program}
	row.Paused, row.Last, row.LastRun, row.Error, row.Next = false, time.Time{}, store.ID{}, "", next
	if had != nil {
		row.Paused, row.Last, row.LastRun = had.Paused, had.Last, had.LastRun
		switch {
		case had.Paused:
			row.Next = time.Time{}
		case had.Spec == c.Spec && !had.Next.IsZero():
			row.Next = had.Next
		}
	}
	return r.Put(&row)
}

// Change makes a change of a cron. It sets the Started of a CronTrigger.
func Change(r Rows, now time.Time, x *store.CronChange) error {
	if x.Kind == store.CronSet {
		c := x.Cron
		c.Declared = false
		return set(r, now, &c, "")
	}
	c, err := r.Cron(x.Name)
	switch {
	case err != nil:
		return err
	case c == nil:
		return fmt.Errorf("cron %q: %w", x.Name, store.ErrNotFound)
	case x.Kind == store.CronDelete:
		return remove(r, c)
	case c.Broken != nil:
		return fmt.Errorf("cron %q: %w", x.Name, c.Broken)
	case !c.Gone.IsZero():
		return fmt.Errorf("cron %q, which code declared that is gone: %w", x.Name, store.ErrNotFound)
	case x.Kind == store.CronTrigger:
		x.Started, err = start(r, c, now)
		return err
	case x.Kind == store.CronSpec:
		return setSpec(r, now, c, x.Spec)
	case x.Kind == store.CronPause:
		c.Paused, c.Next = true, time.Time{}
		return r.Update(c)
	case !c.Paused:
		return nil
	}
	c.Paused = false
	if c.Next, err = store.NextTick(c.Spec, now); err != nil {
		return err
	}
	return r.Update(c)
}

// setSpec gives a cron another spec. With the same, its ticks continue.
func setSpec(r Rows, now time.Time, c *Cron, spec string) error {
	if c.Declared {
		return fmt.Errorf("cron %q is declared in code: %w", c.Name, store.ErrTaken)
	}
	next, err := store.NextTick(spec, now)
	if err != nil {
		return err
	}
	if !c.Paused && (spec != c.Spec || c.Next.IsZero()) {
		c.Next = next
	}
	c.Spec, c.Error = spec, ""
	return r.Put(c)
}

// remove deletes a cron, unless code that is running declares it.
func remove(r Rows, c *Cron) error {
	if c.Declared && c.Gone.IsZero() {
		if worked, err := r.HasWorker(c.Template.Run.Task); err != nil || worked {
			return cmp.Or(err, fmt.Errorf("cron %q is declared in code: %w", c.Name, store.ErrTaken))
		}
	}
	return r.Delete(c.Name)
}
