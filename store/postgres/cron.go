package postgres

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stint-dev/stint/internal/clock"
	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/cron"
	"github.com/stint-dev/stint/store/internal/definition"
)

// A cronRow is a row of stint.crons.
type cronRow struct {
	name, task, spec, reason, program, template string
	catchUp, next, last, lastRun, gone, graph   int64 // 0: none
	declared, paused                            bool
	input                                       []byte
}

var cronStatements = newStatements("crons", 1, "FOR UPDATE",
	text("name", func(r *cronRow) *string { return &r.name }),
	text("task", func(r *cronRow) *string { return &r.task }),
	text("spec", func(r *cronRow) *string { return &r.spec }),
	number("catch_up", func(r *cronRow) *int64 { return &r.catchUp }),
	col("declared", "boolean", func(r *cronRow) *bool { return &r.declared }),
	col("paused", "boolean", func(r *cronRow) *bool { return &r.paused }),
	stamp("next_at", func(r *cronRow) *int64 { return &r.next }),
	stamp("last_at", func(r *cronRow) *int64 { return &r.last }),
	stamp("last_run", func(r *cronRow) *int64 { return &r.lastRun }),
	optional("error", func(r *cronRow) *string { return &r.reason }),
	text("program", func(r *cronRow) *string { return &r.program }),
	stamp("gone_at", func(r *cronRow) *int64 { return &r.gone }),
	stamp("graph", func(r *cronRow) *int64 { return &r.graph }),
	col("input", "bytea", func(r *cronRow) *[]byte { return &r.input }),
	text("template", func(r *cronRow) *string { return &r.template }))

func newCrons() *relation[string, cronRow] {
	return newRelation(cronStatements, cmp.Compare[string], func(r *cronRow) string { return r.name },
		func(name string) cronRow { return cronRow{name: name} })
}

// cronRows are the crons of a unit.
type cronRows struct{ *unit }

var _ cron.Rows = cronRows{}

func optionalTime(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return clock.FromMillis(ms)
}

func optionalMillis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return clock.CeilMillis(t)
}

// cron decodes a row. One whose template or catch-up was changed by hand and cannot be read has only its
// task, and an error.
func (u *unit) cron(r *cronRow) (*cron.Cron, error) {
	c := &cron.Cron{Program: r.program, Gone: optionalTime(r.gone)}
	c.Name, c.Spec, c.Declared, c.Paused, c.Error = r.name, r.spec, r.declared, r.paused, r.reason
	c.Next, c.Last = optionalTime(r.next), optionalTime(r.last)
	if r.lastRun != 0 {
		c.LastRun = u.s.ids.ID(r.lastRun)
	}
	var err error
	c.Template, err = u.template(r.template, r.graph)
	if errors.Is(err, errMiss) {
		return nil, err
	}
	if run := &c.Template.Run; err == nil && (run.Task == "" || run.Queue == "") {
		err = errors.New("stored template: it has no task or no queue")
	}
	if err == nil {
		c.CatchUp, err = cron.StoredCatchUp(r.catchUp)
	}
	if c.Broken = err; err != nil {
		c.Template, c.Error = store.Template{Run: store.NewRun{Task: r.task}}, err.Error()
	}
	c.Template.Run.Input = r.input
	return c, nil
}

// template decodes a template, which is stored without its input, and with its graph's number.
func (u *unit) template(text string, graph int64) (t store.Template, err error) {
	if err = json.Unmarshal([]byte(text), &t); err != nil {
		return t, fmt.Errorf("stored template: %w", err)
	}
	if graph != 0 {
		t.Run.Graph, err = workflowRows{u}.Graph(graph)
	}
	return t, err
}

func (u *unit) templateText(m store.Template) (text string, graph int64, err error) {
	if m.Run.Graph != nil {
		if graph, err = u.storeGraph(m.Run.Graph); err != nil {
			return "", 0, err
		}
	}
	m.Run.Graph, m.Run.Input = nil, nil
	b, err := json.Marshal(m)
	return string(b), graph, err
}

// Cron implements cron.Rows.
func (u cronRows) Cron(name string) (*cron.Cron, error) {
	r, err := u.crons.get(name)
	if r == nil || err != nil {
		return nil, err
	}
	return u.cron(r)
}

// Due implements cron.Rows.
func (u cronRows) Due(from int64, now time.Time, n int) ([]cron.Cron, error) {
	names, err := u.cronsDue.get(from)
	if err != nil {
		return nil, err
	}
	var all []cron.Cron
	for _, name := range names[:min(n, len(names))] {
		r, err := u.crons.get(name)
		if err != nil {
			return nil, err
		}
		if r == nil || r.next == 0 || r.next < from || r.next > now.UnixMilli() {
			continue
		}
		c, err := u.cron(r)
		if err != nil {
			return nil, err
		}
		all = append(all, *c)
	}
	return all, nil
}

