package storetest

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	diff "github.com/google/go-cmp/cmp"
	"github.com/stint-dev/stint/store"
	"pgregory.net/rapid"
)

// modelErrors are the runs that have failed, in order, and the groups that are muted.
type modelErrors struct {
	failed []modelFailure
	marks  map[int64]store.ErrorGroup // with what a mark sets
}

type modelFailure struct {
	store.Failure
	run store.ID
	at  time.Time
}

// fail counts a run that has failed.
func (e *modelErrors) fail(r *modelRun, f *store.Failure, now time.Time) {
	if f == nil {
		return
	}
	r.group = f.Group
	e.failed = append(e.failed, modelFailure{*f, r.ID, time.UnixMilli(now.UnixMilli())})
}

// groups returns all groups, the last seen first, with counts by the span.
func (e *modelErrors) groups(q store.ErrorQuery, now time.Time) (all []store.ErrorGroup) {
	for _, f := range e.failed {
		i := slices.IndexFunc(all, func(g store.ErrorGroup) bool { return g.Group == f.Group })
		if i < 0 {
			i = len(all)
			all = append(all, e.marks[f.Group])
			all[i].First = f.at
		}
		g := &all[i]
		g.Failure, g.Run, g.Last = f.Failure, f.run, f.at
		g.Count++
		if q.Span == 0 {
			continue
		}
		at := f.at.Truncate(q.Span)
		kept := map[time.Duration]time.Duration{time.Minute: store.MinutesKept, time.Hour: store.HoursKept}[q.Span]
		switch last := len(g.Counts) - 1; {
		case at.Before(q.Since.Truncate(q.Span)) || at.Before(now.Add(-kept)) || !q.Until.IsZero() && !at.Before(q.Until):
		case last >= 0 && g.Counts[last].At.Equal(at):
			g.Counts[last].N++
		default:
			g.Counts = append(g.Counts, store.ErrorCount{At: at, N: 1})
		}
	}
	slices.SortFunc(all, func(a, b store.ErrorGroup) int { return cmp.Or(b.Last.Compare(a.Last), cmp.Compare(b.Group, a.Group)) })
	return all
}

// expire forgets the groups that were not seen for long.
func (e *modelErrors) expire(now time.Time) {
	for _, g := range e.groups(store.ErrorQuery{}, now) {
		if g.Last.Before(now.Add(-store.HoursKept)) && g.MutedTill.Before(now) {
			e.failed = slices.DeleteFunc(e.failed, func(f modelFailure) bool { return f.Group == g.Group })
			delete(e.marks, g.Group)
		}
	}
}

func (m *Model) listErrorGroups(q store.ErrorQuery, limit int) ([]store.ErrorGroup, bool, error) {
	if err := m.lock(); err != nil {
		return nil, false, err
	}
	defer m.unlock()
	all := slices.DeleteFunc(m.errors.groups(q, time.Now()), func(g store.ErrorGroup) bool {
		place := cmp.Or(g.Last.Compare(q.After.Last), cmp.Compare(g.Group, q.After.ID))
		return q.IDs != nil && !slices.Contains(q.IDs, g.Group) || q.Tasks != nil && !slices.Contains(q.Tasks, g.Task) ||
			q.Text != "" && !strings.Contains(strings.ToLower(g.Task+"\n"+g.Text+"\n"+g.Sample), strings.ToLower(q.Text)) ||
			g.Last.Before(q.Since) || !q.Until.IsZero() && !g.First.Before(q.Until) || !q.After.Last.IsZero() && place >= 0
	})
	all, more := firstPage(all, limit, (*store.ErrorGroup).Size)
	return all, more, nil
}

