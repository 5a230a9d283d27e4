package storetest

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stint-dev/stint/store"
)

// A Changer executes a statement on the database in dir, as somebody does who changes it by hand. Tables have their
// names in SQLite, such as stint_runs. It is called in the bubble of the store, which is open.
type Changer func(t testing.TB, dir, statement string)

// Damage checks what becomes of rows that no commit of a store has written (R8): they fail their own run, and nothing
// else.
func Damage(t *testing.T, open Opener, change Changer) {
	store.RegisterFilters(contains)
	for _, rule := range damages {
		t.Run(rule.name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				s := &suite{T: t, open: open, dir: dir, Store: open(t, dir)}
				defer func() { s.ok(s.Close()) }()
				s.worker = s.register()
				rule.check(s, func(statement string) { t.Helper(); change(t, dir, statement) })
			})
		})
	}
}

var damages = []struct {
	name  string
	check func(s *suite, change func(statement string))
}{
	{"a run that is claimed", damagedClaim},
	{"a workflow's task that is claimed", damagedTask},
	{"a run whose outcome is recorded", damagedOutcome},
	{"limits of a run that ends", damagedLimits},
	{"a cron", damagedCron},
	{"texts that lists search", damagedTexts},
}

// nth selects the nth run in order of enqueueing, from 0.
func nth(n int) string {
	return fmt.Sprintf("id = (SELECT id FROM stint_runs ORDER BY id LIMIT 1 OFFSET %d)", n)
}

// damaged fails unless a run is blocked, and says why.
func (s *suite) damaged(id store.ID) {
	s.Helper()
	if r := s.get(id); r.State != store.Blocked || !strings.Contains(string(r.Error), `"kind":"damaged"`) {
		s.Errorf("the damaged run is %v: %.300s", r.State, r.Error)
	}
}

func damagedClaim(s *suite, change func(string)) {
	ids := s.enqueue(run("0"), run("1"), run("2"))
	change("UPDATE stint_runs SET node = -1 WHERE " + nth(1))
	s.takes(10, "0", "2")
	s.damaged(ids[1])
	s.enqueue(run("3"))
	s.takes(10, "3")
}

func damagedTask(s *suite, change func(string)) {
	s.begin(graph(s, nil))
	change("UPDATE stint_runs SET node = 4293918720 WHERE " + nth(1)) // of a graph that is not there
	s.enqueue(run("1"))
	s.takes(10, "1")
	page, _, err := s.List(s.Context(), store.Filter{States: []store.State{store.Blocked}}, store.ID{}, 10)
	s.ok(err)
	if len(page) != 1 {
		s.Fatalf("%d runs are blocked, want the task", len(page))
	}
	s.damaged(page[0].ID)
}

func damagedOutcome(s *suite, change func(string)) {
	s.begin(graph(s, nil))
	task := s.claim(1)[0]
	s.enqueue(run("1"))
	other := s.claim(1)[0]
	change("UPDATE stint_runs SET node = 4293918720 WHERE " + nth(1))
	os := []store.Outcome{outcome(task, store.Succeeded), outcome(other, store.Succeeded)}
	os[0].Parent, os[0].Node = task.Parent, 4095<<20
	stale, err := s.Finish(s.Context(), time.Now(), os)
	s.ok(err)
	if stale[1] {
		s.Error("the outcome beside the damaged one was stale")
	}
	s.state(other.ID, store.Succeeded)
	s.damaged(task.ID)
}

func damagedLimits(s *suite, change func(string)) {
	ids := s.enqueue(keyed("0", "k", 2, store.StrategyQueue), keyed("1", "k", 2, store.StrategyQueue))
	got := s.takes(10, "0", "1")
	change("UPDATE stint_runs SET limits = '[{' WHERE " + nth(0))
	stale, err := s.Finish(s.Context(), time.Now(), []store.Outcome{outcome(got[0], store.Succeeded), outcome(got[1], store.Succeeded)})
	s.ok(err)
	if stale[1] {
		s.Error("the outcome beside the damaged one was stale")
	}
	s.state(ids[1], store.Succeeded)
	if r := s.get(ids[0]); r.State != store.Succeeded && r.State != store.Blocked {
		s.Errorf("the damaged run is %v", r.State)
	}
	s.enqueue(keyed("2", "k", 2, store.StrategyQueue))
	s.takes(10, "2")
}

func damagedCron(s *suite, change func(string)) {
	for _, catchUp := range []string{"-1", "256", "4611686018427387904"} {
		for _, name := range []string{"damaged", "whole"} {
			s.ok(s.setCron(cronOf(name, "@hourly", name)))
		}
		change("UPDATE stint_crons SET catch_up = " + catchUp + " WHERE name = 'damaged'")
		time.Sleep(time.Hour + time.Minute)
		synctest.Wait()
		s.takes(10, "whole")
		if c := s.cron("damaged"); !strings.Contains(c.Error, "catch-up") {
			s.Errorf("catch-up %s: the cron says %q", catchUp, c.Error)
		}
		if c := s.cron("whole"); c.Error != "" {
			s.Errorf("catch-up %s: the other cron says %q", catchUp, c.Error)
		}
	}
}

// damagedTexts has in each column texts that are no JSON, or not what a store writes there.
func damagedTexts(s *suite, change func(string)) {
	texts := []string{"{", "[1", "", "nonsense", `{"message":"\ud800"}`, `{"k":"\ud800"}`, `{"k":"\u0000"}`, `[{"n":"\ud800"}]`, `[[]]`,
		`"x"`, "null", `{"k":{"k":"v"}}`, `{"message":"\u00"}`, `{"message":1}`, `[{"n":{}}]`, `{"k" "v"}`, `[{"n":01}]`}
	all := make([]store.NewRun, len(texts), len(texts)+1)
	for i := range all {
		all[i] = run("damaged")
	}
	whole := keyed("whole", "k", 100, store.StrategyQueue)
	whole.Metadata = []byte(`{"a":"b\"\u003c","k":"v"}`)
	ids := s.enqueue(append(all, whole)...)
	got := s.claim(100)
	failed := outcome(got[len(got)-1], store.Failed)
	failed.Error = []byte(`{"kind":"x","message":"a \"fault\""}`)
	if failed.ID != ids[len(texts)] || s.finish(failed) {
		s.Fatal("the whole run was not claimed last")
	}
	for i, text := range texts {
		change("UPDATE stint_runs SET metadata = '" + text + "', limits = '" + text + "', error = '" + text + "' WHERE " + nth(i))
	}
	for _, f := range []store.Filter{
		{Metadata: map[string]string{"k": "v"}},
		{Metadata: map[string]string{"a": `b"<`}},
		{Error: `"FAULT"`},
		{Limit: &store.LimitKey{Name: "t", Key: "k"}},
	} {
		s.listed(f, "whole")
	}
}
