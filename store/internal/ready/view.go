package ready

import (
	"container/heap"
	"maps"
	"slices"

	"github.com/stint-dev/stint/store"
)

// A View holds the lanes with ready runs that one worker may take from, in the order of their first
// runs. Lanes of queues that it does not serve or that are paused, and those for other workers, are
// not in it, so no claim reads them.
type View struct {
	queues  []string        // nil: all
	serves  map[string]bool // queues, as a set
	worker  int64
	peers   []Peer // of the routing decisions; nil: there were none
	groups  map[groupName]*group
	entries map[*Lane]*heapEntry
	waits   map[*Lane]*laneWait // those that wait for a better worker; they are in no group
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
	lanes   []*Lane
	entries map[*Lane]*heapEntry // of the view
}

// A heapEntry is the place of a lane in its group.
type heapEntry struct {
	g *group
	i int
}

func (g *group) Len() int           { return len(g.lanes) }
func (g *group) Less(i, j int) bool { return g.lanes[i].bound.Compare(g.lanes[j].bound) < 0 }
func (g *group) Swap(i, j int) {
	g.lanes[i], g.lanes[j] = g.lanes[j], g.lanes[i]
	g.entries[g.lanes[i]].i, g.entries[g.lanes[j]].i = i, j
}
func (g *group) Push(x any) {
	l := x.(*Lane)
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

// View returns the view of a claim's worker. peers are the living workers if the set is Routed.
func (s *Set) View(c *store.ClaimRequest, peers []Peer) *View {
	v := s.views[c.Worker]
	if v != nil && (v.queues == nil) == (c.Queues == nil) && slices.Equal(v.queues, c.Queues) && samePeers(v.peers, peers) {
		v.peers = peers // makes the next comparison fast
		return v
	}
	v = &View{queues: slices.Clone(c.Queues), worker: c.Worker, peers: peers, groups: map[groupName]*group{},
		entries: map[*Lane]*heapEntry{},
		waits:   map[*Lane]*laneWait{}, better: map[int64]*waitHeap{}}
	if c.Queues != nil {
		v.serves = make(map[string]bool, len(c.Queues))
		for _, q := range c.Queues {
			v.serves[q] = true
		}
	}
	s.views[c.Worker] = v
	for _, l := range s.ByID {
		if l.ready {
			v.put(s, l)
		}
	}
	return v
}

// MayFind reports whether a claim may find ready runs. It is false if the lanes that the claim's worker may take from had none in the
// last transaction, which has made its view.
func (s *Set) MayFind(c *store.ClaimRequest) bool {
	v := s.views[c.Worker]
	if v == nil || s.Routed || (v.queues == nil) != (c.Queues == nil) || !slices.Equal(v.queues, c.Queues) {
		return true
	}
	for n := range v.groups {
		if c.Tasks(n.task) && Cost(c, n.task) != 0 {
			return true
		}
	}
	return false
}

func samePeers(a, b []Peer) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0]) || slices.EqualFunc(a, b, func(a, b Peer) bool {
		return a.ID == b.ID && a.Name == b.Name && maps.Equal(a.Labels, b.Labels) && slices.Equal(a.Queues, b.Queues)
	})
}

// put inserts a lane, or moves it, by its bound.
func (v *View) put(s *Set, l *Lane) {
	delete(v.waits, l)
	if e := v.entries[l]; e != nil {
		heap.Fix(e.g, e.i)
		return
	}
	n, ok := v.groupOf(s, l)
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
func (v *View) groupOf(s *Set, l *Lane) (n groupName, ok bool) {
	ok = !l.Staged && !s.Paused[l.Queue] && (v.serves == nil || v.serves[l.Queue])
	if ok && l.Route != "" {
		_, ok = betterFor(v.peers, v.worker, l)
	}
	return groupName{l.Task, l.Suspect}, ok
}

// Lanes returns the lanes that a claim may take from, and how many of the first runs of each Choose is likely
// to read: for stores that read them ahead.
func (v *View) Lanes(c *store.ClaimRequest, slots int) (all []*Lane, each int) {
	usual, suspects := v.groupsFor(c)
	for _, g := range usual {
		all = append(all, g.lanes...)
	}
	each = chunk(slots, len(all))
	for _, g := range suspects {
		all = append(all, g.lanes...)
	}
	return all, each
}

func (v *View) remove(l *Lane) {
	delete(v.waits, l)
	e := v.entries[l]
	if e == nil {
		return
	}
	g := e.g
	heap.Remove(g, e.i)
	if len(g.lanes) == 0 {
		delete(v.groups, g.groupName)
	}
}

// groupsFor returns the groups that a claim may take from.
func (v *View) groupsFor(c *store.ClaimRequest) (usual, suspect []*group) {
	for n, g := range v.groups {
		switch {
		case !c.Tasks(n.task) || Cost(c, n.task) == 0:
		case n.suspect:
			suspect = append(suspect, g)
		default:
			usual = append(usual, g)
		}
	}
	return usual, suspect
}
