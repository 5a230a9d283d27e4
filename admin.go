package stint

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/stint-dev/stint/internal/blocked"
	"github.com/stint-dev/stint/internal/check"
	"github.com/stint-dev/stint/internal/failure"
	"github.com/stint-dev/stint/internal/jsonx"
	"github.com/stint-dev/stint/internal/recording"
	"github.com/stint-dev/stint/internal/text"
	"github.com/stint-dev/stint/store"
)

// A RunFilter selects the runs that match all its fields. A zero field matches every run; an
// empty list that is not nil matches none.
type RunFilter struct {
	IDs      []string // at most 10,000
	Tasks    []string // at most 1,000
	Queues   []string // at most 1,000
	States   []State
	ParentID string
	// Metadata matches runs that have each key with that value; at most 100 keys. It matches a workflow's run, and not its
	// tasks, although their RunInfo shows the metadata of that run.
	Metadata map[string]string
	// AnyMetadata matches runs that have at least one of its keys with one of the key's values;
	// at most 100 values.
	AnyMetadata map[string][]string
	Event       string    // the ID of an event: the runs that it started
	Worker      string    // the name of the worker that executes the run, or has executed it last
	Flat        bool      // no tasks of workflows: only the workflow's own run
	Since       time.Time // created at or after
	Until       time.Time // created before
	TopLevel    bool      // no parent
	Error       string    // a substring of RunInfo.Error; case is ignored
	LimitKey    *LimitKey // a limit of the run; States tells the runs that occupy it from those that wait for it
	ErrorGroup  string    // the ID of the ErrorGroup of the run's last failure, also if the run was replayed since
	Through     string    // the ID of a run: selects it and the runs enqueued before it

	// All selects every run. CancelRuns, ReplayRuns, DeleteRuns and MoveRuns return ErrNoFilter
	// for a filter that sets nothing but Through, unless All is set.
	All bool
	// Whole makes ReplayRuns run all tasks of a workflow's run again, not only those that failed or
	// were canceled and those that depend on them.
	Whole bool
	// DryRun makes CancelRuns, ReplayRuns, DeleteRuns and MoveRuns change nothing and return how
	// many runs they would change. With Through, a later call with the same filter acts on the same
	// runs. Runs that end because another matching run is canceled, as in a workflow, are
	// counted too.
	DryRun bool

	// The fields below are for ListRuns and CountMatching only. Limit is the size of a page: the default is 100,
	// the maximum 1,000. Cursor is where the page begins.
	Limit  int
	Cursor string // RunPage.Next of the previous page
	// OldestFirst makes ListRuns go from the oldest run to the newest.
	OldestFirst bool
	// Brief makes ListRuns leave out inputs, outputs, metadata, errors and progress, so that large ones cost nothing.
	Brief bool
	// Scan, if more than 0, limits how many runs are examined for a page, and so its time. The
	// page may then have fewer runs than Limit, or none, and still have a Next.
	Scan int
}

// A RunPage is a page of runs, newest first.
type RunPage struct {
	Runs []RunInfo
	Next string // Cursor of the next page; "" on the last
}

const (
	defaultPage = 100
	maxPage     = 1000
)

func (f RunFilter) store() (s store.Filter, err error) {
	if err := f.check(); err != nil {
		return s, errorf("stint: filter: %w", err)
	}
	s = store.Filter{Tasks: f.Tasks, Queues: f.Queues, States: f.States, Metadata: f.Metadata, Since: f.Since, Until: f.Until,
		TopLevel: f.TopLevel, Error: f.Error, Limit: (*store.LimitKey)(f.LimitKey), Scan: max(f.Scan, 0),
		AnyMetadata: f.AnyMetadata, Worker: f.Worker, NoTasks: f.Flat, Oldest: f.OldestFirst, Brief: f.Brief}
	if err := check.Metadata(f.Metadata); err != nil {
		return s, errorf("stint: filter by metadata: %w", err)
	}
	if s.IDs, err = parseIDs(f.IDs); err != nil {
		return s, err
	}
	for _, st := range f.States {
		if st < StateScheduled || st > StateSkipped {
			return s, fmt.Errorf("stint: filter: %v is no state of a run", st)
		}
	}
	if f.ParentID != "" {
		if s.Parent, err = parseID(f.ParentID); err != nil {
			return s, err
		}
	}
	if f.Event != "" {
		if s.Event, err = parseID(f.Event); err != nil {
			return s, err
		}
	}
	if f.ErrorGroup != "" {
		if s.ErrorGroup, err = parseGroupID(f.ErrorGroup); err != nil {
			return s, errorf("stint: filter: %w", err)
		}
	}
	if f.Through != "" {
		if s.Through, err = parseID(f.Through); err != nil {
			return s, err
		}
	}
	return s, cmp.Or(wantTime("filter: Since", f.Since), wantTime("filter: Until", f.Until))
}

