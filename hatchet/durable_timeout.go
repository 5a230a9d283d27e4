package hatchet

import (
	"fmt"
	"strings"
	"time"

	"github.com/stint-dev/stint"
)

// The timeout of a durable task counts the time in which its worker has unloaded it. Until then it is the engine's; an invocation
// that is unloaded leaves a wait in the journal, which brings the run back when the time is over.

const timeoutMark = "timeout "

func timeoutName(invocation int) string { return fmt.Sprint(timeoutMark, invocation) }

// isTimeout reports whether an entry is the wait for the end of an invocation's time.
func isTimeout(e *stint.JournalEntry) bool {
	return e.Kind == "wait" && strings.HasPrefix(e.Name, timeoutMark)
}

// timedOut reports whether the time of an invocation ended while it was unloaded.
func timedOut(entries []stint.JournalEntry, invocation int) bool {
	for i := range entries {
		if e := &entries[i]; isTimeout(e) && e.Name == timeoutName(invocation) {
			return !endOf(e).IsZero()
		}
	}
	return false
}

// startTimeout begins to wait for the end of this invocation's time.
func (d *durable) startTimeout() error {
	if d.e.task.Timeout <= 0 {
		return nil
	}
	if err := d.askAgain(); err != nil {
		return err
	}
	left := max(time.Millisecond, d.e.task.Timeout-time.Since(d.began))
	_, err := stint.StartWait(d.ctx, stint.Named(timeoutName(d.e.info.Executions), stint.SleepFor(left)))
	return err
}

// passTimeouts passes waits of former invocations by. Those that are over do not bring the run back.
func (d *durable) passTimeouts() error {
	for {
		e, ok := stint.Peek(d.ctx)
		if !ok || !isTimeout(&e) {
			return nil
		}
		f, err := stint.StartWait(d.ctx, recordedWait(&e))
		if err != nil {
			return err
		}
		select {
		case <-f.Done():
			if _, err := f.Wait(d.ctx); err != nil {
				return err
			}
		default:
		}
	}
}
