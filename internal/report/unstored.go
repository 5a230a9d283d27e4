// Package report has what handlers report, which are progress, log lines and the chunks of streams, until the
// store has it.
//
// It is stored in portions, so that no run fills commits that others wait for. A run has one portion in memory and
// one on its way to the store; beyond that its log lines and chunks wait for room.
package report

import (
	"github.com/stint-dev/stint/store"
)

// Portion is the maximum size in bytes of what a commit stores of one run's lines, or chunks.
const Portion = 256 << 10

const (
	lineOverhead = 512      // bytes counted for a log line beside its texts
	maxUnstored  = 16 << 20 // bytes of log lines kept in memory
)

// Unstored is what a handler reported and the store does not have yet. The zero value is empty. Its methods are not
// to be called concurrently.
type Unstored struct {
	Progress store.Progress

	progressed bool // Progress is not stored yet
	impatient  bool // a line waited in vain; reset when lines are taken
	logs       []store.Log
	size       int           // of logs
	room       chan struct{} // closed when lines are taken; nil: nobody waits
}

// LineSize returns the bytes that count for a line.
func LineSize(l *store.Log) int { return lineOverhead + len(l.Message) + len(l.Attrs) }

// SetProgress changes the progress.
func (u *Unstored) SetProgress(change func(*store.Progress)) {
	change(&u.Progress)
	u.progressed = true
}

// Full reports whether a whole portion of lines is unstored.
func (u *Unstored) Full() bool { return u.size >= Portion }

// Empty reports whether no line is unstored.
func (u *Unstored) Empty() bool { return len(u.logs) == 0 }

// Room returns a channel that is closed when there may be room for a line; nil: there is, or a line waited in vain.
func (u *Unstored) Room() <-chan struct{} {
	if !u.Full() || u.impatient {
		return nil
	}
	if u.room == nil {
		u.room = make(chan struct{})
	}
	return u.room
}

// InVain notes that a line has waited too long for that room: until lines are taken, no other waits.
func (u *Unstored) InVain(room <-chan struct{}) { u.impatient = u.impatient || room == u.room }

// Add appends a line, and drops the oldest if there are too many.
func (u *Unstored) Add(l store.Log) {
	u.logs = append(u.logs, l)
	u.size += LineSize(&l)
	u.drop(maxUnstored)
}

// DropExcess drops the oldest lines until a portion is left.
func (u *Unstored) DropExcess() { u.drop(Portion) }

// drop drops the oldest lines until at most that many bytes, and as many lines as a run keeps, are left.
func (u *Unstored) drop(size int) {
	n := 0
	for ; len(u.logs)-n > store.MaxLogs || u.size > size && n < len(u.logs); n++ {
		u.size -= LineSize(&u.logs[n])
	}
	u.logs = u.logs[n:]
}

// Take removes and returns a portion.
func (u *Unstored) Take() (r store.Record) {
	if u.progressed {
		p := u.Progress
		r.Progress, u.progressed = &p, false
	}
	n, size := 0, 0
	for n < len(u.logs) && size < Portion {
		size += LineSize(&u.logs[n])
		n++
	}
	r.Logs = u.logs[:n:n]
	if u.logs, u.size, u.impatient = u.logs[n:], u.size-size, false; len(u.logs) == 0 {
		u.logs = nil
	}
	if u.room != nil && !u.Full() {
		close(u.room)
		u.room = nil
	}
	return r
}
