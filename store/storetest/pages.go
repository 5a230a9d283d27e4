package storetest

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/stint-dev/stint/store"
)

// largePages checks that pages end by MaxPageBytes, that nothing is left out, and that a row is listed which
// alone has more.
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
		list := read(s, &store.EventList{Before: before, Limit: 100})
		for _, e := range list.Events {
			page = append(page, e.ID)
		}
		return page, list.Next
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

// journalPages checks that pages of a journal are together the journal in the order of Load, whatever the
// limit; that they end by MaxPageBytes; and that they continue if entries came meanwhile.
func journalPages(s *suite) {
	s.enqueue(run("x"))
	c := s.claim(1)[0]
	s.call(c, entry("", 1, store.EntryStep, "a", "1"))
	s.call(c, entry("10", 1, store.EntryStep, "b", "2"))
	s.call(c, entry("2", 11, store.EntryStep, "c", "3"))
	s.call(c, entry("2", 2, store.EntryEvent, "d", ""))
	s.call(c, entry("note:", 1, store.EntryNote, "", "true"))
	s.call(c, entry("version:a/b", 1, store.EntryVersion, "a/b", "true"))
	third := fmt.Sprintf("%q", bytes.Repeat([]byte("x"), store.MaxPageBytes/3))
	for seq := 1; seq <= 4; seq++ {
		s.call(c, entry("3", seq, store.EntryStep, "large", third))
	}
	whole := s.entries(c.ID)
	for _, notes := range []bool{true, false} {
		want := whole
		if !notes {
			want = slices.DeleteFunc(slices.Clone(whole), func(e store.Entry) bool { return e.Kind == store.EntryNote })
		}
		for _, limit := range []int{1, 2, 3, 100} {
			if got := s.journalInPages(c.ID, limit, notes); !reflect.DeepEqual(got, want) { // cmp takes a minute for values so large
				s.Errorf("pages of %d entries have %d, not the %d of the whole, or others", limit, len(got), len(want))
			}
		}
	}
	page, more, err := s.Entries(s.Context(), c.ID, store.Address{Scope: "2", Seq: 2}, 1, true)
	if s.ok(err); len(page) != 1 || page[0].Address != (store.Address{Scope: "2", Seq: 11}) || !more {
		s.Errorf("behind 2:2 are %d entries, more: %v", len(page), more)
	}
	last := store.Address{Scope: "version:a/b", Seq: 1}
	if page, more, err = s.Entries(s.Context(), c.ID, last, 1, true); len(page) > 0 || more || err != nil {
		s.Errorf("behind the last: %v, %v, %v", page, more, err)
	}
	s.call(c, entry("version:c", 1, store.EntryVersion, "c", "true"))
	if page, more, err = s.Entries(s.Context(), c.ID, last, 1, true); len(page) != 1 || more || err != nil {
		s.Errorf("behind the last, with one that came: %v, %v, %v", page, more, err)
	}
	if page, more, err = s.Entries(s.Context(), store.ID{1}, store.Address{}, 1, true); len(page) > 0 || more || err != nil {
		s.Errorf("of no run: %v, %v, %v", page, more, err)
	}
}

// journalInPages reads a journal in pages of limit entries.
func (s *suite) journalInPages(id store.ID, limit int, notes bool) (all []store.Entry) {
	s.Helper()
	for after, more := (store.Address{}), true; more; {
		var page []store.Entry
		var err error
		page, more, err = s.Entries(s.Context(), id, after, limit, notes)
		s.ok(err)
		size := 0
		for _, e := range page {
			size += e.Size()
		}
		if len(page) == 0 || len(page) > limit || size > store.MaxPageBytes {
			s.Fatalf("a page of %d entries of a limit of %d, %d bytes", len(page), limit, size)
		}
		all, after = append(all, page...), page[len(page)-1].Address
	}
	return all
}

