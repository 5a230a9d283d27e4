// Package sample decides what is stored, once a minute, of how deep queues are and how far limits are used.
//
// None of it can be derived from what is counted: runs become ready by time, by the end of other runs and by retries. A
// sample reads what lists of queues and limits read, by the indexes that these use, outside the transactions that change
// runs, so no change waits for it. Nothing is stored while no run is ready, running or held up: rows that are not there
// are zero, and a database that is idle is left alone.
package sample

import (
	"cmp"
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/stint-dev/stint/store"
)

// A Kind says what a row is a sample of. The numbers are stored.
type Kind int64

// The kinds. A row of KindMark marks a minute that has a sample.
const (
	KindMark Kind = iota
	KindQueue
	KindLimit // all keys of a concurrency limit
	KindRate
)

// maxNames bounds the rows of a kind in a sample, and twice as many those of an hour: names that come and go, such as keys
// of rates, would fill the hours of a month.
const maxNames = 200

// A Row is what a sample says of a queue or a limit.
type Row struct {
	Kind    Kind
	Name    string
	Waiting int // ready runs of a queue, or runs that wait for a limit
	Active  int // running runs, runs that hold shares of a limit, or units that are used up
	Max     int // of Active, for a limit
}

// rows returns what is stored of queues and limits: what is not idle, of each kind the deepest.
func rows(queues []store.QueueInfo, keys, rates []store.LimitInfo) (all []Row) {
	for _, q := range queues {
		all = append(all, Row{KindQueue, q.Name, q.Ready, q.Running, 0})
	}
	for _, k := range keys { // ordered by name
		if last := len(all) - 1; last >= 0 && all[last].Kind == KindLimit && all[last].Name == k.Name {
			all[last].Waiting, all[last].Active, all[last].Max = all[last].Waiting+k.Waiting, all[last].Active+k.Active, all[last].Max+k.Max
		} else {
			all = append(all, Row{KindLimit, k.Name, k.Waiting, k.Active, k.Max})
		}
	}
	for _, r := range rates {
		used := int(math.Ceil(float64(r.Burst)-r.Tokens)) + r.Active // and what is promised
		if r.PerSecond == math.MaxFloat64 {                          // no limit
			used = 0
		}
		all = append(all, Row{KindRate, r.Key, r.Waiting, min(max(used, 0), r.Burst), r.Burst})
	}
	all = slices.DeleteFunc(all, func(r Row) bool { return r.Waiting == 0 && r.Active == 0 })
	slices.SortFunc(all, func(a, b Row) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(b.Waiting, a.Waiting), cmp.Compare(b.Active, a.Active),
			cmp.Compare(a.Name, b.Name))
	})
	n := 0
	return slices.DeleteFunc(all, func(r Row) bool {
		if n > 0 && all[n-1].Kind != r.Kind {
			n = 0
		}
		n++
		return n > maxNames
	})
}

// A Source is a store of which samples are taken.
type Source interface {
	store.Lists
	// Time returns the time by the store's clock.
	Time() time.Time
	// Sampled reports whether there is a sample of the minute that begins at a time.
	Sampled(ctx context.Context, minute time.Time) (bool, error)
	// Put stores the highest figures of a minute, and of its hour.
	Put(ctx context.Context, minute time.Time, ofMinute, ofHour []Row) error
}

// A Loop takes samples of a store as long as something happens in it, or is there to be done. Of several processes, the
// first in a minute takes the sample.
type Loop struct {
	of     Source
	signal chan struct{} // capacity 1: something happened
	done   chan struct{}
	stop   context.CancelFunc
	offset time.Duration // from the begin of a minute: processes differ
	hour   time.Time
	names  map[Row]struct{} // kinds and names of the rows of the hour
}

// Start starts a loop.
func Start(of Source) *Loop {
	ctx, stop := context.WithCancel(context.Background())
	l := &Loop{of: of, signal: make(chan struct{}, 1), done: make(chan struct{}), stop: stop, offset: rand.N(20 * time.Second)}
	go l.run(ctx)
	return l
}

// Touch tells that something happened. A nil Loop, of a store that only reads, ignores it.
func (l *Loop) Touch() {
	if l != nil {
		select {
		case l.signal <- struct{}{}:
		default:
		}
	}
}

// Close ends the loop.
func (l *Loop) Close() {
	if l != nil {
		l.stop()
		<-l.done
	}
}

// inBubble reports whether a time is of the clock of a testing/synctest bubble, which begins with the year 2000. There a month
// may pass in a moment, and would mean as many samples of a backlog in which nothing happens.
func inBubble(now time.Time) bool { return now.Year() < 2020 }

func (l *Loop) run(ctx context.Context) {
	defer close(l.done)
	for {
		select {
		case <-l.signal:
		case <-ctx.Done():
			return
		}
		every := time.Minute
		for more := true; more; {
			now := l.of.Time()
			select {
			case <-time.After(now.Truncate(time.Minute).Add(every + l.offset).Sub(now)):
			case <-ctx.Done():
				return
			}
			select {
			case <-l.signal:
				every = time.Minute
			default:
				if inBubble(now) {
					every = min(2*every, time.Hour)
				}
			}
			more = l.take(ctx)
		}
	}
}

// take takes the sample of the present minute, and reports whether the next minute needs one, though nothing may happen until
// then. After an error it does: the store may be locked, or away.
func (l *Loop) take(ctx context.Context) bool {
	minute := l.of.Time().Truncate(time.Minute)
	if there, err := l.of.Sampled(ctx, minute); there || err != nil {
		return true
	}
	var queues store.QueueList
	concurrency, rates := store.LimitList{}, store.LimitList{Rates: true}
	for _, q := range []store.Query{&queues, &concurrency, &rates} {
		if l.of.Read(ctx, q) != nil {
			return true
		}
	}
	all := rows(queues.Queues, concurrency.Limits, rates.Limits)
	if len(all) == 0 {
		return false
	}
	mark := []Row{{Kind: KindMark}}
	l.of.Put(ctx, minute, append(mark, all...), append(mark, l.ofHour(minute, all)...)) // an error: a minute is missing
	return true
}

// ofHour returns the rows that are also stored for the hour.
func (l *Loop) ofHour(minute time.Time, all []Row) (kept []Row) {
	if hour := minute.Truncate(time.Hour); !hour.Equal(l.hour) {
		l.hour, l.names = hour, map[Row]struct{}{}
	}
	n := map[Kind]int{}
	for k := range l.names {
		n[k.Kind]++
	}
	for _, r := range all {
		name := Row{Kind: r.Kind, Name: r.Name}
		if _, has := l.names[name]; !has {
			if n[r.Kind] >= 2*maxNames {
				continue
			}
			l.names[name] = struct{}{}
			n[r.Kind]++
		}
		kept = append(kept, r)
	}
	return kept
}
