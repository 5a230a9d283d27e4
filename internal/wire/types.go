// Package wire has what the HTTP API of the page and the command `stint -o json` answer, so that their names are the same.
// Durations are in milliseconds; a time that is not set is null.
package wire

import (
	"encoding/json"
	"time"

	"github.com/stint-dev/stint"
)

// A Run is an answer about a run.
type Run struct {
	ID          string            `json:"id"`
	Task        string            `json:"task"`
	Queue       string            `json:"queue"`
	State       string            `json:"state"`
	Blocked     string            `json:"blocked,omitempty"`
	Awaits      []Awaited         `json:"awaits,omitempty"` // events of which a waiting run goes on
	Quarantined bool              `json:"quarantined,omitempty"`
	Canceling   bool              `json:"canceling,omitempty"`
	Attempt     int               `json:"attempt"`
	Executions  int               `json:"executions"`
	Priority    int               `json:"priority"`
	Input       json.RawMessage   `json:"input"`
	Output      json.RawMessage   `json:"output"`
	Error       string            `json:"error,omitempty"`
	Stack       string            `json:"stack,omitempty"`
	ErrorGroup  string            `json:"error_group,omitempty"` // of a failed run: the ID of its Error
	Metadata    map[string]string `json:"metadata,omitempty"`
	Created     time.Time         `json:"created"`
	Scheduled   *time.Time        `json:"scheduled"`
	Started     *time.Time        `json:"started"`
	Finished    *time.Time        `json:"finished"`
	ParentID    string            `json:"parent_id,omitempty"`
	RootID      string            `json:"root_id,omitempty"`
	Worker      string            `json:"worker,omitempty"`
	Key         string            `json:"key,omitempty"`
	Workflow    bool              `json:"workflow,omitempty"`
	Progress    *Progress         `json:"progress,omitempty"`
	Timeline    []Change          `json:"timeline,omitempty"`
	Tasks       []FlowTask        `json:"tasks,omitempty"`
}

// An Awaited says which events a waiting run goes on with.
type Awaited struct {
	Key    string          `json:"key"`
	Scope  string          `json:"scope,omitempty"`
	Field  string          `json:"field,omitempty"`
	Value  json.RawMessage `json:"value,omitempty"`  // of the field
	Filter string          `json:"filter,omitempty"` // in CEL
}

// Progress is how far a run has come, as its handler reports it.
type Progress struct {
	Done    int64  `json:"done"`
	Total   int64  `json:"total"`
	Message string `json:"message,omitempty"`
}

// A Change is an entry of a run's timeline.
type Change struct {
	At      time.Time `json:"at"`
	State   string    `json:"state"`
	Attempt int       `json:"attempt,omitempty"`
	Worker  string    `json:"worker,omitempty"`
	Error   string    `json:"error,omitempty"`
	Failed  []Entry   `json:"failed,omitempty"` // the steps whose errors ended the attempt
}

// A FlowTask is a task of a workflow's run.
type FlowTask struct {
	Name    string   `json:"name"`
	Parents []string `json:"parents,omitempty"`
	State   string   `json:"state"`
	Blocked string   `json:"blocked,omitempty"`
	RunID   string   `json:"run_id,omitempty"`
	Error   string   `json:"error,omitempty"`
}

// An Entry is one of a journal.
type Entry struct {
	Address  string          `json:"address"`
	Kind     string          `json:"kind"`
	Name     string          `json:"name"`
	Done     bool            `json:"done"`
	Output   json.RawMessage `json:"output"`
	Error    string          `json:"error,omitempty"`
	Began    *time.Time      `json:"began"`
	At       *time.Time      `json:"at"`
	Due      *time.Time      `json:"due"`
	Attempts int             `json:"attempts,omitempty"`
	Tries    []Try           `json:"tries,omitempty"` // of a step that was tried again
}

// A Try is a call of a step's function.
type Try struct {
	Began time.Time `json:"began"`
	Ended time.Time `json:"ended"`
	Error string    `json:"error,omitempty"` // none: it succeeded
}

// A Line is one of a run's log.
type Line struct {
	Seq     int64           `json:"seq"`
	At      time.Time       `json:"at"`
	Level   string          `json:"level"`
	Message string          `json:"message"`
	Attrs   json.RawMessage `json:"attrs"`
	Attempt int             `json:"attempt"`
}

// A RunLine is a line with the run that logged it.
type RunLine struct {
	Run  string `json:"run"`
	Task string `json:"task"`
	Line
}

// A Chunk is one of a run's stream.
type Chunk struct {
	Seq       int64     `json:"seq"`
	At        time.Time `json:"at"`
	Attempt   int       `json:"attempt"`
	Execution int       `json:"execution"`
	Text      string    `json:"text"` // UTF-8; other bytes are replaced
}

// A Task is a task or workflow, with what its definition says, if there is one.
type Task struct {
	Name      string          `json:"name"`
	Workflow  bool            `json:"workflow,omitempty"`
	Handler   bool            `json:"handler,omitempty"`
	Queue     string          `json:"queue,omitempty"`
	Retries   int             `json:"retries,omitempty"`
	TimeoutMS float64         `json:"timeout_ms,omitempty"`
	Crons     []string        `json:"crons,omitempty"`
	Events    []string        `json:"events,omitempty"`
	Input     json.RawMessage `json:"input"` // JSON schema
	Tasks     []Node          `json:"tasks,omitempty"`
	BatchSize int             `json:"batch_size,omitempty"`
	// Options are all of them, as those of a definition as data: func stands for the expression of what a function computes.
	Options stint.TaskOptions `json:"options"`
}

