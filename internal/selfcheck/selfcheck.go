// Package selfcheck makes stores check themselves in tests, where that may be slow: each change of
// a run's state must be legal, and the store's caches must agree with its file.
package selfcheck

import (
	"flag"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
)

var on atomic.Bool // read in each transaction

var state struct {
	sync.Mutex
	found map[string]bool
}

// Enable makes stores that are opened from now on check themselves. TestMain calls it. It
// does nothing if benchmarks are to run.
func Enable() {
	flag.Parse()
	if f := flag.Lookup("test.bench"); f != nil && f.Value.String() != "" {
		return
	}
	state.Lock()
	defer state.Unlock()
	state.found = map[string]bool{}
	on.Store(true)
}

// Enabled reports whether Enable was called.
func Enabled() bool { return on.Load() }

// Report prints what a store has found, once.
func Report(problem string) {
	state.Lock()
	defer state.Unlock()
	if !state.found[problem] {
		fmt.Fprintln(os.Stderr, "FAIL:", problem)
	}
	state.found[problem] = true
}

// Exit ends the process with the exit code of its tests, or with 1 if a store has reported
// something. It is for goleak.Cleanup.
func Exit(code int) {
	state.Lock()
	defer state.Unlock()
	if code == 0 && len(state.found) > 0 {
		code = 1
	}
	os.Exit(code)
}