// check returns an error if a field of the filter is over its bound.
func (f *RunFilter) check() error {
	for _, list := range []struct {
		what string
		n    int
		most int
	}{{"IDs", len(f.IDs), check.MaxIDs}, {"states", len(f.States), check.MaxNames}, {"pairs of metadata", len(f.Metadata),
		check.MaxPairs}} {
		if err := check.Count(list.what, list.n, list.most); err != nil {
			return err
		}
	}
	if err := check.Names("task name", f.Tasks); err != nil {
		return err
	}
	if err := check.Names("queue name", f.Queues); err != nil {
		return err
	}
	if err := check.Metadata(f.Metadata); err != nil {
		return err
	}
	if k := f.LimitKey; k != nil {
		if err := checkLimitKey(*k); err != nil {
			return err
		}
	}
	pairs := 0
	for k, values := range f.AnyMetadata {
		pairs += len(values)
		for _, v := range values {
			if err := check.Metadata(map[string]string{k: v}); err != nil {
				return err
			}
		}
	}
	if err := check.Count("values of AnyMetadata", pairs, check.MaxPairs); err != nil {
		return err
	}
	if err := check.Text("worker name", f.Worker); err != nil {
		return err
	}
	return check.Size("Error", len(f.Error), check.MaxSearch)
}

// pageLimit returns the size of a page: limit, or defaultPage for 0. It returns an error if
// limit is below 0 or above maxPage.
func pageLimit(limit int) (int, error) {
	if limit == 0 {
		return defaultPage, nil
	}
	if limit < 0 || limit > maxPage {
		return 0, fmt.Errorf("limit %d: want 1 to %d", limit, maxPage)
	}
	return limit, nil
}

// Selects returns the error with which CancelRuns, ReplayRuns, DeleteRuns and MoveRuns refuse the
// filter, such as ErrNoFilter, or nil. It reads no run.
func (f RunFilter) Selects() error {
	for _, list := range []struct {
		name    string
		isEmpty bool
	}{
		{"IDs", f.IDs != nil && len(f.IDs) == 0}, {"Tasks", f.Tasks != nil && len(f.Tasks) == 0},
		{"Queues", f.Queues != nil && len(f.Queues) == 0}, {"States", f.States != nil && len(f.States) == 0},
		{"AnyMetadata", f.AnyMetadata != nil && len(f.AnyMetadata) == 0},
	} {
		if list.isEmpty {
			return fmt.Errorf("%w: %s is an empty list: want one with something in it, or nil to select by the other fields",
				ErrNoFilter, list.name)
		}
	}
	if f.Limit != 0 || f.Cursor != "" || f.Scan != 0 || f.OldestFirst {
		return errors.New("want no Limit, Cursor, Scan or OldestFirst: they are for ListRuns alone, and would not bound this")
	}
	named := len(f.IDs)+len(f.Tasks)+len(f.Queues)+len(f.States)+len(f.Metadata)+len(f.AnyMetadata) > 0 || f.ParentID+f.Error+f.Event+
		f.Worker+f.ErrorGroup != "" || f.Flat || !f.Since.IsZero() || !f.Until.IsZero() || f.TopLevel || f.LimitKey != nil
	if !named && !f.All {
		return fmt.Errorf("%w: name what to act on, or set All", ErrNoFilter)
	}
	return nil
}

