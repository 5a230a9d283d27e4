package sqlite

import (
	"container/heap"
	"maps"
	"slices"
)

// A view holds the lanes with ready runs that one worker may take from, in the order of their first
// runs. Lanes of queues that it does not serve or that are paused, and those for other workers, are
// not in it, so no claim reads them.
type view struct {
	queues  []string        // nil: all
	serves  map[string]bool // queues, as a set
	worker  int64
	peers   []peer // of the routing decisions; nil: there were none
	groups  map[groupName]*group
	entries map[*lane]*heapEntry
	waits   map[*lane]*laneWait // those that wait for a better worker; they are in no group
	better  map[int64]*waitHeap // waits, by the better worker
}

// A groupName identifies lanes that a claim may all take from, or not at all.
type groupName struct {
	task    string
	suspect bool
}

// A group is a heap of lanes by their bounds.
type group struct {
	groupName
	lanes   []*lane
	entries map[*lane]*heapEntry // of the view
}

// A heapEntry is the place of a lane in its group.
type heapEntry struct {
	g *group
	i int
}

func (g *group) Len() int           { return len(g.lanes) }
func (g *group) Less(i, j int) bool { return comparePositions(g.lanes[i].bound, g.lanes[j].bound) < 0 }
func (g *group) Swap(i, j int) {
	g.lanes[i], g.lanes[j] = g.lanes[j], g.lanes[i]
	g.entries[g.lanes[i]].i, g.entries[g.lanes[j]].i = i, j
}
func (g *group) Push(x any) {
	l := x.(*lane)
	g.entries[l] = &heapEntry{g, len(g.lanes)}
	g.lanes = append(g.lanes, l)
}
func (g *group) Pop() any {
	l := g.lanes[len(g.lanes)-1]
	g.lanes[len(g.lanes)-1] = nil
	g.lanes = g.lanes[:len(g.lanes)-1]
	delete(g.entries, l)
	return l
}

// viewOf returns the view of a claim's worker.
func (cs *claims) viewOf(c *claim) (*view, error) {
	if err := cs.lanes.loadLanes(); err != nil {
		return nil, err
	}
	var peers []peer
	if cs.lanes.routed {
		var err error
		if peers, err = cs.workers.peers(); err != nil {
			return nil, err
		}
	}
	v := cs.lanes.views[c.Worker]
	if v != nil && (v.queues == nil) == (c.Queues == nil) && slices.Equal(v.queues, c.Queues) && samePeers(v.peers, peers) {
		v.peers = peers // makes the next comparison fast
		return v, nil
	}
	v = &view{queues: slices.Clone(c.Queues), worker: c.Worker, peers: peers, groups: map[groupName]*group{},
		entries: map[*lane]*heapEntry{},
		waits:   map[*lane]*laneWait{}, better: map[int64]*waitHeap{}}
	if c.Queues != nil {
		v.serves = make(map[string]bool, len(c.Queues))
		for _, q := range c.Queues {
			v.serves[q] = true
		}
	}
	cs.lanes.views[c.Worker] = v
	for _, l := range cs.lanes.byID {
		if l.ready {
			v.put(cs.lanes, l)
		}
	}
	return v, nil
}

func samePeers(a, b []peer) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0]) || slices.EqualFunc(a, b, func(a, b peer) bool {
		return a.id == b.id && a.name == b.name && maps.Equal(a.labels, b.labels) && slices.Equal(a.queues, b.queues)
	})
}

// put inserts a lane, or moves it, by its bound.
func (v *view) put(c *lanes, l *lane) {
	delete(v.waits, l)
	if s := v.entries[l]; s != nil {
		heap.Fix(s.g, s.i)
		return
	}
	n, ok := v.groupOf(c, l)
	if !ok {
		return
	}
	g := v.groups[n]
	if g == nil {
		g = &group{groupName: n, entries: v.entries}
		v.groups[n] = g
	}
	heap.Push(g, l)
}

// groupOf returns the group of a lane; ok is false if the worker may not take from it.
func (v *view) groupOf(c *lanes, l *lane) (n groupName, ok bool) {
	ok = !l.staged && !c.paused[l.queue] && (v.serves == nil || v.serves[l.queue])
	if ok && l.route != "" {
		_, ok = betterFor(v.peers, v.worker, l)
	}
	return groupName{l.task, l.suspect}, ok
}

func (v *view) remove(l *lane) {
	delete(v.waits, l)
	s := v.entries[l]
	if s == nil {
		return
	}
	g := s.g
	heap.Remove(g, s.i)
	if len(g.lanes) == 0 {
		delete(v.groups, g.groupName)
	}
}

// touch marks a lane in which runs may have become ready.
func (ls *lanes) touch(l *lane) { ls.set(l, unknownPosition) }

func (ls *lanes) set(l *lane, bound position) {
	l.ready, l.bound = true, bound
	for _, v := range ls.views {
		v.put(ls, l)
	}
}

// advance sets the position of a lane's first run; drop marks that it has none.
func (ls *lanes) advance(l *lane, to position) {
	ls.advanced = append(ls.advanced, l)
	ls.set(l, to)
}

func (ls *lanes) drop(l *lane) {
	ls.advanced = append(ls.advanced, l)
	l.ready = false
	for _, v := range ls.views {
		v.remove(l)
	}
}

// groupsOf returns the groups that a claim may take from.
func (v *view) groupsOf(c *claim) (usual, suspect []*group) {
	for n, g := range v.groups {
		switch {
		case !c.Tasks(n.task) || c.cost(n.task) == 0:
		case n.suspect:
			suspect = append(suspect, g)
		default:
			usual = append(usual, g)
		}
	}
	return usual, suspect
}

