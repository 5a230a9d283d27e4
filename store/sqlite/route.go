package sqlite

import (
	"encoding/json"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/ready"
)

// workers keep the living ones in memory.
type workers struct {
	*unit
	passive
	living []ready.Peer // nil: not known
}

func (ws *workers) forget()     { ws.living = nil }
func (ws *workers) rolledBack() { ws.forget() }
func (ws *workers) outdated()   { ws.forget() }

// peers returns the living workers.
func (ws *workers) peers() ([]ready.Peer, error) {
	if ws.living != nil {
		return ws.living, nil
	}
	type row struct {
		ready.Peer
		labelText, queueText []byte
	}
	rows, err := rowsOf(ws, func(r *row) []any { return []any{&r.ID, &r.Name, &r.Slots, &r.labelText, &r.queueText} },
		"SELECT id, name, slots, labels, queues FROM stint_workers WHERE ended_at IS NULL")
	if err != nil {
		return nil, err
	}
	all := make([]ready.Peer, 0, len(rows))
	for _, r := range rows {
		if json.Unmarshal(r.labelText, &r.Labels) != nil || json.Unmarshal(r.queueText, &r.Queues) != nil {
			continue // changed by hand: it has no labels
		}
		all = append(all, r.Peer)
	}
	ws.living = all
	return all, nil
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
	return ws.lanes.lane(ready.Name{Queue: g.QueueOf(place), Task: g.Lane(), Route: route.Text()})
}
