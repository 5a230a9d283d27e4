package imports

import (
	"context"
	"encoding/json"
	"time"
)

// A Job is a job of another queue that has not ended.
type Job struct {
	Key      string // names it among all jobs of all sources, always the same
	ID       string // as the source shows it
	Kind     string
	Queue    string
	State    string // as the source calls it
	Payload  []byte
	Priority int // as of stint.WithPriority
	Ready    time.Time
	Metadata map[string]string
	Problem  string // why it cannot be imported; "": it can
}

// A Source reads the jobs of another queue. It changes nothing there.
type Source interface {
	// Jobs calls f with each job that has not ended, those that are ready first in the order of their time. Jobs that
	// are being executed are among them: see Running.
	Jobs(ctx context.Context, f func(Job) error) error
	Close() error
}

// Running is the State of a job that the source's workers are executing.
const Running = "running"

// payload returns a job's payload as the input of a run.
func (j *Job) payload(asBytes bool) (json.RawMessage, error) {
	if asBytes {
		return json.Marshal(j.Payload) // as a []byte is: Base64
	}
	if !json.Valid(j.Payload) {
		return nil, errNotJSON
	}
	return j.Payload, nil
}
