package fired

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stint-dev/stint/store"
)

// The one that was true first is in the values, with what came with it.
func TestValues(t *testing.T) {
	paid, sleep := store.Condition{Event: &store.Match{Key: "paid"}}, store.Condition{Sleep: time.Minute}
	c := store.Condition{Any: []store.Condition{paid, sleep}}
	at := time.Unix(100, 0)
	for _, test := range []struct {
		paid time.Time
		want string
	}{{at, `{"paid":7}`}, {at.Add(time.Hour), `{"sleep":null}`}, {time.Time{}, `{"sleep":null}`}} {
		b, err := Values(&c, func(leaf *store.Condition) (time.Time, []byte, error) {
			if leaf.Event != nil {
				return test.paid, []byte("7"), nil
			}
			return at.Add(time.Minute), nil, nil
		})
		if err != nil || string(b) != test.want {
			t.Errorf("paid at %v: got %s, %v, want %s", test.paid, b, err, test.want)
		}
	}
	failed := errors.New("disk")
	if _, err := Values(&c, func(*store.Condition) (time.Time, []byte, error) { return at, nil, failed }); err != failed {
		t.Errorf("got %v, want %v", err, failed)
	}
}

// published is a store of events, newest first, of which it returns one at a time.
type published struct{ all []store.EventInfo }

// Read implements store.Lists.
func (p *published) Read(_ context.Context, q store.Query) error {
	list := q.(*store.EventList)
	list.Events, list.Next = nil, store.ID{}
	for _, e := range p.all {
		if e.Key == list.Filter.Keys[0] && (list.Before == store.ID{} || string(e.ID[:]) < string(list.Before[:])) {
			list.Events, list.Next = []store.EventInfo{e}, e.ID
			break
		}
	}
	return nil
}

func event(n byte, key, payload string) store.EventInfo {
	return store.EventInfo{ID: store.ID{n}, At: time.Unix(int64(n), 0), NewEvent: store.NewEvent{Key: key, Payload: []byte(payload)}}
}

func TestFirstEvent(t *testing.T) {
	s := &published{all: []store.EventInfo{event(5, "paid", "5"), event(4, "other", "4"), event(3, "paid", "3"), event(2, "paid", "2")}}
	for name, test := range map[string]struct {
		m     store.Match
		since byte
		want  string
	}{
		"of all":          {store.Match{Key: "paid"}, 1, "2"},
		"after a run":     {store.Match{Key: "paid"}, 2, "3"},
		"after all":       {store.Match{Key: "paid"}, 5, ""},
		"since a time":    {store.Match{Key: "paid", Since: 4000}, 1, "5"},
		"before the run":  {store.Match{Key: "paid", Since: 2000}, 4, "2"},
		"of another key":  {store.Match{Key: "other"}, 1, "4"},
		"of an empty key": {store.Match{Key: "none"}, 1, ""},
	} {
		at, payload, err := FirstEvent(t.Context(), s, &test.m, store.ID{test.since})
		if err != nil || string(payload) != test.want || at.IsZero() != (test.want == "") {
			t.Errorf("%s: got %s at %v, %v, want %s", name, payload, at, err, test.want)
		}
	}
}
