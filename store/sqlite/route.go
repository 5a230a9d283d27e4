package sqlite

import (
	"container/heap"
	"database/sql"
	"encoding/json"
	"errors"
	"slices"

	"github.com/stint-dev/stint/store"
)

// A peer is a living worker, with what routes depend on.
type peer struct {
	id     int64
	name   string
	labels map[string]string
	queues []string
	slots  int
}

// A workerCache holds the living workers.
type workers struct {
	*unit
	passive
	living []peer // nil: not known
}

func (ws *workers) forget()     { ws.living = nil }
func (ws *workers) rolledBack() { ws.forget() }
func (ws *workers) outdated()   { ws.forget() }

// peers returns the living workers.
func (ws *workers) peers() ([]peer, error) {
	if ws.living != nil {
		return ws.living, nil
	}
	type row struct {
		peer
		labelText, queueText []byte
	}
	rows, err := rowsOf(ws, func(r *row) []any { return []any{&r.id, &r.name, &r.slots, &r.labelText, &r.queueText} },
		"SELECT id, name, slots, labels, queues FROM stint_workers WHERE ended_at IS NULL")
	if err != nil {
		return nil, err
	}
	all := make([]peer, 0, len(rows))
	for _, r := range rows {
		if json.Unmarshal(r.labelText, &r.labels) != nil || json.Unmarshal(r.queueText, &r.queues) != nil {
			continue // changed by hand: it has no labels
		}
		all = append(all, r.peer)
	}
	ws.living = all
	return all, nil
}

// preferenceWait is how long a run waits for a better worker that has slots free.
const preferenceWait = 1000 // ms

// betterFor returns the workers that the runs of a lane prefer to the given one; ok reports whether that
// may take them.
func betterFor(peers []peer, worker int64, l *lane) (better []peer, ok bool) {
	route := l.parsedRoute()
	i := slices.IndexFunc(peers, func(p peer) bool { return p.id == worker })
	if route == nil || i < 0 {
		return nil, false
	}
	mine, ok := route.Score(peers[i].name, peers[i].labels)
	if !ok {
		return nil, false
	}
	for _, p := range peers {
		if p.id == worker || len(p.queues) > 0 && !slices.Contains(p.queues, l.queue) {
			continue
		}
		if score, ok := route.Score(p.name, p.labels); ok && score > mine {
			better = append(better, p)
		}
	}
	return better, true
}

// parsedRoute returns the lane's route, or nil if it was changed by hand: the lane's runs wait.
func (l *lane) parsedRoute() *store.Route {
	if l.wants == nil {
		route, err := store.ParseRoute(l.route)
		if err != nil {
			return nil
		}
		l.wants = &route
	}
	return l.wants
}

// A laneWait is a lane whose first run waits for a better worker, until a time.
type laneWait struct {
	l     *lane
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

// routed reports whether a view's worker may take the first run of a lane now: no better worker has slots
// free. Otherwise the lane waits.
func (cs *claims) routed(v *view, l *lane) (bool, error) {
	if l.route == "" {
		return true, nil
	}
	better, ok := betterFor(v.peers, v.worker, l)
	if !ok {
		v.remove(l)
		return false, nil
	}
	for i := range better {
		p := &better[i]
		if free, err := cs.workers.hasFree(p); err != nil {
			return false, err
		} else if !free {
			continue
		}
		var due int64
		err := cs.one("SELECT "+dueTime+" FROM stint_runs WHERE limiter IS NULL AND lane = ? AND "+stateQueued+" ORDER BY rank, turn, id "+
			"LIMIT 1", []any{l.id}, &due)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return false, err
		}
		if err != nil || cs.now >= due+preferenceWait {
			return true, nil
		}
		x := &laneWait{l, due + preferenceWait}
		v.remove(l)
		v.waits[l] = x
		if v.better[p.id] == nil {
			v.better[p.id] = &waitHeap{}
		}
		heap.Push(v.better[p.id], x)
		cs.timers.add(x.until)
		return false, nil
	}
	return true, nil
}

// hasFree reports whether a worker has slots free.
func (ws *workers) hasFree(p *peer) (bool, error) {
	var busy int
	err := ws.one("SELECT count(*) FROM stint_runs WHERE worker = ? AND "+stateRunning, []any{p.id}, &busy)
	return busy < p.slots, err
}

// endWaits returns lanes of a view to their groups that have waited for preferenceWait, or whose better
// worker has no slots free.
func (cs *claims) endWaits(v *view) error {
	for id, h := range v.better {
		i := slices.IndexFunc(v.peers, func(p peer) bool { return p.id == id })
		free := false
		if i >= 0 && len(*h) > 0 {
			var err error
			if free, err = cs.workers.hasFree(&v.peers[i]); err != nil {
				return err
			}
		}
		for len(*h) > 0 {
			x := (*h)[0]
			current := v.waits[x.l] == x
			if free && current && x.until > cs.now {
				cs.timers.add(x.until)
				break
			}
			if heap.Pop(h); current {
				v.put(cs.lanes, x.l)
			}
		}
		if len(*h) == 0 {
			delete(v.better, id)
		}
	}
	return nil
}

// stick makes the tasks of a workflow's run follow the worker that took the first, if they are sticky.
func (ws *workflows) stick(g *store.Graph, run, worker int64) error {
	if g.Sticky == 0 {
		return nil
	}
	n, err := ws.execN("INSERT OR IGNORE INTO stint_sticky (run, worker) SELECT ?, name FROM stint_workers WHERE id = ?", run, worker)
	if err != nil || n == 0 {
		return err
	}
	if err := ws.nodes.flush(ws.unit); err != nil {
		return err
	}
	type row struct{ key, node int64 }
	rows, err := rowsOf(ws, func(r *row) []any { return []any{&r.key, &r.node} },
		"SELECT id, node FROM stint_runs WHERE parent = ? AND node IS NOT NULL AND "+notEnded+" AND "+notRunning, run)
	if err != nil {
		return err
	}
	for _, r := range rows {
		lane, err := ws.nodeLane(g, int(r.node&(1<<nodeBits-1)), run)
		if err == nil {
			err = ws.exec(setLaneSQL, r.key, lane)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// nodeLane returns the lane of a workflow's task.
func (ws *workflows) nodeLane(g *store.Graph, place int, run int64) (int64, error) {
	var route store.Route
	if place < len(g.Tasks) {
		route.Wants = g.Tasks[place].Wants
		if g.Sticky != 0 {
			to, err := column[string](ws, "SELECT worker FROM stint_sticky WHERE run = ?", run)
			if err != nil {
				return 0, err
			}
			if len(to) > 0 {
				route.To, route.Hard = to[0], g.Sticky == store.StickyHard
			}
		}
	}
	return ws.lanes.lane(laneName{queue: g.QueueOf(place), task: g.Lane(), route: route.Text()})
}
