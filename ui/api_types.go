package ui

import (
	"encoding/json"
	"time"

	"github.com/stint-dev/stint"
)

// The API's answers. Durations are in milliseconds; a time that is not set is null.

type wireRuns struct {
	Runs []wireRun `json:"runs"`
	Next string    `json:"next,omitempty"` // cursor of the next page
}

type wireRun struct {
	ID          string            `json:"id"`
	Task        string            `json:"task"`
	Queue       string            `json:"queue"`
	State       string            `json:"state"`
	Blocked     string            `json:"blocked,omitempty"`
	Quarantined bool              `json:"quarantined,omitempty"`
	Canceling   bool              `json:"canceling,omitempty"`
	Attempt     int               `json:"attempt"`
	Executions  int               `json:"executions"`
	Priority    int               `json:"priority"`
	Input       json.RawMessage   `json:"input"`
	Output      json.RawMessage   `json:"output"`
	Error       string            `json:"error,omitempty"`
	Stack       string            `json:"stack,omitempty"`
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
	Progress    *wireProgress     `json:"progress,omitempty"`
	Timeline    []wireChange      `json:"timeline,omitempty"`
	Tasks       []wireFlowTask    `json:"tasks,omitempty"`
}

type wireProgress struct {
	Done    int64  `json:"done"`
	Total   int64  `json:"total"`
	Message string `json:"message,omitempty"`
}

type wireChange struct {
	At      time.Time `json:"at"`
	State   string    `json:"state"`
	Attempt int       `json:"attempt,omitempty"`
	Worker  string    `json:"worker,omitempty"`
	Error   string    `json:"error,omitempty"`
}

type wireFlowTask struct {
	Name    string   `json:"name"`
	Parents []string `json:"parents,omitempty"`
	State   string   `json:"state"`
	Blocked string   `json:"blocked,omitempty"`
	RunID   string   `json:"run_id,omitempty"`
	Error   string   `json:"error,omitempty"`
}

type wireJournal struct {
	Entries []wireEntry `json:"entries"`
	Next    string      `json:"next,omitempty"` // cursor of the next page; "": this is the last
}

type wireEntry struct {
	Address  string          `json:"address"`
	Kind     string          `json:"kind"`
	Name     string          `json:"name"`
	Done     bool            `json:"done"`
	Output   json.RawMessage `json:"output"`
	Error    string          `json:"error,omitempty"`
	At       *time.Time      `json:"at"`
	Due      *time.Time      `json:"due"`
	Attempts int             `json:"attempts,omitempty"`
}

type wireLogs struct {
	Lines []wireLine `json:"lines"`
	Next  int64      `json:"next"` // the field after of the next call
}

type wireLine struct {
	Seq     int64           `json:"seq"`
	At      time.Time       `json:"at"`
	Level   string          `json:"level"`
	Message string          `json:"message"`
	Attrs   json.RawMessage `json:"attrs"`
	Attempt int             `json:"attempt"`
}

type wireStream struct {
	Chunks []string `json:"chunks"` // UTF-8; other bytes are replaced
	Next   int      `json:"next"`   // the field after of the next call
}

type wireCount struct {
	Changed int    `json:"changed"`        // runs
	Next    string `json:"next,omitempty"` // with paced: the cursor to continue from; "": all are done
}

type wireDone struct {
	Done bool `json:"done"`
}

type wireStarted struct {
	Run      string `json:"run"`
	Existing bool   `json:"existing,omitempty"`
}

func (s wireStarted) page() string { return "/runs/" + s.Run }

type wirePublished struct {
	Event string `json:"event"`
}

type wireFilters struct {
	Filters []wireFilter `json:"filters"`
	Next    int64        `json:"next,omitempty"` // the field after of the next call; 0: this is the last page
}

type wireFilter struct {
	ID      int64           `json:"id"`
	Task    string          `json:"task"`
	Scope   string          `json:"scope"`
	Expr    string          `json:"expr"`
	Payload json.RawMessage `json:"payload"`
}

