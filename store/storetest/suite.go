// Package storetest defines what a store must do: by rules that every store must pass, and by a model that random
// sequences of verbs are compared with.
//
// A store's own test is three lines:
//
//	func TestStore(t *testing.T) {
//		storetest.Run(t, func(t testing.TB, dir string) store.Store { … })
//	}
package storetest

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stint-dev/stint/store"
)

// An Opener opens the store in dir, which is empty at first; a second call with the same dir has the same data. The
// caller closes it. It is called in a testing/synctest bubble.
type Opener func(t testing.TB, dir string) store.Store

// Run checks every rule of package store with the stores that open returns. No rule can be skipped.
func Run(t *testing.T, open Opener) {
	store.RegisterFilters(contains)
	for _, rule := range rules {
		t.Run(rule.name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				s := &suite{T: t, open: open, dir: dir, Store: open(t, dir)}
				defer func() { s.ok(s.Close()) }()
				s.worker = s.register()
				rule.check(s)
			})
		})
	}
}

// contains is the language of filters here: an event passes whose payload has the text, or that of the
// filter's payload. event_id passes if the event has an ID.
func contains(text string) (store.Predicate, []string, error) {
	return func(e *store.NewEvent, payload []byte) bool {
		switch text {
		case "payload":
			return bytes.Contains(e.Payload, payload)
		case "event_id":
			return e.Stored != store.ID{}
		}
		return bytes.Contains(e.Payload, []byte(text))
	}, []string{text}, nil
}

// A suite is a store under test, with helpers that fail the test on an error.
type suite struct {
	*testing.T
	store.Store
	open   Opener
	dir    string
	worker int64
}

