package stint

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/stint-dev/stint/internal/blocked"
	"github.com/stint-dev/stint/internal/check"
	"github.com/stint-dev/stint/internal/jsonx"
	"github.com/stint-dev/stint/store"
)

// A CatchUp says what to do about missed ticks of a cron: those that came while no client had
// the database open, or that the clock jumped over.
type CatchUp = store.CatchUp

// Policies for missed ticks. A tick that is at most a second late is not missed.
const (
	CatchUpGrace  = store.CatchUpGrace  // one run if the newest missed tick is less than a minute old; the default
	CatchUpNone   = store.CatchUpNone   // no run
	CatchUpLatest = store.CatchUpLatest // one run, however old the newest missed tick is
	CatchUpAll    = store.CatchUpAll    // one run for each missed tick
)

// A CronOption changes a cron: WithPriority, WithQueue, WithMetadata or WithCatchUp.
type CronOption interface{ applyCron(*cronConfig) error }

type cronConfig struct {
	catchUp CatchUp
	run     []RunOption
}

func (o runOption) applyCron(c *cronConfig) error { c.run = append(c.run, o); return nil }

func (o metadataOption) applyCron(c *cronConfig) error { c.run = append(c.run, o); return nil }

// A CatchUpOption is an option of a cron, or of a task for the crons it declares.
type CatchUpOption interface {
	TaskOption
	CronOption
}

type catchUpOption struct{ taskOption }

func (o catchUpOption) applyCron(c *cronConfig) error {
	var t taskConfig
	err := o.taskOption(&t)
	c.catchUp = t.catchUp
	return err
}

// WithCatchUp sets what to do about missed ticks. The default is CatchUpGrace.
func WithCatchUp(p CatchUp) CatchUpOption {
	return catchUpOption{func(c *taskConfig) error {
		if p > CatchUpAll {
			return fmt.Errorf("stint: WithCatchUp(%d): want one of the CatchUp constants", p)
		}
		c.catchUp = p
		return nil
	}}
}

// WithCron starts a run of the task or workflow at each tick of each spec, with the input of
// WithCronInput or else the zero In. Each tick starts one run, however many processes there
// are. When a worker starts whose program defines the task without this option, the cron is
// removed; so it is when the same program no longer has the task and no living worker does.
//
// A spec has the five fields of cron (minute, hour, day of month, month, day of week), or six
// with seconds first. Or it is a descriptor: @hourly, @daily, @weekly, @monthly, @yearly, or
// @every with a duration of whole seconds. A time zone may precede it
// ("CRON_TZ=Europe/Oslo 0 9 * * *"); the default is the process's local zone. The fields are
// those of https://pkg.go.dev/github.com/robfig/cron/v3.
//
// When clocks go forward, times that do not exist are skipped. When they go back, a spec with
// a fixed hour and minute ("30 1 * * *", @daily) ticks once, at the first of the two times; a
// spec with "*" or "*/n" in either field ticks at both.
//
// The metadata of the run has MetaCron, the name of the cron (the task's name, a colon and the
// spec), and MetaTick, the time of the tick.
func WithCron(specs ...string) TaskOption {
	return taskOption(func(c *taskConfig) error {
		if len(specs) == 0 {
			return errors.New("WithCron: no spec is named")
		}
		for _, spec := range specs {
			if err := checkSpec(spec); err != nil {
				return err
			}
		}
		c.crons = append(c.crons, specs...)
		if err := check.Count("specs", len(c.crons), check.MaxNames); err != nil {
			return fmt.Errorf("stint: WithCron: %w", err)
		}
		return nil
	})
}

// WithCronInput sets the input of the runs that WithCron starts.
func WithCronInput[In any](in In) TaskOption {
	return taskOption(func(c *taskConfig) error {
		c.cronInput = in
		return wantInput[In]("WithCronInput", c)
	})
}

// Metadata keys of runs that a cron or an event started.
const (
	MetaCron     = store.MetaCron     // name of the cron
	MetaVersion  = store.MetaVersion  // version of the definition that the run was made by: see Client.Define
	MetaTick     = store.MetaTick     // the time of the tick, RFC 3339
	MetaEvent    = store.MetaEvent    // ID of the event
	MetaEventKey = store.MetaEventKey // its key
)

