package sqlite

import (
	"encoding/json"
	"slices"

	"github.com/stint-dev/stint/store"
)

// A peer is a living worker, as routes see it.
type peer struct {
	id     int64
	name   string
	labels map[string]string
	queues []string
	slots  int
}

// peers are the living workers. They are read anew after any of them has changed.
func (t *txn) peers() ([]peer, error) {
	if t.w.peers != nil {
		return t.w.peers, nil
	}
	type row struct {
		peer
		labelText, queueText []byte
	}
	rows, err := rowsOf(t, func(r *row) []any { return []any{&r.id, &r.name, &r.slots, &r.labelText, &r.queueText} },
		"SELECT id, name, slots, labels, queues FROM stint_workers WHERE ended_at IS NULL")
	if err != nil {
		return nil, err
	}
	all := make([]peer, 0, len(rows))
	for _, r := range rows {
		if json.Unmarshal(r.labelText, &r.labels) != nil || json.Unmarshal(r.queueText, &r.queues) != nil {
			continue // somebody broke it by hand: it has no labels
		}
		all = append(all, r.peer)
	}
	t.w.peers = all
	return all, nil
}

// patience is how long a run waits for the worker that it would rather have, while
// that has slots free.
const patience = 1000 // ms

// routed reports whether a claim's worker may have the runs of a lane now: it has what
// they must have, and no better worker with slots free is there to take them.
func (t *txn) routed(l *lane, c *claim) (bool, error) {
	if l.route == "" {
		return true, nil
	}
	route, err := store.ParseRoute(l.route)
	if err != nil {
		return false, nil // somebody broke it by hand: it waits
	}
	peers, err := t.peers()
	if err != nil {
		return false, err
	}
	i := slices.IndexFunc(peers, func(p peer) bool { return p.id == c.Worker })
	if i < 0 {
		return false, nil
	}
	mine, ok := route.Score(peers[i].name, peers[i].labels)
	if !ok {
		return false, nil
	}
	for _, p := range peers {
		if p.id == c.Worker || len(p.queues) > 0 && !slices.Contains(p.queues, l.queue) {
			continue
		}
		if score, ok := route.Score(p.name, p.labels); !ok || score <= mine {
			continue
		}
		wait, err := t.waitsFor(&p, l)
		if err != nil || wait {
			return false, err
		}
	}
	return true, nil
}

// waitsFor reports whether the head of a lane waits for a better worker: that has slots
// free, and the run has not waited for long.
func (t *txn) waitsFor(p *peer, l *lane) (bool, error) {
	var busy int
	if err := t.one("SELECT count(*) FROM stint_runs WHERE worker = ? AND state = 4", []any{p.id}, &busy); err != nil || busy >= p.slots {
		return false, err
	}
	var due int64
	err := t.one("SELECT coalesce(due_at, id >> 20) FROM stint_runs WHERE gate IS NULL AND lane = ? AND state = 3 ORDER BY rank, turn, id LIMIT 1", []any{l.id}, &due)
	if err != nil || t.now >= due+patience {
		return false, err
	}
	t.newDue = min(t.newDue, due+patience)
	return true, nil
}

// stick has the tasks of a workflow's run follow the worker that took the first.
func (t *txn) stick(g *store.Graph, run, worker int64) error {
	if g.Sticky == 0 {
		return nil
	}
	n, err := t.execN("INSERT OR IGNORE INTO stint_sticky (run, worker) SELECT ?, name FROM stint_workers WHERE id = ?", run, worker)
	if err != nil || n == 0 {
		return err
	}
	if err := t.nodes.flush(t); err != nil {
		return err
	}
	type row struct{ key, node int64 }
	rows, err := rowsOf(t, func(r *row) []any { return []any{&r.key, &r.node} },
		"SELECT id, node FROM stint_runs WHERE parent = ? AND node IS NOT NULL AND state < 7 AND state <> 4", run)
	if err != nil {
		return err
	}
	for _, r := range rows {
		lane, err := t.nodeLane(g, int(r.node&(1<<nodeBits-1)), run)
		if err == nil {
			err = t.exec("UPDATE stint_runs SET lane = ? WHERE id = ?", lane, r.key)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// nodeLane is the lane of a task of a workflow's run.
func (t *txn) nodeLane(g *store.Graph, place int, run int64) (int64, error) {
	var route store.Route
	if place < len(g.Tasks) {
		route.Wants = g.Tasks[place].Wants
		if g.Sticky != 0 {
			to, err := column[string](t, "SELECT worker FROM stint_sticky WHERE run = ?", run)
			if err != nil {
				return 0, err
			}
			if len(to) > 0 {
				route.To, route.Hard = to[0], g.Sticky == store.StickyHard
			}
		}
	}
	return t.lane(laneName{queue: g.QueueOf(place), task: g.Lane(), route: route.Text()})
}
