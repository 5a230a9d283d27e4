package sqlite

import "github.com/stint-dev/stint/internal/graphcache"

// A unit is the transaction of one connection and the subsystems that work in it: the writer's,
// as long as it lives, or an app's, for one transaction.
type unit struct {
	*txn
	*subsystems
}

// A participant is a subsystem that has a part in each commit: it keeps in memory what it
// knows of the rows, and what a transaction is to write or to do at its end. What makes
// commits (commit.go, tx.go) calls all of them by these methods alone.
type participant interface {
	// flush writes what the transaction has left for its end.
	flush() error
	// committed is called after the commit.
	committed()
	// rolledBack forgets what the transaction did, and what is known only by it.
	rolledBack()
	// outdated forgets what others may have changed: another connection has committed.
	outdated()
}

// passive has the methods of a participant that has nothing to do there.
type passive struct{}

func (passive) flush() error { return nil }
func (passive) committed()   {}
func (passive) rolledBack()  {}
func (passive) outdated()    {}

// subsystems own the tables and what is known of them. Each is made once, in newUnit.
type subsystems struct {
	runs        *runs
	keys        *idempotencyKeys
	records     *records
	journals    *journals
	limiters    *limiters
	events      *events
	workflows   *workflows
	triggers    *triggers
	crons       *crons
	definitions *definitions
	workers     *workers
	lanes       *lanes
	counters    *counters
	errors      *errorGroups
	timers      *timers
	claims      *claims
	signals     *signals
	all         []participant
}

// runs are what becomes of runs.
type runs struct {
	*unit
	passive
	deleted bool // runs or events were, by the transaction: see keepLastKey
	tried   bool // the change that Try is asked for next was made together with others
}

// Subsystems that keep nothing in memory.
type (
	idempotencyKeys struct{ *unit } // idempotency keys
	records         struct{ *unit } // progress, logs and chunks of runs
	journals        struct{ *unit }
	crons           struct{ *unit }
	definitions     struct{ *unit }
)

// newUnit makes the unit of a connection. The participants flush in the order of all: lanes are
// stamped after the statements that change them.
func newUnit(t *txn, graphs *graphcache.Cache) *unit {
	u := &unit{txn: t}
	s := &subsystems{
		runs:        &runs{unit: u},
		keys:        &idempotencyKeys{u},
		records:     &records{u},
		journals:    &journals{u},
		crons:       &crons{u},
		definitions: &definitions{u},
		limiters:    newLimiters(u),
		events:      &events{unit: u},
		workflows:   &workflows{unit: u, graphs: graphs, nodes: bulk{kind: nodeRows}},
		triggers:    &triggers{unit: u},
		workers:     &workers{unit: u},
		lanes:       newLanes(u),
		counters:    &counters{unit: u},
		errors:      &errorGroups{unit: u},
		timers:      &timers{unit: u, added: never},
		claims:      &claims{unit: u},
		signals:     &signals{unit: u},
	}
	u.subsystems = s
	s.all = []participant{s.runs, s.limiters, s.events, s.workflows, s.triggers, s.workers, s.lanes, s.counters, s.errors, s.timers,
		s.claims, s.signals}
	return u
}

// newAppUnit makes the unit of an app's transaction: what its subsystems know goes with it, and
// what needs the writer waits for the writer.
func newAppUnit(t *txn) *unit {
	u := newUnit(t, &graphcache.Cache{})
	u.timers.next = never
	u.limiters.checked, u.limiters.deferred = true, true
	u.lanes.stale = true
	return u
}

// flushAll makes every participant write what it has left for the end.
func (u *unit) flushAll() error {
	for _, p := range u.all {
		if err := p.flush(); err != nil {
			return err
		}
	}
	return nil
}
