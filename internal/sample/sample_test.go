package sample

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/stint-dev/stint/store"
)

// A sample has what is not idle, the deepest of each kind, and the keys of a concurrency limit together.
func TestRows(t *testing.T) {
	key := func(name string, active, waiting int) store.LimitInfo {
		return store.LimitInfo{Limit: store.Limit{Name: name, Max: 2}, Active: active, Waiting: waiting}
	}
	rate := func(key string, perSecond, tokens float64, promised int) store.LimitInfo {
		return store.LimitInfo{Limit: store.Limit{Key: key, Units: 1, PerSecond: perSecond, Burst: 5}, Tokens: tokens, Active: promised}
	}
	got := rows([]store.QueueInfo{{Name: "idle"}, {Name: "b", Ready: 1}, {Name: "a", Ready: 7, Running: 2}, {Name: "c", Running: 1}},
		[]store.LimitInfo{key("l", 1, 0), key("l", 2, 3), key("m", 0, 0)},
		[]store.LimitInfo{rate("full", 1, 5, 0), rate("half", 1, 2.5, 0), rate("promised", 1, 5, 2), rate("inf", math.MaxFloat64, 0, 0)})
	want := []Row{{KindQueue, "a", 7, 2, 0}, {KindQueue, "b", 1, 0, 0}, {KindQueue, "c", 0, 1, 0}, {KindLimit, "l", 3, 3, 4},
		{KindRate, "half", 0, 3, 5}, {KindRate, "promised", 0, 2, 5}}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v\nwant %v", got, want)
	}
	queues := make([]store.QueueInfo, 3*maxNames)
	for i := range queues {
		queues[i] = store.QueueInfo{Name: fmt.Sprint(i), Ready: i}
	}
	got = rows(queues, []store.LimitInfo{key("l", 1, 0)}, nil)
	if len(got) != maxNames+1 || got[0].Waiting != 3*maxNames-1 || got[maxNames].Kind != KindLimit {
		t.Errorf("%d rows, the first %v", len(got), got[0])
	}
}

// An hour has rows of no more than twice as many names, however many come and go.
func TestRowsOfAnHour(t *testing.T) {
	l, n := &Loop{}, 0
	for m := range 60 {
		some := make([]Row, maxNames)
		for i := range some {
			some[i] = Row{KindRate, fmt.Sprint(m, "/", i), 1, 1, 1}
		}
		n += len(l.ofHour(minute(m), some))
	}
	if n != 2*maxNames {
		t.Errorf("%d names of an hour, want %d", n, 2*maxNames)
	}
	if n := len(l.ofHour(minute(60), []Row{{KindRate, "next", 1, 1, 1}})); n != 1 {
		t.Errorf("%d names of the next hour, want 1", n)
	}
}

func minute(m int) time.Time { return time.Unix(0, 0).Add(time.Duration(m) * time.Minute) }
