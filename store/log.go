package store

import "time"

// A Log is one line that a handler logged.
type Log struct {
	Seq     int64 // from 1; set by the store
	At      time.Time
	Level   int // as in log/slog
	Message string
	Attrs   []byte // a JSON object, or nil
	Attempt int
}

// Size returns the bytes of texts that count for MaxPageBytes.
func (l *Log) Size() int { return len(l.Message) + len(l.Attrs) }

// A RunLog is a line with the run that logged it.
type RunLog struct {
	Log
	ID   ID
	Task string // of the run
}

// A LogFilter selects lines of all runs. A zero field matches every line; an empty list that is
// not nil matches none.
type LogFilter struct {
	Tasks        []string
	Run          ID
	Level        *int // the lowest level; nil: any
	Since, Until time.Time
	Oldest       bool // the oldest lines first
	Scan         int  // with Tasks or Level: how many lines are looked at for a page; 0: as many as it takes
}

// A LogPlace is the place of a line among the lines of all runs, which are ordered by time, then by run and number. The zero
// LogPlace is before the first line.
type LogPlace struct {
	At  time.Time
	Run ID
	Seq int64
}

// A LogCount says how many lines of a level were logged in a span that begins at At.
type LogCount struct {
	At    time.Time
	Level int // -4, 0, 4 or 8, as in log/slog; a level between two of them counts as the lower one, and below -4 as -4
	Lines int64
}
