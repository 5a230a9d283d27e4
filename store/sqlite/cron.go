package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/limits"
)

// The transaction that finds a tick of a cron due enqueues the run and stores the time of the next tick.
// So each tick starts one run, whichever process comes first.

const cronColumns = "name, task, spec, catch_up, declared, paused, next_at, last_at, last_run, graph, input, template, " +
	"coalesce(error, ''), gone_at"

type cronRow struct {
	store.Cron
	next, last, lastRun, graph *int64
	gone                       *int64
	input, template            []byte
	task                       string
	broken                     error // why it cannot start runs
}

func (r *cronRow) columns() []any {
	return []any{&r.Name, &r.task, &r.Spec, &r.CatchUp, &r.Declared, &r.Paused, &r.next, &r.last, &r.lastRun, &r.graph, &r.input,
		&r.template, &r.Error, &r.gone}
}

// cronsOf reads crons. One whose template was changed by hand and cannot be read is among them, with its
// task and an error, and does not hold up others.
func (s *Store) cronsOf(q querier, where string, args ...any) ([]cronRow, error) {
	rows, err := rowsOf(q, (*cronRow).columns, "SELECT "+cronColumns+" FROM stint_crons WHERE "+where, args...)
	if err == nil {
		s.complete(q, rows)
	}
	return rows, err
}

// complete decodes the rows of crons.
func (s *Store) complete(q querier, rows []cronRow) {
	for i := range rows {
		r := &rows[i]
		r.Next, r.Last, r.LastRun = optionalTime(r.next), optionalTime(r.last), s.ids.optional(r.lastRun)
		r.Template, r.broken = s.template(q, r.template, r.graph)
		if run := &r.Template.Run; r.broken == nil && (run.Task == "" || run.Queue == "") {
			r.broken = errors.New("stored template: it has no task or no queue")
		}
		if r.broken != nil {
			r.Template, r.Error = store.Template{Run: store.NewRun{Task: r.task}}, r.broken.Error()
		}
		r.Template.Run.Input = r.input
	}
}

// perTick is how many missed ticks of a cron start runs in one transaction.
const perTick = 100

// tick starts the runs of the crons that are due.
func (cs *crons) tick() error {
	due, err := cs.s.cronsOf(cs, "next_at IS NOT NULL AND next_at <= ? ORDER BY next_at LIMIT ?", cs.now, perTimers)
	if err != nil {
		return err
	}
	for i := range due {
		if err := cs.tickOne(&due[i]); err != nil {
			return err
		}
	}
	return nil
}

func (cs *crons) tickOne(row *cronRow) error {
	c := &row.Cron
	ticks, then, err := c.Due(c.Next, millis(cs.now), perTick)
	if err = errors.Join(row.broken, err); err != nil { // changed by hand, or its zone is unknown here
		return cs.exec("UPDATE stint_crons SET next_at = NULL, error = ?2 WHERE name = ?1", c.Name, err.Error())
	}
	var next, last, lastRun, problem any
	if !then.IsZero() {
		next = ceilMillis(then)
	}
	for _, at := range ticks {
		id, err := cs.startCron(c, at)
		switch {
		case errors.Is(err, store.ErrNotFound), errors.Is(err, limits.ErrUnits):
			problem = err.Error()
		case err != nil:
			return err
		default:
			last, lastRun = at.UnixMilli(), id
		}
	}
	return cs.exec("UPDATE stint_crons SET next_at = ?2, last_at = coalesce(?3, last_at), last_run = coalesce(?4, last_run), error = ?5 "+
		"WHERE name = ?1",
		c.Name, next, last, lastRun, problem)
}

// startCron enqueues a cron's run for a tick.
func (cs *crons) startCron(c *store.Cron, at time.Time) (int64, error) {
	r := c.Template.Run
	r.Metadata = store.AddMetadata(r.Metadata, store.MetaCron, c.Name, store.MetaTick, at.UTC().Format(time.RFC3339))
	made, err := cs.runs.enqueue(cs.now, []store.NewRun{r}, nil)
	if err != nil {
		return 0, err
	}
	key, _ := cs.s.ids.key(made[0].ID)
	cs.claims.recheck = true
	return key, nil
}

// declareCrons sets the declared crons of a task to those of the declaration.
func (cs *crons) declareCrons(now time.Time, d *store.Declaration) error {
	had, err := column[string](cs, "SELECT name FROM stint_crons WHERE task = ? AND declared = 1", d.Task)
	if err != nil {
		return err
	}
	wanted := map[string]bool{}
	for i := range d.Crons {
		c := d.Crons[i]
		c.Declared, wanted[c.Name] = true, true
		if err := cs.setCron(now, &c, d.Program); err != nil {
			return err
		}
	}
	for _, name := range had {
		if !wanted[name] {
			if err := cs.exec("DELETE FROM stint_crons WHERE name = ?", name); err != nil {
				return err
			}
		}
	}
	if d.Graph == nil {
		return nil
	}
	graph, err := cs.workflows.storeGraph(d.Graph)
	if err != nil {
		return err
	}
	return cs.exec("UPDATE stint_crons SET graph = ?2 WHERE task = ?1 AND graph <> ?2", d.Task, graph)
}

