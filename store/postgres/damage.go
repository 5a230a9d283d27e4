package postgres

import (
	"errors"
	"fmt"
	"runtime/debug"
)

// A damage is a run with rows that no commit of a store has written: somebody changed the database by other
// means. The run is blocked, and all others continue (R8).
type damage struct {
	run int64
	err error
}

func (d *damage) Error() string { return fmt.Sprintf("run %d: its rows are damaged: %v", d.run, d.err) }
func (d *damage) Unwrap() error { return d.err }

// forRun calls f, which works on one run's rows. An error or a panic of f is that run's damage, but for a
// miss.
func forRun(run int64, f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &damage{run, fmt.Errorf("%v\n%s", v, debug.Stack())}
		}
	}()
	err = f()
	var d *damage
	if err == nil || errors.Is(err, errMiss) || errors.As(err, &d) {
		return err
	}
	return &damage{run, err}
}