// GetRun returns a run with its timeline, or ErrNotFound.
func (c *Client) GetRun(ctx context.Context, id string) (*RunInfo, error) {
	u, err := parseID(id)
	if err != nil {
		return nil, err
	}
	return c.getRun(ctx, u)
}

func (c *Client) getRun(ctx context.Context, id store.ID) (*RunInfo, error) {
	r, err := c.store.Get(ctx, id)
	if err != nil {
		return nil, wrapStoreErr("get run", err)
	}
	info := runInfo(r)
	if r.State == store.Waiting {
		if info.Blocked, info.Awaits, err = c.waitReason(ctx, r); err != nil {
			return nil, wrapStoreErr("get run", err)
		}
	}
	workers := blocked.Workers{Store: c.store}
	if info.Blocked, err = workers.Run(ctx, r, info.Blocked); err != nil {
		return nil, wrapStoreErr("get run", err)
	}
	if !r.Workflow {
		return &info, nil
	}
	g, tasks, err := c.store.Workflow(ctx, id, nil)
	if err != nil {
		if info.Blocked, err = c.unreadable(ctx, "its tasks", err); err != nil {
			return nil, wrapStoreErr("get workflow run", err)
		}
		return &info, nil
	}
	info.Tasks = taskInfos(g, tasks)
	return &info, wrapStoreErr("get workflow run", explainTasks(ctx, &workers, g, info.Tasks, tasks))
}

// waitReason returns what a waiting run waits for, and the events among it.
func (c *Client) waitReason(ctx context.Context, r *store.Run) (why string, events []AwaitedEvent, err error) {
	w, err := blocked.In(recording.Entries(ctx, c.store, r.ID), c.now())
	if err != nil {
		return "", nil, err
	}
	_, name, ofWorkflow := strings.Cut(r.Task, ":")
	if w.String() == "" && r.Parent != (store.ID{}) && ofWorkflow { // a task of a workflow, before its start; else a handler's run
		g, _, err := c.store.Workflow(ctx, r.Parent, []string{})
		if err != nil {
			why, err = c.unreadable(ctx, "what it waits for", err)
			return why, nil, err
		}
		if place, ok := g.Place(name); ok && place < g.End() {
			w.Add(g.Tasks[place].WaitFor)
		}
	}
	for _, m := range w.Events {
		scope, field, value := m.Parts()
		e := AwaitedEvent{Key: m.Key, Scope: scope, Field: field, Filter: m.Filter}
		if field != "" {
			e.Value = jsonx.Embed([]byte(value))
		}
		events = append(events, e)
	}
	return w.String(), events, nil
}

// unreadable returns what is shown in place of something that cannot be read because somebody changed rows by
// hand (R8), or the error if it has another cause.
func (c *Client) unreadable(ctx context.Context, what string, err error) (string, error) {
	if ctx.Err() != nil || errors.Is(err, ErrClosed) || c.unavailable(err) {
		return "", err
	}
	return what + " cannot be read: " + text.Cut(err.Error(), text.Listed), nil
}

// A TaskInfo is a task in a workflow's run. The graph is the one stored with the run, which
// may differ from the one in the code. The functions of OnFailure and OnSuccess are the last
// tasks, "on-failure" and "on-success": StateSkipped once the run has ended without need of
// them.
type TaskInfo struct {
	Name    string
	Parents []string
	State   State  // StateBlocked while it waits for its parents
	Blocked string // what it waits for
	RunID   string // "" while it waits for its parents, or if it was not needed
	Attempt int
	Queue   string
	Output  json.RawMessage // if State is StateSucceeded
	Error   string

	Scheduled, Started, Finished time.Time
}

