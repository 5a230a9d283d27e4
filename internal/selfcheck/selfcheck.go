// Package selfcheck lets tests have the store compare what it keeps in memory with the
// file, in every transaction, which costs too much to be done anywhere else.
package selfcheck

import (
	"fmt"
	"os"
	"sync/atomic"
)

var fails atomic.Pointer[func(problem string)]

// Lanes has the SQLite store look, before each commit, for lanes that have runs ready
// which the next claims would not find, and call f with what it finds. A nil f ends that.
func Lanes(f func(problem string)) {
	if f == nil {
		fails.Store(nil)
		return
	}
	fails.Store(&f)
}

// Exit ends the process with the problem: for Lanes, in a TestMain.
func Exit(problem string) {
	fmt.Fprintln(os.Stderr, "FAIL:", problem)
	os.Exit(3)
}

// OfLanes returns what Lanes was given last; nil, nothing is to be looked for.
func OfLanes() func(problem string) {
	if f := fails.Load(); f != nil {
		return *f
	}
	return nil
}
