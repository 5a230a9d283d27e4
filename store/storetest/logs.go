package storetest

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/stint-dev/stint/store"
)

// logLines lists the lines of all runs by their times, in pages, by level, task, run and time, and counts them.
func logLines(s *suite) {
	start := time.UnixMilli(time.Now().UnixMilli() / 60_000 * 60_000)
	newRun := func(task string) store.ID {
		r := run("1")
		r.Task = task
		return s.enqueue(r)[0]
	}
	a, b := newRun("a"), newRun("b")
	add := func(id store.ID, second, level int, text string) {
		_, err := s.Record(s.Context(), []store.Record{{ID: id, Logs: []store.Log{{At: start.Add(time.Duration(second) * time.Second),
			Level: level, Message: text, Attempt: 1}}}})
		s.ok(err)
	}
	for i, l := range []struct {
		id            store.ID
		second, level int
	}{{a, 5, 0}, {b, 3, 8}, {a, 4, 4}, {b, 70, -4}, {a, 70, 9}, {b, 70, 5}} { // late ones, and some at one time
		add(l.id, l.second, l.level, fmt.Sprint(i))
	}
	warn := 4
	for _, c := range []struct {
		f    store.LogFilter
		want string
	}{
		{store.LogFilter{}, "534021"}, {store.LogFilter{Tasks: []string{"a"}}, "402"}, {store.LogFilter{Run: b}, "531"},
		{store.LogFilter{Level: &warn}, "5421"}, {store.LogFilter{Level: &warn, Tasks: []string{"b", "x"}}, "51"},
		{store.LogFilter{Since: start.Add(4 * time.Second), Until: start.Add(70 * time.Second)}, "02"},
		{store.LogFilter{Tasks: []string{}}, ""}, {store.LogFilter{Run: store.ID{1}}, ""},
	} {
		backwards := []byte(c.want)
		slices.Reverse(backwards)
		for _, limit := range []int{1, 2, 10} {
			for _, scan := range []int{0, 1, 2, 6} {
				f := c.f
				f.Scan = scan
				if got := logTexts(s, f, limit, map[store.ID]string{a: "a", b: "b"}); got != c.want {
					s.Errorf("%+v, %d a page: %s, want %s", f, limit, got, c.want)
				}
				f.Oldest = true
				if got := logTexts(s, f, limit, map[store.ID]string{a: "a", b: "b"}); got != string(backwards) {
					s.Errorf("%+v, %d a page: %s, want %s", f, limit, got, backwards)
				}
			}
		}
	}
	list := read(s, &store.LogList{Filter: store.LogFilter{Tasks: []string{"a"}, Scan: 1}, Limit: 10})
	if len(list.Lines) != 0 || list.Next.Run != b || list.Next.Seq != 3 {
		s.Errorf("of one line looked at: %v, next %+v", list.Lines, list.Next)
	}
	logCounts(s, a, start, warn)
}

// logTexts returns the messages of the lines that match, which are of runs of these tasks.
func logTexts(s *suite, f store.LogFilter, limit int, tasks map[store.ID]string) string {
	s.Helper()
	var all []string
	for next, pages := (store.LogPlace{}), 0; ; pages++ {
		list := read(s, &store.LogList{Filter: f, After: next, Limit: limit})
		lines, then := list.Lines, list.Next
		for _, l := range lines {
			all = append(all, l.Message)
			if l.Task != tasks[l.ID] || l.Attempt != 1 {
				s.Errorf("line %+v", l)
			}
		}
		if next = then; next == (store.LogPlace{}) {
			return strings.Join(all, "")
		}
		if len(lines) > limit || pages > 10 {
			s.Fatalf("%+v: %d lines on page %d", f, len(lines), pages)
		}
	}
}

func logCounts(s *suite, a store.ID, start time.Time, warn int) {
	minute := start.Add(time.Minute)
	for _, c := range []struct {
		f     store.LogFilter
		limit int
		want  []store.LogCount
	}{
		{store.LogFilter{}, 10, []store.LogCount{{At: start, Level: 0, Lines: 1}, {At: start, Level: 4, Lines: 1},
			{At: start, Level: 8, Lines: 1}, {At: minute, Level: -4, Lines: 1}, {At: minute, Level: 4, Lines: 1},
			{At: minute, Level: 8, Lines: 1}}},
		{store.LogFilter{}, 2, []store.LogCount{{At: minute, Level: -4, Lines: 1}, {At: minute, Level: 4, Lines: 1}}},
		{store.LogFilter{Run: a}, 1, []store.LogCount{{At: minute, Level: 8, Lines: 1}}},
		{store.LogFilter{Tasks: []string{"a"}}, 2, nil},
		{store.LogFilter{Tasks: []string{"a"}, Level: &warn, Until: minute}, 10, []store.LogCount{{At: start, Level: 4, Lines: 1}}},
	} {
		got := read(s, &store.LogCountList{Filter: c.f, Span: time.Minute, Limit: c.limit}).Counts
		if d := cmp.Diff(c.want, got, cmpopts.EquateEmpty()); d != "" {
			s.Errorf("%+v (-want +got):\n%s", c.f, d)
		}
	}
}
