package postgres

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/count"
	"github.com/stint-dev/stint/store/internal/damage"
	"github.com/stint-dev/stint/store/internal/event"
	"github.com/stint-dev/stint/store/internal/failed"
	"github.com/stint-dev/stint/store/internal/lifecycle"
	"github.com/stint-dev/stint/store/internal/limits"
)

// A unit is the work of one group: a set of rows, and what the group's changes have made of them. All
// that a change does is in the unit, so that it can be done again from the start.
type unit struct {
	s   *Store
	now int64 // milliseconds

	runs         *relation[int64, runRow]
	childrenOf   *related[int64, int64, runRow] // that have not ended and are not detached
	runsOf       *related[int64, int64, runRow] // that a worker executes
	allTasks     *related[int64, int64, runRow] // of a workflow's run
	tasks        *taskIndex
	timed        *timed
	awaited      *awaited
	last         *lastRecords
	admitted     *related[int64, int64, runRow] // by their limits; they have not started
	waiting      *waitingIndex
	members      *related[int64, int64, runRow] // of a limiter, for the strategy that cancels older runs
	keys         *relation[keyName, keyRow]
	childKeys    *relation[childKey, childRow]
	taskLimits   *relation[placeOf, placeRow]
	taskLimitsOf *related[int64, placeOf, placeRow]
	joins        *relation[placeOf, placeRow]
	joinsOf      *related[int64, placeOf, placeRow]
	remade       *relation[placeOf, placeRow]
	tests        *relation[int64, testRow]
	sticky       *relation[int64, stickyRow]
	journal      *relation[entryKey, entryRow]
	journals     *related[int64, entryKey, entryRow] // of a run
	waits        *relation[placeOf, waitRow]
	waitsByRun   *related[int64, placeOf, waitRow]
	eventLocks   *eventLocks
	events       *lookup[eventQuery, eventRow]
	delivered    *lookup[string, int64]
	pending      *lookup[int64, bool]
	eventsSince  *lookup[int64, event.Event]
	fields       *lookup[kindKey, string]
	waitFilters  *lookup[kindMatch, string]
	waitsFor     *lookup[kindMatch, placeOf]
	callsFor     *lookup[kindMatch, entryKey]
	hadBy        *lookup[int64, int64]
	triggers     *lookup[string, triggerRow]
	triggersOf   *lookup[string, event.Declared]
	filters      *lookup[string, store.TaskFilter]
	crons        *relation[string, cronRow]
	cronsDue     *lookup[int64, string]
	cronsOf      *related[string, string, cronRow]
	declaredBy   *lookup[string, string]
	hasWorker    *lookup[string, bool]
	versions     *lookup[string, versionRow] // the newest of tasks
	graphs       *relation[string, graphRow]
	graphNumbers *lookup[string, int64] // for new graphs, by their hashes
	graphsByID   *related[int64, string, graphRow]
	lanes        *relation[laneOf, laneRow]
	lanesByID    *related[int64, laneOf, laneRow]
	workers      *relation[int64, workerRow]
	workersOf    *related[string, int64, workerRow] // that live, of a process
	workersNamed *related[string, int64, workerRow] // that live
	filterThere  *lookup[int64, int64]
	filterNumber *lookup[string, int64]
	errorsThere  *lookup[int64, int64] // groups of errors
	blocked      *lookup[int, lifecycle.Blocked]
	builds       *lookup[int, buildOf] // of the workers that live
	settings     *relation[string, store.Setting]
	limiters     *relation[limiterName, limiterRow]
	limitersByID *related[int64, limiterName, limiterRow]
	limitersDue  *lookup[int64, limiterName]

	given   []int64 // keys
	wrote   bool    // something was written before the last batch
	grouped bool    // the group's number was written with its new runs
	xid     int64   // its transaction, if the store polls

	parts []part

	took     time.Duration                // the commit
	deferred bool                         // it is an app's transaction: what needs the writer waits for that
	assuming bool                         // it is decided before anything is read: see plain.go
	limited  bool                         // runs have limits, or had
	started  map[count.Name]*count.Counts // what was started for claims
	base     changes                      // those that were written
	changes
}

