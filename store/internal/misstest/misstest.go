// Package misstest tests that a decision may miss rows: what a call of its Rows returns that has not
// fetched a row yet, the decision returns as it is.
package misstest

import (
	"errors"
	"testing"
)

// Err is the error of a call that misses.
var Err = errors.New("not fetched yet")

// Misses counts the calls of Rows that it is embedded in, and makes one of them miss. The zero value makes
// none miss.
type Misses struct {
	calls  int
	missAt int // the call that returns Err; 0: none
}

// Miss makes the call return Err, if it is the one that is to.
func (m *Misses) Miss(err *error) {
	if m.calls++; m.calls == m.missAt {
		*err = Err
	}
}

func (m *Misses) restart(missAt int) { m.calls, m.missAt = 0, missAt }
func (m *Misses) called() int        { return m.calls }

// Rows are Rows of any decisions, with Misses embedded.
type Rows interface {
	restart(missAt int)
	called() int
}

// Each makes each call of a decision miss in turn: it returns that error as it is. Without a miss, it
// returns nil. made returns new rows for each turn.
func Each[R Rows](t *testing.T, made func() R, decide func(R) error) {
	t.Helper()
	for n := 1; ; n++ {
		r := made()
		r.restart(n)
		err := decide(r)
		if r.called() < n {
			if err != nil {
				t.Fatal(err)
			}
			return
		}
		if err != Err {
			t.Errorf("call %d misses: %v", n, err)
		}
	}
}
