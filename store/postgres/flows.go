package postgres

import (
	"maps"
	"slices"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/stint-dev/stint/internal/clock"
	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/count"
	"github.com/stint-dev/stint/store/internal/lifecycle"
	"github.com/stint-dev/stint/store/internal/workflow"
)

// The end of a workflow's task is a plain change too (plain.go), if what follows is usual: tasks that start at once, or
// the end of the workflow's run. What its decision needs of the workflow's row is remembered from the claim of the task.
// The statements that write lock that row, as any end of a task does, and test what was assumed of it: it is running,
// nobody asked to cancel it, it was never replayed, and it is in the same lane, and so for the same workers.

// A flow is what a process remembers of the run of a workflow that is running, and was never replayed.
type flow struct {
	lane, root, started int64
	priority            int8
	limited             bool // it has limits: its end is not a plain one
}

// flows are those of the tasks that the process was given lately.
type flows struct {
	mu           sync.Mutex
	young, older map[int64]flow // by the key of the workflow's run
}

// maxFlows is how many flows are young; as many are older. What is forgotten is read from its row.
const maxFlows = 5000

func (x *flows) put(run int64, f flow) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.putLocked(run, f)
}

func (x *flows) putLocked(run int64, f flow) {
	if x.young == nil || len(x.young) >= maxFlows {
		x.young, x.older = map[int64]flow{}, x.young
	}
	x.young[run] = f
}

func (x *flows) get(run int64) (f flow, ok bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if f, ok = x.young[run]; ok {
		return f, true
	}
	if f, ok = x.older[run]; ok {
		x.putLocked(run, f)
	}
	return f, ok
}

// forget forgets a flow that has ended, or of which something is not as it was.
func (x *flows) forget(run int64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.young, run)
	delete(x.older, run)
}

// A flowRow is what a plain group assumes of a workflow's run, and its end, if it ends.
type flowRow struct {
	flow
	run, state, ended int64 // state 0: it goes on
	reason            []byte
}

// A taskRow is the run of a workflow's task that starts at once.
type taskRow struct{ runRow }

var (
	flowColumns = []column[flowRow]{
		number("id", func(r *flowRow) *int64 { return &r.run }),
		number("lane", func(r *flowRow) *int64 { return &r.lane }),
	}
	endedFlowColumns = append(flowColumns[:2:2],
		number("state", func(r *flowRow) *int64 { return &r.state }),
		number("ended_at", func(r *flowRow) *int64 { return &r.ended }),
		col("error", "text", func(r *flowRow) *[]byte { return &r.reason }))
	taskColumns = []column[taskRow]{
		number("id", func(r *taskRow) *int64 { return &r.Key }),
		number("lane", func(r *taskRow) *int64 { return &r.Lane }),
		number("rank", func(r *taskRow) *int64 { return &r.Rank }),
		number("priority", func(r *taskRow) *int64 { return &r.priority }),
		number("parent", func(r *taskRow) *int64 { return &r.Parent }),
		number("root", func(r *taskRow) *int64 { return &r.root }),
		number("node", func(r *taskRow) *int64 { return &r.Node }),
	}

	// flowSQL locks the rows of workflows' runs that go on, endFlowSQL ends runs: see endSQL. A cancel or a replay locks
	// them too, so it sees the tasks that a group has started, or the group sees it.
	flowSQL = "WITH there AS MATERIALIZED (SELECT 1 FROM " + arraysOf(flowColumns) + " CROSS JOIN LATERAL (SELECT 1 FROM stint.runs t " +
		"WHERE t.id = u.id AND " + asAssumed + " FOR UPDATE) r) SELECT " + assert("count(*) = $3") + " FROM there"
	endFlowSQL = "WITH ended AS (UPDATE stint.runs t SET state = u.state, ended_at = u.ended_at, error = u.error, start_by = NULL FROM " +
		arraysOf(endedFlowColumns) + " WHERE t.id = u.id AND " + asAssumed + " AND t.limits IS NULL RETURNING 1) SELECT " +
		assert("count(*) = $6") + " FROM ended"
	asAssumed = "t.lane = u.lane AND t.state + 0 = 4 AND t.cancel_at IS NULL AND t.replayed = 0"

	// startTasksSQL inserts the runs of tasks, with keys after all that are committed, as freshSQL does.
	startTasksSQL = `WITH moved AS MATERIALIZED (
  SELECT ` + movedFrom("$8::bigint") + `),
made AS (INSERT INTO stint.runs (id, lane, rank, state, priority, parent, root, node)
  SELECT u.id + by, u.lane, u.rank + ((u.id + by) >> 20) - (u.id >> 20), 3, u.priority, u.parent, u.root, u.node
  FROM moved CROSS JOIN ` + arraysOf(taskColumns) + `)
SELECT by FROM moved`
)

// endsTask reports whether an outcome ends a workflow's task and, as far as the process remembers, what follows is usual.
func (s *Store) endsTask(o *store.Outcome) bool {
	if o.To != store.Succeeded || o.Node == 0 || o.Task == "" || len(o.Tests) > 0 {
		return false
	}
	g := s.graphs.Get(o.Node >> lifecycle.NodeBits)
	run, ok := s.ids.Key(o.Parent)
	if g == nil || !ok {
		return false
	}
	f, ok := s.flows.get(run)
	return ok && followsUsually(g, workflow.Place(o.Node), &f)
}

