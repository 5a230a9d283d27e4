package storetest

import (
	"encoding/json"

	"github.com/stint-dev/stint/store"
)

// The decoded message of an error is searched, in any case of letters, not its kind, its stack or its encoding. An
// error that is not encoded is searched itself.
func searchErrors(s *suite) {
	message := func(text string) []byte {
		b, err := json.Marshal(map[string]string{"kind": "error", "message": text, "stack": "goroutine"})
		s.ok(err)
		return b
	}
	stored := [][]byte{message("say \"Ünï\"\n<b>"), message("100%"), []byte("edited {by hand"), []byte("7")}
	ids := map[store.ID]int{}
	for i, text := range stored {
		s.enqueue(run("x"))
		c := s.claim(1)[0]
		s.finish(store.Outcome{ID: c.ID, Lease: c.Lease, To: store.Failed, Error: text})
		ids[c.ID] = i
	}
	for text, want := range map[string]int{
		"\"üNÏ\"\n": 0, "<B>": 0, "%": 1, "{BY": 2, "7": 3, "message": -1, "error": -1, "goroutine": -1, "\\n": -1, "u003c": -1,
	} {
		got := -1
		for _, r := range s.list(store.Filter{Error: text}, 10) {
			got = ids[r]
		}
		if got != want {
			s.Errorf("%q finds run %d, want %d", text, got, want)
		}
	}
}
