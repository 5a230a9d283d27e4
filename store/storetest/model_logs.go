package storetest

import (
	"cmp"
	"slices"
	"time"

	"github.com/stint-dev/stint/store"
)

func placeOf(l *store.RunLog) store.LogPlace { return store.LogPlace{At: l.At, Run: l.ID, Seq: l.Seq} }

// comparePlaces compares lines as LogLines orders them.
func comparePlaces(a, b store.LogPlace) int {
	return cmp.Or(a.At.Compare(b.At), slices.Compare(a.Run[:], b.Run[:]), cmp.Compare(a.Seq, b.Seq))
}

// linesOf returns the lines of a filter's time, in its order.
func (m *Model) linesOf(f *store.LogFilter) (all []store.RunLog) {
	for id, r := range m.runs {
		for _, l := range r.logs {
			if !l.At.Before(f.Since) && (f.Until.IsZero() || l.At.Before(f.Until)) {
				all = append(all, store.RunLog{Log: l, ID: id, Task: r.Task})
			}
		}
	}
	slices.SortFunc(all, func(a, b store.RunLog) int {
		if f.Oldest {
			return comparePlaces(placeOf(&a), placeOf(&b))
		}
		return comparePlaces(placeOf(&b), placeOf(&a))
	})
	return all
}

// without reports whether a filter leaves a line out.
func without(f *store.LogFilter) func(store.RunLog) bool {
	return func(l store.RunLog) bool {
		return f.Tasks != nil && !slices.Contains(f.Tasks, l.Task) || f.Run != (store.ID{}) && l.ID != f.Run ||
			f.Level != nil && l.Level < *f.Level
	}
}

func (m *Model) listLogLines(f store.LogFilter, after store.LogPlace, limit int) (
	page []store.RunLog, next store.LogPlace, err error) {
	if err := m.lock(); err != nil {
		return nil, next, err
	}
	defer m.mu.Unlock()
	all := m.linesOf(&f)
	if after != (store.LogPlace{}) {
		all = slices.DeleteFunc(all, func(l store.RunLog) bool {
			c := comparePlaces(placeOf(&l), after)
			return c == 0 || c > 0 != f.Oldest
		})
	}
	if f.Scan > 0 && len(all) > f.Scan && (f.Tasks != nil || f.Level != nil) {
		all = all[:f.Scan]
		next = placeOf(&all[f.Scan-1])
	}
	all = slices.DeleteFunc(all, without(&f))
	bytes := 0
	for i := range all {
		if bytes += all[i].Size(); i == limit || bytes > store.MaxPageBytes && i > 0 {
			return page, placeOf(&all[i-1]), nil
		}
		page = append(page, all[i])
	}
	return page, next, nil
}

func (m *Model) listLogCounts(f store.LogFilter, span time.Duration, limit int) (counts []store.LogCount, err error) {
	if err := m.lock(); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	f.Oldest = false
	all := slices.DeleteFunc(m.linesOf(&f), without(&store.LogFilter{Run: f.Run}))
	all = slices.DeleteFunc(all[:min(limit, len(all))], without(&f))
	for _, l := range slices.Backward(all) {
		c := store.LogCount{At: time.UnixMilli(l.At.UnixMilli() / span.Milliseconds() * span.Milliseconds()), Level: -4}
		for _, level := range []int{0, 4, 8} {
			if l.Level >= level {
				c.Level = level
			}
		}
		i, found := slices.BinarySearchFunc(counts, c, func(a, b store.LogCount) int {
			return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Level, b.Level))
		})
		if !found {
			counts = slices.Insert(counts, i, c)
		}
		counts[i].Lines++
	}
	return counts, nil
}
