package store

import (
	"encoding/json"
	"time"

	"github.com/stint-dev/stint/internal/jsonx"
)

// A Fired is a condition that made an enclosing condition true.
type Fired struct {
	Name  string    // see Condition.ReportedName
	Leaf  int       // index in Condition.Leaves of the outermost condition; -1: it is an Any or All
	Since time.Time // when it became true
}

// Evaluate returns when a condition became true, or will become true by itself, and what makes it
// true then: the member of Any that is the first to be true, and every member of All. truths says
// the same of the condition's leaves. A zero time means that it is not known.
func Evaluate(c *Condition, truths []time.Time) (since time.Time, fired []Fired) {
	e := evaluation{truths: truths}
	return e.evaluate(c)
}

type evaluation struct {
	truths []time.Time
	leaf   int
}

func (e *evaluation) evaluate(c *Condition) (since time.Time, fired []Fired) {
	switch {
	case c.Any != nil:
		for i := range c.Any {
			t, f := e.evaluate(&c.Any[i])
			if !t.IsZero() && (since.IsZero() || t.Before(since)) {
				since, fired = t, f
			}
		}
	case c.All != nil:
		never := false
		for i := range c.All {
			t, f := e.evaluate(&c.All[i])
			never = never || t.IsZero()
			fired = append(fired, f...)
			if t.After(since) {
				since = t
			}
		}
		if never {
			return time.Time{}, nil
		}
	default:
		e.leaf++
		return e.truths[e.leaf-1], []Fired{{c.ReportedName(), e.leaf - 1, e.truths[e.leaf-1]}}
	}
	if c.Name != "" && !since.IsZero() {
		fired = append(fired, Fired{c.Name, -1, since})
	}
	return since, fired
}

// FiredValues returns a JSON object with the data of the conditions that fired, by name. Of conditions that share a
// name it has the one that fired first. data returns the data of a leaf, or nil if it has none.
func FiredValues(fired []Fired, data func(leaf int) []byte) ([]byte, error) {
	values, since := map[string]json.RawMessage{}, map[string]time.Time{}
	for _, f := range fired {
		if first, there := since[f.Name]; f.Name == "" || there && !f.Since.Before(first) {
			continue
		}
		since[f.Name], values[f.Name] = f.Since, json.RawMessage("null")
		if f.Leaf < 0 {
			continue
		}
		if b := jsonx.Embed(data(f.Leaf)); b != nil {
			values[f.Name] = b
		}
	}
	return json.Marshal(values)
}