type wireWebhooks struct {
	Webhooks []wireWebhook `json:"webhooks"`
}

type wireWebhook struct {
	Name      string     `json:"name"`
	Published int        `json:"published"`
	Ignored   int        `json:"ignored"`
	Refused   int        `json:"refused"`
	Last      *time.Time `json:"last"`
	LastEvent string     `json:"last_event,omitempty"`
	Refusal   string     `json:"refusal,omitempty"`
	RefusedAt *time.Time `json:"refused_at"`
}

type wireMatch struct {
	Matches bool `json:"matches"`
}

type wireTasks struct {
	Tasks []wireTask `json:"tasks"`
}

type wireTask struct {
	Name      string          `json:"name"`
	Workflow  bool            `json:"workflow,omitempty"`
	Handler   bool            `json:"handler,omitempty"`
	Queue     string          `json:"queue,omitempty"`
	Retries   int             `json:"retries,omitempty"`
	TimeoutMS float64         `json:"timeout_ms,omitempty"`
	Crons     []string        `json:"crons,omitempty"`
	Events    []string        `json:"events,omitempty"`
	Input     json.RawMessage `json:"input"` // JSON schema
	Tasks     []wireNode      `json:"tasks,omitempty"`
}

type wireNode struct {
	Name    string   `json:"name"`
	Parents []string `json:"parents,omitempty"`
}

type wireQueues struct {
	Queues []wireQueue `json:"queues"`
}

type wireQueue struct {
	Name    string     `json:"name"`
	Paused  bool       `json:"paused"`
	Ready   int        `json:"ready"`
	Running int        `json:"running"`
	Oldest  *time.Time `json:"oldest"`
	// Priorities counts ready runs by priority.
	Priorities map[int]int `json:"priorities,omitempty"`
}

type wireWorkers struct {
	Workers []wireWorker `json:"workers"`
}

