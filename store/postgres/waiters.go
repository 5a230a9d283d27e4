package postgres

import (
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"
)

// awaited holds which runs wait for which children.
type awaited struct {
	known map[int64][]int64 // by child: those that the database has
	asked map[int64]struct{}
}

// ask asks for those that wait for children, unless they are known.
func (x *awaited) ask(children ...int64) {
	for _, c := range children {
		if _, known := x.known[c]; !known {
			x.asked[c] = struct{}{}
		}
	}
}

func (x *awaited) fetch(s *settings, b *pgx.Batch) bool {
	if len(x.asked) == 0 {
		return false
	}
	children := slices.Collect(maps.Keys(x.asked))
	clear(x.asked)
	for _, c := range children {
		x.known[c] = nil
	}
	b.Queue(s.sql("SELECT child, run FROM stint.awaited WHERE child = ANY ($1) ORDER BY child, run"), children).
		Query(func(rows pgx.Rows) error {
			var child, run int64
			_, err := pgx.ForEachRow(rows, []any{&child, &run}, func() error {
				x.known[child] = append(x.known[child], run)
				return nil
			})
			return err
		})
	return true
}

func (x *awaited) flush(*settings, *pgx.Batch) {}
func (x *awaited) reset()                      {}
func (x *awaited) settle()                     { clear(x.known) }
func (x *awaited) renew()                      { x.known, x.asked = emptied(x.known), emptied(x.asked) }

// AwaitChild implements lifecycle.Rows. The child's row is locked: it does not end meanwhile.
func (u runRows) AwaitChild(child, run int64) error {
	u.awaits = append(u.awaits, awaitOf{child, run})
	return nil
}

// An awaitOf says that a run waits for the end of a child.
type awaitOf struct{ child, run int64 }

// resumeWaiters resumes the runs that wait for runs which have ended since the last call.
func (u *unit) resumeWaiters() error {
	ended := u.told.ended[u.resumed:]
	missed := error(nil)
	for _, e := range ended {
		if u.isNew(e.run) || u.ends(e.run) {
			continue
		}
		runs, known := u.awaited.known[e.run]
		if !known {
			u.awaited.asked[e.run] = struct{}{}
			missed = errMiss
		}
		u.runs.ask(runs...)
	}
	if missed != nil {
		return missed
	}
	for _, e := range ended {
		runs := slices.Clone(u.awaited.known[e.run])
		for _, a := range u.awaits {
			if a.child == e.run {
				runs = append(runs, a.run)
			}
		}
		u.awaits = slices.DeleteFunc(u.awaits, func(a awaitOf) bool { return a.child == e.run })
		if len(u.awaited.known[e.run]) > 0 {
			u.unawaited = append(u.unawaited, e.run)
		}
		for _, run := range runs {
			if err := (runRows{u}).Resume(run, u.now); err != nil {
				return err
			}
		}
		u.resumed++
	}
	return nil
}

// follow does what follows from the runs that ended, and from those that changed their state at the limiters
// of their limits.
func (u *unit) follow() error {
	for ended := -1; ended != len(u.told.ended); {
		ended = len(u.told.ended)
		if err := u.resumeWaiters(); err != nil {
			return err
		}
		if err := u.countEndings(); err != nil {
			return err
		}
		if err := u.reconcile(); err != nil {
			return err
		}
	}
	return nil
}
