package sqlite

import (
	"errors"
	"fmt"
	"runtime/debug"
	"slices"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/lifecycle"
)

// A damage is a run with rows that no commit of a store has written: somebody changed the file by other
// means. The run is blocked, and all others continue (R8).
type damage struct {
	run int64
	err error
}

func (d *damage) Error() string { return fmt.Sprintf("run %d: its rows are damaged: %v", d.run, d.err) }
func (d *damage) Unwrap() error { return d.err }

// forRun calls f, which works on one run's rows. An error or a panic of f, except for errors of the
// database, is that run's damage.
func forRun(run int64, f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &damage{run, fmt.Errorf("%v\n%s", v, debug.Stack())}
		}
	}()
	err = f()
	var d *damage
	if err == nil || code(err) != 0 || errors.As(err, &d) {
		return err
	}
	return &damage{run, err}
}

// guarded calls f, and turns a panic into an error: the process is the app's.
func guarded(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("sqlite: %v\n%s", v, debug.Stack())
		}
	}()
	return f()
}

// quarantine blocks the run whose damage made a transaction fail, and others that it finds meanwhile. It
// reports whether the transaction may be tried again.
func (w *writer) quarantine(err error) bool {
	var all []*damage
	var d *damage
	for err != nil {
		if len(all) == maxDamages || !errors.As(err, &d) {
			return false
		}
		again := slices.ContainsFunc(all, func(b *damage) bool { return b.run == d.run })
		all = append(all, d)
		err = w.block(all, !again)
	}
	w.claims.recheck = true
	return true
}

// block blocks damaged runs. With follow it does what follows too, such as to release what they occupied
// of limits; without, because damage prevented that.
func (w *writer) block(all []*damage, follow bool) error {
	return w.inTx(func(u *unit) error {
		for _, d := range all {
			err := u.exec(`UPDATE stint_runs SET `+stateBlocked+`, error = ?2, crashes = ?3, limiter = NULL, due_at = NULL,
				start_by = NULL, ended_at = NULL WHERE id = ?1`,
				d.run, text(lifecycle.Failure(store.KindDamaged, d.err.Error())), store.MaxCrashes)
			if err == nil && !follow {
				err = u.exec("DELETE FROM stint_transitions WHERE run = ?", d.run)
			}
			if err != nil {
				return err
			}
		}
		if !follow {
			return nil
		}
		return u.follow()
	})
}
