package sqlite

import (
	"encoding/json"
	"strings"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/reading"
)

// triggers holds triggers, by key, and the filters of tasks, by task. It is emptied when they change,
// when another connection commits and when a transaction is rolled back.
type triggers struct {
	*unit
	passive
	byKey   map[string][]store.Trigger
	wild    []store.Trigger
	filters map[string][]store.TaskFilter
	// noWaiters are keys of events that nothing waits for.
	noWaiters map[string]bool
}

const maxTriggerKeys = 10_000 // in memory

func (ts *triggers) forget()     { *ts = triggers{unit: ts.unit} }
func (ts *triggers) rolledBack() { ts.forget() }
func (ts *triggers) outdated()   { ts.forget() }

// setNoWaiters records that nothing waits for events with a key.
func (ts *triggers) setNoWaiters(key string) {
	if ts.noWaiters == nil || len(ts.noWaiters) > maxTriggerKeys {
		ts.noWaiters = map[string]bool{}
	}
	ts.noWaiters[key] = true
}

// firedSQL insert runs that events start, bulkSizes rows at a time.
var firedSQL = func() (texts [len(bulkSizes)]string) {
	for i, n := range bulkSizes {
		const row = "(?,?," + queuedState + ",?,?,?,?)"
		texts[i] = "INSERT INTO stint_runs (id, lane, state, priority, rank, input, metadata) VALUES " + row + strings.Repeat(","+row, n-1)
	}
	return texts
}()

// triggersOf returns the triggers with exactly that key. It also caches those with a *.
func (ts *triggers) triggersOf(key string) ([]store.Trigger, error) {
	if ts.byKey == nil || len(ts.byKey) > maxTriggerKeys {
		wild, err := ts.s.reads().Triggers(ts, true, "")
		if err != nil {
			return nil, err
		}
		ts.byKey, ts.wild = map[string][]store.Trigger{}, wild
	}
	if list, ok := ts.byKey[key]; ok {
		return list, nil
	}
	list, err := ts.s.reads().Triggers(ts, false, key)
	if err == nil {
		ts.byKey[key] = list
	}
	return list, err
}

func (ts *triggers) filtersOf(task string) ([]store.TaskFilter, error) {
	if list, ok := ts.filters[task]; ok {
		return list, nil
	}
	if ts.filters == nil || len(ts.filters) > maxTriggerKeys {
		ts.filters = map[string][]store.TaskFilter{}
	}
	list, err := reading.FiltersOf(ts, task)
	if err == nil {
		ts.filters[task] = list
	}
	return list, err
}

// templateText returns a template as it is stored: without its input, and with its graph's number.
func (ts *triggers) templateText(m store.Template) (text string, graph any, err error) {
	if m.Run.Graph != nil {
		if graph, err = ts.workflows.storeGraph(m.Run.Graph); err != nil {
			return "", nil, err
		}
	}
	m.Run.Graph, m.Run.Input = nil, nil
	b, err := json.Marshal(m)
	return string(b), graph, err
}
