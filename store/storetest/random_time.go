package storetest

import "time"

// now returns the time of this action's verbs. It is the same for the stores and for the model, also if one of them sleeps: a
// retry of a lock sleeps less than a millisecond.
func (p *pair) now() time.Time {
	if p.at.IsZero() {
		p.at = time.Now()
	}
	return p.at
}

// jitter keeps a drawn time from a whole tenth of a second, when verbs are called, and mostly from other times:
// stores need not agree on the order of what happens at one instant.
func (p *pair) jitter() time.Duration {
	p.jit = p.jit%99 + 1
	return time.Duration(p.jit) * time.Millisecond
}

// align waits for a whole tenth of a second that is not a whole second: then crons tick.
func align() {
	const tenth = 100 * time.Millisecond
	time.Sleep(tenth - time.Duration(time.Now().UnixNano())%tenth)
	if time.Now().Nanosecond() == 0 {
		time.Sleep(tenth)
	}
}
