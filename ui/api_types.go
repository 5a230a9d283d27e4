package ui

import (
	"encoding/json"
	"time"

	"github.com/stint-dev/stint/internal/wire"
)

// The API's answers. Durations are in milliseconds; a time that is not set is null. Those that the command gives too are in
// package wire.

type (
	wireRun    = wire.Run
	wireEntry  = wire.Entry
	wireLine   = wire.Line
	wireChunk  = wire.Chunk
	wireLogged = wire.RunLine
	wireTask   = wire.Task
	wireQueue  = wire.Queue
	wireWorker = wire.Worker
	wireKey    = wire.Key
	wireRate   = wire.Rate
	wireCron   = wire.Cron
	wireEvent  = wire.Event
	wireStat   = wire.Stat
	wireError  = wire.Error
)

type wireRuns struct {
	Runs []wireRun `json:"runs"`
	Next string    `json:"next,omitempty"` // cursor of the next page
}

type wireJournal struct {
	Entries []wireEntry `json:"entries"`
	Next    string      `json:"next,omitempty"` // cursor of the next page; "": this is the last
}

type wireLogs struct {
	Lines []wireLine `json:"lines"`
	Next  int64      `json:"next"` // the field after of the next call
}

type wireLogPage struct {
	Lines []wireLogged `json:"lines"`
	Next  string       `json:"next,omitempty"` // cursor of the next page
}

type wireStream struct {
	Chunks []wireChunk `json:"chunks"`
	Next   int64       `json:"next"` // the field after of the next call
}

type wireCount struct {
	Changed int    `json:"changed"`        // runs
	Next    string `json:"next,omitempty"` // with paced: the cursor to continue from; "": all are done
}

type wireMatches struct {
	Runs int    `json:"runs"`
	Next string `json:"next,omitempty"` // cursor of the part that is not counted yet
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

type wireQueues struct {
	Queues []wireQueue `json:"queues"`
}

type wireWorkers struct {
	Workers []wireWorker `json:"workers"`
}

type wireLimits struct {
	Concurrency []wireKey  `json:"concurrency"`
	Rates       []wireRate `json:"rates"`
}

type wireCrons struct {
	Crons []wireCron `json:"crons"`
	Next  string     `json:"next,omitempty"` // the field after of the next call; "": this is the last page
}

type wireEvents struct {
	Events []wireEvent `json:"events"`
	Next   string      `json:"next,omitempty"`
}

type wireErrors struct {
	Errors []wireError `json:"errors"`
	Next   string      `json:"next,omitempty"`
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

type wireHealth struct {
	OK         bool   `json:"ok"`
	Problem    string `json:"problem,omitempty"`
	Version    string `json:"version"`
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
