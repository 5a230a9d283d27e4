package postgres

import (
	"context"
	"time"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/lifecycle"
	"github.com/stint-dev/stint/store/internal/workflow"
)

// Finish implements store.Runs.
func (s *Store) Finish(ctx context.Context, now time.Time, outcomes []store.Outcome) ([]bool, error) {
	stale := make([]bool, len(outcomes))
	push := s.w.push
	if s.finisher.takes(outcomes) {
		push = s.finisher.push
	}
	err := s.doBy(ctx, push, func(u *unit) error {
		for i := range outcomes { // all rows that are certain to be needed are asked for at once
			o := &outcomes[i]
			if key, ok := s.ids.Key(o.ID); ok && !(u.assuming && s.endsPlainly(o)) {
				u.runs.ask(key)
				if o.To.Terminal() {
					u.awaited.ask(key)
				}
				if len(o.Tests) > 0 {
					u.tests.ask(key)
				}
			}
			if parent, ok := s.ids.Key(o.Parent); ok && o.Node != 0 && !(u.assuming && s.endsTask(o)) {
				u.runs.ask(parent)
			}
		}
		var missed error
		for i := range outcomes {
			key, ok := s.ids.Key(outcomes[i].ID)
			if stale[i] = !ok; !ok {
				continue
			}
			err := forRun(key, func() error {
				to, err := lifecycle.Finish(runRows{u}, key, &outcomes[i], now.UnixMilli())
				stale[i] = to == 0
				return err
			})
			switch {
			case err == errMiss: // the others' misses are asked for with it
				missed = err
			case err != nil && missed == nil:
				return err
			}
		}
		return missed
	})
	return stale, err
}

// endsPlainly reports whether an outcome ends a run and, as far as is known, nothing unusual follows.
func (s *Store) endsPlainly(o *store.Outcome) bool { return endsAlone(o) || s.endsTask(o) }

// endsAlone reports whether an outcome ends a run and, as far as it says itself, nothing follows.
func endsAlone(o *store.Outcome) bool {
	return o.To.Terminal() && o.Parent == (store.ID{}) && o.Task != "" // else the run's row says what to count
}

// Retried implements lifecycle.Rows.
func (u runRows) Retried(o *store.Outcome) {
	if o.Task != "" {
		u.count(o.Queue, o.Task).Retried++
	}
}

// Follow implements lifecycle.Rows.
func (u runRows) Follow(runs []store.NewRun, now int64) error {
	_, err := u.enqueue(now, runs)
	return err
}

// MoveToTaskLane implements lifecycle.Rows: it moves a workflow's task from the lane that all have to one of
// its own.
func (u runRows) MoveToTaskLane(key, node int64) error {
	g, err := workflowRows(u).Graph(node >> lifecycle.NodeBits)
	if err != nil {
		return err
	}
	place := workflow.Place(node)
	return u.moveTask(g, key, place, g.TaskName(place))
}
