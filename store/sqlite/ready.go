package sqlite

import (
	"container/heap"
	"maps"
	"slices"

	"github.com/stint-dev/stint/store"
)

// A view holds the lanes that have something ready and that one worker may take from, in
// the order of their first runs. Lanes of queues that it does not serve or that are
// paused, and those for other workers, are not in it, so no claim walks them.
type view struct {
	queues []string        // nil: all
	serves map[string]bool // the same
	me     *peer           // by whose labels routes were judged; nil: not known
	groups map[groupName]*group
}

// A group are lanes that a claim may take from, or may not, together.
type groupName struct {
	task    string
	route   string
	suspect bool
}

// A group is a heap of lanes by their bounds.
type group struct {
	groupName
	lanes []*lane
	at    map[*lane]int
}

func (g *group) Len() int           { return len(g.lanes) }
func (g *group) Less(i, j int) bool { return comparePlace(g.lanes[i].bound, g.lanes[j].bound) < 0 }
func (g *group) Swap(i, j int) {
	g.lanes[i], g.lanes[j] = g.lanes[j], g.lanes[i]
	g.at[g.lanes[i]], g.at[g.lanes[j]] = i, j
}
func (g *group) Push(x any) {
	g.at[x.(*lane)] = len(g.lanes)
	g.lanes = append(g.lanes, x.(*lane))
}
func (g *group) Pop() any {
	l := g.lanes[len(g.lanes)-1]
	g.lanes[len(g.lanes)-1] = nil
	g.lanes = g.lanes[:len(g.lanes)-1]
	delete(g.at, l)
	return l
}

// viewOf returns the view of a claim's worker.
func (t *txn) viewOf(c *claim) (*view, error) {
	if err := t.loadLanes(); err != nil {
		return nil, err
	}
	var me *peer
	if t.lanes.routed {
		peers, err := t.peers()
		if err != nil {
			return nil, err
		}
		if i := slices.IndexFunc(peers, func(p peer) bool { return p.id == c.Worker }); i >= 0 {
			me = &peers[i]
		}
	}
	v := t.lanes.views[c.Worker]
	if v != nil && (v.queues == nil) == (c.Queues == nil) && slices.Equal(v.queues, c.Queues) && sameLabels(v.me, me) {
		return v, nil
	}
	v = &view{queues: slices.Clone(c.Queues), me: me, groups: map[groupName]*group{}}
	if c.Queues != nil {
		v.serves = make(map[string]bool, len(c.Queues))
		for _, q := range c.Queues {
			v.serves[q] = true
		}
	}
	t.lanes.views[c.Worker] = v
	for _, l := range t.lanes.byID {
		if l.ready {
			v.put(t.lanes, l)
		}
	}
	return v, nil
}

func sameLabels(a, b *peer) bool {
	return a == b || a != nil && b != nil && a.name == b.name && maps.Equal(a.labels, b.labels)
}

// put has a lane stand where its bound says.
func (v *view) put(c *laneCache, l *lane) {
	n := groupName{l.task, l.route, l.suspect}
	g := v.groups[n]
	if g != nil {
		if i, ok := g.at[l]; ok {
			heap.Fix(g, i)
			return
		}
	}
	if l.staged || c.paused[l.queue] || v.serves != nil && !v.serves[l.queue] || l.route != "" && !v.mayTake(l.route) {
		return
	}
	if g == nil {
		g = &group{groupName: n, at: map[*lane]int{}}
		v.groups[n] = g
	}
	heap.Push(g, l)
}

// mayTake reports whether the worker has what a route must have.
func (v *view) mayTake(text string) bool {
	route, err := store.ParseRoute(text)
	if err != nil || v.me == nil { // somebody broke it by hand: it waits
		return false
	}
	_, ok := route.Score(v.me.name, v.me.labels)
	return ok
}

func (v *view) remove(l *lane) {
	n := groupName{l.task, l.route, l.suspect}
	g := v.groups[n]
	if g == nil {
		return
	}
	if i, ok := g.at[l]; ok {
		heap.Remove(g, i)
	}
	if len(g.lanes) == 0 {
		delete(v.groups, n)
	}
}

// touch says of a lane that runs may have become ready in it.
func (c *laneCache) touch(l *lane) { c.set(l, nowhere) }

func (c *laneCache) set(l *lane, bound place) {
	l.ready, l.bound = true, bound
	for _, v := range c.views {
		v.put(c, l)
	}
}

// advance says where the first run of a lane is now, and drop that it has none.
func (c *laneCache) advance(l *lane, to place) {
	c.moved = append(c.moved, l)
	c.set(l, to)
}

func (c *laneCache) drop(l *lane) {
	c.moved = append(c.moved, l)
	l.ready = false
	for _, v := range c.views {
		v.remove(l)
	}
}

// groupsOf are the groups that a claim may take from.
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
	// laneSQL reads the head of a lane in order, after a place in it.
	laneSQL = `
SELECT rank, turn, id FROM stint_runs
WHERE lane = ? AND state = 3 AND gate IS NULL AND (rank, turn, id) > (?, ?, ?)
ORDER BY rank, turn, id LIMIT ?`

	// headsSQL reads the heads of many lanes.
	headsSQL = `
SELECT j.value, r.rank, r.turn, r.id FROM json_each(?) j CROSS JOIN stint_runs r ON r.id =
  (SELECT id FROM stint_runs x WHERE x.lane = j.value AND x.state = 3 AND x.gate IS NULL ORDER BY x.rank, x.turn, x.id LIMIT 1)`

	perHeads   = 1000 // lanes that headsSQL reads at a time
	maxWaiting = 64   // lanes of a route that wait for a better worker, which a claim looks at
)