// taskInfos returns the tasks of a workflow's run with their states.
func taskInfos(g *store.Graph, tasks []store.WorkflowTask) []TaskInfo {
	infos := make([]TaskInfo, len(g.Tasks))
	for i := range infos {
		t := &g.Tasks[i]
		infos[i] = TaskInfo{Name: t.Name, Queue: t.Queue, State: StateBlocked}
		for _, p := range t.Parents {
			infos[i].Parents = append(infos[i].Parents, g.Tasks[p].Name)
		}
	}
	hooks := map[int]TaskInfo{}
	for _, t := range tasks[1:] { // the first is the workflow's run itself
		f := failure.Decode(t.Error)
		info := TaskInfo{
			Name: g.Name(t.Place), State: t.State, RunID: t.ID.String(), Attempt: t.Attempt, Queue: g.QueueOf(t.Place),
			Error: text.Cut(f.Message, text.Listed), Scheduled: t.Due, Started: t.Started, Finished: t.Ended,
			Blocked: blocked.Failure(g.TaskName(t.Place), t.State, t.NoHandler, f.Message),
		}
		if t.State == StateSucceeded {
			info.Output = jsonx.Embed(t.Output)
		}
		if t.Place >= len(infos) {
			hooks[t.Place] = info
			continue
		}
		info.Parents = infos[t.Place].Parents
		if info.State == StateWaiting {
			info.Blocked = blocked.Condition(g.Tasks[t.Place].WaitFor)
		}
		infos[t.Place] = info
	}
	setParentReasons(g, infos)
	return append(infos, hookInfos(g, hooks, &tasks[0])...)
}

// hookInfos returns the on-failure and on-success tasks of a workflow's run, of those that have run.
func hookInfos(g *store.Graph, ran map[int]TaskInfo, run *store.WorkflowTask) (infos []TaskInfo) {
	for place, h := range map[int]struct {
		queue *string
		waits string
	}{g.Failure(): {g.OnFailure, "waits for a task to fail"}, g.Success(): {g.OnSuccess, "waits for the run to succeed"}} {
		info, ok := ran[place]
		switch {
		case h.queue == nil && !ok:
			continue
		case !ok && run.State.Terminal():
			info = TaskInfo{Name: g.Name(place), Queue: *h.queue, State: StateSkipped, Finished: run.Ended}
		case !ok:
			info = TaskInfo{Name: g.Name(place), Queue: *h.queue, State: StateBlocked, Blocked: h.waits}
		}
		infos = append(infos, info)
	}
	slices.SortFunc(infos, func(a, b TaskInfo) int { return strings.Compare(a.Name, b.Name) })
	return infos
}

// explainTasks says which worker the tasks of a workflow's run lack, those that nothing else keeps from starting.
func explainTasks(ctx context.Context, workers *blocked.Workers, g *store.Graph, infos []TaskInfo, tasks []store.WorkflowTask) error {
	byRun := map[string]int{}
	for i := range infos {
		byRun[infos[i].RunID] = i
	}
	for _, t := range tasks[1:] { // the first is the workflow's run itself
		i, ok := byRun[t.ID.String()]
		if !ok || t.State != store.Queued || infos[i].Blocked != "" {
			continue
		}
		route := store.Route{Wants: g.Task(t.Place).Wants}
		why, err := workers.Lacks(ctx, infos[i].Queue, g.TaskName(t.Place), &route)
		if err != nil {
			return err
		}
		infos[i].Blocked = why
	}
	return nil
}

// setParentReasons sets the Blocked of tasks that have no run yet: the parents they wait for.
func setParentReasons(g *store.Graph, infos []TaskInfo) {
	for i := range g.Tasks {
		if infos[i].RunID != "" {
			continue
		}
		var open []string
		for _, p := range g.Tasks[i].Parents {
			if !infos[p].State.Terminal() && len(open) <= maxListed {
				open = append(open, infos[p].Name)
			}
		}
		infos[i].Blocked = "waits for " + strings.Join(open, ", ")
	}
}

