package ready

import (
	"container/heap"
	"slices"

	"github.com/stint-dev/stint/store"
)

// A Peer is a living worker, with what routes depend on.
type Peer struct {
	ID     int64
	Name   string
	Labels map[string]string
	Queues []string // empty: every queue
	Slots  int
}

// preferenceWait is how long a run waits for a better worker that has slots free.
const preferenceWait = 1000 // ms

// betterFor returns the workers that the runs of a lane prefer to the given one; ok reports whether that
// may take them.
func betterFor(peers []Peer, worker int64, l *Lane) (better []Peer, ok bool) {
	route := l.parsedRoute()
	i := slices.IndexFunc(peers, func(p Peer) bool { return p.ID == worker })
	if route == nil || i < 0 {
		return nil, false
	}
	mine, ok := route.Score(peers[i].Name, peers[i].Labels)
	if !ok {
		return nil, false
	}
	for _, p := range peers {
		if p.ID == worker || len(p.Queues) > 0 && !slices.Contains(p.Queues, l.Queue) {
			continue
		}
		if score, ok := route.Score(p.Name, p.Labels); ok && score > mine {
			better = append(better, p)
		}
	}
	return better, true
}

// parsedRoute returns the lane's route, or nil if it was changed by hand: the lane's runs wait.
func (l *Lane) parsedRoute() *store.Route {
	if l.wants == nil {
		route, err := store.ParseRoute(l.Route)
		if err != nil {
			return nil
		}
		l.wants = &route
	}
	return l.wants
}

// A laneWait is a lane whose first run waits for a better worker, until a time.
type laneWait struct {
	l     *Lane
	until int64
}

type waitHeap []*laneWait

func (h waitHeap) Len() int           { return len(h) }
func (h waitHeap) Less(i, j int) bool { return h[i].until < h[j].until }
func (h waitHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *waitHeap) Push(x any)        { *h = append(*h, x.(*laneWait)) }
func (h *waitHeap) Pop() any {
	old := *h
	x := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return x
}

// allows reports whether the view's worker may take the first run of a lane now: no better worker has
// slots free. Otherwise the lane waits.
func (v *View) allows(r Rows, l *Lane) (bool, error) {
	if l.Route == "" {
		return true, nil
	}
	better, ok := betterFor(v.peers, v.worker, l)
	if !ok {
		v.remove(l)
		return false, nil
	}
	for i := range better {
		p := &better[i]
		if free, err := hasFree(r, p); err != nil {
			return false, err
		} else if !free {
			continue
		}
		due, some, err := r.Due(l)
		if err != nil {
			return false, err
		}
		if !some || r.Now() >= due+preferenceWait {
			return true, nil
		}
		v.wait(r, l, p, due+preferenceWait)
		return false, nil
	}
	return true, nil
}

// wait makes a lane wait for a better worker, until a time.
func (v *View) wait(r Rows, l *Lane, p *Peer, until int64) {
	x := &laneWait{l, until}
	v.remove(l)
	v.waits[l] = x
	if v.better[p.ID] == nil {
		v.better[p.ID] = &waitHeap{}
	}
	heap.Push(v.better[p.ID], x)
	r.WakeAt(until)
}

// hasFree reports whether a worker has slots free.
func hasFree(r Rows, p *Peer) (bool, error) {
	busy, err := r.Busy(p.ID)
	return busy < p.Slots, err
}

// endWaits returns lanes to their groups that have waited for preferenceWait, or whose better worker has
// no slots free.
func (v *View) endWaits(r Rows, s *Set) error {
	for id, h := range v.better {
		i := slices.IndexFunc(v.peers, func(p Peer) bool { return p.ID == id })
		free := false
		if i >= 0 && len(*h) > 0 {
			var err error
			if free, err = hasFree(r, &v.peers[i]); err != nil {
				return err
			}
		}
		for len(*h) > 0 {
			x := (*h)[0]
			current := v.waits[x.l] == x
			if free && current && x.until > r.Now() {
				r.WakeAt(x.until)
				break
			}
			if heap.Pop(h); current {
				v.put(s, x.l)
			}
		}
		if len(*h) == 0 {
			delete(v.better, id)
		}
	}
	return nil
}
