package postgres

import (
	"github.com/jackc/pgx/v5"
	"github.com/stint-dev/stint/store/internal/count"
	"github.com/stint-dev/stint/store/internal/lifecycle"
	"github.com/stint-dev/stint/store/internal/limits"
)

var (
	runStatements  = newRunStatements()
	joinStatements = newStatements("joins", 2, "FOR UPDATE", placeColumns(
		number("ended", func(r *placeRow) *int64 { return &r.ended }),
		number("flags", func(r *placeRow) *int64 { return &r.flags }),
		number("cause", func(r *placeRow) *int64 { return &r.cause }).orNull("-1"))...)
	remadeStatements = newStatements("remade", 2, "FOR UPDATE", placeColumns(
		number("attempts", func(r *placeRow) *int64 { return &r.attempts }))...)
	taskLimitStatements = newStatements("task_limits", 2, "FOR UPDATE", placeColumns(
		text("limits", func(r *placeRow) *string { return &r.limits }))...)
)

// newUnit returns a unit for groups. Its parts are locked in the order of parts: limiters, for which
// groups of all processes wait, are the last.
func newUnit(s *Store, now int64) *unit {
	u := &unit{s: s}
	u.runParts()
	u.workflowParts()
	u.waitParts()
	u.eventParts()
	u.cronParts()
	u.definitionParts()
	u.laneParts()
	u.workerParts()
	u.settings = settingRows()
	u.limiterParts()
	u.parts = []part{
		u.eventLocks, u.runs, u.childrenOf, u.runsOf, u.allTasks, u.tasks, u.timed, u.awaited, u.last, u.admitted, u.waiting, u.members,
		u.keys, u.childKeys, u.taskLimits, u.taskLimitsOf, u.joins, u.joinsOf, u.remade, u.tests, u.sticky, u.journal, u.journals, u.waits,
		u.waitsByRun, u.events, u.delivered, u.pending, u.eventsSince, u.fields, u.waitFilters, u.waitsFor, u.callsFor, u.hadBy,
		u.triggers, u.triggersOf, u.filters, u.crons, u.cronsDue, u.cronsOf, u.declaredBy, u.hasWorker, u.versions, u.graphs,
		u.graphNumbers, u.graphsByID, u.lanes, u.lanesByID, u.workers, u.workersOf, u.workersNamed, u.filterThere, u.filterNumber,
		u.errorsThere,
		u.blocked, u.builds, u.settings, u.limitersDue, u.limiters, u.limitersByID,
	}
	u.renew(now)
	return u
}

// renew makes the unit one of another group. To make a new one for each would cost as much as the group.
func (u *unit) renew(now int64) {
	for _, p := range u.parts {
		p.renew()
	}
	u.now, u.given, u.wrote, u.grouped, u.xid, u.took, u.limited = now, nil, false, false, 0, 0, false
	u.started = map[count.Name]*count.Counts{}
	u.base = changes{told: told{wakeAt: limits.Never}}
	u.begin()
}

// runParts makes the parts of the set that have runs.
func (u *unit) runParts() {
	u.runs = byNumber(runStatements, func(r *runRow) *int64 { return &r.Key })
	runsBy := func(condition string) *related[int64, int64, runRow] {
		return newRelated[int64](u.runs, "runs", "bigint", condition+" ORDER BY t.id FOR UPDATE")
	}
	u.childrenOf = runsBy("t.parent = u.i AND t.state < 7 AND t.flags & 1 = 0")
	u.runsOf = runsBy("t.worker = u.i AND t.state = 4")
	u.allTasks = runsBy("t.parent = u.i AND t.node IS NOT NULL AND t.flags & 2 = 0")
	u.tasks = newTaskIndex(u.runs)
	u.timed = &timed{u.runs, u, map[timeKind][]int64{}, map[timeKind]struct{}{}}
	u.last = &lastRecords{map[int64][2]int64{}, map[int64]struct{}{}}
	u.awaited = &awaited{map[int64][]int64{}, map[int64]struct{}{}}
	u.admitted = runsBy("u.i = 0 AND t.state = 3 AND t.limiter IS NULL AND t.limits IS NOT NULL")
	u.waiting = newWaitingIndex(u.runs)
	u.members = newRelated[int64](u.runs, "members m CROSS JOIN stint.runs", "bigint",
		"m.limiter = u.i AND t.id = m.run ORDER BY t.id FOR UPDATE OF t")
	u.keys = newRelation(keyStatements, compareKeys, (*keyRow).name, func(k keyName) keyRow { return keyRow{task: k.task, key: k.key} })
	u.childKeys = newRelation(childStatements, compareChildren, func(r *childRow) childKey { return r.childKey },
		func(k childKey) childRow { return childRow{childKey: k} })
	u.blocked = newLookup(blockedSQL, func(int) []any { return nil }, func(r pgx.CollectableRow) (b lifecycle.Blocked, err error) {
		return b, r.Scan(&b.Key, &b.Begun, &b.Crashes, &b.Build)
	})
}

