// Package failed gathers the failed runs of a transaction in the groups of their errors, so that each group is written
// once, however many runs have failed.
package failed

import (
	"cmp"
	"slices"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/count"
)

// A Run is a run that has failed, at a time in milliseconds.
type Run struct {
	Key, At int64
	*store.Failure
}

// A Group is what a transaction adds to a group of errors.
type Group struct {
	*store.Failure // of the last run
	Last           int64
	FirstAt        int64
	LastAt         int64
	Runs           []int64
	Counts         []Count
}

// A Count is a number of runs that failed in a span.
type Count struct{ Length, At, N int64 }

// Groups returns the groups of runs, in the order of their IDs: transactions that lock rows in one order do not wait
// for each other in a circle. A run that failed twice, because it was replayed in between, is in its last group.
func Groups(runs []Run) []*Group {
	last := map[int64]int64{}
	for _, r := range runs {
		last[r.Key] = r.Group
	}
	byID := map[int64]*Group{}
	var all []*Group
	for _, r := range runs {
		g := byID[r.Group]
		if g == nil {
			g = &Group{FirstAt: r.At}
			byID[r.Group] = g
			all = append(all, g)
		}
		g.FirstAt = min(g.FirstAt, r.At)
		if r.At >= g.LastAt {
			g.Failure, g.Last, g.LastAt = r.Failure, r.Key, r.At
		}
		if last[r.Key] == r.Group {
			g.Runs = append(g.Runs, r.Key)
		}
		for _, length := range count.Lengths {
			g.add(length, r.At-r.At%length)
		}
	}
	slices.SortFunc(all, func(a, b *Group) int { return cmp.Compare(a.Group, b.Group) })
	return all
}

// N returns how many times runs failed.
func (g *Group) N() (n int64) {
	for _, c := range g.Counts {
		if c.Length == count.Lengths[0] {
			n += c.N
		}
	}
	return n
}

func (g *Group) add(length, at int64) {
	for i := range g.Counts {
		if c := &g.Counts[i]; c.Length == length && c.At == at {
			c.N++
			return
		}
	}
	g.Counts = append(g.Counts, Count{length, at, 1})
}
