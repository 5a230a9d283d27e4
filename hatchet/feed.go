package hatchet

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/stint-dev/stint"
)

// An eventFeed tells the durable waits for events that one with their key may have come. It reads the newest events once
// for all waits, while there are any.
type eventFeed struct {
	s *Server

	mu    sync.Mutex
	waits map[*eventWait]bool
	reads bool // the goroutine runs
}

// An eventWait is told of events.
type eventWait struct {
	keys []string
	wake chan struct{} // capacity 1
}

func (w *eventWait) tell() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// follow returns a channel that receives when an event with one of the keys may have come after the call. The function
// ends that. Without keys the channel is nil.
func (f *eventFeed) follow(keys []string) (<-chan struct{}, func()) {
	if len(keys) == 0 {
		return nil, func() {}
	}
	w := &eventWait{keys, make(chan struct{}, 1)}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.waits[w] = true
	if !f.reads {
		f.reads = true
		f.s.wg.Go(f.read)
	}
	return w.wake, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.waits, w)
	}
}

// feedPage is how many of the newest events are read at once. As many that come late, because their commit took longer than
// that of newer ones, are noticed.
const feedPage = 50

// read tells waits of events until there are no waits.
func (f *eventFeed) read() {
	p, known, found := pacer{s: f.s}, map[string]bool(nil), false
	for {
		keys, ok := f.keys()
		if !ok {
			return
		}
		page, err := f.s.c.ListEvents(f.s.ctx, stint.EventFilter{Keys: keys, Limit: feedPage})
		if err == nil {
			known, found = f.compare(page, known)
			err = p.next(f.s.ctx, found)
		}
		if err != nil { // waits look, and return the error if there still is one
			f.tell(nil)
			if pause(f.s.ctx, time.Second) != nil {
				return
			}
		}
	}
}

// keys returns those that are waited for: nil if there are many. If none are, the goroutine is to end.
func (f *eventFeed) keys() (keys []string, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.waits) == 0 {
		f.reads = false
		return nil, false
	}
	all := map[string]bool{}
	for w := range f.waits {
		for _, k := range w.keys {
			all[k] = true
		}
	}
	if len(all) > maxPage {
		return nil, true
	}
	return slices.Collect(maps.Keys(all)), true
}

// compare tells waits of the events that were not known, and returns those that are, and whether any were not. If all are
// new there may be more.
func (f *eventFeed) compare(page *stint.EventPage, known map[string]bool) (now map[string]bool, found bool) {
	now, fresh := make(map[string]bool, len(page.Events)), map[string]bool{}
	for i := range page.Events {
		e := &page.Events[i]
		now[e.ID] = true
		if !known[e.ID] {
			fresh[e.Key], found = true, true
		}
	}
	switch {
	case known == nil, page.Next != "" && !overlap(now, known):
		f.tell(nil)
	case found:
		f.tell(fresh)
	}
	return now, found
}

func overlap(a, b map[string]bool) bool {
	for k := range a {
		if b[k] {
			return true
		}
	}
	return false
}

// tell tells the waits for one of the keys; nil: all.
func (f *eventFeed) tell(keys map[string]bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for w := range f.waits {
		if keys == nil || slices.ContainsFunc(w.keys, func(k string) bool { return keys[k] }) {
			w.tell()
		}
	}
}
