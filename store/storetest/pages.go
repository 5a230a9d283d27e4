package storetest

import (
	"bytes"
	"fmt"
	"time"

	"github.com/stint-dev/stint/store"
)

// largePages checks that lists end by MaxPageBytes, that nothing is left out, and that a row
// which alone has more is listed.
func largePages(s *suite) {
	const n = 7
	third := bytes.Repeat([]byte("x"), store.MaxPageBytes/3)
	input := func(i int) []byte {
		if i == n-2 {
			return fmt.Appendf(nil, "%q", bytes.Repeat(third, 4))
		}
		return fmt.Appendf(nil, "%q", third[10:])
	}
	var runs, events []store.ID // oldest first
	for i := range n {
		r := run("large")
		r.Input = input(i)
		runs = append(runs, s.enqueue(r)...)
		ids, err := s.Publish(s.Context(), time.Now(), []store.NewEvent{{Key: "large", Payload: input(i)}})
		s.ok(err)
		events = append(events, ids...)
	}
	s.pagesAre("runs", runs, func(before store.ID) (page []store.ID, next store.ID) {
		all, next, err := s.List(s.Context(), store.Filter{}, before, 100)
		s.ok(err)
		for _, r := range all {
			page = append(page, r.ID)
		}
		return page, next
	})
	s.pagesAre("events", events, func(before store.ID) (page []store.ID, next store.ID) {
		all, next, err := s.Events(s.Context(), "", before, 100)
		s.ok(err)
		for _, e := range all {
			page = append(page, e.ID)
		}
		return page, next
	})
}

// pagesAre checks pages of rows of which three fit, but for the last but one, of which none does.
func (s *suite) pagesAre(what string, oldestFirst []store.ID, list func(before store.ID) ([]store.ID, store.ID)) {
	var sizes []int
	var before store.ID
	for at := len(oldestFirst); ; {
		page, next := list(before)
		for _, id := range page {
			if at--; at < 0 || id != oldestFirst[at] {
				s.Fatalf("%s: %s is out of order", what, id)
			}
		}
		sizes = append(sizes, len(page))
		if before = next; next == (store.ID{}) {
			break
		}
	}
	if fmt.Sprint(sizes) != "[1 1 3 2]" {
		s.Errorf("pages of %s have %v rows", what, sizes)
	}
}
