package storetest

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/stint-dev/stint/store"
)

// nextCron returns a cron that ticks next.
func (m *Model) nextCron() (first *store.Cron) {
	for _, c := range m.crons {
		if !c.Next.IsZero() && (first == nil || c.Next.Before(first.Next)) {
			first = c
		}
	}
	return first
}

// tick enqueues a cron's run. A model is never late.
func (m *Model) tick(c *store.Cron) {
	at := c.Next
	c.Last, c.LastRun = at, m.startCron(c, at, at)
	var err error
	c.Next, err = store.NextTick(c.Spec, at)
	m.must(err)
}

func (m *Model) startCron(c *store.Cron, now, at time.Time) store.ID {
	r := c.Template.Run
	r.Metadata = store.AddMetadata(r.Metadata, store.MetaCron, c.Name, store.MetaTick, at.UTC().Format(time.RFC3339))
	return m.enqueue(now, r).ID
}

// trigger starts an event's runs: of triggers with exactly its key, then of those with a *, each by key and
// task.
func (m *Model) trigger(now time.Time, e *modelEvent) (started []store.ID, err error) {
	var list []store.Trigger
	for _, task := range slices.Sorted(maps.Keys(m.triggers)) {
		if !m.gone[task].IsZero() {
			continue
		}
		list = append(list, m.triggers[task]...)
	}
	wild := func(t store.Trigger) int { return strings.Count(t.Key, "*") }
	slices.SortStableFunc(list, func(a, b store.Trigger) int {
		return cmp.Or(cmp.Compare(min(wild(a), 1), min(wild(b), 1)), cmp.Compare(a.Key, b.Key))
	})
	for _, tr := range list {
		if !store.MatchKey(tr.Key, e.Key) {
			continue
		}
		filters := slices.DeleteFunc(slices.Clone(m.filters), func(f store.TaskFilter) bool { return f.Task != tr.Template.Run.Task })
		runs, err := tr.RunsOf(&e.NewEvent, filters)
		if err != nil {
			return nil, err
		}
		for _, r := range runs {
			if made := m.enqueue(now, r); !made.Existing {
				started = append(started, made.ID)
			}
		}
	}
	return started, nil
}

// delivered returns the event that has a delivery, or nil.
func (m *Model) delivered(delivery string) *modelEvent {
	for i := range m.events {
		if delivery != "" && m.events[i].Delivery == delivery {
			return &m.events[i]
		}
	}
	return nil
}

// woke records that an event ended a run's wait. A run that the event started is not among those that it woke.
func (m *Model) woke(event, run store.ID) {
	for i := range m.events {
		if e := &m.events[i]; e.id == event && !slices.Contains(e.woke, run) && !slices.Contains(e.started, run) {
			e.woke = append(e.woke, run)
		}
	}
}

func (m *Model) expireEvents(before time.Time) {
	m.mu.Lock()
	defer m.unlock()
	m.events = slices.DeleteFunc(m.events, func(e modelEvent) bool { return e.at.Before(before) })
}

// Declare implements store.Schedules.
func (m *Model) Declare(_ context.Context, now time.Time, ds []store.Declaration) error {
	if err := m.lock(); err != nil {
		return err
	}
	defer m.unlock()
	m.advance(now)
	for _, d := range ds {
		if d.Definition != nil && !m.define(now, &d) {
			continue
		}
		m.triggers[d.Task], m.programs[d.Task] = d.Triggers, d.Program
		for name, c := range m.crons {
			if c.Declared && c.Template.Run.Task == d.Task && !slices.ContainsFunc(d.Crons,
				func(c store.Cron) bool { return c.Name == name }) {
				delete(m.crons, name)
			}
		}
		for _, c := range d.Crons {
			c.Declared = true
			if err := m.setCron(now, c); err != nil {
				return err
			}
		}
		gone := m.gone[d.Task]
		delete(m.gone, d.Task)
		if err := m.catchUp(now, gone, d.Triggers); err != nil {
			return err
		}
	}
	return nil
}

