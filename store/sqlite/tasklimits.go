package sqlite

import (
	"database/sql"
	"errors"

	"github.com/stint-dev/stint/store"
)

// keepTaskLimits stores the limits of a workflow run's tasks.
func (ws *workflows) keepTaskLimits(run int64, limits map[int][]store.Limit) error {
	for place, ls := range limits {
		stored, err := ws.limiters.storedLimits(ls)
		if err == nil && stored != nil {
			err = ws.exec("INSERT INTO stint_task_limits (run, place, limits) VALUES (?, ?, ?)", run, place, stored)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// taskLimits returns the limits of a task of a workflow's run, and their stored text.
func (f *workflowRun) taskLimits(place int) (any, []store.Limit, error) {
	if place >= len(f.Tasks) || !f.Tasks[place].Limited {
		return nil, nil, nil
	}
	var text string
	err := f.u.one("SELECT limits FROM stint_task_limits WHERE run = ? AND place = ?", []any{f.key, place}, &text)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	ls, err := f.u.limiters.limitsOf(text)
	return text, ls, err
}
