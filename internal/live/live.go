// Package live keeps the errors of handlers as they were returned, for those in the same process who wait
// for the run, or come soon after it has failed. Others find the stored form.
package live

import (
	"sync"

	"github.com/stint-dev/stint/store"
)

// Errors has the errors of runs that have failed for good: of those that somebody waits for, and of the newest.
// The zero value is ready for use.
type Errors struct {
	mu     sync.Mutex
	waited map[store.ID]*Error // somebody waits
	recent map[store.ID]*Error // at most kept
	oldest []store.ID          // of recent, the first one first
}

// An Error is the error with which a run has failed last, if it has.
type Error struct {
	waiters int
	lease   store.Lease // of the execution
	err     error
}

// kept is the number of errors that are kept for who comes late.
const kept = 256

// Watch returns the error of a run, which Report sets until Unwatch.
func (es *Errors) Watch(id store.ID) *Error {
	es.mu.Lock()
	defer es.mu.Unlock()
	e := es.waited[id]
	if e == nil {
		if e = es.recent[id]; e == nil {
			e = &Error{}
		}
		if es.waited == nil {
			es.waited = map[store.ID]*Error{}
		}
		es.waited[id] = e
	}
	e.waiters++
	return e
}

// Unwatch ends a Watch.
func (es *Errors) Unwatch(id store.ID, e *Error) {
	es.mu.Lock()
	defer es.mu.Unlock()
	if e.waiters--; e.waiters == 0 {
		delete(es.waited, id)
	}
}

// Report keeps the error of an execution that has failed for good.
func (es *Errors) Report(id store.ID, lease store.Lease, err error) {
	es.mu.Lock()
	defer es.mu.Unlock()
	e := es.waited[id]
	if e == nil {
		e = es.recent[id]
	}
	if e == nil {
		e = &Error{}
	}
	if es.recent[id] == nil {
		es.add(id, e)
	}
	e.lease, e.err = lease, err
}

// add puts an error among the recent ones, of which the oldest may leave.
func (es *Errors) add(id store.ID, e *Error) {
	if es.recent == nil {
		es.recent = map[store.ID]*Error{}
	}
	if len(es.oldest) == kept {
		delete(es.recent, es.oldest[0])
		es.oldest = append(es.oldest[:0], es.oldest[1:]...)
	}
	es.recent[id], es.oldest = e, append(es.oldest, id)
}

// Of returns the error of the execution with a lease, if it is known.
func (es *Errors) Of(e *Error, lease store.Lease) error {
	es.mu.Lock()
	defer es.mu.Unlock()
	if e.err == nil || e.lease != lease {
		return nil
	}
	return e.err
}