// A Node is a task of a workflow's definition.
type Node struct {
	Name    string   `json:"name"`
	Parents []string `json:"parents,omitempty"`
	// Options are those of the task in the workflow.
	Options stint.TaskOptions `json:"options"`
}

// A Queue is the state of a queue.
type Queue struct {
	Name    string     `json:"name"`
	Paused  bool       `json:"paused"`
	Ready   int        `json:"ready"`
	Running int        `json:"running"`
	Oldest  *time.Time `json:"oldest"`
	// Priorities counts ready runs by priority.
	Priorities map[int]int `json:"priorities,omitempty"`
}

// A Worker is one that is running.
type Worker struct {
	Name    string            `json:"name"`
	Host    string            `json:"host"`
	PID     int               `json:"pid"`
	Started time.Time         `json:"started"`
	Slots   int               `json:"slots"`
	Running int               `json:"running"`
	Paused  bool              `json:"paused"`
	Queues  []string          `json:"queues,omitempty"`
	Labels  map[string]string `json:"labels,omitempty"`
	Build   string            `json:"build,omitempty"`
}

// A Key is the state of one key of a concurrency limit.
type Key struct {
	Name     string `json:"name"`
	Key      string `json:"key"`
	Max      int    `json:"max"`
	Active   int    `json:"active"`
	Waiting  int    `json:"waiting"`
	Strategy string `json:"strategy"`
	Paused   bool   `json:"paused"`
}

// A Rate is the state of a rate limit.
type Rate struct {
	Key     string  `json:"key"`
	Limit   float64 `json:"limit"` // units a second
	Burst   int     `json:"burst"`
	Tokens  float64 `json:"tokens"`
	Waiting int     `json:"waiting"`
	Paused  bool    `json:"paused"`
}

// A Cron is the state of a cron.
type Cron struct {
	Name     string          `json:"name"`
	Task     string          `json:"task"`
	Spec     string          `json:"spec"`
	Declared bool            `json:"declared"`
	Paused   bool            `json:"paused"`
	Input    json.RawMessage `json:"input"`
	Next     *time.Time      `json:"next"`
	Last     *time.Time      `json:"last"`
	LastRun  string          `json:"last_run,omitempty"`
	Error    string          `json:"error,omitempty"`
	Blocked  string          `json:"blocked,omitempty"` // why no worker can start its runs; "": one can
}

// An Event is one that was published.
type Event struct {
	ID        string            `json:"id"`
	Key       string            `json:"key"`
	Payload   json.RawMessage   `json:"payload"`
	Metadata  map[string]string `json:"metadata,omitempty"`
	Scope     string            `json:"scope,omitempty"`
	Published time.Time         `json:"published"`
	Started   []string          `json:"started,omitempty"`
	Woke      []string          `json:"woke,omitempty"`
}

// A Stat counts what happened in a span of time.
type Stat struct {
	At            time.Time `json:"at"`
	Queue         string    `json:"queue,omitempty"`
	Task          string    `json:"task,omitempty"`
	LimitName     string    `json:"limit_name,omitempty"`
	LimitKey      string    `json:"limit_key,omitempty"`
	Enqueued      int64     `json:"enqueued"`
	Started       int64     `json:"started"`
	Succeeded     int64     `json:"succeeded"`
	Failed        int64     `json:"failed"`
	Canceled      int64     `json:"canceled"`
	Skipped       int64     `json:"skipped"`
	Retried       int64     `json:"retried"`
	Depth         int       `json:"depth"`
	Active        int       `json:"active"`
	Max           int       `json:"max"`
	Commits       int64     `json:"commits"`
	Changes       int64     `json:"changes"`
	WaitP50MS     float64   `json:"wait_p50_ms"`
	WaitP99MS     float64   `json:"wait_p99_ms"`
	DurationP50MS float64   `json:"duration_p50_ms"`
	DurationP95MS float64   `json:"duration_p95_ms"`
	CommitP50MS   float64   `json:"commit_p50_ms"`
	CommitP99MS   float64   `json:"commit_p99_ms"`
}

// An Error is an answer about the failed runs of a task with the same error.
type Error struct {
	ID         string       `json:"id"`
	Task       string       `json:"task"`
	Text       string       `json:"text"` // with what varies masked
	Sample     string       `json:"sample"`
	Run        string       `json:"run"` // the last one
	First      time.Time    `json:"first"`
	Last       time.Time    `json:"last"`
	Count      int64        `json:"count"`
	Trend      []ErrorCount `json:"trend,omitempty"`
	Muted      bool         `json:"muted"`
	MutedUntil *time.Time   `json:"muted_until"`        // in the year 9999: for good
	MutedTo    int64        `json:"muted_to,omitempty"` // the count to which it is muted
	Resolved   bool         `json:"resolved"`           // and not seen since
	Regressed  bool         `json:"regressed"`          // it was resolved, and seen since
}

// An ErrorCount is how often runs failed in a minute or an hour.
type ErrorCount struct {
	At    time.Time `json:"at"`
	Count int64     `json:"count"`
}