func checkSpec(spec string) error {
	if len(spec) > check.MaxName-1 {
		return fmt.Errorf("cron spec of %d bytes: want at most %d", len(spec), check.MaxName-1)
	}
	return store.ParseCron(spec)
}

// Cron creates or replaces the cron with that name. It starts a run with the input at each
// tick of the spec, whose syntax WithCron describes, until DeleteCron. Replacing a cron with
// the same spec does not change its next tick.
//
// Errors: the spec is invalid or never ticks; ErrTaken if a cron of another task, or one
// declared with WithCron, has the name.
func (t *Task[In, Out]) Cron(ctx context.Context, name, spec string, in In, opts ...CronOption) error {
	if err := t.cron(ctx, name, spec, in, opts); err != nil {
		return wrapStoreErr(fmt.Sprintf("cron %q of task %q", name, t.def.name), err)
	}
	return nil
}

func (t *Task[In, Out]) cron(ctx context.Context, name, spec string, in In, opts []CronOption) error {
	cfg, err := newCronConfig(name, spec, opts)
	if err != nil {
		return err
	}
	input, err := t.c.encode(in)
	if err != nil {
		return fmt.Errorf("input: %w", err)
	}
	c, err := t.def.cronOf(t.c, name, spec, cfg, input, in)
	if err != nil {
		return err
	}
	return t.c.setCron(ctx, c)
}

func newCronConfig(name, spec string, opts []CronOption) (cfg cronConfig, err error) {
	err = errors.Join(check.Name("name", name), checkSpec(spec))
	for _, o := range opts {
		if o != nil && err == nil {
			err = o.applyCron(&cfg)
		}
	}
	return cfg, err
}

// CronJSON is like Task.Cron, for a task or workflow by its name, with an input that is JSON
// already. As with EnqueueJSON, the definition applies if this client has the task, and else
// only the options do.
func (c *Client) CronJSON(ctx context.Context, task, name, spec string, input json.RawMessage, opts ...CronOption) error {
	err := c.cronJSON(ctx, task, name, spec, input, opts)
	return wrapStoreErr(fmt.Sprintf("cron %.300q of task %.300q", name, task), err)
}

func (c *Client) cronJSON(ctx context.Context, task, name, spec string, input json.RawMessage, opts []CronOption) error {
	cfg, err := newCronConfig(name, spec, opts)
	if err != nil {
		return err
	}
	def, err := c.definitionFor(ctx, task, input, nil)
	if err != nil {
		return err
	}
	cron, err := def.newCron(c, name, spec, cfg, input)
	if err == nil && def.prepare != nil {
		err = def.prepare(input, &cron.Template.Run)
	}
	if err != nil {
		return err
	}
	return c.setCron(ctx, cron)
}

func (c *Client) setCron(ctx context.Context, cron store.Cron) error {
	return c.store.Change(ctx, c.now(), &store.CronChange{Kind: store.CronSet, Cron: cron})
}

// Cron is like Task.Cron, for a workflow.
func (w *Workflow[In]) Cron(ctx context.Context, name, spec string, in In, opts ...CronOption) error {
	return w.task.Cron(ctx, name, spec, in, opts...)
}

func (d *taskDef) cronOf(c *Client, name, spec string, cfg cronConfig, input []byte, in any) (cron store.Cron, err error) {
	if cron, err = d.newCron(c, name, spec, cfg, input); err != nil {
		return cron, err
	}
	r := &cron.Template.Run
	if d.exprs != nil {
		key, limits := d.exprs.Apply(r)
		return cron, errors.Join(key, limits)
	}
	err = c.guardInput(d, func() error {
		if err := d.setKey(r, in); err != nil {
			return err
		}
		return d.setLimits(r, in)
	})
	return cron, err
}

// newCron returns a cron whose runs have no keys and limits yet.
func (d *taskDef) newCron(c *Client, name, spec string, cfg cronConfig, input []byte) (cron store.Cron, err error) {
	cron = store.Cron{Name: name, Spec: spec, CatchUp: cfg.catchUp}
	cron.Template, err = d.template(c, cfg.run)
	cron.Template.Run.Input = input
	return cron, err
}

