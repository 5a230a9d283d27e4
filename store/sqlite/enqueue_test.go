package sqlite

import (
	"testing"
	"time"

	"github.com/stint-dev/stint/store"
)

// What is plain has a row without the columns that all else needs.
func TestPlain(t *testing.T) {
	now := time.UnixMilli(1000)
	for want, all := range map[bool][]store.NewRun{
		true: {{}, {Priority: 2, AgeEvery: time.Second, Metadata: []byte("{}"), Route: store.Route{To: "w"}}, {RunAt: now.Add(-time.Hour)},
			{RunAt: now}},
		false: {{Key: "k"}, {Graph: &store.Graph{}}, {Limits: make([]store.Limit, 1)}, {Parent: store.ID{1}}, {Detached: true},
			{StartIn: time.Microsecond}, {RunAt: now.Add(time.Nanosecond)}},
	} {
		for i := range all {
			if plain(&all[i], now) != want {
				t.Errorf("%+v: want %v", all[i], want)
			}
		}
	}
}