// changes are those of a group besides the rows of its set.
type changes struct {
	keysUsed        int            // of the keys that were given
	inserted        map[int64]bool // runs
	newGraphs       map[int64]*store.Graph
	changedJournals map[int64]bool         // runs whose entries were changed
	applied         map[int64]limits.State // what the limits know of runs with limits
	attempts        []*attemptRow
	deleted         []int64 // runs
	progress        []*progressRow
	logs            []*logRow
	chunks          []*chunkRow
	numbered        map[int64][2]int64 // the last lines and chunks of runs
	awaits          []awaitOf
	unawaited       []int64 // children that nobody waits for any more
	resumed         int     // of told.ended: those whose waiters were resumed
	endsCounted     int     // likewise, of those that were counted
	joined          []memberOf
	eventRuns       []*eventRun
	newEvents       []*newEvent
	taken           map[int64]bool       // pending events that are pending no longer
	queues          map[string]bool      // to insert
	newEpoch        bool                 // what processes remember is outdated
	limitsUsed      bool                 // runs have limits
	queued          []func(b *pgx.Batch) // statements to run at the end
	counted         map[count.Name]*count.Counts
	failed          []failed.Run
	told            told
	assumed         assumed
}

// A sender sends batches: a connection, or an app's transaction.
type sender interface {
	SendBatch(context.Context, *pgx.Batch) pgx.BatchResults
}

// told is what others are told of a group after its commit.
type told struct {
	lanes   lanesFrom // in which runs may have become ready
	ended   []ending
	chunks  []int64 // runs with new chunks or entries
	cancels []cancelOf
	wakeAt  int64 // the earliest new time that a row has; limits.Never: none
	epoch   bool  // what processes remember is outdated
}

// lanesFrom holds lanes, and the lowest rank of what may have become ready in each.
type lanesFrom map[int64]int64

func (x lanesFrom) add(lane, rank int64) {
	if had, ok := x[lane]; !ok || rank < had {
		x[lane] = rank
	}
}

func (x lanesFrom) addAll(o lanesFrom) {
	for lane, rank := range o {
		x.add(lane, rank)
	}
}

// An ending is the end of a run, with its result if that is known.
type ending struct {
	run     int64
	result  *store.Result
	counted bool
}

type cancelOf struct{ worker, run int64 }

// begin undoes all changes since the set was last written: they are done again.
func (u *unit) begin() {
	for _, p := range u.parts {
		p.reset()
	}
	u.changes = u.base.clone()
}

// settle makes what was written the state of the database.
func (u *unit) settle() {
	for _, p := range u.parts {
		p.settle()
	}
	u.base = changes{applied: u.applied, told: u.told, newGraphs: u.newGraphs, counted: u.counted, failed: u.failed,
		resumed: u.resumed, endsCounted: u.endsCounted, limitsUsed: u.limitsUsed, keysUsed: u.keysUsed}
	u.begin()
}

// clone returns a copy that may be changed.
func (c changes) clone() changes {
	n := changes{inserted: map[int64]bool{}, newGraphs: map[int64]*store.Graph{}, changedJournals: map[int64]bool{},
		applied: map[int64]limits.State{}, numbered: map[int64][2]int64{}, taken: map[int64]bool{}, queues: map[string]bool{},
		counted: map[count.Name]*count.Counts{}, failed: slices.Clone(c.failed),
		resumed: c.resumed, endsCounted: c.endsCounted, limitsUsed: c.limitsUsed, keysUsed: c.keysUsed}
	for name, counts := range c.counted {
		n.counted[name] = counts.Clone()
	}
	maps.Copy(n.newGraphs, c.newGraphs)
	maps.Copy(n.applied, c.applied)
	n.told = told{lanes: lanesFrom{}, ended: slices.Clone(c.told.ended), chunks: slices.Clone(c.told.chunks),
		cancels: slices.Clone(c.told.cancels), wakeAt: c.told.wakeAt}
	maps.Copy(n.told.lanes, c.told.lanes)
	return n
}

// isNew reports whether the group has inserted a run: the database has nothing of it.
func (u *unit) isNew(run int64) bool { return u.inserted[run] }

// nextKey returns a new key. Changes that are made again get the same ones: what was read by them is still
// asked for by them.
func (u *unit) nextKey(now int64) int64 {
	if u.keysUsed == len(u.given) {
		u.given = append(u.given, u.s.keys.next(now, u.deferred))
	}
	u.keysUsed++
	return u.given[u.keysUsed-1]
}

// after makes new keys come after one.
func (u *unit) after(last int64) {
	u.s.keys.from(last)
	if len(u.given) > 0 && u.given[0] <= last {
		u.given = nil
	}
}

// decide applies changes until none misses a row, and does what follows from them. Those that fail get
// their errors, and leave no trace.
func (u *unit) decide(ctx context.Context, c sender, group []*change) error {
	return u.until(ctx, c, func() error {
		for {
			missed, failed, err := u.applyAll(group)
			switch {
			case err != nil:
				return err
			case missed:
				return errMiss
			case !failed:
				return u.follow()
			}
			u.begin() // without the changes that have failed
		}
	})
}

