package sqlite

import (
	"cmp"
	"slices"
)

// A lane is one task in one queue, or a part of it that one bulk enqueue filled.
type lane struct {
	id      int64
	queue   string
	task    string
	staged  bool
	suspect bool
	route   string
}

type laneName struct {
	queue, task string
	suspect     bool
	route       string
}

// laneCache is what the writer knows of lanes and paused queues. It is forgotten when
// another connection commits and when a transaction is rolled back.
type laneCache struct {
	byID   map[int64]lane
	byName map[laneName]int64
	paused map[string]bool // queues
	idle   map[int64]bool  // workers that are paused
}

func (c *laneCache) forget() { *c = laneCache{} }

func (t *txn) loadLanes() error {
	if t.lanes.byID != nil {
		return nil
	}
	all, err := rowsOf(t, func(l *lane) []any { return []any{&l.id, &l.queue, &l.task, &l.staged, &l.suspect, &l.route} },
		"SELECT id, queue, task, staged IS NOT NULL, suspect, route FROM stint_lanes")
	if err != nil {
		return err
	}
	paused, err := column[string](t, "SELECT name FROM stint_queues WHERE paused = 1")
	if err != nil {
		return err
	}
	idle, err := column[int64](t, "SELECT id FROM stint_workers WHERE paused = 1 AND ended_at IS NULL")
	if err != nil {
		return err
	}
	c := laneCache{map[int64]lane{}, map[laneName]int64{}, map[string]bool{}, map[int64]bool{}}
	for _, l := range all {
		c.add(l)
	}
	for _, q := range paused {
		c.paused[q] = true
	}
	for _, w := range idle {
		c.idle[w] = true
	}
	*t.lanes = c
	return nil
}

func (c *laneCache) add(l lane) {
	c.byID[l.id] = l
	name := laneName{l.queue, l.task, l.suspect, l.route}
	if old, ok := c.byName[name]; !l.staged && (!ok || l.id < old) {
		c.byName[name] = l.id
	}
}

// lane returns the lane of that name, which is made by its first use.
func (t *txn) lane(n laneName) (int64, error) {
	if err := t.loadLanes(); err != nil {
		return 0, err
	}
	if id, ok := t.lanes.byName[n]; ok {
		return id, nil
	}
	return t.newLane(n, nil)
}

func (t *txn) newLane(n laneName, staged *string) (int64, error) {
	if err := t.loadLanes(); err != nil {
		return 0, err
	}
	var id int64
	err := t.one("INSERT INTO stint_lanes (queue, task, suspect, staged, route) VALUES (?, ?, ?, ?, ?) RETURNING id", []any{n.queue, n.task, n.suspect, staged, n.route}, &id)
	if err != nil {
		return 0, err
	}
	if err := t.exec("INSERT INTO stint_queues (name) VALUES (?) ON CONFLICT DO NOTHING", n.queue); err != nil {
		return 0, err
	}
	t.lanes.add(lane{id, n.queue, n.task, staged != nil, n.suspect, n.route})
	return id, nil
}

// readyLanesSQL skips from lane to lane along the index: it costs one search for each
// lane that has something ready, however many runs are in it.
const readyLanesSQL = `
WITH RECURSIVE ready (lane) AS (
  SELECT (SELECT lane FROM stint_runs WHERE gate IS NULL AND state = 3 ORDER BY lane LIMIT 1)
  UNION ALL
  SELECT (SELECT lane FROM stint_runs WHERE state = 3 AND gate IS NULL AND lane > ready.lane ORDER BY lane LIMIT 1)
  FROM ready WHERE ready.lane IS NOT NULL)
SELECT lane FROM ready WHERE lane IS NOT NULL`

// laneSQL reads the head of a lane in order, after a place in it.
const laneSQL = `
SELECT rank, turn, id FROM stint_runs
WHERE lane = ? AND state = 3 AND gate IS NULL AND (rank, turn, id) > (?, ?, ?)
ORDER BY rank, turn, id LIMIT ?`

// A place is a run's place in the order of starting.
type place struct{ rank, turn, id int64 }

func comparePlace(a, b place) int {
	return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(a.turn, b.turn), cmp.Compare(a.id, b.id))
}

// pick chooses the first runs of several lanes together that fit into n slots: a merge
// of the lanes' orders that reads about as many rows as it gives, whatever the backlog (R9).
func (t *txn) pick(lanes []int64, n int, c *claim) ([]place, error) {
	chunk := n
	if len(lanes) > 1 {
		chunk = max(4, 2*n/len(lanes))
	}
	var picked []place
	heads := make([]laneHead, 0, len(lanes))
	for _, id := range lanes {
		h := laneHead{lane: id, last: place{rank: -1 << 62}}
		if err := t.fill(&h, chunk); err != nil {
			return nil, err
		}
		if len(h.places) > 0 {
			heads = append(heads, h)
		}
	}
	for left := n; len(heads) > 0 && left > 0; {
		if len(heads) == 1 && len(heads[0].places) >= left && c.cost(t.lanes.byID[heads[0].lane].task) == 1 {
			return append(picked, heads[0].places[:left]...), nil
		}
		first := 0
		for i := range heads {
			if comparePlace(heads[i].places[0], heads[first].places[0]) < 0 {
				first = i
			}
		}
		h := &heads[first]
		if left -= c.cost(t.lanes.byID[h.lane].task); left < 0 {
			break
		}
		picked = append(picked, h.places[0])
		h.places = h.places[1:]
		if len(h.places) == 0 && !h.end {
			if err := t.fill(h, chunk); err != nil {
				return nil, err
			}
		}
		if len(h.places) == 0 {
			heads = slices.Delete(heads, first, first+1)
		}
	}
	return picked, nil
}

// A laneHead is what has been read of a lane and not been picked.
type laneHead struct {
	lane   int64
	places []place
	last   place
	end    bool // nothing follows
}

func (t *txn) fill(h *laneHead, n int) (err error) {
	h.places, err = rowsOf(t, func(p *place) []any { return []any{&p.rank, &p.turn, &p.id} }, laneSQL, h.lane, h.last.rank, h.last.turn, h.last.id, n)
	h.end = len(h.places) < n
	if len(h.places) > 0 {
		h.last = h.places[len(h.places)-1]
	}
	return err
}
