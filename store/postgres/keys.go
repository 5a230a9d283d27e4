package postgres

import "sync"

// keyGiver gives the keys of a process: a time, a sequence, and the process's number in the low bits.
// A group that is tried again uses others.
type keyGiver struct {
	mu     sync.Mutex
	last   int64
	number int64
}

const (
	keyBits     = 20 // below the milliseconds of a key
	processBits = 10 // of them those of the process
)

// next returns a key after all that were given.
func (k *keyGiver) next(now int64) int64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.last = nextKey(k.last, now, k.number)
	return k.last
}

// from makes the process give keys after one.
func (k *keyGiver) from(last int64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.last = max(k.last, last)
}

// setNumber sets the number of the process.
func (k *keyGiver) setNumber(number int64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.number = number
}

// nextKey returns the first key of a process at a time or later, after another.
func nextKey(last, now, process int64) int64 {
	key := now<<keyBits | process
	if key <= last {
		key = (last>>processBits+1)<<processBits | process
	}
	return key
}

// lastKeySQL reads the highest key in the database.
const lastKeySQL = "SELECT greatest((SELECT max(id) FROM stint.runs), (SELECT max(id) FROM stint.events), 0)"
