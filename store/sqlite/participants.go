package sqlite

// A participant is a subsystem that has a part in each commit: it keeps in memory what it
// knows of the rows, and what a transaction is to write or to do at its end. Each is
// registered once, in newParticipants, and what makes commits (commit.go, tx.go) calls all
// of them by these methods alone.
type participant interface {
	// flush writes what the transaction has left for its end.
	flush(t *txn) error
	// committed is called after the commit.
	committed(t *txn)
	// rolledBack forgets what the transaction did, and what is known only by it.
	rolledBack()
	// outdated forgets what others may have changed: another connection has committed.
	outdated()
}

// passive has the methods of a participant that has nothing to do there.
type passive struct{}

func (passive) flush(*txn) error { return nil }
func (passive) committed(*txn)   {}
func (passive) rolledBack()      {}
func (passive) outdated()        {}

// participants are those of one connection: the writer's, as long as it lives, or an app's,
// for one transaction.
type participants struct {
	limiters  *limiterCache
	events    *eventWrites
	workflows *workflowCache
	triggers  *triggerCache
	workers   *workerCache
	lanes     *laneCache
	counters  *counters
	timers    *timers
	claims    *claims
	signals   *signals
	all       []participant
}

// newParticipants makes those of a connection. They flush in the order of all: lanes are
// stamped after the statements that change them.
func newParticipants(graphs *graphCache) *participants {
	p := &participants{
		limiters:  newLimiterCache(),
		events:    &eventWrites{},
		workflows: &workflowCache{graphs: graphs, nodes: bulk{kind: nodeRows}},
		triggers:  &triggerCache{},
		workers:   &workerCache{},
		lanes:     newLaneCache(),
		counters:  &counters{},
		timers:    &timers{added: never},
		claims:    &claims{},
		signals:   &signals{},
	}
	p.all = []participant{p.limiters, p.events, p.workflows, p.triggers, p.workers, p.lanes, p.counters, p.timers, p.claims, p.signals}
	return p
}

// newAppParticipants makes those of an app's transaction: what they know goes with it, and
// what needs the writer waits for the writer.
func newAppParticipants() *participants {
	p := newParticipants(&graphCache{})
	p.timers.next = never
	p.limiters.checked, p.limiters.deferred = true, true
	p.lanes.stale = true
	return p
}