var rules = []struct {
	name  string
	check func(*suite)
}{
	{"R1 acknowledged is there after a reopen", reopen},
	{"R2 a late outcome is refused", lateOutcome},
	{"R2 a late record is refused", lateRecord},
	{"lines of no execution are appended to a run in any state", lateLogs},
	{"R2 a lease is given once", leasesOnce},
	{"R3 terminal is final, save by a replay", terminal},
	{"R4 never early", neverEarly},
	{"R4 not started in time is canceled", startBy},
	{"R4 what must have started counts from when it may", startInFollows},
	{"an attempt that waits keeps what it has used of its time", spentIsKept},
	{"a run that waits can be woken", wakesWaiting},
	{"R4 times that are far away", farTimes},
	{"R5 priority, then first in first out", order},
	{"R5 order over many tasks and claims", orderOfMany},
	{"R5 priorities age", ageing},
	{"R7 all or none", allOrNone},
	{"R7 what follows comes with the outcome", follow},
	{"R7 a large bulk appears at once", largeBulk},
	{"R8 an unknown ID", unknownID},
	{"R8 an unknown task holds up nothing", unknownTask},
	{"R10 close ends every wait", closeEndsWaits},
	{"claim gives no more than Free", claimFree},
	{"claim that was withdrawn takes nothing", withdrawn},
	{"claim by queue, and paused queues", pausedQueues},
	{"runs that wait are moved to another queue", movedRuns},
	{"runs are moved to a paused queue, and to a new one", movedToPaused},
	{"runs that wait for something are moved", movedWaiting},
	{"tasks of a workflow are moved", movedTasks},
	{"paused workers", pausedWorkers},
	{"a worker's labels and tasks", changedWorkers},
	{"two claims never share a run", noDouble},
	{"cancel", cancel},
	{"cancel of what runs ends it as canceled", cancelRunning},
	{"cancel takes children along", cancelChildren},
	{"a canceled run that has something to clean up runs once more", cancelCleansUp},
	{"cancel of a blocked run", cancelOfBlocked},
	{"each cancel is told, also after a replay", cancelAfterReplay},
	{"a new attempt's compensations", undoOfNewAttempt},
	{"what is forgotten takes its branches along", forgetBranches},
	{"idempotency keys", keys},
	{"keys of children", childKeys},
	{"children of a canceled run", childrenOfCanceled},
	{"what code declared goes with it", declaredGoes},
	{"debounce", debounce},
	{"retry keeps the attempt, snooze refunds it", retry},
	{"unregister gives back", unregister},
	{"a context that is done changes nothing", doneContext},
	{"list by filter, in pages", list},
	{"list the oldest first", oldestFirst},
	{"list briefly", briefly},
	{"pages end where they would be large", largePages},
	{"a journal in pages", journalPages},
	{"crons and filters in pages", schedulePages},
	{"errors are found by the text that a person sees", searchErrors},
	{"names that are known", names},
	{"settings", settings},
	{"failed runs are grouped by their errors", errorGroups},
	{"runs are found by the group of their error", errorRuns},
	{"error groups are muted, and go", mutedErrors},
	{"error groups are marked, and found by text", markedErrors},
	{"delete and expire", expire},
	{"what a run has started is kept as long as the run", keptChildren},
	{"progress, logs and chunks", records},
	{"lines of all runs", logLines},
	{"more log lines than are kept", manyLogs},
	{"large inputs and outputs", large},
	{"R2 a journal is kept, once", journalKept},
	{"R2 when calls began is kept", entryTimes},
	{"R4 a wait until a time", waitsUntil},
	{"R7 a wait for events", waitsForEvents},
	{"R7 a wait for events that pass a filter", waitsForFiltered},
	{"R7 a wait for an event with a number: exactly that", waitsForNumbers},
	{"R7 a wait for a condition of events and times", waitsForCondition},
	{"R7 a wait for a condition, in memory", awaitsCondition},
	{"R7 a wait for a condition of events that are there, and that times out", waitsAtOnce},
	{"R7 a wait for children", waitsForChildren},
	{"restart and fork from an entry", restartAndFork},
	{"notes of what may begin once", onceNotes},
	{"a durable call that publishes", publishes},
	{"await what is named", awaitNamed},
	{"what code blocked, another build tries", newBuild},
	{"R7 a workflow's task starts with the end of its last parent", workflowJoin},
	{"a failure cancels what depends on it", workflowFailure},
	{"what is said of an on-failure task holds", workflowFailureTask},
	{"a replay of a workflow", workflowReplay},
	{"a replay of a whole workflow", workflowReplayWhole},
	{"conditions of a workflow's tasks", workflowConditions},
	{"tests of an output after a replay", workflowTestsAgain},
	{"a task that this worker lacks waits for another", workflowNoHandler},
	{"a workflow's start and end in time", workflowTimes},
	{"a graph is stored as it is", graphRoundTrip},
	{"R4 a key's concurrency", concurrency},
	{"R4 limits hold after a reopen", concurrencyKept},
	{"R4 limits of runs that were not due at a reopen", limitsOfScheduled},
	{"R4 limits that come with a large bulk", limitsOfBulk},
	{"R4 limits that come with a debounced run", limitsOfDebounced},
	{"R4 several limits, all or none", severalLimits},
	{"R5 keys take turns", turns},
	{"a limit that cancels the newest", cancelNewest},
	{"a limit that cancels what is in progress", cancelInProgress},
	{"R4 a limit that is paused", pausedLimits},
	{"R4 a rate", rates},
	{"figures of a rate", rateFigures},
	{"R4 the newest figures of a limit", newestSettings},
	{"figures of a key that was paused", settingsOfPaused},
	{"rates that nobody uses go", idleRates},
	{"routes", routes},
	{"the route of a workflow's run", workflowRoute},
	{"preferred workers", preferred},
	{"slot costs", slotCosts},
	{"a cron ticks, each tick once", cronTicks},
	{"a cron is paused, replaced, deleted and started by hand", cronChanges},
	{"a cron's spec", cronSpecs},
	{"ticks that were missed", missedTicks},
	{"missed ticks wait for a worker", missedTicksWait},
	{"declared crons and triggers", declared},
	{"R7 an event starts the runs of its triggers", triggers},
	{"filters of a task", taskFilters},
	{"versions of definitions", definitions},
	{"what a definition declares", definedFilters},
	{"variables of filters", filterVariables},
	{"an event that is delivered twice", deliveries},
	{"events are listed with what they did, and expire", eventHistory},
	{"reschedule", reschedule},
	{"states are counted, and changes told", counted},
	{"what happened is counted", counters},
	{"queues and limits are sampled", sampled},
	{"a page looks at so many runs", bounded},
	{"runs are counted in parts", countsInParts},
}