func (m *Model) markErrors(mark *store.ErrorMark) error {
	if err := m.lock(); err != nil {
		return err
	}
	defer m.unlock()
	var count int64
	for _, f := range m.errors.failed {
		if f.Group == mark.Group {
			count++
		}
	}
	if count == 0 {
		return fmt.Errorf("error group %x: %w", mark.Group, store.ErrNotFound)
	}
	marked := store.ErrorGroup{MutedTill: mark.MutedTill}
	if mark.ToDouble {
		marked.MutedTo = 2 * count
	}
	if mark.Resolved {
		marked.Resolved = count
	}
	m.errors.marks[mark.Group] = marked
	return nil
}

// someFailure draws a group for the nth failed run of a call.
func someFailure(rt *rapid.T, n int) *store.Failure {
	group := int64(rapid.IntRange(-2, 2).Draw(rt, "group"))
	return &store.Failure{Group: 2*group + 1, Task: fmt.Sprint("t", group), Text: "bad", Sample: fmt.Sprint("bad ", n)}
}

// compareErrors compares the error groups of the stores with those of the model.
func (p *pair) compareErrors(rt *rapid.T) {
	if d := diff.Diff(p.groups(p.model), p.groups(p.stores[0])); d != "" {
		rt.Fatalf("error groups (-want +got):\n%s", d)
	}
}

// groups returns what two stores must agree on of all groups. Their runs have other IDs.
func (p *pair) groups(s store.Store) (all []string) {
	list := store.ErrorGroupList{ErrorQuery: store.ErrorQuery{Span: time.Hour}, Limit: 100}
	p.ok(s.Read(p.t.Context(), &list))
	for _, g := range list.Groups {
		all = append(all, fmt.Sprint(g.Failure, g.First.UnixMilli(), g.Last.UnixMilli(), g.Count, g.MutedTill.UnixMilli(),
			g.MutedTo, g.Resolved, g.Counts))
	}
	return all
}

// fails enqueues runs, and lets them fail with errors of groups in one call.
func (s *suite) fails(groups ...store.Failure) (ids []store.ID) {
	s.Helper()
	var outcomes []store.Outcome
	for _, f := range groups {
		s.enqueue(run(f.Text))
		c := s.claim(1)[0]
		o := outcome(c, store.Failed)
		o.Error, o.Failure = []byte(`{"message":"`+f.Sample+`"}`), &f
		outcomes, ids = append(outcomes, o), append(ids, c.ID)
	}
	_, err := s.Finish(s.Context(), time.Now(), outcomes)
	s.ok(err)
	return ids
}

// groupsAre compares the groups that match, each as its text, count and counts.
func (s *suite) groupsAre(what string, q store.ErrorQuery, want ...string) []store.ErrorGroup {
	s.Helper()
	list := read(s, &store.ErrorGroupList{ErrorQuery: q, Limit: 10})
	all, more := list.Groups, list.More
	var got []string
	for _, g := range all {
		text := fmt.Sprint(g.Text, " ", g.Count)
		for _, c := range g.Counts {
			text += fmt.Sprint("+", c.N)
		}
		got = append(got, text)
	}
	if !slices.Equal(got, want) || more {
		s.Errorf("%s: groups are %q, want %q", what, got, want)
	}
	return all
}

