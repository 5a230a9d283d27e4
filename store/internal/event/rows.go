package event

import "github.com/stint-dev/stint/store"

// Kind says what waits for an event.
type Kind uint8

// What may wait for an event.
const (
	Conditions Kind = iota // of workflows' tasks that have not started
	Calls                  // of durable functions
)

// An Event is a stored event.
type Event struct {
	ID int64
	store.NewEvent
}

// A Declared is a trigger as it is stored. Template and Graph identify its template.
type Declared struct {
	Key, Filter, Program string
	Template             string
	Graph                int64
	Gone                 int64 // since when its declaration is gone; 0: it is not
}

// Rows are the events, triggers and waits of a transaction. A time is in milliseconds.
type Rows interface {
	// Delivered returns the event that came with a delivery; 0: none did.
	Delivered(delivery string) (event int64, err error)
	// Insert stores an event with the next key. One that is pending has no effect before Take.
	Insert(now int64, e *store.NewEvent, pending bool) (event int64, err error)
	// Take reports whether an event was pending, and makes it no longer so.
	Take(event int64) (bool, error)
	// Since returns the events that are not pending, from a time on, in order.
	Since(at int64) ([]Event, error)

	// Triggers returns the triggers with exactly that key, and those with a "*" in theirs.
	Triggers(key string) (exact, wild []store.Trigger, err error)
	// Filters returns the filters of a task.
	Filters(task string) ([]store.TaskFilter, error)
	// Start enqueues a run that an event starts, unless its idempotency key is taken.
	Start(now, event int64, run *store.NewRun) error
	// ID returns the ID of an event.
	ID(event int64) store.ID

	// Declared returns the declared triggers of a task, in order.
	Declared(task string) ([]Declared, error)
	// Encode returns a trigger as it is to be stored.
	Encode(tr *store.Trigger) (Declared, error)
	// Replace replaces the declared triggers of a task.
	Replace(task string, by []Declared) error

	// NoWaiters reports whether nothing is known to wait for events with a key. SetNoWaiters
	// records that; it holds until something waits.
	NoWaiters(key string) bool
	SetNoWaiters(key string)
	// Fields returns the fields by which something of a kind waits for events with a key ("": any
	// event), WaitFilters the filters with which it does for one value of a field ("": none).
	Fields(kind Kind, key string) ([]string, error)
	WaitFilters(kind Kind, m *store.Match) ([]string, error)
	// Resolve gives an event to the waits of a kind that have the match, and returns what waited. If
	// it is late, durable calls of runs that have had it go on waiting.
	Resolve(kind Kind, now, event int64, payload []byte, m *store.Match, late bool) ([]Waiter, error)
	// Wake records that an event has woken a run, and decides the task with conditions again, or
	// queues the run whose durable call was waiting, if that is over.
	Wake(kind Kind, now, event int64, w Waiter) error
}

// A Waiter is what an event was given to: the entry of a durable call, or a run's conditions.
type Waiter struct {
	Run int64
	At  store.Address // of Calls
}
