package sqlite

import (
	"slices"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/limits"
)

// A transition is a run whose state has changed, as its row has it.
type transition struct {
	limits.Transition
	limits                   string
	beforeFlags, beforeLease int64
	afterFlags, afterLease   int64
	parent                   int64
	inWorkflow               bool
}

// decode completes a transition that was read.
func (lm *limiters) decode(x *transition) (*limits.Transition, error) {
	set := func(s *limits.State, flags, lease int64) {
		s.Workflow, s.Resumed, s.Begun = flags&flagWorkflow != 0, flags&flagResumed != 0, lease > 0
	}
	set(&x.Before, x.beforeFlags, x.beforeLease)
	set(&x.After, x.afterFlags, x.afterLease)
	x.SetBy = limits.SetBy(x.Run, x.parent, x.inWorkflow && !x.After.Workflow, x.afterFlags&flagForked != 0)
	var err error
	x.Limits, err = lm.limitsOf(x.limits)
	return &x.Transition, err
}

// decodable decodes rows, without those whose limits cannot be: they are blocked when they change.
func (lm *limiters) decodable(rows []transition) (all []*limits.Transition) {
	for i := range rows {
		if m, err := lm.decode(&rows[i]); err == nil {
			all = append(all, m)
		}
	}
	return all
}

// applyTransitions updates the limiters of runs, and takes those to them that were queued.
func (lm *limiters) applyTransitions(rows []transition) error {
	r := limiterRows{lm.unit}
	for i := range rows {
		err := forRun(rows[i].Run, func() error {
			m, err := lm.decode(&rows[i])
			if err != nil {
				return r.Block(m.Run, err)
			}
			return limits.Apply(r, m)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// ofWorkflowSQL tells whether a run is a workflow's or one of its tasks, and whose: see limits.SetBy.
const ofWorkflowSQL = "coalesce(r.parent, 0), r.node IS NOT NULL"

const transitionsSQL = `
SELECT m.run, m.state, m.limiter, m.flags, m.lease, r.state, r.limiter, r.flags, r.lease, r.limits, ` + ofWorkflowSQL + `
FROM stint_transitions m CROSS JOIN stint_runs r ON r.id = m.run ORDER BY m.run`

// reconcile updates the limiters after changes of their runs' states, and admits runs that may be
// admitted now.
func (lm *limiters) reconcile() error {
	used, err := lm.usesLimits()
	if !used || err != nil {
		return err
	}
	if err := lm.workflows.nodes.flush(lm.unit); err != nil {
		return err
	}
	for first := true; ; first = false { // an admitted or a canceled run may change others
		rows, err := rowsOf(lm, func(x *transition) []any {
			return []any{&x.Run, &x.Before.State, &x.Before.Limiter, &x.beforeFlags, &x.beforeLease,
				&x.After.State, &x.After.Limiter, &x.afterFlags, &x.afterLease, &x.limits, &x.parent, &x.inWorkflow}
		}, transitionsSQL)
		if err != nil {
			return err
		}
		if len(rows) > 0 {
			if err := lm.exec("DELETE FROM stint_transitions"); err != nil {
				return err
			}
		}
		if err := lm.applyTransitions(rows); err != nil {
			return err
		}
		if first { // after the started runs took their units: settings of new runs may cut them
			if err := lm.admitUnadmitted(); err != nil {
				return err
			}
		}
		if err := lm.admitAll(); err != nil {
			return err
		}
		if err := lm.workflows.nodes.flush(lm.unit); err != nil {
			return err
		}
		if len(rows) > 0 {
			continue
		}
		if again, err := lm.checkLimiters(); !again || err != nil {
			return err
		}
	}
}

func (lm *limiters) limitsOf(text string) ([]store.Limit, error) {
	if ls, ok := lm.limits[text]; ok {
		return ls, nil
	}
	ls, err := store.DecodeLimits([]byte(text))
	if err == nil {
		if len(lm.limits) >= maxLimiters {
			clear(lm.limits)
		}
		lm.limits[text] = ls
	}
	return ls, err
}

// admitAll admits runs at the limiters that may admit some.
func (lm *limiters) admitAll() error {
	if err := lm.openDueLimiters(); err != nil {
		return err
	}
	return limits.AdmitAll(limiterRows{lm.unit}, func() (open []*limits.Limiter) {
		for _, lim := range lm.dirty {
			if lim.Recheck {
				open = append(open, &lim.Limiter)
			}
		}
		return open
	})
}

// openDueLimiters looks again at the limiters whose time has come.
func (lm *limiters) openDueLimiters() error {
	if lm.timers.next > lm.now {
		return nil
	}
	ids, err := column[int64](lm, "SELECT id FROM stint_limiters WHERE wake_at IS NOT NULL AND wake_at <= ? ORDER BY wake_at LIMIT ?",
		lm.now, perTimers)
	if err != nil {
		return err
	}
	for _, id := range ids {
		lim, err := lm.limiterByID(id)
		if err != nil {
			return err
		}
		lim.Recheck = true
		lm.touch(lim)
	}
	return nil
}

// admitNewRun returns the value of the column limiter for a run that is about to be inserted. setBy
// is the key of the enqueue that the limits came with.
func (lm *limiters) admitNewRun(setBy int64, all []store.Limit, workflow bool) (limiter *int64, err error) {
	if lm.deferred {
		return new(int64), nil
	}
	limiter, err = limits.AdmitNew(limiterRows{lm.unit}, all, workflow, setBy)
	if limiter != nil && *limiter == 0 {
		lm.unadmitted = true
	}
	return limiter, err
}

// Runs that have not come to their limiters, because they came in an app's transaction or in a
// bulk, have limiter 0, or their lane's negative number.
var (
	unadmittedAtSQL = selectDistinct("limiter", "stint_runs WHERE "+stateQueued+" AND limiter <= 0")

	unadmittedSQL = `SELECT id, state, limiter, flags, lease, limits, ` + ofWorkflowSQL + ` FROM stint_runs r
WHERE limiter = ? AND ` + stateQueued + ` ORDER BY lane, rank, turn, id LIMIT ?`
)

// perUnadmitted is the number of runs that one transaction takes to their limiters.
const perUnadmitted = 256

// admitUnadmitted takes such runs to their limiters, a bounded number in a transaction.
func (lm *limiters) admitUnadmitted() error {
	if !lm.unadmitted {
		return nil
	}
	at, err := column[int64](lm, unadmittedAtSQL)
	if err != nil {
		return err
	}
	lm.unadmitted = false
	for _, limiter := range slices.Backward(at) {
		if limiter < 0 {
			if l, err := lm.lanes.laneByID(-limiter); err != nil {
				return err
			} else if l == nil || l.Staged {
				continue
			}
		}
		rows, err := rowsOf(lm, func(x *transition) []any {
			return []any{&x.Run, &x.After.State, &x.After.Limiter, &x.afterFlags, &x.afterLease, &x.limits, &x.parent, &x.inWorkflow}
		}, unadmittedSQL, limiter, perUnadmitted)
		if err != nil {
			return err
		}
		if err := lm.applyTransitions(rows); err != nil {
			return err
		}
		if len(rows) == perUnadmitted {
			lm.unadmitted = true
			lm.timers.add(lm.now)
		}
	}
	return nil
}
