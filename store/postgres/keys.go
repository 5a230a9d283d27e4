package postgres

import "sync"

// keyGiver gives the keys of a process: a time, a sequence, a bit, and the process's number in the low bits.
// The bit is set in keys for the app's transactions: the server may move those of a group up (freshSQL), and
// they must not meet. A group that is tried again uses others.
type keyGiver struct {
	mu     sync.Mutex
	last   int64
	number int64
}

const (
	keyBits     = 20 // below the milliseconds of a key
	processBits = 10 // of them those of the process
	stepBits    = processBits + 1
)

// next returns a key after all that were given. app says that it is for a transaction of the app.
func (k *keyGiver) next(now int64, app bool) int64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	low := k.number
	if app {
		low |= 1 << processBits
	}
	k.last = nextKey(k.last, now, low)
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

// nextKey returns the first key with certain low bits at a time or later, after another.
func nextKey(last, now, low int64) int64 {
	return max(now<<keyBits, (last>>stepBits+1)<<stepBits) | low
}

// lastKeySQL reads the highest key in the database. (Of max(), the server may read all rows of a table that had few.)
var lastKeySQL = lastKeyFrom("0")

// lastKeyFrom returns a statement that reads the highest key in the database which is not below a key; it reads 0 if there is none.
// No key is above a new one as a rule. Then the server looks only at the index, and not at the row that was committed last, whose
// commit it would have to look up.
func lastKeyFrom(key string) string {
	last := func(table string) string {
		return "(SELECT id FROM stint." + table + " WHERE id >= " + key + " ORDER BY id DESC LIMIT 1)"
	}
	return "SELECT greatest(" + last("runs") + ", " + last("events") + ", 0)"
}

// movedFrom returns what a statement selects to learn by how much it moves new keys, the first of which is given, so that they come
// after the highest key in the database. A WHERE may follow.
func movedFrom(first string) string {
	return "greatest(0, ((last >> 11) - (" + first + " >> 11) + 1) << 11) AS by FROM (" + lastKeyFrom(first) + " AS last) k"
}
