package journal

import "encoding/json"

// A Try is a call of a step's function. Error "": it succeeded. Times are in milliseconds since 1970.
type Try struct {
	Began int64  `json:"began"`
	Ended int64  `json:"ended"`
	Error string `json:"error"`
}

// MaxTries is how many tries of a step are kept, the newest.
const MaxTries = 20

// Tries decodes what AddTry made. What somebody wrote there by hand is no tries.
func Tries(stored []byte) (all []Try) {
	if len(stored) > 0 && json.Unmarshal(stored, &all) != nil {
		return nil
	}
	return all
}

// AddTry adds a try to those that are stored.
func AddTry(stored []byte, t Try) []byte {
	all := append(Tries(stored), t)
	b, _ := json.Marshal(all[max(len(all)-MaxTries, 0):]) // texts and numbers always encode
	return b
}

// A Failed is a step whose error ended an attempt of its run. Nothing else is left of it: the next
// attempt calls the step again.
type Failed struct {
	Name     string `json:"name"`
	Began    int64  `json:"began"`
	Ended    int64  `json:"ended"`
	Attempts int    `json:"attempts,omitempty"`
	Tries    []Try  `json:"tries,omitempty"`
}

// Size returns the bytes of its texts.
func (f *Failed) Size() int {
	n := len(f.Name)
	for i := range f.Tries {
		n += len(f.Tries[i].Error)
	}
	return n
}
