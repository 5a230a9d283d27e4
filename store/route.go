package store

import (
	"encoding/json"
	"strconv"
)

// Sticky says whether runs follow the worker that took the first of them. The numbers are
// stored; 0 means they do not.
type Sticky uint8

// How runs stick.
const (
	StickySoft Sticky = iota + 1 // to that worker, if it has slots free
	StickyHard                   // to it alone
)

// A Route says which workers may work a run, and which should.
type Route struct {
	Wants []Want `json:"wants,omitempty"`
	To    string `json:"to,omitempty"`   // name of the worker that should work it
	Hard  bool   `json:"hard,omitempty"` // no other may
}

// A Want is what a run wants of a label of its worker.
type Want struct {
	Label  string `json:"l"`
	Op     string `json:"o"` // = != > >= < <=
	Value  string `json:"v"`
	Weight int    `json:"w,omitempty"` // 0: the worker must have it
}

// Text is how a route is stored: empty for one that says nothing.
func (r *Route) Text() string {
	if len(r.Wants) == 0 && r.To == "" {
		return ""
	}
	b, _ := json.Marshal(r) // it always encodes
	return string(b)
}

// ParseRoute reads what Text gave.
func ParseRoute(text string) (r Route, err error) {
	if text != "" {
		err = json.Unmarshal([]byte(text), &r)
	}
	return r, err
}

// Score is what a worker with these labels is worth to a run: the weights of the wants
// that hold. ok says that it may work it.
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
		score += 1 << 30 // before every weight
	}
	return score, !r.Hard || r.To == "" || r.To == name
}

// Holds reports whether labels are as wanted. Values compare as numbers if both are, and
// as texts otherwise, which have no order: they are = or != only. A label that is not
// there is unequal to every value.
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
