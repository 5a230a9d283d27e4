package limits

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/stint-dev/stint/store"
)

type counts struct{ active, admitted, waiting int64 }

// Recount computes from the runs what the limiters should count, sets right those that do not, and
// says which those were. runs are all that are queued, running or waiting; of each, After is read.
func Recount(r Rows, all []*Limiter, runs []*Transition) (wrong []string, err error) {
	want := map[*Limiter]*counts{}
	of := func(l *Limiter) *counts {
		if want[l] == nil {
			want[l] = &counts{}
		}
		return want[l]
	}
	for _, l := range all {
		of(l)
	}
	for _, m := range runs {
		hasTurns, err := turns(r, &m.After, m.Limits)
		if err != nil {
			return nil, err
		}
		for i := range m.Limits {
			limit := &m.Limits[i]
			h := m.After.holds(limit)
			if hasTurns[limit] {
				h = turn
			}
			if h == nothing && m.After.waitsAt() == 0 {
				continue
			}
			l, err := r.Limiter(limit)
			if errors.Is(err, store.ErrNotFound) {
				continue
			}
			if err != nil {
				return nil, err
			}
			of(l).add(l, limit, h, m.After.waitsAt() == l.ID)
		}
	}
	sorted := slices.SortedFunc(maps.Keys(want), func(a, b *Limiter) int { return int(a.ID - b.ID) })
	for _, l := range sorted {
		c := want[l]
		if has := (counts{l.Active, l.Admitted, l.Waiting}); has != *c {
			wrong = append(wrong, fmt.Sprintf("%s: has %+v, want %+v", l, has, *c))
			l.Active, l.Admitted, l.Waiting, l.Recheck = c.active, c.admitted, c.waiting, true
			r.Changed(l)
		}
	}
	return wrong, nil
}

// add counts what a run holds of a limiter.
func (c *counts) add(l *Limiter, limit *store.Limit, h holding, waits bool) {
	if waits {
		c.waiting++
	}
	units := int64(1)
	if l.Rate {
		units = int64(limit.Units)
	}
	if h == admitted || h == share {
		c.active += units
	}
	if !l.Rate && (h == admitted || h == turn) {
		c.admitted++
	}
}