type wireWorker struct {
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

type wireLimits struct {
	Concurrency []wireKey  `json:"concurrency"`
	Rates       []wireRate `json:"rates"`
}

type wireKey struct {
	Name     string `json:"name"`
	Key      string `json:"key"`
	Max      int    `json:"max"`
	Active   int    `json:"active"`
	Waiting  int    `json:"waiting"`
	Strategy string `json:"strategy"`
	Paused   bool   `json:"paused"`
}

type wireRate struct {
	Key     string  `json:"key"`
	Limit   float64 `json:"limit"` // units a second
	Burst   int     `json:"burst"`
	Tokens  float64 `json:"tokens"`
	Waiting int     `json:"waiting"`
	Paused  bool    `json:"paused"`
}

type wireCrons struct {
	Crons []wireCron `json:"crons"`
	Next  string     `json:"next,omitempty"` // the field after of the next call; "": this is the last page
}

type wireCron struct {
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

type wireEvents struct {
	Events []wireEvent `json:"events"`
	Next   string      `json:"next,omitempty"`
}

type wireEvent struct {
	ID        string            `json:"id"`
	Key       string            `json:"key"`
	Payload   json.RawMessage   `json:"payload"`
	Metadata  map[string]string `json:"metadata,omitempty"`
	Scope     string            `json:"scope,omitempty"`
	Published time.Time         `json:"published"`
	Started   []string          `json:"started,omitempty"`
	Woke      []string          `json:"woke,omitempty"`
}

type wireAlerts struct {
	Rules []wireRule `json:"rules"`
	Sinks []wireSink `json:"sinks"`
}

type wireRule struct {
	Name     string     `json:"name"`
	Task     string     `json:"task,omitempty"`
	State    string     `json:"state"`
	Count    int64      `json:"count"`
	Rate     float64    `json:"rate,omitempty"`
	WindowMS float64    `json:"window_ms"`
	Sinks    []string   `json:"sinks,omitempty"` // empty: all
	Holds    bool       `json:"holds"`
	Since    *time.Time `json:"since"`
	Sent     *time.Time `json:"sent"`
}

type wireSink struct {
	Name string `json:"name"`
	Kind string `json:"kind"`
}

type wireStats struct {
	Stats []wireStat `json:"stats"`
}

type wireStat struct {
	At            time.Time `json:"at"`
	Queue         string    `json:"queue,omitempty"`
	Task          string    `json:"task,omitempty"`
	Enqueued      int64     `json:"enqueued"`
	Started       int64     `json:"started"`
	Succeeded     int64     `json:"succeeded"`
	Failed        int64     `json:"failed"`
	Canceled      int64     `json:"canceled"`
	Skipped       int64     `json:"skipped"`
	Retried       int64     `json:"retried"`
	Depth         int       `json:"depth"`
	Commits       int64     `json:"commits"`
	Changes       int64     `json:"changes"`
	WaitP50MS     float64   `json:"wait_p50_ms"`
	WaitP99MS     float64   `json:"wait_p99_ms"`
	DurationP50MS float64   `json:"duration_p50_ms"`
	DurationP95MS float64   `json:"duration_p95_ms"`
	CommitP50MS   float64   `json:"commit_p50_ms"`
	CommitP99MS   float64   `json:"commit_p99_ms"`
}

type wireHealth struct {
	OK         bool   `json:"ok"`
	Problem    string `json:"problem,omitempty"`
	Path       string `json:"path,omitempty"`
	Engine     string `json:"engine"`
	Schema     int    `json:"schema"`
	Durability string `json:"durability"`
	Size       int64  `json:"size"`

	// Of a file.
	Free       *int64     `json:"free,omitempty"`
	LogSize    *int64     `json:"log_size,omitempty"`
	Checkpoint *time.Time `json:"checkpoint,omitempty"`

	Server *wireServer `json:"server,omitempty"`
}

type wireServer struct {
	Address          string  `json:"address"`
	Database         string  `json:"database"`
	Schema           string  `json:"schema"`
	Processes        int     `json:"processes"`
	Connections      int     `json:"connections"`
	MaxConnections   int     `json:"max_connections"`
	Listens          bool    `json:"listens"`
	SkewMS           float64 `json:"skew_ms"`
	DeadRows         int64   `json:"dead_rows"`
	LiveRows         int64   `json:"live_rows"`
	OldestSnapshotMS float64 `json:"oldest_snapshot_ms"`
	SnapshotOf       string  `json:"snapshot_of"`
	Standbys         int     `json:"standbys"`
	StandbyLag       int64   `json:"standby_lag"` // bytes; -1: unknown
}

type wireCheck struct {
	Problems []string `json:"problems"`
}

// wireRunOf returns a run, already redacted, as the API shows it.
func (h *handler) wireRunOf(r *stint.RunInfo) wireRun {
	w := wireRun{ID: r.ID, Task: r.Task, Queue: r.Queue, State: r.State.String(), Blocked: r.Blocked, Attempt: r.Attempt,
		Priority: r.Priority, Quarantined: r.Quarantined, Canceling: r.Canceling, Executions: r.Executions,
		Input: r.Input, Output: r.Output, Error: r.Error, Stack: r.Stack, Metadata: r.Metadata,
		Created: r.Created, Scheduled: optional(r.Scheduled), Started: optional(r.Started), Finished: optional(r.Finished),
		ParentID: r.ParentID, RootID: r.RootID, Worker: r.Worker, Key: r.Key, Workflow: r.Workflow}
	if p := r.Progress; p.Total != 0 || p.Done != 0 || p.Message != "" {
		w.Progress = &wireProgress{p.Done, p.Total, p.Message}
	}
	for _, e := range r.Timeline {
		w.Timeline = append(w.Timeline, wireChange{e.At, e.State.String(), e.Attempt, e.Worker, e.Error})
	}
	for _, t := range r.Tasks {
		w.Tasks = append(w.Tasks, wireFlowTask{t.Name, t.Parents, t.State.String(), t.Blocked, t.RunID, t.Error})
	}
	return w
}

func optional(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
