package postgres

import (
	"cmp"
	"errors"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/lifecycle"
	"github.com/stint-dev/stint/store/internal/limits"
)

// A runRow is a row of stint.runs. Its input and metadata are written, and never read: only claims and
// lists need them.
type runRow struct {
	lifecycle.Run
	executions int64
	turn       int64
	root       int64 // 0: itself
	priority   int64
	limiter    *int64 // that it waits at, if it is queued; nil: it is ready; 0: it has come to none yet
	worker     *int64 // of the last execution; 0: nobody's, a workflow's run
	flags      int64
	state      int64
	lease      int64
	key        string
	limits     string
	metadata   []byte
	input      []byte // nil: in stint.inputs, or the workflow run's
	odd        error  // how its columns, as read, do not go together
}

// The bits of runs.flags.
const (
	flagDetached = 1
	flagWorkflow = 2
	flagResumed  = 4
	flagForked   = 8
)

func (r *runRow) loaded() {
	r.State, r.Lease = store.State(r.state), store.Lease(r.lease)
	r.Detached, r.Workflow = r.flags&flagDetached != 0, r.flags&flagWorkflow != 0
	r.Resumed, r.Forked = r.flags&flagResumed != 0, r.flags&flagForked != 0
	r.Limited = r.limits != ""
	if r.worker != nil {
		r.Worker = *r.worker
	}
	r.odd = r.check()
}

// check returns how columns do not go together, which somebody must have changed by hand (R8). What a column alone may be,
// the database tests.
func (r *runRow) check() error {
	switch {
	case r.State == store.Running && r.worker == nil:
		return errors.New("it is running, and has no worker")
	case r.limiter != nil && r.limits == "":
		return errors.New("it waits for a limiter, and has no limits")
	case r.State.Terminal() != (r.Ended != 0):
		return errEnded
	}
	return nil
}

var errEnded = errors.New("its state and the time of its end do not go together")

func (r *runRow) storedFlags() (flags int16) {
	for _, f := range [...]struct {
		bit int16
		on  bool
	}{{flagDetached, r.Detached}, {flagWorkflow, r.Workflow}, {flagResumed, r.Resumed}, {flagForked, r.Forked}} {
		if f.on {
			flags |= f.bit
		}
	}
	return flags
}

// executes reports whether a worker executes the run with that lease.
func (r *runRow) executes(lease store.Lease) bool {
	return r.State == store.Running && r.Lease == lease
}

// atLimits returns what the run's limiters see of it.
func (r *runRow) atLimits() limits.State {
	return limits.State{State: r.State, Limiter: r.limiter, Workflow: r.Workflow, Resumed: r.Resumed, Begun: r.Lease != 0}
}

// stored describes a column whose stored value is another than the field that it is read into.
func stored[R, T, V any](name, kind string, field func(*R) *T, value func(*R) V) column[R] {
	c := col(name, kind, field)
	c.array = func(rows []*R) any { return values(rows, value) }
	return c
}

