package imports

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
)

// A Mapping says which task of stint a kind of job becomes.
type Mapping struct {
	Kinds  map[string]Target `json:"kinds"`
	Queues map[string]string `json:"queues"` // those that get another name; the others keep theirs
}

// A Target is what a kind of job becomes.
type Target struct {
	Task  string `json:"task"`
	Bytes bool   `json:"bytes"` // the task's input is a []byte, which gets the payload as it is
	Skip  bool   `json:"skip"`  // the jobs are left out
}

// UnmarshalJSON implements json.Unmarshaler. A text is the task's name.
func (t *Target) UnmarshalJSON(b []byte) error {
	if bytes.HasPrefix(b, []byte{'"'}) {
		return json.Unmarshal(b, &t.Task)
	}
	type plain Target
	if err := strict(b, (*plain)(t)); err != nil {
		return err
	}
	if (t.Task == "") != t.Skip {
		return errors.New(`want a task's name, {"task": NAME, "bytes": true}, or {"skip": true}`)
	}
	return nil
}

func strict(b []byte, to any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	return d.Decode(to)
}

// ReadMapping reads a mapping from a file of JSON.
func ReadMapping(path string) (*Mapping, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	m := &Mapping{}
	if err := strict(b, m); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return m, nil
}

func (m *Mapping) queue(name string) string { return cmp.Or(m.Queues[name], name) }