// isGone reports whether a cron's declaration was removed.
func (m *Model) isGone(c *store.Cron) bool {
	return c.Declared && !m.gone[c.Template.Run.Task].IsZero()
}

func (m *Model) hasWorker(task string) bool {
	for _, w := range m.workers {
		if !w.gone && (w.Tasks == nil || slices.Contains(w.Tasks, task)) {
			return true
		}
	}
	return false
}

// catchUp starts the runs that triggers, which were undeclared for a moment, would have started meanwhile.
func (m *Model) catchUp(now, gone time.Time, triggers []store.Trigger) error {
	if gone.IsZero() || now.Sub(gone) > store.CatchUpGraceTime {
		return nil
	}
	for i := range m.events {
		e := &m.events[i]
		for _, tr := range triggers {
			if e.at.Before(gone) || !store.MatchKey(tr.Key, e.Key) {
				continue
			}
			filters := slices.DeleteFunc(slices.Clone(m.filters), func(f store.TaskFilter) bool { return f.Task != tr.Template.Run.Task })
			runs, err := tr.RunsOf(&e.NewEvent, filters)
			if err != nil {
				return err
			}
			for _, r := range runs {
				m.enqueue(now, r)
			}
		}
	}
	return nil
}

// dropUndeclared removes the declarations of a worker's program that it lacks now.
func (m *Model) dropUndeclared(w *store.WorkerInfo, now time.Time) {
	for task, program := range m.programs {
		if program != w.Program || program == "" || slices.Contains(w.Defines, task) || m.hasWorker(task) || !m.gone[task].IsZero() {
			continue
		}
		m.gone[task] = now
		for _, c := range m.crons {
			if m.isGone(c) && c.Template.Run.Task == task {
				c.Next = time.Time{}
			}
		}
	}
}

func (m *Model) setCron(now time.Time, c store.Cron) (err error) {
	old := m.crons[c.Name]
	gone := old != nil && m.isGone(old)
	after := now
	if gone && c.Declared {
		after = m.gone[old.Template.Run.Task]
	} else if gone {
		old = nil
	}
	if c.Next, err = store.NextTick(c.Spec, after); err != nil {
		return err
	}
	if old != nil {
		if old.Template.Run.Task != c.Template.Run.Task || old.Declared && !c.Declared {
			return fmt.Errorf("cron %q: %w", c.Name, store.ErrTaken)
		}
		c.Paused, c.Last, c.LastRun = old.Paused, old.Last, old.LastRun
		if old.Spec == c.Spec && !gone || old.Paused {
			c.Next = old.Next
		}
	}
	m.crons[c.Name] = &c
	return nil
}

func (m *Model) changeCron(now time.Time, c *store.CronChange) (err error) {
	if err := m.lock(); err != nil {
		return err
	}
	defer m.unlock()
	m.advance(now)
	if c.Kind == store.CronSet {
		return m.setCron(now, c.Cron)
	}
	if c.Kind == store.CronSpec {
		return m.setCronSpec(now, m.crons[c.Name], c.Spec)
	}
	c.Started, err = m.changeCronNamed(now, c.Name, c.Kind)
	return err
}

func (m *Model) setCronSpec(now time.Time, c *store.Cron, spec string) error {
	next, err := store.NextTick(spec, now)
	switch {
	case c == nil, m.isGone(c):
		return store.ErrNotFound
	case c.Declared:
		return store.ErrTaken
	case err != nil:
		return err
	case !c.Paused && spec != c.Spec:
		c.Next = next
	}
	c.Spec, c.Error = spec, ""
	return nil
}