// until calls f until it misses no row. Before each call what it has changed is undone.
func (u *unit) until(ctx context.Context, c sender, f func() error) error {
	for {
		u.begin()
		err := damage.Guard(f)
		if err == nil {
			return nil
		}
		if !errors.Is(err, errMiss) {
			return &decisionError{err}
		}
		if err := u.fetch(ctx, c); err != nil {
			return err
		}
	}
}

// applyAll applies changes once. missed reports that one missed a row, failed that one has failed: then
// all are to be applied again, without it. An error is that of a damaged run.
func (u *unit) applyAll(group []*change) (missed, failed bool, err error) {
	for _, x := range group {
		if x.err != nil {
			continue
		}
		err := damage.Guard(func() error { return x.apply(u) })
		switch {
		case errors.Is(err, errMiss):
			missed = true
		case err == nil || missed: // it may be wrong, for want of what was missed
		case isDamage(err):
			return false, false, err
		default:
			x.err = err
			return false, true, nil
		}
	}
	return missed, false, nil
}

// fetch reads what was asked for, in one round trip.
func (u *unit) fetch(ctx context.Context, c sender) error {
	b := &pgx.Batch{}
	u.queueFetch(b)
	if b.Len() == 0 {
		return errors.New("postgres: a decision missed a row, and asked for none")
	}
	return c.SendBatch(ctx, b).Close()
}

// queueFetch queues the statements that read what was asked for.
func (u *unit) queueFetch(b *pgx.Batch) {
	for _, p := range u.parts {
		p.fetch(u.s.settings, b)
	}
}

// flush queues the statements that write what the group has changed.
func (u *unit) flush(b *pgx.Batch) {
	u.flushAssumed(b)
	u.flushKnown(b)
}

// flushKnown queues the statements that write what was decided upon rows that were read.
func (u *unit) flushKnown(b *pgx.Batch) {
	u.dropLimiters()
	if len(u.queues) > 0 {
		b.Queue(u.s.sql("INSERT INTO stint.queues (name) SELECT unnest($1::text[]) ON CONFLICT DO NOTHING"),
			slices.Sorted(maps.Keys(u.queues)))
	}
	for _, p := range u.parts {
		p.flush(u.s.settings, b)
	}
	insertAll(u, b, attemptStatements, u.attempts)
	insertAll(u, b, eventStatements, u.newEvents)
	insertAll(u, b, eventRunStatements, u.eventRuns)
	insertAll(u, b, memberStatements, pointers(u.joined))
	if len(u.unawaited) > 0 {
		b.Queue(u.s.sql("DELETE FROM stint.awaited WHERE child = ANY ($1)"), u.unawaited)
	}
	insertAll(u, b, awaitStatements, pointers(u.awaits))
	u.flushRecords(b)
	for _, q := range u.queued {
		q(b)
	}
	if u.newEpoch {
		u.s.flushEpoch(b, u.limitsUsed)
	}
	if len(u.deleted) > 0 {
		for _, text := range deletedSQL {
			b.Queue(u.s.sql(text), u.deleted)
		}
		b.Queue(u.s.sql("DELETE FROM stint.keys WHERE run = ANY ($1) AND (expires_at IS NULL OR expires_at <= $2)"), u.deleted, u.now)
		b.Queue(u.s.sql("UPDATE stint.keys SET gone = true WHERE run = ANY ($1)"), u.deleted)
	}
}

// insertAll inserts rows, unless they are there.
func insertAll[R any](u *unit, b *pgx.Batch, s *statements[R], rows []*R) {
	if len(rows) > 0 {
		b.Queue(u.s.sql(s.inserts+" ON CONFLICT DO NOTHING"), arguments(s.writes, rows)...)
	}
}

func pointers[R any](rows []R) []*R {
	all := make([]*R, len(rows))
	for i := range rows {
		all[i] = &rows[i]
	}
	return all
}

// dropLimiters deletes the limiters that nothing needs.
func (u *unit) dropLimiters() {
	for k, e := range u.limiters.entries {
		if e.changed && e.now != nil && !e.now.Needed() {
			u.limiters.remove(k)
		}
	}
}

// ready announces that a run may be ready.
func (u *unit) ready(r *lifecycle.Run) { u.told.lanes.add(r.Lane, r.Rank) }

func (u *unit) wake(at int64) { u.told.wakeAt = min(u.told.wakeAt, at) }
