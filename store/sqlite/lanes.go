package sqlite

import (
	"database/sql"
	"errors"
	"time"

	"github.com/stint-dev/stint/store/internal/keys"
	"github.com/stint-dev/stint/store/internal/reading"
	"github.com/stint-dev/stint/store/internal/ready"
)

// lanes have in memory, from the first claim on, all that have ready runs, and others that were
// used. What statements do to lanes is noted when they are executed (effect.go), and the transaction
// stamps the rows of these lanes: after the commits of others only lanes with later stamps are read.
// The cache is dropped when a queue is paused, when lanes are deleted, and after a statement that may
// have changed any lane. Such a statement changes the mark in stint_meta, for other processes.
//
// While no other store has the file open nobody needs the stamps, and each would write two more pages in a commit of
// few. So a lane is stamped only if that was an hour ago, for expireLanes. A store that opens the file and reads all
// lanes commits a change with that: this one sees it at its next commit, and stamps from then on.
type lanes struct {
	*unit
	sole    *bool           // whether no other store has the file open; nil: an app's transaction, whose lanes the writer reads
	written map[int64]int64 // when lanes were stamped while no other store had the file open, in milliseconds
	loaded  bool            // it holds all lanes with ready runs
	stale   bool            // others have committed since
	lost    bool            // a rollback undoes what it holds, so it is dropped then
	mark    string
	seen    int64 // highest stamp

	ready.Set
	pausedWorkers map[int64]bool // workers that are paused; nil: not known

	// What the transaction's statements have changed since touchNoted.
	keys  []int64 // of runs
	noted []int64 // lanes
	any   bool    // any lane

	// Of the transaction.
	stamped int64         // see stamp; 0: not assigned yet
	dirty   []*ready.Lane // to be stamped

	headsRead int // how many times the head of a lane was read; for tests
}

func newLanes(u *unit) *lanes {
	return &lanes{unit: u, written: map[int64]int64{}, Set: ready.NewSet()}
}

func (ls *lanes) forget() {
	old := *ls
	*ls = *newLanes(old.unit)
	ls.sole = old.sole
	ls.seen, ls.stamped, ls.stale, ls.headsRead, ls.lost = old.seen, old.stamped, old.stale, old.headsRead, true
}

// forgetLanes drops the cache after a change that the stamps of lanes do not show.
func (ls *lanes) forgetLanes() error {
	if err := ls.stampTouched(); err != nil {
		return err
	}
	ls.forget()
	return ls.exec(markSQL, "lanes")
}

func (ls *lanes) committed() {
	ls.seen, ls.stamped = max(ls.seen, ls.stamped), 0
	ls.lost = false
	ls.Commit()
}

func (ls *lanes) outdated() { ls.stale = true }

// dropNoted discards what the statements of a rolled back transaction have changed.
func (ls *lanes) dropNoted() { ls.keys, ls.noted, ls.any = ls.keys[:0], ls.noted[:0], false }

func (ls *lanes) rolledBack() {
	ls.stamped = 0
	clear(ls.written)
	ls.dropNoted()
	if ls.lost {
		ls.forget()
		return
	}
	for _, l := range ls.dirty {
		l.Dirty = false
	}
	ls.dirty, ls.pausedWorkers = ls.dirty[:0], nil
	ls.Rollback()
}

const (
	laneColumns = "l.id, l.queue, l.task, l.staged IS NOT NULL, l.suspect, l.route"

	stampedLanesSQL = "SELECT " + laneColumns + " FROM stint_lanes l WHERE stamp > ?"
	lastStampSQL    = "SELECT coalesce(max(stamp), 0) FROM stint_lanes"

	// markSQL is a change that others notice: of the mark "lanes", which they compare, or of "loaded", which nobody reads.
	markSQL = "INSERT INTO stint_meta (key, value) VALUES (?, randomblob(8)) ON CONFLICT DO UPDATE SET value = excluded.value"
)

// readyLanesSQL reads the lanes that have something ready: one search of the index for each.
var readyLanesSQL = distinctValues("lane", "stint_runs WHERE limiter IS NULL AND "+stateQueued) +
	"SELECT " + laneColumns + " FROM found CROSS JOIN stint_lanes l ON l.id = found.v"

func laneFields(l *ready.Lane) []any {
	return []any{&l.ID, &l.Queue, &l.Task, &l.Staged, &l.Suspect, &l.Route}
}

// refreshLanes updates the cache after commits of others, before a transaction changes anything. A
// process without claims does not need to know which lanes have ready runs.
func (ls *lanes) refreshLanes() error {
	if !ls.stale {
		return nil
	}
	if ls.loaded {
		return ls.loadLanes()
	}
	var last int64 // this process's stamps must be later
	if err := ls.one("SELECT ("+lastStampSQL+")", nil, &last); err != nil {
		return err
	}
	ls.forget()
	ls.lost, ls.stale, ls.seen = false, false, max(ls.seen, last)
	return nil
}

