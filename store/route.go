package store

import (
	"encoding/json"
	"strconv"
)

// Sticky says whether the tasks of a workflow's run go to the worker that took the first of them.
// The numbers are stored; 0 means that they go to any worker.
type Sticky uint8

// The ways to be sticky.
const (
	StickySoft Sticky = iota + 1 // they prefer that worker, if it has free slots
	StickyHard                   // only that worker may take them
)

// A Route says which workers may execute a run, and which are preferred.
type Route struct {
	Wants []Want `json:"wants,omitempty"`
	To    string `json:"to,omitempty"`   // name of the preferred worker
	Hard  bool   `json:"hard,omitempty"` // no other may
}

// A Want is a condition on a label of a run's worker.
type Want struct {
	Label  string `json:"l"`
	Op     string `json:"o"` // = != > >= < <=
	Value  string `json:"v"`
	Weight int    `json:"w,omitempty"` // of a preference; 0: it is required
}

// Text returns the route as it is stored: empty for the zero Route.
func (r *Route) Text() string {
	if len(r.Wants) == 0 && r.To == "" {
		return ""
	}
	b, _ := json.Marshal(r) // it always encodes
	return string(b)
}

// ParseRoute is the inverse of Text.
func ParseRoute(text string) (r Route, err error) {
	if text != "" {
		err = json.Unmarshal([]byte(text), &r)
	}
	return r, err
}

// Score returns how much a run prefers a worker with these labels: the weights of the wants that
// hold. ok reports whether the worker may execute it.
func (r *Route) Score(name string, labels map[string]string) (score int, ok bool) {
	for i := range r.Wants {
		w := &r.Wants[i]
		switch holds := w.Holds(labels); {
		case w.Weight == 0 && !holds:
			return 0, false
		case holds:
			score += w.Weight
		}
	}
	if r.To != "" && r.To == name {
		score += 1 << 30 // more than every weight
	}
	return score, !r.Hard || r.To == "" || r.To == name
}

// Holds reports whether labels meet the condition. Values compare as numbers if both are numbers,
// else as texts, for which only = and != can hold. A missing label is unequal to every value.
func (w *Want) Holds(labels map[string]string) bool {
	has, there := labels[w.Label]
	if !there {
		return w.Op == "!="
	}
	a, errA := strconv.ParseFloat(has, 64)
	b, errB := strconv.ParseFloat(w.Value, 64)
	numbers := errA == nil && errB == nil
	equal := has == w.Value || numbers && a == b
	switch w.Op {
	case "=":
		return equal
	case "!=":
		return !equal
	case ">":
		return numbers && a > b
	case ">=":
		return numbers && a >= b
	case "<":
		return numbers && a < b
	case "<=":
		return numbers && a <= b
	}
	return false
}