// Put implements cron.Rows.
func (u cronRows) Put(c *cron.Cron) error {
	r := cronRow{name: c.Name, task: c.Template.Run.Task, spec: c.Spec, catchUp: int64(c.CatchUp), declared: c.Declared, program: c.Program,
		input: c.Template.Run.Input}
	if r.input == nil {
		r.input = []byte{}
	}
	var err error
	if r.template, r.graph, err = u.templateText(c.Template); err != nil {
		return err
	}
	if _, err := u.crons.get(c.Name); err != nil {
		return err
	}
	u.crons.put(c.Name, r)
	return u.Update(c)
}

// Update implements cron.Rows.
func (u cronRows) Update(c *cron.Cron) error {
	r, err := u.crons.get(c.Name)
	if r == nil || err != nil {
		return err
	}
	r.paused, r.next, r.last, r.reason = c.Paused, optionalMillis(c.Next), optionalMillis(c.Last), c.Error
	if r.lastRun = 0; c.LastRun != (store.ID{}) {
		r.lastRun, _ = u.s.ids.Key(c.LastRun)
	}
	u.crons.change(c.Name)
	if r.next != 0 {
		u.wake(r.next)
	}
	return nil
}

// Delete implements cron.Rows.
func (u cronRows) Delete(name string) error {
	_, err := u.crons.get(name)
	if err == nil {
		u.crons.remove(name)
	}
	return err
}

// Enqueue implements cron.Rows.
func (u cronRows) Enqueue(r *store.NewRun) (store.ID, error) {
	made, err := u.enqueue(u.now, []store.NewRun{*r})
	if err != nil {
		return store.ID{}, err
	}
	return made[0].ID, nil
}

// ofTask returns the crons of a task.
func (u cronRows) ofTask(task string) (all []*cronRow, err error) {
	if _, err := u.cronsOf.get(task); err != nil {
		return nil, err
	}
	for _, e := range u.crons.entries {
		if e.now != nil && e.now.task == task {
			all = append(all, e.now)
		}
	}
	slices.SortFunc(all, func(a, b *cronRow) int { return cmp.Compare(a.name, b.name) })
	return all, nil
}

// Declared implements cron.Rows.
func (u cronRows) Declared(task string) (names []string, err error) {
	all, err := u.ofTask(task)
	for _, r := range all {
		if r.declared {
			names = append(names, r.name)
		}
	}
	return names, err
}

// SetGraph implements cron.Rows.
func (u cronRows) SetGraph(task string, g *store.Graph) error {
	graph, err := u.storeGraph(g)
	all, err2 := u.ofTask(task)
	if err = cmp.Or(err, err2); err != nil {
		return err
	}
	for _, r := range all {
		if r.graph != 0 && r.graph != graph {
			r.graph = graph
			u.crons.change(r.name)
		}
	}
	return nil
}

// DeclaredBy implements cron.Rows.
func (u cronRows) DeclaredBy(program string) ([]string, error) { return u.declaredBy.get(program) }

// Retire implements cron.Rows.
func (u cronRows) Retire(task string) error {
	all, err := u.ofTask(task)
	if err != nil {
		return err
	}
	for _, r := range all {
		if r.declared && r.gone == 0 {
			r.gone, r.next = u.now, 0
			u.crons.change(r.name)
		}
	}
	u.queued = append(u.queued, func(b *pgx.Batch) {
		b.Queue(u.s.sql("UPDATE stint.triggers SET gone_at = $2 WHERE task = $1 AND gone_at IS NULL"), task, u.now)
	})
	u.newEpoch = true
	return nil
}

// HasWorker implements cron.Rows. It locks what is declared of the task first: a worker that registers later
// declares the task once this transaction has ended, and finds it retired.
func (u cronRows) HasWorker(task string) (bool, error) {
	_, err := u.cronsOf.get(task)
	_, err2 := u.triggersOf.get(task)
	if err = cmp.Or(err, err2); err != nil {
		return false, err
	}
	for _, e := range u.workers.entries { // those that the group registers
		if w := e.now; w == nil || e.old != nil || w.ended != 0 {
			continue
		} else if tasks := []string(nil); json.Unmarshal([]byte(w.tasks), &tasks) == nil && (tasks == nil || slices.Contains(tasks, task)) {
			return true, nil
		}
	}
	has, err := u.hasWorker.get(task)
	return len(has) > 0 && has[0], err
}

const (
	// hasWorkerSQL reports whether a living worker has a handler for a task.
	hasWorkerSQL = `SELECT EXISTS (SELECT 1 FROM stint.workers w WHERE w.ended_at IS NULL
		AND (w.tasks = 'null' OR w.tasks::jsonb ? $1))`

	declaredBySQL = `SELECT task FROM stint.crons WHERE program = $1 AND gone_at IS NULL
		UNION ALL SELECT task FROM stint.triggers WHERE program = $1 AND gone_at IS NULL`
)

// Declare implements store.Schedules.
func (s *Store) Declare(ctx context.Context, now time.Time, ds []store.Declaration) error {
	return s.do(ctx, func(u *unit) error { return definition.Declare(definitionRows{u}, cronRows{u}, eventRows{u}, now, ds) })
}