func (m *Model) changeCronNamed(now time.Time, name string, change store.CronChangeKind) (id store.ID, err error) {
	c := m.crons[name]
	switch {
	case c == nil, m.isGone(c) && change != store.CronDelete:
		err = fmt.Errorf("cron %q: %w", name, store.ErrNotFound)
	case change == store.CronPause:
		c.Paused, c.Next = true, time.Time{}
	case change == store.CronDelete && c.Declared && !m.isGone(c) && m.hasWorker(c.Template.Run.Task):
		err = fmt.Errorf("cron %q: %w", name, store.ErrTaken)
	case change == store.CronDelete:
		delete(m.crons, name)
	case change == store.CronTrigger:
		id = m.startCron(c, now, now)
	case c.Paused:
		c.Paused = false
		c.Next, err = store.NextTick(c.Spec, now)
	}
	return id, err
}

func (m *Model) listCrons(after string, limit int) (all []store.Cron, more bool, err error) {
	if err := m.lock(); err != nil {
		return nil, false, err
	}
	defer m.unlock()
	m.advance(time.Now())
	for _, name := range slices.Sorted(maps.Keys(m.crons)) {
		if name > after && !m.isGone(m.crons[name]) {
			all = append(all, *m.crons[name])
		}
	}
	all, more = firstPage(all, limit, (*store.Cron).Size)
	return all, more, nil
}

// firstPage returns the first page of rows, and whether there are more.
func firstPage[T any](all []T, limit int, size func(*T) int) (page []T, more bool) {
	bytes := 0
	for i := range all {
		if bytes += size(&all[i]); i == limit || bytes > store.MaxPageBytes && i > 0 {
			return all[:i], true
		}
	}
	return all, false
}

func (m *Model) changeFilter(c *store.FilterChange) error {
	if err := m.lock(); err != nil {
		return err
	}
	defer m.unlock()
	f := c.Filter
	c.ID = f.ID
	if f.Task == "" {
		n := len(m.filters)
		m.filters = slices.DeleteFunc(m.filters, func(old store.TaskFilter) bool { return old.ID == f.ID })
		if len(m.filters) == n {
			return store.ErrNotFound
		}
		return nil
	}
	if f.ID != 0 {
		i := slices.IndexFunc(m.filters, func(old store.TaskFilter) bool { return old.ID == f.ID })
		if i < 0 {
			return store.ErrNotFound
		}
		m.filters[i] = f
		return nil
	}
	m.filter++
	f.ID, f.Declared = m.filter, false
	m.filters = append(m.filters, f)
	c.ID = f.ID
	return nil
}

func (m *Model) listFilters(task string, after int64, limit int) (all []store.TaskFilter, more bool, err error) {
	if err := m.lock(); err != nil {
		return nil, false, err
	}
	defer m.unlock()
	for _, f := range m.filters {
		if (task == "" || f.Task == task) && f.ID > after {
			all = append(all, f)
		}
	}
	all, more = firstPage(all, limit, (*store.TaskFilter).Size)
	return all, more, nil
}

func (e *modelEvent) matches(f *store.EventFilter) bool {
	return (f.IDs == nil || slices.Contains(f.IDs, e.id)) && (f.Keys == nil || slices.Contains(f.Keys, e.Key)) &&
		!e.at.Before(f.Since) && (f.Until.IsZero() || e.at.Before(f.Until)) && hasMetadata(e.Metadata, f.Metadata)
}

func (m *Model) listEvents(f store.EventFilter, before store.ID, limit int,
) (all []store.EventInfo, next store.ID, err error) {
	if err := m.lock(); err != nil {
		return nil, next, err
	}
	defer m.unlock()
	size := 0
	for _, e := range slices.Backward(m.events) {
		if !e.matches(&f) || before != (store.ID{}) && bytes.Compare(e.id[:], before[:]) >= 0 {
			continue
		}
		if size += e.Size(); len(all) == limit || size > store.MaxPageBytes && len(all) > 0 {
			return all, all[len(all)-1].ID, nil
		}
		e.Runs = nil
		all = append(all, store.EventInfo{NewEvent: e.NewEvent, ID: e.id, At: e.at, Started: e.started, Woke: e.woke})
	}
	return all, next, nil
}
