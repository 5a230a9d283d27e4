package limits

import (
	"time"

	"github.com/stint-dev/stint/store"
)

// Rows are the limiters and runs of a transaction. A Limiter that it returns is the same at each
// call. Where at is nil, the run is ready.
type Rows interface {
	// Now returns the time of the transaction.
	Now() time.Time
	// Limiter returns the limiter of a limit. It makes one with the limit's settings if there is
	// none; of a rate without settings it returns store.ErrNotFound.
	Limiter(l *store.Limit) (*Limiter, error)
	// LimiterByID returns a limiter, or nil if there is none.
	LimiterByID(id int64) (*Limiter, error)
	// Changed stores a limiter by the end of the transaction. AdmitAll is called if it has Recheck.
	Changed(l *Limiter)
	// WakeAt makes the store call AdmitAll at a time, in milliseconds, for limiters whose WakeAt has come.
	WakeAt(at int64)

	// Place makes a queued run wait at a limiter, or ready.
	Place(run int64, at *Limiter) error
	// PlaceLast does so, and places the run behind those whose keys had their turn before.
	PlaceLast(run int64, at *Limiter) error
	// PlaceFirst does so, and places the run before those that wait there.
	PlaceFirst(run int64, at *Limiter) error
	// FirstWaiting returns the run that waits at a limiter and is next; nil: none waits.
	FirstWaiting(l *Limiter) (*Transition, error)
	// AdmitFirst makes the run ready that waits at a concurrency limiter and is next, if it needs
	// no other; else it changes nothing.
	AdmitFirst(l *Limiter) (bool, error)
	// Admitted returns the runs that are admitted by all their limiters and have not started, the
	// last in order first.
	Admitted() ([]*Transition, error)

	// Join remembers a run of a limiter that cancels older ones, Older returns those runs that are
	// not among its best Max: by priority, then the newest. Forget forgets them.
	Join(l *Limiter, run int64) error
	Older(l *Limiter) ([]int64, error)
	Forget(l *Limiter) error

	// Begin begins a workflow's run that is admitted.
	Begin(run int64) error
	// Cancel cancels a run, Block blocks one that is queued.
	Cancel(run int64, why string) error
	Block(run int64, why error) error
	// ForRun calls f. An error of it that shows damage is of that run.
	ForRun(run int64, f func() error) error
}
