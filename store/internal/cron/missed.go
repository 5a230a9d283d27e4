package cron

import (
	"sync/atomic"
	"time"
)

// CatchUpAfter is for how long a store that was just opened leaves ticks alone which came before, unless one of its workers takes runs.
// Code that starts may no longer declare the cron; and a program that opens the database for one change, such as a command of an
// operator, starts no runs.
const CatchUpAfter = 10 * time.Second

// Missed says which ticks a store leaves alone. The zero value leaves none alone.
type Missed struct {
	opened int64 // milliseconds
	over   atomic.Bool
}

// Open notes when the store was opened, in milliseconds.
func (m *Missed) Open(now int64) { m.opened = now }

// From returns the time before which ticks are left alone, in milliseconds, and until when they are; 0: none is. A clock that was set
// back leaves none alone.
func (m *Missed) From(now int64) (from, until int64) {
	until = m.opened + CatchUpAfter.Milliseconds()
	if m.over.Load() || now < m.opened || now >= until {
		return 0, 0
	}
	return m.opened, until
}

// End makes all ticks due: a worker takes runs, and its program has declared its crons. It reports whether some may have been left alone.
func (m *Missed) End() bool { return !m.over.Swap(true) }