// errorGroups checks how failed runs are grouped, found and muted.
func errorGroups(s *suite) {
	refused := store.Failure{Group: 7, Task: "t", Text: "refused", Sample: "refused 1"}
	gone := store.Failure{Group: -9, Task: "u", Text: "gone", Sample: "gone: é\n2"}
	s.groupsAre("at first", store.ErrorQuery{})
	began := time.Now().Truncate(time.Hour).Add(time.Hour)
	time.Sleep(time.Until(began))
	again := refused
	again.Sample = "refused 3"
	ids := s.fails(refused, gone, again)
	all := s.groupsAre("after one commit", store.ErrorQuery{Span: time.Minute}, "refused 2+2", "gone 1+1")
	if len(all) == 2 && (all[0].Failure != again || all[0].Run != ids[2] || all[1].Failure != gone || !all[0].First.Equal(began) ||
		!all[1].Last.Equal(began) || !all[1].Counts[0].At.Equal(began)) {
		s.Errorf("the groups are %+v", all)
	}
	s.notCounted(refused)
	time.Sleep(90 * time.Second)
	s.fails(gone)
	s.groupsAre("by minute", store.ErrorQuery{Span: time.Minute}, "gone 2+1+1", "refused 2+2")
	s.groupsAre("by hour", store.ErrorQuery{Span: time.Hour}, "gone 2+2", "refused 2+2")
	s.groupsAre("since", store.ErrorQuery{Span: time.Minute, Since: began.Add(80 * time.Second)}, "gone 2+1")
	s.groupsAre("until", store.ErrorQuery{Span: time.Minute, Until: began.Add(time.Minute)}, "gone 2+1", "refused 2+2")
	s.groupsAre("until its begin", store.ErrorQuery{Until: began})
	s.groupsAre("of a task", store.ErrorQuery{Tasks: []string{"u", "x"}}, "gone 2")
	s.groupsAre("by ID", store.ErrorQuery{IDs: []int64{7, 8}}, "refused 2")
	s.groupsAre("none by ID", store.ErrorQuery{IDs: []int64{}})
	page := read(s, &store.ErrorGroupList{Limit: 1})
	if len(page.Groups) != 1 || !page.More {
		s.Fatalf("a page has %d, more %v", len(page.Groups), page.More)
	}
	last := page.Groups[0]
	s.groupsAre("the next page", store.ErrorQuery{After: store.ErrorPlace{Last: last.Last, ID: last.Group}}, "refused 2")
	if _, is := s.Store.(*Model); is {
		return // it keeps nothing
	}
	s.reopen()
	s.groupsAre("after a reopen", store.ErrorQuery{Span: time.Hour}, "gone 2+2", "refused 2+2")
	if s.Read(s.Context(), &store.ErrorGroupList{ErrorQuery: store.ErrorQuery{Span: time.Second}, Limit: 1}) == nil {
		s.Error("counts of a second are there")
	}
}

// notCounted checks which outcomes are not failed runs: those that others follow, those of runs that were canceled, and
// stale ones.
func (s *suite) notCounted(f store.Failure) {
	s.Helper()
	ids := s.enqueue(run("retried"), run("canceled"))
	c := s.claim(2)
	o := outcome(c[0], store.Scheduled)
	o.At, o.Failure = time.Now().Add(1000*time.Hour), &f
	s.finish(o)
	s.act(store.ActCancel, store.Filter{IDs: ids[1:]})
	o = outcome(c[1], store.Failed)
	o.Failure = &f
	s.finish(o)
	s.finish(o)
	s.groupsAre("after what does not count", store.ErrorQuery{IDs: []int64{f.Group}}, f.Text+" 2")
}

// errorRuns checks that runs are found by the group in which they failed last.
func errorRuns(s *suite) {
	refused := store.Failure{Group: 1 << 62, Task: "t", Text: "refused"}
	gone := store.Failure{Group: 3, Task: "t", Text: "gone"}
	s.fails(refused, gone, refused)
	s.listed(store.Filter{ErrorGroup: refused.Group}, "refused", "refused")
	s.listed(store.Filter{ErrorGroup: 4})
	if n := s.act(store.ActReplay, store.Filter{ErrorGroup: gone.Group}); n != 1 {
		s.Errorf("replayed %d", n)
	}
	o := outcome(s.claim(1)[0], store.Failed)
	o.Failure = &refused
	s.finish(o)
	s.listed(store.Filter{ErrorGroup: refused.Group}, "refused", "gone", "refused")
	s.listed(store.Filter{ErrorGroup: gone.Group})
	s.groupsAre("a run that failed twice counts twice", store.ErrorQuery{}, "refused 3", "gone 1")
	if n := s.act(store.ActDelete, store.Filter{ErrorGroup: refused.Group}); n != 3 {
		s.Errorf("deleted %d", n)
	}
	s.listed(store.Filter{ErrorGroup: refused.Group})
	s.groupsAre("of deleted runs", store.ErrorQuery{}, "refused 3", "gone 1")
}