// A CronInfo describes a cron.
type CronInfo struct {
	Name      string
	Task      string
	Spec      string
	CatchUp   CatchUp
	Declared  bool // with WithCron
	Paused    bool
	Input     []byte // JSON
	Metadata  map[string]string
	Priority  int
	Queue     string
	Next      time.Time // zero while it is paused
	Last      time.Time // the last tick that started a run; zero: none yet
	LastRunID string    // "": none yet
	Error     string    // why the last tick started no run
	Blocked   string    // why no worker can execute its runs, such as "no worker has task digest"
}

// A CronFilter says which crons CronPage returns.
type CronFilter struct {
	Limit  int    // size of the page; default 100, at most 1,000
	Cursor string // CronPage.Next of the previous page, or a cron's name: the page begins after it
}

// A CronPage is a page of crons, by name.
type CronPage struct {
	Crons []CronInfo
	Next  string // Cursor of the next page; "" on the last
}

// ListCrons returns all crons, by name. It returns an error if there are more than 100,000 or
// their inputs exceed 256 MiB; use CronPage for those.
func (c *Client) ListCrons(ctx context.Context) ([]CronInfo, error) {
	var infos []CronInfo
	var whole check.Whole
	for f := (CronFilter{Limit: maxPage}); ; {
		page, err := c.CronPage(ctx, f)
		if err != nil {
			return nil, err
		}
		for i := range page.Crons {
			x := &page.Crons[i]
			if err := whole.Add(len(x.Name) + len(x.Spec) + len(x.Error) + len(x.Input)); err != nil {
				return nil, fmt.Errorf("stint: list crons: %w: list them with CronPage", err)
			}
		}
		infos = append(infos, page.Crons...)
		if f.Cursor = page.Next; f.Cursor == "" {
			return infos, nil
		}
	}
}

// CronPage returns a page of crons, by name. A page ends early, but has at least one cron,
// when its inputs reach 8 MiB.
func (c *Client) CronPage(ctx context.Context, f CronFilter) (*CronPage, error) {
	limit, err := pageLimit(f.Limit)
	if err == nil {
		err = check.Text("cursor", f.Cursor)
	}
	if err != nil {
		return nil, errorf("stint: list crons: %w", err)
	}
	if err := c.declare(ctx, true); err != nil {
		return nil, err
	}
	list := store.CronList{After: f.Cursor, Limit: limit}
	if err := c.store.Read(ctx, &list); err != nil {
		return nil, wrapStoreErr("list crons", err)
	}
	page, workers := &CronPage{Crons: make([]CronInfo, len(list.Crons))}, blocked.Workers{Store: c.store}
	for i := range list.Crons {
		x := &list.Crons[i]
		r := &x.Template.Run
		why, err := workers.Lacks(ctx, r.Queue, r.Task, &r.Route)
		if err != nil {
			return nil, wrapStoreErr("list crons", err)
		}
		page.Crons[i] = CronInfo{Name: x.Name, Task: r.Task, Spec: x.Spec, CatchUp: x.CatchUp, Declared: x.Declared, Paused: x.Paused,
			Input: jsonx.Embed(r.Input), Metadata: jsonx.Texts(r.Metadata), Priority: int(r.Priority), Queue: r.Queue,
			Next: x.Next, Last: x.Last, LastRunID: idString(x.LastRun), Error: x.Error, Blocked: why}
	}
	if list.More {
		page.Next = list.Crons[len(list.Crons)-1].Name
	}
	return page, nil
}

// UpdateCron changes the spec of a cron. The error is ErrTaken for a cron that is declared
// with WithCron: change the code. It is ErrNotFound if there is no such cron.
func (c *Client) UpdateCron(ctx context.Context, name, spec string) error {
	if err := c.writable("update cron"); err != nil {
		return err
	}
	if err := check.Text("name", name); err != nil {
		return wrapStoreErr("update cron", err)
	}
	if err := checkSpec(spec); err != nil {
		return wrapStoreErr(fmt.Sprintf("update cron %q", name), err)
	}
	if err := c.declare(ctx, true); err != nil {
		return err
	}
	return c.change(ctx, fmt.Sprintf("update cron %q", name), &store.CronChange{Kind: store.CronSpec, Name: name, Spec: spec})
}

