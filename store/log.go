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
	Oldest       bool // the oldest first
	Scan         int  // how many lines are looked at; 0: as many as it takes
}

// A LogPlace is the place of a line among those of all runs: they are in the order of their times, then of runs and
// numbers. Zero: before the first.
type LogPlace struct {
	At  time.Time
	Run ID
	Seq int64
}

// A LogCount says how many lines of a level were logged in a span that begins at At.
type LogCount struct {
	At    time.Time
	Level int // one of log/slog's four: the highest that is not above the lines' level, or the lowest
	Lines int64
}
