package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"slices"

	"github.com/stint-dev/stint/store"
)

// A lane holds the runs of one task in one queue, or those of one large bulk enqueue.
type lane struct {
	id      int64
	queue   string
	task    string
	staged  bool
	suspect bool
	route   string
	wants   *store.Route // route, parsed; nil: not yet

	// Whether runs may be ready in it. If so, the first is not before bound.
	ready bool
	bound position
	dirty bool // it is to be stamped at the end of the transaction
}

type laneName struct {
	queue, task string
	suspect     bool
	route       string
}

func (l *lane) name() laneName { return laneName{l.queue, l.task, l.suspect, l.route} }

// A laneCache holds lanes: from the first claim on all that have ready runs, and others that were
// used. What statements do to lanes is noted when they are executed (effect.go), and the transaction
// stamps the rows of these lanes: after the commits of others only lanes with later stamps are read.
// The cache is dropped when a queue is paused, when lanes are deleted, and after a statement that may
// have changed any lane. Such a statement changes the mark in stint_meta, for other processes.
type laneCache struct {
	loaded bool // it holds all lanes with ready runs
	stale  bool // others have committed since
	lost   bool // a rollback undoes what it holds, so it is dropped then
	mark   string
	seen   int64 // highest stamp

	byID          map[int64]*lane
	byName        map[laneName]*lane
	paused        map[string]bool // queues
	pausedWorkers map[int64]bool  // workers that are paused; nil: not known
	routed        bool            // some lane is not for every worker
	views         map[int64]*view // by worker

	// What the transaction's statements have changed since touchNoted.
	keys  []int64 // of runs
	noted []int64 // lanes
	any   bool    // any lane

	// Of the transaction.
	stamped  int64   // see stamp; 0: not assigned yet
	dirty    []*lane // to be stamped
	added    []*lane // created by it
	advanced []*lane // it has started runs of them

	headsRead int // how many times the head of a lane was read; for tests
}

func newLaneCache() *laneCache {
	return &laneCache{byID: map[int64]*lane{}, byName: map[laneName]*lane{}, views: map[int64]*view{}}
}

func (c *laneCache) forget() {
	old := *c
	*c = *newLaneCache()
	c.seen, c.stamped, c.stale, c.headsRead, c.lost = old.seen, old.stamped, old.stale, old.headsRead, true
}

// forgetLanes drops the cache after a change that the stamps of lanes do not show.
func (t *txn) forgetLanes() error {
	if err := t.stampTouched(); err != nil {
		return err
	}
	t.lanes.forget()
	return t.exec("INSERT INTO stint_meta (key, value) VALUES ('lanes', randomblob(8)) ON CONFLICT DO UPDATE SET value = excluded.value")
}

func (c *laneCache) committed(*txn) {
	c.seen, c.stamped = max(c.seen, c.stamped), 0
	c.added, c.advanced, c.lost = c.added[:0], c.advanced[:0], false
}

func (c *laneCache) outdated() { c.stale = true }

// dropNoted discards what the statements of a rolled back transaction have changed.
func (c *laneCache) dropNoted() { c.keys, c.noted, c.any = c.keys[:0], c.noted[:0], false }

func (c *laneCache) rolledBack() {
	c.stamped = 0
	c.dropNoted()
	if c.lost {
		c.forget()
		return
	}
	for _, l := range c.dirty {
		l.dirty = false
	}
	for _, l := range c.advanced {
		c.touch(l)
	}
	for _, l := range c.added {
		c.drop(l)
		delete(c.byID, l.id)
		delete(c.byName, l.name())
	}
	c.dirty, c.added, c.advanced, c.pausedWorkers = c.dirty[:0], c.added[:0], c.advanced[:0], nil
}

const (
	laneColumns = "l.id, l.queue, l.task, l.staged IS NOT NULL, l.suspect, l.route"

	stampedLanesSQL = "SELECT " + laneColumns + " FROM stint_lanes l WHERE stamp > ?"
	lastStampSQL    = "SELECT coalesce(max(stamp), 0) FROM stint_lanes"
)