// CronTicks returns the next n ticks of a spec after a time, or fewer if there are no more. n is at
// most 10,000. WithCron describes specs.
func CronTicks(spec string, after time.Time, n int) ([]time.Time, error) {
	if err := checkSpec(spec); err != nil {
		return nil, wrapStoreErr("cron ticks", err)
	}
	if err := wantTime("CronTicks", after); err != nil {
		return nil, err
	}
	if n < 0 || n > check.MaxTicks {
		return nil, fmt.Errorf("stint: CronTicks(%q, n = %d): want 0 to %d", spec, n, check.MaxTicks)
	}
	var all []time.Time
	for range n {
		next, err := store.NextTick(spec, after)
		if err != nil {
			return all, wrapStoreErr("cron ticks", err)
		}
		if next.IsZero() {
			break
		}
		all, after = append(all, next), next
	}
	return all, nil
}

// PauseCron stops a cron from ticking until ResumeCron. Ticks during the pause start no runs, also
// not afterwards. The error is ErrNotFound if there is no such cron.
func (c *Client) PauseCron(ctx context.Context, name string) error {
	return c.changeCron(ctx, name, "pause", store.CronPause)
}

// ResumeCron ends the pause of PauseCron. The next tick is the first after now. The error is
// ErrNotFound if there is no such cron.
func (c *Client) ResumeCron(ctx context.Context, name string) error {
	return c.changeCron(ctx, name, "resume", store.CronResume)
}

// DeleteCron deletes a cron. The error is ErrTaken for a cron that is declared with WithCron
// and whose task this program or a living worker has: pause it, or remove it from the code. It is
// ErrNotFound if there is no such cron.
func (c *Client) DeleteCron(ctx context.Context, name string) error {
	return c.changeCron(ctx, name, "delete", store.CronDelete)
}

func (c *Client) changeCron(ctx context.Context, name, what string, change store.CronChangeKind) error {
	if err := check.Text("name", name); err != nil {
		return wrapStoreErr(what+" cron", err)
	}
	if err := c.declare(ctx, true); err != nil {
		return err
	}
	if change == store.CronDelete && c.declaresCron(name) {
		return wrapStoreErr(fmt.Sprintf("delete cron %q, which this program declares", name), store.ErrTaken)
	}
	return c.change(ctx, fmt.Sprintf("%s cron %q", what, name), &store.CronChange{Kind: change, Name: name})
}

func (c *Client) declaresCron(name string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, d := range c.tasks {
		for _, spec := range d.cfg.crons {
			if d.cronName(spec) == name {
				return true
			}
		}
	}
	return false
}

// cronName returns the name of a cron that WithCron declares.
func (d *taskDef) cronName(spec string) string { return d.name + ":" + spec }

// TriggerCron starts a run of a cron now and returns the run's ID, even if the cron is paused. The
// ticks do not change. The error is ErrNotFound if there is no such cron.
func (c *Client) TriggerCron(ctx context.Context, name string) (string, error) {
	if err := check.Text("name", name); err != nil {
		return "", wrapStoreErr("trigger cron", err)
	}
	if err := c.declare(ctx, true); err != nil {
		return "", err
	}
	trigger := store.CronChange{Kind: store.CronTrigger, Name: name}
	if err := c.change(ctx, fmt.Sprintf("trigger cron %q", name), &trigger); err != nil {
		return "", err
	}
	return trigger.Started.String(), nil
}

// Reschedule moves a scheduled run to another time; a time in the past means now. The error is
// ErrStarted if the run is queued already, has started or has ended.
func (r *Run[Out]) Reschedule(ctx context.Context, at time.Time) error {
	return r.c.Reschedule(ctx, r.ID(), at)
}

// Reschedule is like Run.Reschedule, with the run's ID. ListRuns with StateScheduled lists the
// runs that can be moved.
func (c *Client) Reschedule(ctx context.Context, runID string, at time.Time) error {
	id, err := parseID(runID)
	if err == nil {
		err = wantTime("Reschedule", at)
	}
	if err != nil {
		return err
	}
	return c.change(ctx, "reschedule run "+runID, &store.RunChange{Kind: store.RunReschedule, ID: id, Due: at})
}