// A picking is the choice of the first runs of several groups together that fit into a
// claim. It reads a lane when that is next, so it reads about as much as it gives,
// whatever the backlog and however many lanes it is in (R9).
type picking struct {
	t      *txn
	c      *claim
	v      *view
	groups []*group
	chunk  int
	open   map[*lane]*laneHead
	aside  []*lane        // they wait for a better worker
	waits  map[*group]int // how many of its lanes do
}

func (t *txn) pick(v *view, groups []*group, slots, most int, c *claim) ([]place, error) {
	p := &picking{t: t, c: c, v: v, groups: groups, open: map[*lane]*laneHead{}}
	lanes := 0
	for _, g := range groups {
		lanes += len(g.lanes)
	}
	if p.chunk = slots; lanes > 1 {
		p.chunk = max(4, 2*slots/lanes)
	}
	p.chunk = min(p.chunk, most)
	defer func() {
		for _, l := range p.aside {
			if l.ready {
				v.put(t.lanes, l)
			}
		}
	}()
	var picked []place
	for len(picked) < most {
		l, h, err := p.next()
		if l == nil || err != nil {
			return picked, err
		}
		if slots -= c.cost(l.task); slots < 0 {
			break
		}
		picked = append(picked, h.places[0])
		h.places = h.places[1:]
		if err := p.follow(l, h); err != nil {
			return nil, err
		}
	}
	return picked, nil
}

// next finds the lane whose first run is before all others; nil: nothing is ready.
func (p *picking) next() (*lane, *laneHead, error) {
	for {
		g := p.first()
		if g == nil {
			return nil, nil, nil
		}
		l := g.lanes[0]
		if h := p.open[l]; h != nil && l.bound == h.places[0] {
			return l, h, nil
		}
		if l.bound == nowhere && g.unknown() > 1 {
			if err := p.t.findHeads(g); err != nil {
				return nil, nil, err
			}
			continue
		}
		ok, err := p.t.routed(l, p.c)
		if err != nil {
			return nil, nil, err
		}
		if !ok {
			p.setAside(g, l)
			continue
		}
		h := &laneHead{last: nowhere}
		if err := p.t.fill(l, h, p.chunk); err != nil {
			return nil, nil, err
		}
		p.open[l] = h
		if err := p.follow(l, h); err != nil {
			return nil, nil, err
		}
	}
}

// first is the group that has the first lane.
func (p *picking) first() (first *group) {
	for _, g := range p.groups {
		if len(g.lanes) > 0 && p.waits[g] < maxWaiting && (first == nil || comparePlace(g.lanes[0].bound, first.lanes[0].bound) < 0) {
			first = g
		}
	}
	return first
}

func (p *picking) setAside(g *group, l *lane) {
	if p.waits == nil {
		p.waits = map[*group]int{}
	}
	p.waits[g]++
	p.v.remove(l)
	p.aside = append(p.aside, l)
}

// follow has a lane stand where the first run is that has not been picked.
func (p *picking) follow(l *lane, h *laneHead) error {
	if len(h.places) == 0 && !h.end {
		if err := p.t.fill(l, h, p.chunk); err != nil {
			return err
		}
	}
	if len(h.places) == 0 {
		delete(p.open, l)
		p.t.lanes.drop(l)
		return nil
	}
	p.t.lanes.advance(l, h.places[0])
	return nil
}

// A laneHead is what has been read of a lane and not been picked.
type laneHead struct {
	places []place
	last   place
	end    bool // nothing follows
}

func (t *txn) fill(l *lane, h *laneHead, n int) (err error) {
	t.lanes.looked++
	h.places, err = rowsOf(t, func(p *place) []any { return []any{&p.rank, &p.turn, &p.id} },
		laneSQL, l.id, h.last.rank, h.last.turn, h.last.id, n)
	h.end = len(h.places) < n
	if len(h.places) > 0 {
		h.last = h.places[len(h.places)-1]
	}
	return err
}

// unknown is how many of the first lanes were not looked up: 0, 1, or more.
func (g *group) unknown() (n int) {
	for _, l := range g.lanes[:min(len(g.lanes), 3)] {
		if l.bound == nowhere {
			n++
		}
	}
	return n
}

// findHeads reads where the first runs of lanes are for which that is not known: they are
// at the top of their heap.
func (t *txn) findHeads(g *group) error {
	unknown := map[int64]*lane{}
	for next := []int{0}; len(next) > 0 && len(unknown) < perHeads; {
		i := next[len(next)-1]
		next = next[:len(next)-1]
		if i >= len(g.lanes) || g.lanes[i].bound != nowhere {
			continue
		}
		unknown[g.lanes[i].id] = g.lanes[i]
		next = append(next, 2*i+1, 2*i+2)
	}
	t.lanes.looked += len(unknown)
	type head struct {
		lane int64
		place
	}
	heads, err := rowsOf(t, func(h *head) []any { return []any{&h.lane, &h.rank, &h.turn, &h.id} },
		headsSQL, jsonKeys(slices.Collect(maps.Keys(unknown))))
	if err != nil {
		return err
	}
	for _, h := range heads {
		t.lanes.advance(unknown[h.lane], h.place)
		delete(unknown, h.lane)
	}
	for _, l := range unknown {
		t.lanes.drop(l)
	}
	return nil
}
