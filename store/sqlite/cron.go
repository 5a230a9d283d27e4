package sqlite

import (
	"time"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/cron"
)

// The transaction that finds a tick of a cron due enqueues the run and stores the time of the next tick.
// So each tick starts one run, whichever process comes first. Package cron decides.

var _ cron.Rows = (*crons)(nil)

// read reads crons.
func (cs *crons) read(where string, args ...any) ([]cron.Cron, error) {
	return cs.s.reads().CronsOf(cs, where, args...)
}

// Cron implements cron.Rows.
func (cs *crons) Cron(name string) (*cron.Cron, error) {
	all, err := cs.read("name = ?", name)
	if err != nil || len(all) == 0 {
		return nil, err
	}
	return &all[0], nil
}

// Due implements cron.Rows.
func (cs *crons) Due(from int64, now time.Time, n int) ([]cron.Cron, error) {
	return cs.read("next_at IS NOT NULL AND next_at >= ? AND next_at <= ? ORDER BY next_at LIMIT ?", from, now.UnixMilli(), n)
}

// Put implements cron.Rows.
func (cs *crons) Put(c *cron.Cron) error {
	template, graph, err := cs.triggers.templateText(c.Template)
	if err != nil {
		return err
	}
	cs.wakeAt(c)
	return cs.exec(`INSERT OR REPLACE INTO stint_crons (name, task, spec, catch_up, declared, paused, next_at, last_at, last_run, graph,
		input, template, program) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		c.Name, c.Template.Run.Task, c.Spec, int64(c.CatchUp), c.Declared, c.Paused, optionalMillis(c.Next), optionalMillis(c.Last),
		cs.lastRun(c), graph, c.Template.Run.Input, template, c.Program)
}

// Update implements cron.Rows.
func (cs *crons) Update(c *cron.Cron) error {
	cs.wakeAt(c)
	return cs.exec("UPDATE stint_crons SET paused = ?2, next_at = ?3, last_at = ?4, last_run = ?5, error = nullif(?6, '') WHERE name = ?1",
		c.Name, c.Paused, optionalMillis(c.Next), optionalMillis(c.Last), cs.lastRun(c), c.Error)
}

// wakeAt makes the timers look at a cron's next tick.
func (cs *crons) wakeAt(c *cron.Cron) {
	if !c.Next.IsZero() {
		cs.timers.add(ceilMillis(c.Next))
	}
}

// lastRun returns the column last_run.
func (cs *crons) lastRun(c *cron.Cron) any {
	if key, ok := cs.s.ids.Key(c.LastRun); ok {
		return key
	}
	return nil
}

// Delete implements cron.Rows.
func (cs *crons) Delete(name string) error {
	return cs.exec("DELETE FROM stint_crons WHERE name = ?", name)
}

// Enqueue implements cron.Rows.
func (cs *crons) Enqueue(r *store.NewRun) (store.ID, error) {
	made, err := cs.runs.enqueue(cs.now, []store.NewRun{*r}, nil)
	if err != nil {
		return store.ID{}, err
	}
	cs.claims.recheck = true
	return made[0].ID, nil
}

// Declared implements cron.Rows.
func (cs *crons) Declared(task string) ([]string, error) {
	return column[string](cs, "SELECT name FROM stint_crons WHERE task = ? AND declared = 1", task)
}

// SetGraph implements cron.Rows.
func (cs *crons) SetGraph(task string, g *store.Graph) error {
	graph, err := cs.workflows.storeGraph(g)
	if err != nil {
		return err
	}
	return cs.exec("UPDATE stint_crons SET graph = ?2 WHERE task = ?1 AND graph <> ?2", task, graph)
}

// DeclaredBy implements cron.Rows.
func (cs *crons) DeclaredBy(program string) (tasks []string, err error) {
	for _, table := range []string{"stint_crons", "stint_triggers"} {
		some, err := column[string](cs, "SELECT task FROM "+table+" WHERE program = ? AND gone_at IS NULL", program)
		if err != nil {
			return nil, err
		}
		tasks = append(tasks, some...)
	}
	return tasks, nil
}

// Retire implements cron.Rows.
func (cs *crons) Retire(task string) error {
	cs.triggers.forget()
	err := cs.exec("UPDATE stint_crons SET gone_at = ?2, next_at = NULL WHERE task = ?1 AND declared = 1 AND gone_at IS NULL", task, cs.now)
	if err != nil {
		return err
	}
	return cs.exec("UPDATE stint_triggers SET gone_at = ?2 WHERE task = ?1 AND gone_at IS NULL", task, cs.now)
}

// HasWorker implements cron.Rows.
func (cs *crons) HasWorker(task string) (is bool, err error) {
	err = cs.one("SELECT EXISTS (SELECT 1 FROM stint_workers w WHERE w.ended_at IS NULL AND "+hasTask+")", []any{task}, &is)
	return is, err
}

// hasTask is the condition that a worker has the task ?1.
const hasTask = "(w.tasks = 'null' OR EXISTS (SELECT 1 FROM json_each(CASE WHEN json_valid(w.tasks) THEN w.tasks END) j " +
	"WHERE j.value = ?1))"