// loadLanes reads all lanes with ready runs, or only those changed since the last call.
func (ls *lanes) loadLanes() error {
	if ls.loaded && !ls.stale {
		return nil
	}
	var mark string
	var last int64
	err := ls.one("SELECT coalesce((SELECT hex(value) FROM stint_meta WHERE key = 'lanes'), ''), ("+lastStampSQL+")", nil, &mark, &last)
	if err != nil {
		return err
	}
	if ls.loaded && mark != ls.mark {
		ls.forget()
	}
	read, args := stampedLanesSQL, []any{ls.seen}
	if !ls.loaded {
		ls.lost = true
		if err := ls.exec(markSQL, "loaded"); err != nil {
			return err
		}
		read, args = readyLanesSQL, nil
		paused, err := column[string](ls, "SELECT name FROM stint_queues WHERE paused = 1")
		if err != nil {
			return err
		}
		ls.Paused = map[string]bool{}
		for _, q := range paused {
			ls.Paused[q] = true
		}
	}
	lanes, err := rowsOf(ls, laneFields, read, args...)
	if err != nil {
		return err
	}
	for i := range lanes {
		l := ls.ByID[lanes[i].ID]
		if l == nil {
			l = ls.Add(&lanes[i])
		}
		l.Staged = lanes[i].Staged
		ls.Touch(l)
	}
	ls.loaded, ls.stale, ls.pausedWorkers, ls.mark, ls.seen = true, false, nil, mark, max(ls.seen, last)
	return nil
}

// laneByID returns a lane, or nil if somebody has deleted it by hand.
func (ls *lanes) laneByID(id int64) (*ready.Lane, error) {
	if l := ls.ByID[id]; l != nil {
		if !l.Staged {
			return l, nil
		}
		err := ls.one("SELECT staged IS NOT NULL FROM stint_lanes WHERE id = ?", []any{id}, &l.Staged)
		if errors.Is(err, sql.ErrNoRows) {
			return nil, nil
		}
		ls.lost = ls.lost || !l.Staged
		return l, err
	}
	l := &ready.Lane{}
	err := ls.one("SELECT "+laneColumns+" FROM stint_lanes l WHERE id = ?", []any{id}, laneFields(l)...)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return ls.Add(l), nil
}

// lane returns the lane with that name for a run to insert, and creates it if there is none.
func (ls *lanes) lane(n ready.Name) (int64, error) {
	if ls.any { // the cache may be outdated
		if err := ls.touchNoted(); err != nil {
			return 0, err
		}
	}
	if l := ls.ByName[n]; l != nil {
		return l.ID, nil
	}
	var id int64
	err := ls.one(`SELECT id FROM stint_lanes
		WHERE queue = ? AND task = ? AND suspect = ? AND route = ? AND staged IS NULL ORDER BY id LIMIT 1`,
		[]any{n.Queue, n.Task, n.Suspect, n.Route}, &id)
	if errors.Is(err, sql.ErrNoRows) {
		return ls.newLane(n, nil)
	}
	if err != nil {
		return 0, err
	}
	l, err := ls.laneByID(id)
	if err != nil {
		return 0, err
	}
	ls.ByName[n] = l
	return id, nil
}

func (ls *lanes) newLane(n ready.Name, staged *string) (int64, error) {
	stamp, err := ls.stamp()
	if err != nil {
		return 0, err
	}
	var id int64
	err = ls.one("INSERT INTO stint_lanes (queue, task, suspect, staged, route, stamp) VALUES (?, ?, ?, ?, ?, ?) RETURNING id",
		[]any{n.Queue, n.Task, n.Suspect, staged, n.Route, stamp}, &id)
	if err != nil {
		return 0, err
	}
	if err := ls.exec("INSERT INTO stint_queues (name) VALUES (?) ON CONFLICT DO NOTHING", n.Queue); err != nil {
		return 0, err
	}
	l := ls.AddNew(&ready.Lane{Name: n, ID: id, Staged: staged != nil})
	if staged == nil {
		ls.ByName[n] = l
	}
	return id, nil
}

// touchLane marks a lane in which a run may have become ready.
func (ls *lanes) touchLane(l *ready.Lane) {
	ls.Touch(l)
	if !l.Dirty {
		l.Dirty = true
		ls.dirty = append(ls.dirty, l)
	}
}

// stamp returns the transaction's stamp for the lanes that it touches: higher than any before, and
// than the keys of all runs.
func (ls *lanes) stamp() (int64, error) {
	if ls.stamped != 0 {
		return ls.stamped, nil
	}
	seen := ls.seen
	if ls.stale {
		if err := ls.one(lastStampSQL, nil, &seen); err != nil {
			return 0, err
		}
	}
	ls.stamped = max(ls.now<<keys.SeqBits, seen+1, ls.lastKey)
	return ls.stamped, nil
}

// flush stamps the lanes that the transaction has changed.
func (ls *lanes) flush() error {
	if err := ls.touchNoted(); err != nil {
		return err
	}
	return ls.stampTouched()
}

func (ls *lanes) stampTouched() error {
	var ids []int64
	for _, l := range ls.dirty {
		if l.Dirty = false; ls.mustStamp(l.ID) {
			ids = append(ids, l.ID)
		}
	}
	ls.dirty = ls.dirty[:0]
	if len(ids) == 0 {
		return nil
	}
	stamp, err := ls.stamp()
	if err != nil {
		return err
	}
	if len(ids) == 1 {
		return ls.exec("UPDATE stint_lanes SET stamp = ? WHERE id = ?", stamp, ids[0])
	}
	return ls.exec("UPDATE stint_lanes SET stamp = ? WHERE id IN (SELECT value FROM json_each(?))", stamp, reading.JSONKeys(ids))
}

// stampEvery is how long a lane may be used without a stamp that nobody reads.
const stampEvery = time.Hour

func (ls *lanes) mustStamp(id int64) bool {
	if ls.sole == nil || !*ls.sole {
		return true
	}
	if at, ok := ls.written[id]; ok && ls.now >= at && ls.now-at < stampEvery.Milliseconds() {
		return false
	}
	ls.written[id] = ls.now
	return true
}
