package sqlite

import (
	"context"
	"errors"
	"time"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/cron"
)

// The transaction that finds a tick of a cron due enqueues the run and stores the time of the next tick.
// So each tick starts one run, whichever process comes first. Package cron decides.

const cronColumns = "name, task, spec, catch_up, declared, paused, next_at, last_at, last_run, graph, input, template, " +
	"coalesce(error, ''), gone_at"

type cronRow struct {
	cron.Cron
	task                             string
	next, last, lastRun, graph, gone *int64
	input, template                  []byte
}

func (r *cronRow) columns() []any {
	return []any{&r.Name, &r.task, &r.Spec, &r.CatchUp, &r.Declared, &r.Paused, &r.next, &r.last, &r.lastRun, &r.graph, &r.input,
		&r.template, &r.Error, &r.gone}
}

// complete decodes the rows of crons. One whose template was changed by hand and cannot be read keeps its
// task, and does not hold up others.
func (s *Store) complete(q querier, rows []cronRow) []cron.Cron {
	all := make([]cron.Cron, len(rows))
	for i := range rows {
		r := &rows[i]
		r.Next, r.Last, r.LastRun, r.Gone = optionalTime(r.next), optionalTime(r.last), s.ids.Optional(r.lastRun), optionalTime(r.gone)
		r.Template, r.Broken = s.template(q, r.template, r.graph)
		if run := &r.Template.Run; r.Broken == nil && (run.Task == "" || run.Queue == "") {
			r.Broken = errors.New("stored template: it has no task or no queue")
		}
		if r.Broken != nil {
			r.Template, r.Error = store.Template{Run: store.NewRun{Task: r.task}}, r.Broken.Error()
		}
		r.Template.Run.Input = r.input
		all[i] = r.Cron
	}
	return all
}

// ChangeCron implements store.Schedules.
func (s *Store) ChangeCron(ctx context.Context, now time.Time, c store.CronChange) (id store.ID, err error) {
	err = s.do(ctx, func(u *unit) (err error) {
		id, err = cron.Change(u.crons, now, &c)
		return err
	})
	return id, err
}

// Crons implements store.Schedules.
func (s *Store) Crons(ctx context.Context, after string, limit int) (all []store.Cron, more bool, err error) {
	err = s.view(ctx, func(q querier) error {
		var rows []cronRow
		rows, more, err = pageOf(q, limit, (*cronRow).columns, func(r *cronRow) int { return r.Size() + len(r.input) },
			"SELECT "+cronColumns+" FROM stint_crons WHERE name > ? AND gone_at IS NULL ORDER BY name LIMIT ?", after, limit+1)
		all = make([]store.Cron, len(rows))
		for i, c := range s.complete(q, rows) {
			all[i] = c.Cron
		}
		return err
	})
	return all, more, err
}