// ListRuns returns a page of the runs that match, newest first unless f.OldestFirst is set. Errors and stacks are cut to 1
// KiB. A page ends early, but has at least one run, when its inputs, outputs, metadata and
// errors reach 8 MiB.
func (c *Client) ListRuns(ctx context.Context, f RunFilter) (*RunPage, error) {
	sf, err := f.store()
	if err != nil {
		return nil, err
	}
	if f.Limit < 0 || f.Limit > maxPage {
		return nil, fmt.Errorf("stint: list runs: limit %d: want 0 (for %d) to %d", f.Limit, defaultPage, maxPage)
	}
	limit := f.Limit
	if limit == 0 {
		limit = defaultPage
	}
	var before store.ID
	if f.Cursor != "" {
		if before, err = parseID(f.Cursor); err != nil {
			return nil, errorf("stint: list runs: cursor: %w", err)
		}
	}
	runs, next, err := c.store.List(ctx, sf, before, limit)
	if err != nil {
		return nil, wrapStoreErr("list runs", err)
	}
	page := &RunPage{}
	if next != (store.ID{}) {
		page.Next = next.String()
	}
	workers := blocked.Workers{Store: c.store}
	for i := range runs {
		info := runInfo(&runs[i])
		if info.Blocked, err = workers.Run(ctx, &runs[i], info.Blocked); err != nil {
			return nil, wrapStoreErr("list runs", err)
		}
		info.Timeline = nil
		info.Error, info.Stack = text.Cut(info.Error, text.Listed), text.Cut(info.Stack, text.Listed)
		page.Runs = append(page.Runs, info)
	}
	return page, nil
}

// CancelRuns cancels every run that matches and has not ended, as Run.Cancel does, and returns
// how many. The error is ErrNoFilter for an empty filter without All.
func (c *Client) CancelRuns(ctx context.Context, f RunFilter) (int, error) {
	return c.actOn(ctx, f, "cancel runs", store.Action{Kind: store.ActCancel, Reason: encodeFailure(ErrCanceled)})
}

// ReplayRuns queues every run that matches and has ended, is blocked or is quarantined, and
// returns how many. A replayed run keeps its ID and input. Its attempt numbers continue; its
// retries are counted anew.
//
// Runs that succeeded or were skipped are replayed only if the filter names them in IDs or
// their state in States. A filter without IDs and States replays failed, canceled and blocked
// runs, also with All. The error is ErrNoFilter for an empty filter without All.
func (c *Client) ReplayRuns(ctx context.Context, f RunFilter) (int, error) {
	if f.IDs == nil && f.States == nil && f.Selects() == nil {
		f.States = []State{StateFailed, StateCanceled, StateBlocked}
	}
	return c.actOn(ctx, f, "replay runs", store.Action{Kind: store.ActReplay, Whole: f.Whole})
}

// DeleteRuns deletes every run that matches and has ended, with its logs and stream, and
// returns how many. It leaves out runs whose parent has not ended, because the parent's handler may read their results
// again. The error is ErrNoFilter for an empty filter without All.
func (c *Client) DeleteRuns(ctx context.Context, f RunFilter) (int, error) {
	return c.actOn(ctx, f, "delete runs", store.Action{Kind: store.ActDelete})
}

// MoveRuns moves every run that matches and is scheduled, queued, waiting or blocked to a queue,
// which is created by its first use. It returns how many runs were not there. A moved run keeps
// its place in the order of starting. It stays in that queue: its retries and replays start from
// it too, whatever its task's queue is. A workflow's own run is not moved, since no worker takes
// it; those of its tasks that have a run are. The error is ErrNoFilter for an empty filter without
// All.
func (c *Client) MoveRuns(ctx context.Context, f RunFilter, queue string) (int, error) {
	if err := check.Name("queue name", queue); err != nil {
		return 0, errorf("stint: move runs: %w", err)
	}
	return c.actOn(ctx, f, "move runs", store.Action{Kind: store.ActMoveQueue, Queue: queue})
}

func (c *Client) actOn(ctx context.Context, f RunFilter, op string, a store.Action) (int, error) {
	if err := f.Selects(); err != nil {
		return 0, errorf("stint: %s: %w", op, err)
	}
	s, err := f.store()
	if errors.Is(err, ErrNotFound) && len(f.IDs) > 0 {
		return 0, errorf("stint: %s: %w", op, err)
	}
	if err != nil {
		return 0, err
	}
	a.DryRun = f.DryRun
	n, err := c.store.Act(ctx, c.now(), a, s)
	return n, wrapStoreErr(op, err)
}
