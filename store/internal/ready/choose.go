package ready

import (
	"container/heap"
	"slices"

	"github.com/stint-dev/stint/store"
)

// maxHeads is the number of lanes that one call of Rows.Heads reads.
const maxHeads = 1000

// Cost returns how many slots a run of a task needs; 0: more than the worker has.
func Cost(c *store.ClaimRequest, task string) int {
	if c.Cost == nil {
		return 1
	}
	return c.Cost(task)
}

// A Choice is what a claim takes: the first Most runs of Only, or the runs at some positions.
type Choice struct {
	Only *Lane // the one lane that has ready runs for the claim; nil: there are others
	Most int
	Runs []Position
	From []*Lane // of Runs
}

// Lanes returns the lanes from which the claim takes.
func (x *Choice) Lanes() []*Lane {
	if x.Only != nil {
		return []*Lane{x.Only}
	}
	return x.From
}

// Choose chooses, of the ready runs in a view, the first ones that fit into a claim's slots. One suspect
// may follow, or if runs have costs come alone, while none executes: so the next death of a process
// shows the one at fault.
func Choose(r Rows, s *Set, v *View, c *store.ClaimRequest, slots int) (x Choice, err error) {
	if err := v.endWaits(r, s); err != nil {
		return x, err
	}
	usual, suspects := v.groupsFor(c)
	if len(usual) == 1 && len(usual[0].lanes) == 1 && len(suspects) == 0 && usual[0].lanes[0].Route == "" { // it needs no merge
		return Choice{Only: usual[0].lanes[0], Most: slots / Cost(c, usual[0].task)}, nil
	}
	if x.Runs, x.From, err = pick(r, s, v, c, usual, slots, slots); err != nil {
		return x, err
	}
	if len(suspects) == 0 || len(x.Runs) > 0 && (len(x.Runs) == slots || c.Cost != nil) {
		return x, nil
	}
	if busy, err := r.SuspectExecutes(); err != nil || busy {
		return x, err
	}
	suspect, from, err := pick(r, s, v, c, suspects, slots, 1)
	x.Runs, x.From = append(x.Runs, suspect...), append(x.From, from...)
	return x, err
}

// A picking chooses the first runs of several groups together that fit into a claim.
type picking struct {
	r      Rows
	s      *Set
	v      *View
	groups []*group
	slots  int
	many   bool // more lanes than slots
	chunk  int
	open   map[*Lane]*laneHead
}

// A laneHead holds the runs of a lane that were read and not picked.
type laneHead struct {
	positions []Position
	last      Position
	end       bool // nothing follows
	allowed   bool // the claim may take them now
}

// pick picks up to most runs that fit into the slots, and returns their lanes too.
func pick(r Rows, s *Set, v *View, c *store.ClaimRequest, groups []*group, slots, most int) (picked []Position, from []*Lane, err error) {
	p := &picking{r: r, s: s, v: v, groups: groups, slots: slots, open: map[*Lane]*laneHead{}}
	lanes := 0
	for _, g := range groups {
		lanes += len(g.lanes)
	}
	p.many = lanes > slots
	p.chunk = min(chunk(slots, lanes), most)
	for len(picked) < most && p.slots > 0 {
		l, h, err := p.next()
		if l == nil || err != nil {
			return picked, from, err
		}
		if p.slots -= Cost(c, l.Task); p.slots < 0 {
			break
		}
		picked = append(picked, h.positions[0])
		if !slices.Contains(from, l) {
			from = append(from, l)
		}
		h.positions = h.positions[1:]
		if err := p.follow(l, h); err != nil {
			return nil, nil, err
		}
	}
	return picked, from, nil
}

// chunk returns how many runs of a lane are read at a time.
func chunk(slots, lanes int) int {
	if lanes <= 1 {
		return slots
	}
	return max(4, 2*slots/lanes)
}

// next returns the lane whose first run is before all others; nil: nothing is ready.
func (p *picking) next() (*Lane, *laneHead, error) {
	for {
		g := p.first()
		if g == nil {
			return nil, nil, nil
		}
		l := g.lanes[0]
		h := p.open[l]
		var err error
		switch {
		case h == nil && len(g.lanes) > 1 && (p.many || l.bound == Start):
			err = p.readHeads(g)
		case h == nil:
			p.open[l] = &laneHead{last: Start}
			err = p.follow(l, p.open[l])
		case h.allowed:
			return l, h, nil
		default:
			h.allowed, err = p.v.allows(p.r, l)
		}
		if err != nil {
			return nil, nil, err
		}
	}
}

// first returns the group with the first lane.
func (p *picking) first() (first *group) {
	for _, g := range p.groups {
		if len(g.lanes) > 0 && (first == nil || g.lanes[0].bound.Compare(first.lanes[0].bound) < 0) {
			first = g
		}
	}
	return first
}

// follow moves a lane to its first run that was not picked.
func (p *picking) follow(l *Lane, h *laneHead) error {
	if len(h.positions) == 0 && !h.end {
		var err error
		if h.positions, err = p.r.Next(l, h.last, p.chunk); err != nil {
			return err
		}
		h.end = len(h.positions) < p.chunk
		if len(h.positions) > 0 {
			h.last = h.positions[len(h.positions)-1]
		}
	}
	if len(h.positions) == 0 {
		p.s.Empty(l)
		return nil
	}
	p.s.advance(l, h.positions[0])
	return nil
}

// readHeads reads the positions of first runs: of the first lanes for which they are unknown, and of as
// many lanes as the claim may take runs.
func (p *picking) readHeads(g *group) error {
	var ids []int64
	lanes := map[int64]*Lane{}
	for len(g.lanes) > 0 && (len(ids) < p.slots || g.lanes[0].bound == Start) && len(ids) < maxHeads {
		l := heap.Pop(g).(*Lane)
		ids, lanes[l.ID] = append(ids, l.ID), l
	}
	for _, id := range ids {
		heap.Push(g, lanes[id])
	}
	heads, err := p.r.Heads(ids)
	if err != nil {
		return err
	}
	for _, h := range heads {
		l := lanes[h.Lane]
		if p.open[l] == nil {
			p.open[l] = &laneHead{positions: []Position{h.Position}, last: h.Position, end: !h.More}
		}
		p.s.advance(l, p.open[l].positions[0])
		delete(lanes, h.Lane)
	}
	for _, l := range lanes {
		p.s.Empty(l)
	}
	return nil
}
