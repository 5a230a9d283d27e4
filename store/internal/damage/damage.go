// Package damage keeps what somebody has changed by other means than a store from failing more than the run that
// it belongs to (R8).
package damage

import (
	"errors"
	"fmt"
	"runtime/debug"
	"slices"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/lifecycle"
)

// Damage is the error of a run with rows that no commit of a store has written. The run is blocked, and all others
// continue.
type Damage struct {
	Run int64
	Err error
}

func (d *Damage) Error() string { return fmt.Sprintf("run %d: its rows are damaged: %v", d.Run, d.Err) }
func (d *Damage) Unwrap() error { return d.Err }

// Failure returns what the blocked run has as its error.
func (d *Damage) Failure() []byte { return lifecycle.Failure(store.KindDamaged, d.Error()) }

// ForRun calls f, which works on one run's rows. A panic of f is that run's damage, and so is an error, unless it is
// one of the database, or means that f is to be called again.
func ForRun(run int64, isOther func(error) bool, f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &Damage{run, fmt.Errorf("%v\n%s", v, debug.Stack())}
		}
	}()
	err = f()
	var d *Damage
	if err == nil || isOther(err) || errors.As(err, &d) {
		return err
	}
	return &Damage{run, err}
}

// Guard calls f, and turns a panic into an error: the process is the app's.
func Guard(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("stint: %v\n%s", v, debug.Stack())
		}
	}()
	return f()
}

// MaxRuns is the highest number of damaged runs that one group may meet.
const MaxRuns = 1000

// Quarantine blocks the run whose damage made a transaction fail, and others that block meets meanwhile. It reports
// whether the transaction may be tried again.
//
// block blocks runs in a transaction of its own. With follow it does what follows too, such as to release what they
// occupied of limits; without, because damage prevented that.
func Quarantine(err error, block func(all []*Damage, follow bool) error) bool {
	var all []*Damage
	var d *Damage
	for err != nil {
		if len(all) == MaxRuns || !errors.As(err, &d) {
			return false
		}
		again := slices.ContainsFunc(all, func(b *Damage) bool { return b.Run == d.Run })
		all = append(all, d)
		err = block(all, !again)
	}
	return true
}