// mutedErrors checks that a group is muted, and which groups go after a time.
func mutedErrors(s *suite) {
	ctx := s.Context()
	old := store.Failure{Group: 1, Task: "t", Text: "old"}
	muted := store.Failure{Group: 2, Task: "t", Text: "muted"}
	s.fails(old, muted)
	till := time.Now().Add(10_000 * time.Hour)
	mute := func(group int64, until time.Time) {
		s.Helper()
		s.ok(s.change(&store.ErrorMark{Group: group, MutedTill: until}))
		all := read(s, &store.ErrorGroupList{ErrorQuery: store.ErrorQuery{IDs: []int64{group}}, Limit: 1}).Groups
		if len(all) != 1 || all[0].MutedTill.UnixMilli() != until.UnixMilli() {
			s.Errorf("muted till %v: %+v", until, all)
		}
	}
	mute(1, till)
	mute(1, time.Time{})
	mute(2, till)
	if err := s.change(&store.ErrorMark{Group: 3, Resolved: true}); !errors.Is(err, store.ErrNotFound) {
		s.Errorf("a group that does not exist: %v", err)
	}
	s.fails(muted)
	s.groupsAre("a muted group counts on", store.ErrorQuery{Span: time.Hour}, "muted 2+2", "old 1+1")
	time.Sleep(26 * time.Hour)
	_, err := s.Expire(ctx, time.Now().Add(-time.Hour), time.Now().Add(-time.Hour))
	s.ok(err)
	s.groupsAre("minutes after a day", store.ErrorQuery{Span: time.Minute}, "muted 2", "old 1")
	s.groupsAre("hours after a day", store.ErrorQuery{Span: time.Hour}, "muted 2+2", "old 1+1")
	time.Sleep(31 * 24 * time.Hour)
	_, err = s.Expire(ctx, time.Now().Add(-time.Hour), time.Now().Add(-time.Hour))
	s.ok(err)
	s.groupsAre("after a month", store.ErrorQuery{Span: time.Hour}, "muted 2")
	s.fails(old)
	s.groupsAre("a new one", store.ErrorQuery{Span: time.Hour}, "old 1+1", "muted 2")
}

// markedErrors checks that a mark is kept as the count of its moment, in place of the one before, and that groups are found by
// their texts.
func markedErrors(s *suite) {
	bad := store.Failure{Group: 1, Task: "Charge", Text: "card <n>", Sample: `{"message": 7}`}
	s.fails(bad, bad, bad)
	is := func(m store.ErrorMark, to, resolved int64) {
		s.Helper()
		m.Group = 1
		s.ok(s.change(&m))
		s.fails(bad)
		all := read(s, &store.ErrorGroupList{Limit: 10}).Groups
		if len(all) != 1 || all[0].MutedTo != to || all[0].Resolved != resolved || !all[0].MutedTill.IsZero() {
			s.Errorf("%+v: %+v, want muted to %d, resolved at %d", m, all, to, resolved)
		}
	}
	is(store.ErrorMark{ToDouble: true}, 6, 0)
	is(store.ErrorMark{Resolved: true}, 0, 4)
	is(store.ErrorMark{ToDouble: true, Resolved: true}, 10, 5)
	is(store.ErrorMark{}, 0, 0)
	for text, want := range map[string]int{"CHARGE": 1, "ard <N": 1, "message": 1, "%": 0, "cards": 0} {
		if all := read(s, &store.ErrorGroupList{ErrorQuery: store.ErrorQuery{Text: text}, Limit: 10}).Groups; len(all) != want {
			s.Errorf("%q finds %d groups, want %d", text, len(all), want)
		}
	}
}