// followsUsually reports whether what follows from a task's success is foreseen, if nothing is unusual about its
// workflow's run.
func followsUsually(g *store.Graph, place int, f *flow) bool {
	if place >= len(g.Tasks) {
		return true // nothing does
	}
	for _, c := range g.Children(place) {
		switch {
		case g.Joins(c) > 1:
			return false
		case c == g.End():
			if g.OnSuccess != nil || f.limited {
				return false
			}
		default:
			if t := &g.Tasks[c]; t.Limited || t.StartIn > 0 || t.CancelIf != nil || t.SkipIf != nil || t.WaitFor != nil {
				return false
			}
		}
	}
	return g.Sticky == 0
}

// assumedFlow returns what the group assumes of a workflow's run; nil: its row is read, or is to be.
func (u *unit) assumedFlow(run int64) *flowRow {
	if r := u.assumed.flows[run]; r != nil || !u.assuming || !u.runs.unknown(run) {
		return r
	}
	f, ok := u.s.flows.get(run)
	if !ok {
		return nil
	}
	if u.assumed.flows == nil {
		u.assumed.flows = map[int64]*flowRow{}
	}
	r := &flowRow{flow: f, run: run}
	u.assumed.flows[run] = r
	return r
}

// assumeShared returns Shared of a workflow's run that was not read. ok is false if it is not known.
func (u *unit) assumeShared(run int64) (s workflow.Shared, ok bool) {
	if r := u.assumed.begun[run]; r != nil {
		return u.sharedOf(r.Lane, int8(r.priority), run)
	}
	f := u.assumedFlow(run)
	if f == nil {
		return s, false
	}
	return u.sharedOf(f.lane, f.priority, f.root)
}

func (u *unit) sharedOf(lane int64, priority int8, root int64) (s workflow.Shared, ok bool) {
	name, ok := u.s.lanes.name(lane)
	if !ok {
		return s, false
	}
	route, err := store.ParseRoute(name.route)
	return workflow.Shared{Priority: priority, Root: root, Route: route}, err == nil
}

// assumeTask starts a task of a workflow's run that was not read, and reports whether it may.
func (u *unit) assumeTask(t *workflow.Task, r *runRow) bool {
	if u.assumed.begun[t.Parent] != nil && t.Plain() {
		u.assumed.fresh = append(u.assumed.fresh, &freshRow{runRow: *r})
		u.ready(&r.Run)
		return true
	}
	if u.assumedFlow(t.Parent) == nil || !t.Plain() {
		return false
	}
	u.assumed.tasks = append(u.assumed.tasks, &taskRow{*r})
	u.ready(&r.Run)
	return true
}

// assumeFlowEnd ends a workflow's run that was not read, and reports whether it may.
func (u *unit) assumeFlowEnd(run int64, to store.State, now int64, reason []byte) bool {
	f := u.assumedFlow(run)
	if f == nil || f.limited {
		return false
	}
	lane, ok := u.s.lanes.name(f.lane)
	if !ok {
		return false
	}
	f.state, f.ended, f.reason = int64(to), now, reason
	u.count(lane.queue, lane.task).End(to, count.Took(clock.FromMillis(f.started), now))
	return true
}

// flushFlows queues the statements that write what was assumed of workflows.
func (u *unit) flushFlows(b *pgx.Batch) {
	var goOn, end []*flowRow
	for _, run := range slices.Sorted(maps.Keys(u.assumed.flows)) {
		if f := u.assumed.flows[run]; f.state != 0 {
			end = append(end, f)
		} else {
			goOn = append(goOn, f)
		}
	}
	if len(goOn) > 0 {
		b.Queue(u.s.sql(flowSQL), append(arguments(flowColumns, goOn), len(goOn))...)
	}
	if len(end) > 0 {
		b.Queue(u.s.sql(endFlowSQL), append(arguments(endedFlowColumns, end), len(end))...)
	}
	if tasks := u.assumed.tasks; len(tasks) > 0 {
		b.Queue(u.s.sql(startTasksSQL), append(arguments(taskColumns, tasks), tasks[0].Key)...).QueryRow(func(r pgx.Row) error {
			var by int64
			err := r.Scan(&by)
			u.s.keys.from(tasks[len(tasks)-1].Key + by)
			return err
		})
	}
}

// forgetFlows forgets the flows of which a group has assumed something that may not be so, or that has ended them.
func (u *unit) forgetFlows(failed bool) {
	for run, f := range u.assumed.flows {
		if failed || f.state != 0 {
			u.s.flows.forget(run)
		}
	}
}

// flowResult returns the result of a workflow's run that the group ends; nil: it is no such run, or is not known.
func (u *unit) flowResult(run int64) *store.Result {
	if f := u.assumed.flows[run]; f != nil && f.state != 0 {
		return &store.Result{State: store.State(f.state), Workflow: true}
	}
	if e := u.runs.entries[run]; e != nil && e.now != nil && e.now.Workflow && e.now.State.Terminal() {
		return &store.Result{State: e.now.State, Workflow: true}
	}
	return nil
}
