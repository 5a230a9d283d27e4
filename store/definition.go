package store

import "time"

// A Definition is a version of a task or workflow that is defined as data.
type Definition struct {
	Task    string
	Version string    // a digest of Body
	Body    []byte    // JSON of the engine
	At      time.Time // when it became the newest of its task; set by the store
}

// Size returns the bytes of texts that count for MaxPageBytes.
func (d *Definition) Size() int { return len(d.Task) + len(d.Version) + len(d.Body) }

// MaxVersions is the number of versions of a task's definition that are kept: the newest ones.
const MaxVersions = 100