func newRunStatements() *statements[runRow] {
	s := newStatements("runs", 1, "FOR UPDATE",
		number("id", func(r *runRow) *int64 { return &r.Key }),
		number("lane", func(r *runRow) *int64 { return &r.Lane }),
		number("rank", func(r *runRow) *int64 { return &r.Rank }),
		number("turn", func(r *runRow) *int64 { return &r.turn }),
		stored("lease", "bigint", func(r *runRow) *int64 { return &r.lease }, func(r *runRow) int64 { return int64(r.Lease) }),
		number("spent", func(r *runRow) *int64 { return &r.Spent }),
		col("worker", "bigint", func(r *runRow) **int64 { return &r.worker }),
		col("limiter", "bigint", func(r *runRow) **int64 { return &r.limiter }),
		stamp("due_at", func(r *runRow) *int64 { return &r.Due }),
		stamp("started_at", func(r *runRow) *int64 { return &r.Started }),
		stamp("ended_at", func(r *runRow) *int64 { return &r.Ended }),
		stamp("cancel_at", func(r *runRow) *int64 { return &r.CancelAt }),
		stamp("start_by", func(r *runRow) *int64 { return &r.StartBy }),
		stamp("start_in", func(r *runRow) *int64 { return &r.StartIn }),
		stamp("parent", func(r *runRow) *int64 { return &r.Parent }).isFixed(),
		stamp("root", func(r *runRow) *int64 { return &r.root }).isFixed(),
		stamp("node", func(r *runRow) *int64 { return &r.Node }).isFixed(),
		number("attempt", func(r *runRow) *int64 { return &r.Attempt }),
		number("executions", func(r *runRow) *int64 { return &r.executions }),
		number("replayed", func(r *runRow) *int64 { return &r.Replayed }),
		number("crashes", func(r *runRow) *int64 { return &r.Crashes }),
		stored("state", "smallint", func(r *runRow) *int64 { return &r.state }, func(r *runRow) int16 { return int16(r.State) }),
		number("priority", func(r *runRow) *int64 { return &r.priority }).isFixed(),
		stored("flags", "smallint", func(r *runRow) *int64 { return &r.flags }, (*runRow).storedFlags),
		optional("key", func(r *runRow) *string { return &r.key }).isFixed(),
		optional("limits", func(r *runRow) *string { return &r.limits }),
		col("metadata", "text", func(r *runRow) *[]byte { return &r.metadata }).isFixed().isHidden(),
		col("input", "bytea", func(r *runRow) *[]byte { return &r.input }).isFixed().isHidden(),
		col("output", "bytea", func(r *runRow) *[]byte { return &r.Output }).isHidden(),
		col("error", "text", func(r *runRow) *[]byte { return &r.Error }),
		computed("EXISTS (SELECT 1 FROM stint.journal j WHERE j.run = t.id)", func(r *runRow) *bool { return &r.Journal }),
		computed("EXISTS (SELECT 1 FROM stint.journal j WHERE j.run = t.id AND j.scope >= 'undo' AND j.scope < 'undo0' AND NOT j.done)",
			func(r *runRow) *bool { return &r.Undo }))
	s.complete = (*runRow).loaded
	return s
}

// An attemptRow is an execution that did not end its run.
type attemptRow struct {
	run, n, attempt       int64
	worker                *int64
	started, ended, state int64
	reason                []byte
}

// A keyRow is an idempotency key.
type keyRow struct {
	task, key    string
	run, expires int64 // expires 0: when the run ends
	gone         bool
	ended        bool // the run has ended, or is deleted
}

// A keyName names an idempotency key.
type keyName struct{ task, key string }

func compareKeys(a, b keyName) int {
	return cmp.Or(cmp.Compare(a.task, b.task), cmp.Compare(a.key, b.key))
}

// A childRow is a child of a run that was enqueued with a key.
type childRow struct {
	childKey
	run int64
}

// A childKey names a child of a run.
type childKey struct {
	parent int64
	key    string
}

func compareChildren(a, b childKey) int {
	return cmp.Or(cmp.Compare(a.parent, b.parent), cmp.Compare(a.key, b.key))
}

// A placeRow is a place in a workflow's graph, of one of its runs: how its parents have ended, how many
// attempts it had made before a replay, or its limits.
type placeRow struct {
	run, place   int64
	ended, flags int64
	cause        int64 // -1: none
	attempts     int64
	limits       string
}

type placeOf struct{ run, place int64 }

func comparePlaces(a, b placeOf) int {
	return cmp.Or(cmp.Compare(a.run, b.run), cmp.Compare(a.place, b.place))
}

func byPlace(s *statements[placeRow]) *relation[placeOf, placeRow] {
	return newRelation(s, comparePlaces, func(r *placeRow) placeOf { return placeOf{r.run, r.place} },
		func(k placeOf) placeRow { return placeRow{run: k.run, place: k.place} })
}

func placeColumns(rest ...column[placeRow]) []column[placeRow] {
	return append([]column[placeRow]{
		number("run", func(r *placeRow) *int64 { return &r.run }),
		number("place", func(r *placeRow) *int64 { return &r.place }),
	}, rest...)
}

