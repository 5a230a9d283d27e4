package cel_test

import (
	"testing"

	"github.com/stint-dev/stint/store"
)

// Any text as a filter or as a webhook's key, with any payload, gives an answer or an error, never
// a panic.
func FuzzFilter(f *testing.F) {
	f.Add("input.total > 100 && key.startsWith('order.')", `{"total": 101}`)
	f.Add("metadata['vip'] == 'yes' || has(input.a.b)", `{"a": {"b": [1, null, "x"]}}`)
	f.Add("input.all(x, x.map(y, y * 2).exists(z, z > input.size()))", `[[1], [2]]`)
	f.Add("1 / input.n", `{"n": 0}`)
	f.Add(`"a".matches("(a*)*b")`, `null`)
	f.Add("((((((", "\xff")
	f.Fuzz(func(t *testing.T, text, payload string) {
		e := &store.NewEvent{Key: "order.paid", Payload: []byte(payload), Metadata: []byte(`{"vip":"no"}`)}
		if pass, err := store.CompileFilter(text); err == nil {
			pass(e, []byte(payload))
		}
		if keyOf, err := store.CompileKey(text); err == nil {
			keyOf(e, map[string]string{"x-event": "opened"})
		}
	})
}
