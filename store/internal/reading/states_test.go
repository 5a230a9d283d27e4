package reading

import (
	"fmt"
	"testing"

	"github.com/stint-dev/stint/store"
)

// Statements have the numbers of states as literals.
func TestStates(t *testing.T) {
	for cond, want := range map[string]string{
		isScheduled:  fmt.Sprint("state = ", uint8(store.Scheduled)),
		isQueued:     fmt.Sprint("state = ", uint8(store.Queued)),
		isRunning:    fmt.Sprint("state = ", uint8(store.Running)),
		isWaiting:    fmt.Sprint("state = ", uint8(store.Waiting)),
		isBlocked:    fmt.Sprint("state = ", uint8(store.Blocked)),
		isSucceeded:  fmt.Sprint("state = ", uint8(store.Succeeded)),
		afterRunning: fmt.Sprint("state > ", uint8(store.Running)),
		notEnded:     fmt.Sprint("state < ", uint8(store.Succeeded)),
		hasEnded:     fmt.Sprint("state >= ", uint8(store.Succeeded)),
		notSucceeded: fmt.Sprint("state > ", uint8(store.Succeeded)),
	} {
		if cond != want {
			t.Errorf("%q: want %q", cond, want)
		}
	}
}
