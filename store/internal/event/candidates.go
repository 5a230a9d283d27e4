package event

import "github.com/stint-dev/stint/store"

// Candidates are the waits that an event may match: the fields and filters that something waits by,
// with the event's values.
type Candidates struct {
	conditions, calls []store.Match
	some              bool // something waits for events with that key
}

// noCandidates are those of an event that nothing waits for. They are never changed.
var noCandidates = &Candidates{}

func candidates(r Rows, e *store.NewEvent) (*Candidates, error) {
	if r.NoWaiters(e.Key) {
		return noCandidates, nil
	}
	c := &Candidates{}
	var err error
	if c.conditions, err = c.of(r, Conditions, e); err == nil {
		c.calls, err = c.of(r, Calls, e)
	}
	return c, err
}

// of reads the candidates of a kind: for each field, with the event's value, and for each filter.
func (c *Candidates) of(r Rows, kind Kind, e *store.NewEvent) (all []store.Match, err error) {
	fields, err := r.Fields(kind, e.Key)
	if err != nil {
		return nil, err
	}
	c.some = c.some || len(fields) > 0
	for _, field := range fields {
		m := store.Match{Key: e.Key, Field: field}
		if field != "" {
			if m.Value = e.ValueOf(field); m.Value == "" {
				continue
			}
		}
		filters, err := r.WaitFilters(kind, &m)
		if err != nil {
			return nil, err
		}
		for _, m.Filter = range filters {
			all = append(all, m)
		}
	}
	return all, nil
}

// Undecided returns the filters that an event meets and that were not computed for it, and the
// event's candidates. Computing a filter may take long, so that is not done in a transaction.
func Undecided(r Rows, e *store.NewEvent) (filters []store.FilterCall, found *Candidates, err error) {
	exact, wild, err := r.Triggers(e.Key)
	if err != nil {
		return nil, nil, err
	}
	for _, list := range [...][]store.Trigger{exact, wild} {
		for i := range list {
			if filters, err = undecidedBy(r, e, &list[i], filters); err != nil {
				return nil, nil, err
			}
		}
	}
	if found, err = candidates(r, e); err != nil {
		return nil, nil, err
	}
	for _, list := range [...][]store.Match{found.conditions, found.calls} {
		for i := range list {
			filters = addUndecided(filters, e, store.FilterCall{Expr: list[i].Filter})
		}
	}
	return filters, found, nil
}

// undecidedBy adds the filters of a trigger, and those of its task.
func undecidedBy(r Rows, e *store.NewEvent, tr *store.Trigger, filters []store.FilterCall) ([]store.FilterCall, error) {
	if !matches(tr, e.Key) {
		return filters, nil
	}
	ofTask, err := r.Filters(tr.Template.Run.Task)
	filters = addUndecided(filters, e, store.FilterCall{Expr: tr.Filter})
	for i := range ofTask {
		if e.Scope != "" && ofTask[i].Scope == e.Scope {
			filters = addUndecided(filters, e, ofTask[i].Call())
		}
	}
	return filters, err
}

// addUndecided adds a filter that was not computed.
func addUndecided(filters []store.FilterCall, e *store.NewEvent, c store.FilterCall) []store.FilterCall {
	if !e.Undecided(c) {
		return filters
	}
	return append(filters, c)
}
