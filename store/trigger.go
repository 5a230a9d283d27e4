package store

import (
	"encoding/json"
	"errors"
	"strings"
)

// A Trigger enqueues a run of its template for each event that matches.
type Trigger struct {
	Key      string // the event's key; a "*" matches any text: see MatchKey
	Filter   string // an expression that must be true for the event; empty: any event
	Template Template
}

// A TaskFilter restricts the triggers of a task. While a task has filters, an event starts a run
// for each filter of its scope that it passes, and none if it has no scope.
type TaskFilter struct {
	ID      int64 // set by the store
	Task    string
	Scope   string
	Expr    string
	Payload []byte // JSON that the runs have as MetaPayload; or nil
	// Declared reports that the filter came with a Declaration. A FilterChange ignores this field.
	Declared bool
}

// Size returns the bytes of payloads and texts that count for MaxPageBytes.
func (f *TaskFilter) Size() int { return len(f.Task) + len(f.Scope) + len(f.Expr) + len(f.Payload) }

// Call returns the filter's expression with its payload.
func (f *TaskFilter) Call() FilterCall { return FilterCall{f.Expr, string(f.Payload)} }

// A Declaration is the part of a task's definition that says how its runs start.
type Declaration struct {
	Task     string
	Program  string // the program whose code declares it, the same for all builds; empty: it is data, not code
	Crons    []Cron
	Triggers []Trigger
	Graph    *Graph // of a workflow: the graph of the runs that crons of CronSet start from now on
	// Definition, if not nil, becomes the newest version of the task's definition, and Filters become
	// its declared filters. If that version is the newest already, the declaration changes nothing. A
	// Definition without a Version deletes all versions.
	Definition *Definition
	Filters    []TaskFilter
}

// MatchKey reports whether an event's key matches a trigger's, in which "*" matches any text, also
// none.
func MatchKey(pattern, key string) bool {
	parts := strings.Split(pattern, "*")
	first, last := parts[0], parts[len(parts)-1]
	if len(parts) == 1 {
		return pattern == key
	}
	if len(key) < len(first)+len(last) || !strings.HasPrefix(key, first) || !strings.HasSuffix(key, last) {
		return false
	}
	key = key[len(first) : len(key)-len(last)]
	for _, part := range parts[1 : len(parts)-1] {
		i := strings.Index(key, part)
		if i < 0 {
			return false
		}
		key = key[i+len(part):]
	}
	return true
}

// Metadata of a run that says what started it.
const (
	MetaVersion  = "stint.version"        // version of the definition that the run was made by
	MetaCron     = "stint.cron"           // name of the cron
	MetaTick     = "stint.tick"           // time of the cron's tick, RFC 3339
	MetaEvent    = "stint.event"          // ID of the event
	MetaEventKey = "stint.event_key"      // key of the event
	MetaPayload  = "stint.filter_payload" // payload of the TaskFilter that the event passed
)

// AddMetadata returns a JSON object of strings with pairs of names and values added. It skips a
// pair with an empty value.
func AddMetadata(object []byte, pairs ...string) []byte {
	m := map[string]string{}
	if len(object) > 0 {
		json.Unmarshal(object, &m) // what a person broke by hand counts as none
	}
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			m[pairs[i]] = pairs[i+1]
		}
	}
	b, _ := json.Marshal(m) // texts always encode
	return b
}

// Join returns the metadata of a template and an event together. Where both have a key, the event's value counts.
func Join(template, event []byte) []byte {
	m := map[string]string{}
	if json.Unmarshal(event, &m) != nil {
		return template
	}
	pairs := make([]string, 0, 2*len(m))
	for k, v := range m {
		pairs = append(pairs, k, v)
	}
	return AddMetadata(template, pairs...)
}

// RunsOf returns the runs that a stored event starts by a trigger with its key, given the filters of
// the trigger's task.
func (tr *Trigger) RunsOf(e *NewEvent, filters []TaskFilter) ([]NewRun, error) {
	if ok, err := passes(FilterCall{Expr: tr.Filter}, e); err != nil || !ok {
		return nil, err
	}
	if len(filters) == 0 {
		filters = []TaskFilter{{Scope: e.Scope}}
	} else if e.Scope == "" {
		return nil, nil
	}
	var runs []NewRun
	for i := range filters {
		f := &filters[i]
		if f.Scope != e.Scope {
			continue
		}
		if ok, err := passes(f.Call(), e); err != nil {
			return nil, err
		} else if ok {
			r, err := tr.run(e, f.Payload)
			if err != nil {
				return nil, err
			}
			runs = append(runs, r)
		}
	}
	return runs, nil
}

func (tr *Trigger) run(e *NewEvent, payload []byte) (NewRun, error) {
	r := tr.Template.Run
	made, ok := e.Runs[r.Task]
	switch {
	case ok:
		r.Limits, r.TaskLimits, r.Key, r.KeyTTL = made.Limits, made.TaskLimits, made.Key, made.KeyTTL
	case tr.Template.Via != "":
		r = NewRun{Task: tr.Template.Via, Queue: r.Queue, Priority: r.Priority, AgeEvery: r.AgeEvery, Metadata: r.Metadata}
	}
	if e.Priority != nil {
		r.Priority = *e.Priority
	}
	r.Input = e.Payload
	r.Metadata = AddMetadata(Join(r.Metadata, e.Metadata), MetaEvent, e.Stored.String(), MetaEventKey, e.Key, MetaPayload, string(payload),
		MetaVersion, tr.Template.Version)
	if x := tr.Template.Exprs; x != nil {
		if key, limits := x.Apply(&r); errors.Is(key, ErrNoFilters) || errors.Is(limits, ErrNoFilters) {
			return r, ErrNoFilters
		} // what cannot be computed for this event, fails the run when it starts
	}
	return r, nil
}
