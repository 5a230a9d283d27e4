package storetest

import (
	"fmt"
	"time"

	"github.com/stint-dev/stint/store"
)

// define makes a version the newest of a task's definition, with the declared filters and crons.
func (s *suite) define(task, version string, d store.Declaration) {
	s.Helper()
	d.Task, d.Definition = task, &store.Definition{Task: task, Version: version, Body: []byte(`{"version":"` + version + `"}`)}
	if version == "" {
		d.Definition = &store.Definition{}
	}
	s.ok(s.Declare(s.Context(), time.Now(), []store.Declaration{d}))
}

// definitionsAre checks the definitions that a query returns, as "task version".
func (s *suite) definitionsAre(q store.DefinitionList, more bool, want ...string) {
	s.Helper()
	read(s, &q)
	all, goesOn := q.Definitions, q.More
	got := []string{}
	for _, d := range all {
		got = append(got, d.Task+" "+d.Version)
		if string(d.Body) != `{"version":"`+d.Version+`"}` {
			s.Errorf("the body of %s is %s", d.Version, d.Body)
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(want) || goesOn != more {
		s.Errorf("definitions %q, more %v, want %q, %v", got, goesOn, want, more)
	}
}

// The version that was defined last is the newest, also one that was there before. The newest versions are kept, over a reopen.
func definitions(s *suite) {
	for i := range store.MaxVersions + 5 {
		s.define("a", fmt.Sprint("v", i), store.Declaration{})
	}
	s.define("b", "one", store.Declaration{})
	s.definitionsAre(store.DefinitionList{Task: "a", Version: "v4"}, false)
	s.definitionsAre(store.DefinitionList{Task: "a", Version: "v5"}, false, "a v5")
	last := fmt.Sprint("a v", store.MaxVersions+4)
	s.definitionsAre(store.DefinitionList{Task: "a"}, false, last)
	s.definitionsAre(store.DefinitionList{Limit: 1}, true, last)
	s.definitionsAre(store.DefinitionList{Limit: 1, After: "a"}, false, "b one")
	s.define("a", "v50", store.Declaration{})
	s.definitionsAre(store.DefinitionList{Task: "a"}, false, "a v50")
	if _, ok := s.Store.(*Model); !ok { // which has nothing to keep
		s.reopen()
	}
	s.definitionsAre(store.DefinitionList{Limit: 10}, false, "a v50", "b one")
	s.define("a", "", store.Declaration{})
	s.definitionsAre(store.DefinitionList{Limit: 10}, false, "b one")
	s.definitionsAre(store.DefinitionList{Task: "a", Version: "v50"}, false)
}

// What a version declares ends with it; what calls made stays.
func definedFilters(s *suite) {
	filter := func(expr string) store.TaskFilter { return store.TaskFilter{Task: "a", Scope: "s", Expr: expr} }
	s.ok(s.change(&store.FilterChange{Filter: filter("by a call")}))
	filters := func(want ...string) {
		s.Helper()
		got := []string{}
		for _, f := range read(s, &store.FilterList{Task: "a", Limit: 10}).Filters {
			got = append(got, f.Expr)
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			s.Errorf("filters %q, want %q", got, want)
		}
	}
	hourly := run("input")
	hourly.Task = "a"
	cron := []store.Cron{{Name: "a@hourly", Spec: "@hourly", Declared: true, Template: store.Template{Run: hourly}}}
	s.define("a", "one", store.Declaration{Filters: []store.TaskFilter{filter("first"), filter("second")}, Crons: cron})
	filters("by a call", "first", "second")
	s.define("a", "two", store.Declaration{Filters: []store.TaskFilter{filter("third")}})
	filters("by a call", "third")
	if crons := read(s, &store.CronList{Limit: 10}).Crons; len(crons) > 0 {
		s.Errorf("crons of the former version: %+v", crons)
	}
	s.define("a", "", store.Declaration{})
	filters("by a call")
}