// readyLanesSQL reads the lanes that have something ready: one search of the index for each.
var readyLanesSQL = distinctValues("lane", "stint_runs WHERE limiter IS NULL AND "+stateQueued) +
	"SELECT " + laneColumns + " FROM found CROSS JOIN stint_lanes l ON l.id = found.v"

func (l *lane) fields() []any {
	return []any{&l.id, &l.queue, &l.task, &l.staged, &l.suspect, &l.route}
}

// refreshLanes updates the cache after commits of others, before a transaction changes anything. A
// process without claims does not need to know which lanes have ready runs.
func (t *txn) refreshLanes() error {
	c := t.lanes
	if !c.stale {
		return nil
	}
	if c.loaded {
		return t.loadLanes()
	}
	var last int64 // this process's stamps must be later
	if err := t.one("SELECT ("+lastStampSQL+")", nil, &last); err != nil {
		return err
	}
	c.forget()
	c.lost, c.stale, c.seen = false, false, max(c.seen, last)
	return nil
}

// loadLanes reads all lanes with ready runs, or only those changed since the last call.
func (t *txn) loadLanes() error {
	c := t.lanes
	if c.loaded && !c.stale {
		return nil
	}
	var mark string
	var last int64
	err := t.one("SELECT coalesce((SELECT hex(value) FROM stint_meta WHERE key = 'lanes'), ''), ("+lastStampSQL+")", nil, &mark, &last)
	if err != nil {
		return err
	}
	if c.loaded && mark != c.mark {
		c.forget()
	}
	read, args := stampedLanesSQL, []any{c.seen}
	if !c.loaded {
		c.lost = true
		read, args = readyLanesSQL, nil
		paused, err := column[string](t, "SELECT name FROM stint_queues WHERE paused = 1")
		if err != nil {
			return err
		}
		c.paused = map[string]bool{}
		for _, q := range paused {
			c.paused[q] = true
		}
	}
	lanes, err := rowsOf(t, (*lane).fields, read, args...)
	if err != nil {
		return err
	}
	for i := range lanes {
		l := c.byID[lanes[i].id]
		if l == nil {
			l = c.add(&lanes[i])
		}
		l.staged = lanes[i].staged
		c.touch(l)
	}
	c.loaded, c.stale, c.pausedWorkers, c.mark, c.seen = true, false, nil, mark, max(c.seen, last)
	return nil
}

func (c *laneCache) add(l *lane) *lane {
	c.byID[l.id] = l
	c.routed = c.routed || l.route != ""
	return l
}

// laneByID returns a lane, or nil if somebody has deleted it by hand.
func (t *txn) laneByID(id int64) (*lane, error) {
	if l := t.lanes.byID[id]; l != nil {
		if !l.staged {
			return l, nil
		}
		err := t.one("SELECT staged IS NOT NULL FROM stint_lanes WHERE id = ?", []any{id}, &l.staged)
		if errors.Is(err, sql.ErrNoRows) {
			return nil, nil
		}
		t.lanes.lost = t.lanes.lost || !l.staged
		return l, err
	}
	l := &lane{}
	err := t.one("SELECT "+laneColumns+" FROM stint_lanes l WHERE id = ?", []any{id}, l.fields()...)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return t.lanes.add(l), nil
}

// lane returns the lane with that name for a run to insert, and creates it if there is none.
func (t *txn) lane(n laneName) (int64, error) {
	if t.lanes.any { // the cache may be outdated
		if err := t.touchNoted(); err != nil {
			return 0, err
		}
	}
	if l := t.lanes.byName[n]; l != nil {
		return l.id, nil
	}
	var id int64
	err := t.one(`SELECT id FROM stint_lanes
		WHERE queue = ? AND task = ? AND suspect = ? AND route = ? AND staged IS NULL ORDER BY id LIMIT 1`,
		[]any{n.queue, n.task, n.suspect, n.route}, &id)
	if errors.Is(err, sql.ErrNoRows) {
		return t.newLane(n, nil)
	}
	if err != nil {
		return 0, err
	}
	l, err := t.laneByID(id)
	if err != nil {
		return 0, err
	}
	t.lanes.byName[n] = l
	return id, nil
}

