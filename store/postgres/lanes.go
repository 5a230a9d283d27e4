package postgres

import (
	"cmp"
	"sync"
)

// A laneOf names a lane, which holds the runs of one task in one queue, for the same workers.
type laneOf struct {
	queue, task, route string
	suspect            bool // its runs were executing in two or more deaths of a process
}

// A laneRow is a row of stint.lanes.
type laneRow struct {
	laneOf
	id int64
}

func compareLanes(a, b laneOf) int {
	return cmp.Or(cmp.Compare(a.queue, b.queue), cmp.Compare(a.task, b.task), boolCompare(a.suspect, b.suspect),
		cmp.Compare(a.route, b.route))
}

var laneStatements = newStatements("lanes", 4, "FOR SHARE", // it must not be deleted before a run is in it
	text("queue", func(r *laneRow) *string { return &r.queue }),
	text("task", func(r *laneRow) *string { return &r.task }),
	col("suspect", "boolean", func(r *laneRow) *bool { return &r.suspect }),
	text("route", func(r *laneRow) *string { return &r.route }),
	number("id", func(r *laneRow) *int64 { return &r.id }))

func newLanes() *relation[laneOf, laneRow] {
	return newRelation(laneStatements, compareLanes, func(r *laneRow) laneOf { return r.laneOf },
		func(k laneOf) laneRow { return laneRow{laneOf: k} })
}

// A laneCache holds lanes that are stored. It is dropped when lanes were deleted.
type laneCache struct {
	mu     sync.Mutex
	byName map[laneOf]int64
	byID   map[int64]laneOf
}

func (c *laneCache) id(n laneOf) (int64, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	id, ok := c.byName[n]
	return id, ok
}

func (c *laneCache) name(id int64) (laneOf, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, ok := c.byID[id]
	return n, ok
}

func (c *laneCache) put(l laneRow) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byName == nil {
		c.byName, c.byID = map[laneOf]int64{}, map[int64]laneOf{}
	}
	c.byName[l.laneOf], c.byID[l.id] = l.id, l.laneOf
}

func (c *laneCache) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.byName, c.byID = nil, nil
}

// lane returns the lane with that name, and creates it if there is none.
func (u *unit) lane(n laneOf) (int64, error) {
	if id, ok := u.s.lanes.id(n); ok {
		return id, nil
	}
	r, err := u.lanes.get(n)
	if err != nil {
		return 0, err
	}
	if r == nil {
		u.queues[n.queue] = true
		r = u.lanes.put(n, laneRow{laneOf: n, id: u.nextKey(u.now)})
	}
	return r.id, nil
}

// laneByID returns a lane; ok is false if somebody has deleted it by hand.
func (u *unit) laneByID(id int64) (n laneOf, ok bool, err error) {
	if n, ok := u.s.lanes.name(id); ok {
		return n, true, nil
	}
	for _, e := range u.lanes.entries {
		if e.now != nil && e.now.id == id {
			return e.now.laneOf, true, nil
		}
	}
	names, err := u.lanesByID.get(id)
	if err != nil || len(names) == 0 {
		return n, false, err
	}
	return names[0], true, nil
}

// isNewLane reports whether the group has created a lane.
func (u *unit) isNewLane(n laneOf) bool {
	e := u.lanes.entries[n]
	return e != nil && e.old == nil && e.now != nil
}