// setCron creates or replaces a cron. If its spec is unchanged, its ticks continue.
func (cs *crons) setCron(now time.Time, c *store.Cron, program string) error {
	var task, spec string
	var declared bool
	var gone *int64
	after := now
	err := cs.one("SELECT task, spec, declared, gone_at FROM stint_crons WHERE name = ?", []any{c.Name}, &task, &spec, &declared, &gone)
	switch {
	case errors.Is(err, sql.ErrNoRows):
	case err != nil:
		return err
	case gone != nil && c.Declared:
		after = millis(*gone) // its CatchUp decides about the ticks since
	case gone != nil:
		if err := cs.exec("DELETE FROM stint_crons WHERE name = ?", c.Name); err != nil {
			return err
		}
	case task != c.Template.Run.Task && !(declared && c.Declared): // the name of a declared one contains its task's
		return fmt.Errorf("cron %q is one of task %q: %w", c.Name, task, store.ErrTaken)
	case declared && !c.Declared:
		return fmt.Errorf("cron %q is declared in code: %w", c.Name, store.ErrTaken)
	}
	next, err := store.NextTick(c.Spec, after)
	if err != nil {
		return err
	}
	text, graph, err := cs.triggers.templateText(c.Template)
	if err != nil {
		return err
	}
	if err := cs.exec(`INSERT INTO stint_crons (name, task, spec, catch_up, declared, next_at, graph, input, template, program)
		VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
		ON CONFLICT DO UPDATE SET task = ?2, spec = ?3, catch_up = ?4, declared = ?5, graph = ?7, input = ?8, template = ?9,
		program = ?10, gone_at = NULL, error = NULL,
		next_at = CASE WHEN paused THEN NULL WHEN spec = ?3 AND next_at IS NOT NULL THEN next_at ELSE ?6 END`,
		c.Name, c.Template.Run.Task, c.Spec, int64(c.CatchUp), c.Declared, ceilMillis(next), graph, c.Template.Run.Input, text,
		program); err != nil {
		return err
	}
	cs.timers.add(ceilMillis(next))
	return nil
}

// ChangeCron implements store.Schedules.
func (s *Store) ChangeCron(ctx context.Context, now time.Time, c store.CronChange) (id store.ID, err error) {
	err = s.do(ctx, func(u *unit) (err error) {
		if c.Kind == store.CronSet {
			c.Cron.Declared = false
			return u.crons.setCron(now, &c.Cron, "")
		}
		id, err = u.crons.changeCron(now, c.Name, c.Kind)
		return err
	})
	return id, err
}

// changeCron pauses, resumes, deletes or triggers a cron.
func (cs *crons) changeCron(now time.Time, name string, change store.CronChangeKind) (id store.ID, err error) {
	c, err := cs.cron(name)
	switch {
	case c == nil || err != nil && change != store.CronDelete:
		return id, err
	case c.gone != nil && change != store.CronDelete:
		return id, fmt.Errorf("cron %q, which code declared that is gone: %w", name, store.ErrNotFound)
	case change == store.CronPause:
		return id, cs.exec("UPDATE stint_crons SET paused = 1, next_at = NULL WHERE name = ?", name)
	case change == store.CronDelete && c.Declared && c.gone == nil:
		if worked, err := cs.workers.hasWorker(c.Template.Run.Task); err != nil || worked {
			return id, cmp.Or(err, fmt.Errorf("cron %q is declared in code: %w", name, store.ErrTaken))
		}
		return id, cs.exec("DELETE FROM stint_crons WHERE name = ?", name)
	case change == store.CronDelete:
		return id, cs.exec("DELETE FROM stint_crons WHERE name = ?", name)
	case change == store.CronTrigger:
		key, err := cs.startCron(&c.Cron, now)
		return cs.s.ids.id(key), err
	case !c.Paused:
		return id, nil
	}
	next, err := store.NextTick(c.Spec, now)
	if err != nil {
		return id, err
	}
	cs.timers.add(ceilMillis(next))
	return id, cs.exec("UPDATE stint_crons SET paused = 0, next_at = ? WHERE name = ?", ceilMillis(next), name)
}

// cron reads a cron. If the error is only in its template, it returns the cron too.
func (cs *crons) cron(name string) (*cronRow, error) {
	all, err := cs.s.cronsOf(cs, "name = ?", name)
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("cron %q: %w", name, store.ErrNotFound)
	}
	if all[0].broken != nil {
		return &all[0], fmt.Errorf("cron %q: %w", name, all[0].broken)
	}
	return &all[0], nil
}

// Crons implements store.Schedules.
func (s *Store) Crons(ctx context.Context, after string, limit int) (all []store.Cron, more bool, err error) {
	err = s.view(ctx, func(q querier) error {
		var rows []cronRow
		rows, more, err = pageOf(q, limit, (*cronRow).columns, func(r *cronRow) int { return r.Size() + len(r.input) },
			"SELECT "+cronColumns+" FROM stint_crons WHERE name > ? AND gone_at IS NULL ORDER BY name LIMIT ?", after, limit+1)
		s.complete(q, rows)
		all = make([]store.Cron, len(rows))
		for i := range rows {
			all[i] = rows[i].Cron
		}
		return err
	})
	return all, more, err
}