func (t *txn) newLane(n laneName, staged *string) (int64, error) {
	stamp, err := t.stamp()
	if err != nil {
		return 0, err
	}
	var id int64
	err = t.one("INSERT INTO stint_lanes (queue, task, suspect, staged, route, stamp) VALUES (?, ?, ?, ?, ?, ?) RETURNING id",
		[]any{n.queue, n.task, n.suspect, staged, n.route, stamp}, &id)
	if err != nil {
		return 0, err
	}
	if err := t.exec("INSERT INTO stint_queues (name) VALUES (?) ON CONFLICT DO NOTHING", n.queue); err != nil {
		return 0, err
	}
	l := t.lanes.add(&lane{id: id, queue: n.queue, task: n.task, staged: staged != nil, suspect: n.suspect, route: n.route})
	t.lanes.added = append(t.lanes.added, l)
	if staged == nil {
		t.lanes.byName[n] = l
	}
	return id, nil
}

// touchLane marks a lane in which a run may have become ready.
func (t *txn) touchLane(l *lane) {
	t.lanes.touch(l)
	if !l.dirty {
		l.dirty = true
		t.lanes.dirty = append(t.lanes.dirty, l)
	}
}

// stamp returns the transaction's stamp for the lanes that it touches: higher than any before, and
// than the keys of all runs.
func (t *txn) stamp() (int64, error) {
	if t.lanes.stamped != 0 {
		return t.lanes.stamped, nil
	}
	seen := t.lanes.seen
	if t.lanes.stale {
		if err := t.one(lastStampSQL, nil, &seen); err != nil {
			return 0, err
		}
	}
	t.lanes.stamped = max(t.now<<seqBits, seen+1, t.lastKey)
	return t.lanes.stamped, nil
}

// flush stamps the lanes that the transaction has changed.
func (c *laneCache) flush(t *txn) error {
	if err := t.touchNoted(); err != nil {
		return err
	}
	return t.stampTouched()
}

func (t *txn) stampTouched() error {
	if len(t.lanes.dirty) == 0 {
		return nil
	}
	stamp, err := t.stamp()
	if err != nil {
		return err
	}
	ids := make([]int64, len(t.lanes.dirty))
	for i, l := range t.lanes.dirty {
		ids[i], l.dirty = l.id, false
	}
	t.lanes.dirty = t.lanes.dirty[:0]
	if len(ids) == 1 {
		return t.exec("UPDATE stint_lanes SET stamp = ? WHERE id = ?", stamp, ids[0])
	}
	return t.exec("UPDATE stint_lanes SET stamp = ? WHERE id IN (SELECT value FROM json_each(?))", stamp, jsonKeys(ids))
}

// A position is a run's position in the order of starting.
type position struct{ rank, turn, id int64 }

// unknownPosition, before all others, is the bound of a lane whose first run was not read.
var unknownPosition = position{rank: -1 << 62}

func comparePositions(a, b position) int {
	return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(a.turn, b.turn), cmp.Compare(a.id, b.id))
}

// expireLanes deletes the lanes that have no runs: none has come since before, and used, which a pass
// of Expire collects, has the lanes of older runs. It deletes queues without lanes, unless they are
// paused.
func (s *Store) expireLanes(ctx context.Context, before int64, used map[int64]struct{}) error {
	var old []int64
	err := s.view(ctx, func(q querier) (err error) {
		old, err = column[int64](q, "SELECT id FROM stint_lanes WHERE stamp < ? AND staged IS NULL", before)
		return err
	})
	if err != nil {
		return err
	}
	old = slices.DeleteFunc(old, func(id int64) bool { _, ok := used[id]; return ok })
	for part := range slices.Chunk(old, perBulk) {
		err := s.do(ctx, func(t *txn) error {
			queues, err := column[string](t, `DELETE FROM stint_lanes
				WHERE id IN (SELECT value FROM json_each(?)) AND stamp < ? RETURNING queue`, jsonKeys(part), before)
			if err != nil || len(queues) == 0 {
				return err
			}
			slices.Sort(queues)
			for _, q := range slices.Compact(queues) {
				err := t.exec(`DELETE FROM stint_queues WHERE name = ?1 AND paused = 0
					AND NOT EXISTS (SELECT 1 FROM stint_lanes WHERE queue = ?1)`, q)
				if err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