func (s *suite) ok(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// reopen closes the store, and opens it again with a worker of its own.
func (s *suite) reopen() {
	s.Helper()
	s.ok(s.Close())
	s.Store = s.open(s, s.dir)
	s.worker = s.register()
}

func (s *suite) register() int64 {
	s.Helper()
	id, err := s.Register(s.Context(), store.WorkerInfo{Name: "tester"})
	s.ok(err)
	return id
}

// run is a NewRun of task "t" with the given input.
func run(input string) store.NewRun {
	return store.NewRun{Task: "t", Queue: "q", Priority: 2, AgeEvery: time.Minute, Input: []byte(input)}
}

func (s *suite) enqueue(runs ...store.NewRun) []store.ID {
	s.Helper()
	got, err := s.Enqueue(s.Context(), time.Now(), runs)
	s.ok(err)
	ids := make([]store.ID, len(got))
	for i, e := range got {
		ids[i] = e.ID
	}
	return ids
}

func (s *suite) request(n int) store.ClaimRequest {
	return store.ClaimRequest{Worker: s.worker, Free: func() int { return n }, Tasks: func(string) bool { return true }}
}

// claim claims up to n runs, of which there must be one within a second.
func (s *suite) claim(n int) []store.Claimed {
	s.Helper()
	return s.claimBy(s.request(n))
}

func (s *suite) claimBy(r store.ClaimRequest) []store.Claimed {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), time.Second)
	defer cancel()
	got, err := s.Claim(ctx, r)
	s.ok(err)
	return got
}

// none fails if there is something to claim now.
func (s *suite) none(r store.ClaimRequest) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), 100*time.Millisecond)
	defer cancel()
	if got, err := s.Claim(ctx, r); len(got) > 0 || !errors.Is(err, context.DeadlineExceeded) {
		s.Errorf("claimed %s (%v), want nothing", inputs(got), err)
	}
}

func inputs(got []store.Claimed) (all []string) {
	for _, c := range got {
		all = append(all, string(c.Input))
	}
	return all
}

func (s *suite) finish(o store.Outcome) (stale bool) {
	s.Helper()
	got, err := s.Finish(s.Context(), time.Now(), []store.Outcome{o})
	s.ok(err)
	return got[0]
}

// wrong returns a lease that no store gives, and not zero: that would be of no execution.
func wrong(l store.Lease) store.Lease { return l + 1<<40 }

func outcome(c store.Claimed, to store.State) store.Outcome {
	return store.Outcome{ID: c.ID, Lease: c.Lease, To: to}
}

func (s *suite) get(id store.ID) *store.Run {
	s.Helper()
	r, err := s.Get(s.Context(), id)
	s.ok(err)
	return r
}

func (s *suite) state(id store.ID, want store.State) {
	s.Helper()
	if got := s.get(id).State; got != want {
		s.Errorf("state is %v, want %v", got, want)
	}
}

// await waits for a run's end.
func (s *suite) await(id store.ID) error {
	_, err := s.Await(s.Context(), id, store.Until{})
	return err
}

// act cancels, replays or deletes runs, and returns how many. The reason to cancel is "why".
func (s *suite) act(kind store.ActionKind, f store.Filter) int {
	s.Helper()
	n, err := s.Act(s.Context(), time.Now(), store.Action{Kind: kind, Reason: []byte(`"why"`)}, f)
	s.ok(err)
	return n
}

// read reads what a query asks for, and returns the query.
func read[Q store.Query](s *suite, q Q) Q {
	s.Helper()
	s.ok(s.Read(s.Context(), q))
	return q
}

// change makes a change now.
func (s *suite) change(c store.Change) error { return s.Change(s.Context(), time.Now(), c) }

// restart restarts a run from an entry, fork copies it up to there.
func (s *suite) restart(id store.ID, at store.Address) error {
	return s.change(&store.RunChange{Kind: store.RunRestart, ID: id, At: at})
}

func (s *suite) fork(id store.ID, at store.Address) (store.ID, error) {
	c := store.RunChange{Kind: store.RunFork, ID: id, At: at}
	err := s.change(&c)
	return c.Fork, err
}

func (s *suite) reschedule(id store.ID, due time.Time) error {
	return s.change(&store.RunChange{Kind: store.RunReschedule, ID: id, Due: due})
}

// wake wakes a run that waits.
func (s *suite) wake(id store.ID) error {
	return s.change(&store.RunChange{Kind: store.RunWake, ID: id})
}

// setCron sets a cron, changeCron changes it.
func (s *suite) setCron(c store.Cron) error {
	return s.change(&store.CronChange{Kind: store.CronSet, Cron: c})
}

func (s *suite) changeCron(name string, kind store.CronChangeKind) (store.ID, error) {
	c := store.CronChange{Kind: kind, Name: name}
	err := s.change(&c)
	return c.Started, err
}

// entries returns a run's whole journal.
func (s *suite) entries(id store.ID) []store.Entry {
	s.Helper()
	entries, _, err := s.Entries(s.Context(), id, store.Address{}, -1, true)
	s.ok(err)
	return entries
}

func (s *suite) setLabels(worker int64, labels map[string]string) {
	s.Helper()
	_, err := s.Register(s.Context(), store.WorkerInfo{ID: worker, Labels: labels})
	s.ok(err)
}
