// Package entries decides about the entries of runs' journals. It records durable calls, forgets entries
// before a new attempt, finds the compensations to do again, and copies entries to a fork.
//
// The package has no SQL, no clock and no goroutine: it reads and changes entries by Rows, which a
// store implements in a transaction.
package entries

import "github.com/stint-dev/stint/store"

// Rows are the entries of a transaction. An error of a method is returned at once.
type Rows interface {
	// Put stores an entry if the run is Running with that lease, and has no entry at its address
	// that is done. It reports whether it has. event is the one that completes it; 0: none.
	Put(run int64, lease store.Lease, e store.Entry, event int64) (bool, error)
	// Current reports whether the run is Running with that lease.
	Current(run int64, lease store.Lease) (bool, error)
	// Entry returns an entry; nil: there is none.
	Entry(run int64, at store.Address) (*store.Entry, error)
	// In returns the entries of a scope with numbers up to n, in order. Change stores an entry that is there, whatever
	// executes the run, and Drop deletes one.
	In(run int64, scope string, n int) ([]store.Entry, error)
	Change(run int64, e store.Entry) error
	Drop(run int64, at store.Address) error
	// DueBy makes a run that is Waiting, and has a lease, due at a time, in milliseconds, unless it is earlier.
	DueBy(run, at int64) error
	// Event returns the first event that matches, since the run was enqueued and not before from,
	// that the run has not had yet; 0: there is none.
	Event(run, from int64, m store.Match) (event int64, payload []byte, err error)
	// Waits records that a run waits for events with a key, Had that it has got one.
	Waits(key string)
	Had(run, event int64)

	// DropFailed deletes the entry of a branch that has failed, and reports whether there was one.
	DropFailed(run int64, at store.Address) (bool, error)
	// DropFrom deletes the entries of a scope from a number on, DropBranches those of the branches
	// that such entries began, also where these have not ended and have no entry.
	DropFrom(run int64, at store.Address) error
	DropBranches(run int64, at store.Address) error

	// Scopes returns the scopes of a run's entries that begin with prefix.
	Scopes(run int64, prefix string) ([]string, error)
	// EndedBranch reports whether the entry of a branch is done.
	EndedBranch(run int64, at store.Address) (bool, error)
	// Redo makes the compensations of a scope pending. Note makes the steps of a scope notes, in the
	// scope to, and deletes what else is in it.
	Redo(run int64, scope string) error
	Note(run int64, scope, to string) error

	// CopyBefore copies the done entries of the handler's own scope to another run that come before
	// a number, CopyDone those of scopes, CopySteps all steps of scopes.
	CopyBefore(run, to int64, before int) error
	CopyDone(run, to int64, scopes []string) error
	CopySteps(run, to int64, scopes []string) error
}