const (
	// laneSQL reads the first runs of a lane after a position in it.
	laneSQL = `
SELECT rank, turn, id FROM stint_runs
WHERE lane = ? AND ` + stateQueued + ` AND limiter IS NULL AND (rank, turn, id) > (?, ?, ?)
ORDER BY rank, turn, id LIMIT ?`

	// headsSQL reads the first runs of many lanes, and whether others follow.
	headsSQL = `
SELECT j.value, r.rank, r.turn, r.id,
  EXISTS (SELECT 1 FROM stint_runs x WHERE x.lane = j.value AND x.` + stateQueued + ` AND x.limiter IS NULL ORDER BY x.rank, x.turn, x.id
  LIMIT 1 OFFSET 1)
FROM json_each(?) j CROSS JOIN stint_runs r ON r.id =
  (SELECT id FROM stint_runs x WHERE x.lane = j.value AND x.` + stateQueued + ` AND x.limiter IS NULL ORDER BY x.rank, x.turn, x.id
  LIMIT 1)`

	perHeads = 1000 // lanes that headsSQL reads at a time
)

// A picking chooses the first runs of several groups together that fit into a claim. It reads a lane
// when that is next, so it reads about as many rows as it returns, whatever the backlog and however
// many lanes it is in (R9).
type picking struct {
	u      *unit
	c      *claim
	v      *view
	groups []*group
	slots  int
	many   bool // more lanes than slots
	chunk  int
	open   map[*lane]*laneHead
}

func (cs *claims) pick(v *view, groups []*group, slots, most int, c *claim) ([]position, error) {
	p := &picking{u: cs.unit, c: c, v: v, groups: groups, slots: slots, open: map[*lane]*laneHead{}}
	lanes := 0
	for _, g := range groups {
		lanes += len(g.lanes)
	}
	p.many = lanes > slots
	if p.chunk = slots; lanes > 1 {
		p.chunk = max(4, 2*slots/lanes)
	}
	p.chunk = min(p.chunk, most)
	var picked []position
	for len(picked) < most && p.slots > 0 {
		l, h, err := p.next()
		if l == nil || err != nil {
			return picked, err
		}
		if p.slots -= c.cost(l.task); p.slots < 0 {
			break
		}
		picked = append(picked, h.positions[0])
		h.positions = h.positions[1:]
		if err := p.follow(l, h); err != nil {
			return nil, err
		}
	}
	return picked, nil
}

// next returns the lane whose first run is before all others; nil: nothing is ready.
func (p *picking) next() (*lane, *laneHead, error) {
	for {
		g := p.first()
		if g == nil {
			return nil, nil, nil
		}
		l := g.lanes[0]
		h := p.open[l]
		var err error
		switch {
		case h == nil && len(g.lanes) > 1 && (p.many || l.bound == unknownPosition):
			err = p.lookUp(g)
		case h == nil:
			p.open[l] = &laneHead{last: unknownPosition}
			err = p.follow(l, p.open[l])
		case h.allowed:
			return l, h, nil
		default:
			h.allowed, err = p.u.claims.routed(p.v, l)
		}
		if err != nil {
			return nil, nil, err
		}
	}
}

// first returns the group with the first lane.
func (p *picking) first() (first *group) {
	for _, g := range p.groups {
		if len(g.lanes) > 0 && (first == nil || comparePositions(g.lanes[0].bound, first.lanes[0].bound) < 0) {
			first = g
		}
	}
	return first
}

// follow moves a lane to its first run that was not picked.
func (p *picking) follow(l *lane, h *laneHead) error {
	if len(h.positions) == 0 && !h.end {
		if err := p.u.claims.fill(l, h, p.chunk); err != nil {
			return err
		}
	}
	if len(h.positions) == 0 {
		p.u.lanes.drop(l)
		return nil
	}
	p.u.lanes.advance(l, h.positions[0])
	return nil
}

// A laneHead holds the runs of a lane that were read and not picked.
type laneHead struct {
	positions []position
	last      position
	end       bool // nothing follows
	allowed   bool // the claim may take them now
}

func (cs *claims) fill(l *lane, h *laneHead, n int) (err error) {
	cs.lanes.headsRead++
	h.positions, err = rowsOf(cs, func(p *position) []any { return []any{&p.rank, &p.turn, &p.id} },
		laneSQL, l.id, h.last.rank, h.last.turn, h.last.id, n)
	h.end = len(h.positions) < n
	if len(h.positions) > 0 {
		h.last = h.positions[len(h.positions)-1]
	}
	return err
}

// lookUp reads the positions of first runs: of the first lanes for which they are unknown, and of as
// many lanes as the claim may take runs.
func (p *picking) lookUp(g *group) error {
	var ids []int64
	lanes := map[int64]*lane{}
	for len(g.lanes) > 0 && (len(ids) < p.slots || g.lanes[0].bound == unknownPosition) && len(ids) < perHeads {
		l := heap.Pop(g).(*lane)
		ids, lanes[l.id] = append(ids, l.id), l
	}
	for _, id := range ids {
		heap.Push(g, lanes[id])
	}
	c := p.u.lanes
	c.headsRead += len(ids)
	type head struct {
		lane int64
		position
		more bool
	}
	heads, err := rowsOf(p.u, func(h *head) []any { return []any{&h.lane, &h.rank, &h.turn, &h.id, &h.more} }, headsSQL, jsonKeys(ids))
	if err != nil {
		return err
	}
	for _, h := range heads {
		l := lanes[h.lane]
		if p.open[l] == nil {
			p.open[l] = &laneHead{positions: []position{h.position}, last: h.position, end: !h.more}
		}
		c.advance(l, p.open[l].positions[0])
		delete(lanes, h.lane)
	}
	for _, l := range lanes {
		c.drop(l)
	}
	return nil
}
