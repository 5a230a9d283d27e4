package sqlite

import (
	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/damage"
)

// forRun calls f, which works on one run's rows: its errors, except for those of the database, are that run's damage.
func forRun(run int64, f func() error) error {
	return damage.ForRun(run, func(err error) bool { return code(err) != 0 }, f)
}

// quarantine blocks the run whose damage made a transaction fail, and reports whether the transaction may be tried
// again.
func (w *writer) quarantine(err error) bool {
	if !damage.Quarantine(err, w.block) {
		return false
	}
	w.claims.recheck = true
	return true
}

// block blocks damaged runs, for damage.Quarantine.
func (w *writer) block(all []*damage.Damage, follow bool) error {
	return w.inTx(func(u *unit) error {
		for _, d := range all {
			err := u.exec(`UPDATE stint_runs SET `+stateBlocked+`, error = ?2, crashes = ?3, limiter = NULL, due_at = NULL,
				start_by = NULL, ended_at = NULL WHERE id = ?1`, d.Run, text(d.Failure()), store.MaxCrashes)
			if err == nil && !follow {
				err = u.exec("DELETE FROM stint_transitions WHERE run = ?", d.Run)
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