// The rest of the rows by their run.
type (
	testRow struct { // what predicates said of a task's output
		run     int64
		results []byte
	}
	stickyRow struct { // the worker, by name, that the tasks of a workflow's run follow
		run    int64
		worker string
	}
)

var (
	testStatements = newStatements("tests", 1, "FOR UPDATE",
		number("run", func(r *testRow) *int64 { return &r.run }),
		col("results", "text", func(r *testRow) *[]byte { return &r.results }))

	stickyStatements = newStatements("sticky", 1, "FOR UPDATE",
		number("run", func(r *stickyRow) *int64 { return &r.run }),
		text("worker", func(r *stickyRow) *string { return &r.worker }))

	keyStatements = newStatements("keys", 2, "FOR UPDATE",
		text("task", func(r *keyRow) *string { return &r.task }),
		text("key", func(r *keyRow) *string { return &r.key }),
		number("run", func(r *keyRow) *int64 { return &r.run }),
		stamp("expires_at", func(r *keyRow) *int64 { return &r.expires }),
		col("gone", "boolean", func(r *keyRow) *bool { return &r.gone }),
		computed("coalesce((SELECT r.state >= 7 FROM stint.runs r WHERE r.id = t.run), true)", func(r *keyRow) *bool { return &r.ended }))

	childStatements = newStatements("child_keys", 2, "FOR UPDATE",
		number("parent", func(r *childRow) *int64 { return &r.parent }),
		text("key", func(r *childRow) *string { return &r.key }),
		number("run", func(r *childRow) *int64 { return &r.run }))

	attemptStatements = newStatements("attempts", 2, "",
		number("run", func(r *attemptRow) *int64 { return &r.run }),
		number("n", func(r *attemptRow) *int64 { return &r.n }),
		number("attempt", func(r *attemptRow) *int64 { return &r.attempt }),
		col("worker", "bigint", func(r *attemptRow) **int64 { return &r.worker }),
		stamp("started_at", func(r *attemptRow) *int64 { return &r.started }),
		number("ended_at", func(r *attemptRow) *int64 { return &r.ended }),
		number("state", func(r *attemptRow) *int64 { return &r.state }),
		col("error", "text", func(r *attemptRow) *[]byte { return &r.reason }))

	workerStatements = newStatements("workers", 1, "FOR UPDATE",
		number("id", func(r *workerRow) *int64 { return &r.id }),
		text("name", func(r *workerRow) *string { return &r.name }),
		text("process", func(r *workerRow) *string { return &r.process }),
		number("pid", func(r *workerRow) *int64 { return &r.pid }),
		text("host", func(r *workerRow) *string { return &r.host }),
		number("slots", func(r *workerRow) *int64 { return &r.slots }),
		text("queues", func(r *workerRow) *string { return &r.queues }),
		text("labels", func(r *workerRow) *string { return &r.labels }),
		text("tasks", func(r *workerRow) *string { return &r.tasks }),
		text("build", func(r *workerRow) *string { return &r.build }),
		number("started_at", func(r *workerRow) *int64 { return &r.started }),
		stamp("ended_at", func(r *workerRow) *int64 { return &r.ended }),
		col("paused", "boolean", func(r *workerRow) *bool { return &r.paused }))

	eventRunStatements = newStatements("event_runs", 2, "",
		number("event", func(r *eventRun) *int64 { return &r.event }),
		number("run", func(r *eventRun) *int64 { return &r.run }),
		col("woke", "boolean", func(r *eventRun) *bool { return &r.woke }))

	awaitStatements = newStatements("awaited", 2, "",
		number("child", func(r *awaitOf) *int64 { return &r.child }),
		number("run", func(r *awaitOf) *int64 { return &r.run }))

	memberStatements = newStatements("members", 2, "",
		number("limiter", func(r *memberOf) *int64 { return &r.limiter }),
		number("run", func(r *memberOf) *int64 { return &r.run }))
)

func (r *keyRow) name() keyName { return keyName{r.task, r.key} }

// A workerRow is a row of stint.workers.
type workerRow struct {
	id, pid, slots, started, ended                    int64
	name, process, host, queues, labels, tasks, build string
	paused                                            bool
}