// schedulePages checks that crons and filters are listed in pages that end by limit or by
// MaxPageBytes, all of them, once.
func schedulePages(s *suite) {
	third := fmt.Sprintf("%q", bytes.Repeat([]byte("x"), store.MaxPageBytes/3))
	var names []string
	var filters []int64
	for i := range 7 {
		input := "1"
		if i > 1 {
			input = third
		}
		c := cronOf(fmt.Sprint("c", i), "@daily", input)
		s.ok(s.setCron(c))
		names = append(names, c.Name)
		for _, task := range []string{"t", "other"} {
			c := store.FilterChange{Filter: store.TaskFilter{Task: task, Scope: "s", Expr: "big", Payload: []byte(input)}}
			if s.ok(s.change(&c)); task == "t" {
				filters = append(filters, c.ID)
			}
		}
	}
	for limit, want := range map[int]string{1: "[1 1 1 1 1 1 1]", 3: "[3 2 2]", 100: "[4 2 1]"} {
		crons, sizes := pagesOf(s, func(after string) ([]store.Cron, bool) {
			list := read(s, &store.CronList{After: after, Limit: limit})
			return list.Crons, list.More
		}, func(c *store.Cron) string { return c.Name })
		if !slices.Equal(crons, names) || fmt.Sprint(sizes) != want {
			s.Errorf("crons by %d: %v in pages of %v, want %s", limit, crons, sizes, want)
		}
		ids, sizes := pagesOf(s, func(after int64) ([]store.TaskFilter, bool) {
			list := read(s, &store.FilterList{Task: "t", After: after, Limit: limit})
			return list.Filters, list.More
		}, func(f *store.TaskFilter) int64 { return f.ID })
		if !slices.Equal(ids, filters) || fmt.Sprint(sizes) != want {
			s.Errorf("filters by %d: %v in pages of %v, want %s", limit, ids, sizes, want)
		}
	}
	list := read(s, &store.FilterList{After: filters[0], Limit: 2})
	if all := list.Filters; len(all) != 2 || all[0].Task != "other" || all[1].ID != filters[1] || !list.More {
		s.Errorf("of all tasks: %d filters, more: %v", len(all), list.More)
	}
}

// pagesOf reads a list in pages, each after the last key of the one before, and returns the keys of all rows and
// the sizes of the pages.
func pagesOf[T, K any](s *suite, next func(after K) (page []T, more bool), key func(*T) K) (keys []K, sizes []int) {
	var after K
	for more := true; more; {
		var page []T
		page, more = next(after)
		for i := range page {
			after = key(&page[i])
			keys = append(keys, after)
		}
		sizes = append(sizes, len(page))
	}
	return keys, sizes
}

// briefly checks that a brief list has all of each run but its payloads, and that these do not end a page.
func briefly(s *suite) {
	large := run(`"` + strings.Repeat("x", store.MaxPageBytes/2) + `"`)
	large.Metadata = []byte(`{"k":"v"}`)
	s.enqueue(large, large, large, keyed("1", "k", 1, store.StrategyQueue), keyed("2", "k", 1, store.StrategyQueue))
	c := s.claim(2)
	progress := &store.Progress{Done: 1, Total: 2, Message: "m"}
	_, err := s.Record(s.Context(), []store.Record{{ID: c[1].ID, Lease: c[1].Lease, Progress: progress}})
	s.ok(err)
	o := outcome(c[0], store.Failed)
	o.Error = []byte("no")
	s.finish(o)
	var whole []store.Run
	var before store.ID
	for more := true; more; more = before != (store.ID{}) {
		runs, next, err := s.List(s.Context(), store.Filter{}, before, 10)
		s.ok(err)
		whole, before = append(whole, runs...), next
	}
	got, next, err := s.List(s.Context(), store.Filter{Brief: true}, store.ID{}, 10)
	s.ok(err)
	if len(got) != 5 || len(whole) != 5 || next != (store.ID{}) {
		s.Fatalf("a brief list has %d of %d runs, and goes on at %v", len(got), len(whole), next)
	}
	for i, r := range got {
		if r.Size() != 0 || r.Progress != nil {
			s.Errorf("a brief list has %d bytes of payloads, and %v", r.Size(), r.Progress)
		}
		w := whole[i]
		w.Input, w.Output, w.Metadata, w.Error, w.Progress = nil, nil, nil, nil, nil
		if !reflect.DeepEqual(r, w) {
			s.Errorf("a brief list has %+v, want %+v", r, w)
		}
	}
}