// workflowParts makes the parts of the set that have graphs, and what there is of the tasks of their runs.
func (u *unit) workflowParts() {
	u.taskLimits, u.joins, u.remade = byPlace(taskLimitStatements), byPlace(joinStatements), byPlace(remadeStatements)
	u.taskLimitsOf = newRelated[int64](u.taskLimits, "task_limits", "bigint", "t.run = u.i ORDER BY t.place FOR UPDATE")
	u.joinsOf = newRelated[int64](u.joins, "joins", "bigint", "t.run = u.i ORDER BY t.place FOR UPDATE")
	u.tests = byNumber(testStatements, func(r *testRow) *int64 { return &r.run })
	u.sticky = byNumber(stickyStatements, func(r *stickyRow) *int64 { return &r.run })
	u.graphs = newGraphs()
	u.graphNumbers = newLookup("SELECT nextval(pg_get_serial_sequence($1, 'id'))", func(string) []any {
		return []any{u.s.settings.Schema + ".graphs"}
	}, pgx.RowTo[int64])
	u.graphsByID = newRelated[int64](u.graphs, "graphs", "bigint", "t.id = u.i LIMIT 1")
}

// waitParts makes the parts of the set that have journals, and the conditions of runs that wait.
func (u *unit) waitParts() {
	u.journal = newEntries()
	u.journals = newRelated[int64](u.journal, "journal", "bigint", "t.run = u.i ORDER BY t.scope, t.seq FOR UPDATE")
	u.waits = newWaits()
	u.waitsByRun = newRelated[int64](u.waits, "waits", "bigint", "t.run = u.i ORDER BY t.leaf FOR UPDATE")
}

// cronParts makes the parts of the set that have crons.
func (u *unit) cronParts() {
	u.crons = newCrons()
	u.cronsDue = newLookup(`SELECT name FROM stint.crons WHERE next_at IS NOT NULL AND next_at <= $1 AND next_at >= $3
		ORDER BY next_at LIMIT $2`, func(from int64) []any { return []any{u.now, perTimers, from} }, pgx.RowTo[string])
	u.cronsOf = newRelated[string](u.crons, "crons", "text", "t.task = u.i ORDER BY t.name FOR UPDATE")
	u.declaredBy = lookupOne[string, string](declaredBySQL)
	u.hasWorker = lookupOne[string, bool](hasWorkerSQL)
}

// laneParts makes the parts of the set that have lanes.
func (u *unit) laneParts() {
	u.lanes = newLanes()
	u.lanesByID = newRelated[int64](u.lanes, "lanes", "bigint", "t.id = u.i FOR SHARE")
}

// workerParts makes the parts of the set that have workers.
func (u *unit) workerParts() {
	u.workers = byNumber(workerStatements, func(r *workerRow) *int64 { return &r.id })
	u.workersOf = newRelated[string](u.workers, "workers", "text", "t.process = u.i AND (t.ended_at IS NULL OR EXISTS "+
		"(SELECT 1 FROM stint.runs r WHERE r.worker = t.id AND r.state = 4)) ORDER BY t.id FOR UPDATE")
	u.workersNamed = newRelated[string](u.workers, "workers", "text", "t.name = u.i AND t.ended_at IS NULL ORDER BY t.id FOR UPDATE")
	u.builds = newLookup(buildsSQL, func(int) []any { return nil },
		func(r pgx.CollectableRow) (b buildOf, err error) { return b, r.Scan(&b.worker, &b.build) })
}

// limiterParts makes the parts of the set that have limiters.
func (u *unit) limiterParts() {
	u.limiters = newRelation(limiterStatements, compareLimiters, (*limiterRow).limiterName,
		func(k limiterName) (r limiterRow) { r.Rate, r.Name, r.Key = k.rate, k.name, k.key; return r })
	u.limitersByID = newRelated[int64](u.limiters, "limiters", "bigint", "t.id = u.i FOR UPDATE")
	u.limitersDue = newLookup(
		"SELECT rate, name, key FROM stint.limiters WHERE wake_at IS NOT NULL AND wake_at <= $1 ORDER BY wake_at LIMIT $2",
		func(int64) []any { return []any{u.now, perTimers} },
		func(r pgx.CollectableRow) (n limiterName, err error) { return n, r.Scan(&n.rate, &n.name, &n.key) })
}
