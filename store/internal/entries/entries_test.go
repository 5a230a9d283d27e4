package entries_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/entries"
	"github.com/stint-dev/stint/store/internal/misstest"
)

// rows implements entries.Rows in memory, for runs that are all Running with lease 1.
type rows struct {
	misstest.Misses
	runs   map[int64]map[store.Address]store.Entry
	events map[int64]string // their keys
	log    []string
}

var _ entries.Rows = (*rows)(nil)

// newRows makes a journal of run 1. An entry is written as its scope and number, and then the
// signs of what it is: b a branch, n a note; ! failed, ? pending, else done.
func newRows(texts ...string) *rows {
	r := &rows{runs: map[int64]map[store.Address]store.Entry{1: {}, 2: {}}, events: map[int64]string{}}
	for _, text := range texts {
		name := strings.TrimRight(text, "bn!?")
		i := strings.LastIndexByte(name, '/')
		seq, _ := strconv.Atoi(name[i+1:])
		e := store.Entry{Address: store.Address{Scope: name[:max(i, 0)], Seq: seq}, Kind: store.EntryStep, Done: true, Value: []byte(text)}
		for _, sign := range text[len(name):] {
			switch sign {
			case 'b':
				e.Kind = store.EntryBranch
			case 'n':
				e.Kind = store.EntryNote
			case '!':
				e.Error = []byte("failed")
			case '?':
				e.Done = false
			}
		}
		r.runs[1][e.Address] = e
	}
	return r
}

// is compares a journal.
func (r *rows) is(t *testing.T, run int64, want ...string) {
	t.Helper()
	var all []string
	for at, e := range r.runs[run] {
		text := strings.TrimPrefix(fmt.Sprintf("%s/%d", at.Scope, at.Seq), "/")
		for _, sign := range []struct {
			is   bool
			sign string
		}{{e.Kind == store.EntryBranch, "b"}, {e.Kind == store.EntryNote, "n"}, {e.Error != nil, "!"}, {!e.Done, "?"}} {
			if sign.is {
				text += sign.sign
			}
		}
		all = append(all, text)
	}
	slices.Sort(all)
	slices.Sort(want)
	if !slices.Equal(all, want) {
		t.Errorf("got  %q\nwant %q", all, want)
	}
}

func (r *rows) Put(run int64, lease store.Lease, e store.Entry, _ int64) (_ bool, err error) {
	defer r.Miss(&err)
	if lease != 1 || r.runs[run][e.Address].Done {
		return false, nil
	}
	r.runs[run][e.Address] = e
	return true, nil
}

func (r *rows) Current(_ int64, lease store.Lease) (_ bool, err error) {
	defer r.Miss(&err)
	return lease == 1, nil
}

func (r *rows) Entry(run int64, at store.Address) (_ *store.Entry, err error) {
	defer r.Miss(&err)
	if e, ok := r.runs[run][at]; ok {
		return &e, nil
	}
	return nil, nil
}

func (r *rows) Event(_, from int64, m store.Match) (_ int64, _ []byte, err error) {
	defer r.Miss(&err)
	for _, id := range slices.Sorted(maps.Keys(r.events)) {
		if id >= from && r.events[id] == m.Key {
			return id, []byte("payload"), nil
		}
	}
	return 0, nil, nil
}

func (r *rows) Waits(key string)     { r.log = append(r.log, "waits for "+key) }
func (r *rows) Had(run, event int64) { r.log = append(r.log, fmt.Sprintf("run %d had %d", run, event)) }

func (r *rows) In(run int64, scope string, n int) (all []store.Entry, err error) {
	defer r.Miss(&err)
	for seq := 1; seq <= n; seq++ {
		if e, ok := r.runs[run][store.Address{Scope: scope, Seq: seq}]; ok {
			all = append(all, e)
		}
	}
	return all, nil
}

func (r *rows) Change(run int64, e store.Entry) (err error) {
	defer r.Miss(&err)
	r.runs[run][e.Address] = e
	return nil
}

func (r *rows) Drop(run int64, at store.Address) (err error) {
	defer r.Miss(&err)
	delete(r.runs[run], at)
	return nil
}

func (r *rows) DueBy(run, at int64) (err error) {
	defer r.Miss(&err)
	r.log = append(r.log, fmt.Sprintf("run %d due by %d", run, at))
	return nil
}

// drop deletes the entries of a run for which a condition holds.
func (r *rows) drop(run int64, which func(store.Address, store.Entry) bool) (some bool, err error) {
	before := len(r.runs[run])
	maps.DeleteFunc(r.runs[run], which)
	return len(r.runs[run]) < before, nil
}

func (r *rows) DropFailed(run int64, at store.Address) (_ bool, err error) {
	defer r.Miss(&err)
	return r.drop(run, func(a store.Address, e store.Entry) bool {
		return a == at && e.Kind == store.EntryBranch && e.Error != nil
	})
}

func (r *rows) DropFrom(run int64, at store.Address) (err error) {
	defer r.Miss(&err)
	_, err = r.drop(run, func(a store.Address, _ store.Entry) bool { return a.Scope == at.Scope && a.Seq >= at.Seq })
	return err
}

func (r *rows) DropBranches(run int64, at store.Address) (err error) {
	defer r.Miss(&err)
	_, err = r.drop(run, func(a store.Address, _ store.Entry) bool {
		rest, ok := strings.CutPrefix("/"+a.Scope, strings.TrimSuffix("/"+at.Scope, "/")+"/")
		number, _, _ := strings.Cut(rest, "/")
		n, nerr := strconv.Atoi(number)
		return ok && nerr == nil && n >= at.Seq
	})
	return err
}

func (r *rows) Scopes(run int64, prefix string) (all []string, err error) {
	defer r.Miss(&err)
	for at := range r.runs[run] {
		if strings.HasPrefix(at.Scope, prefix) {
			all = append(all, at.Scope)
		}
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

func (r *rows) EndedBranch(run int64, at store.Address) (_ bool, err error) {
	defer r.Miss(&err)
	e := r.runs[run][at]
	return e.Kind == store.EntryBranch && e.Done, nil
}

func (r *rows) Redo(run int64, scope string) (err error) {
	defer r.Miss(&err)
	for at, e := range r.runs[run] {
		if at.Scope == scope {
			e.Done, e.Error = false, nil
			r.runs[run][at] = e
		}
	}
	return nil
}

func (r *rows) Note(run int64, scope, to string) (err error) {
	defer r.Miss(&err)
	for at, e := range maps.Clone(r.runs[run]) {
		if at.Scope != scope {
			continue
		}
		delete(r.runs[run], at)
		if e.Kind == store.EntryStep {
			e.Scope, e.Kind, e.Done, e.Error = to, store.EntryNote, true, nil
			r.runs[run][e.Address] = e
		}
	}
	return nil
}

func (r *rows) copy(run, to int64, which func(store.Entry) bool) error {
	for at, e := range r.runs[run] {
		if which(e) {
			r.runs[to][at] = e
		}
	}
	return nil
}

func (r *rows) CopyBefore(run, to int64, before int) (err error) {
	defer r.Miss(&err)
	return r.copy(run, to, func(e store.Entry) bool { return e.Done && e.Scope == "" && e.Seq < before })
}

func (r *rows) CopyDone(run, to int64, scopes []string) (err error) {
	defer r.Miss(&err)
	return r.copy(run, to, func(e store.Entry) bool { return e.Done && slices.Contains(scopes, e.Scope) })
}

func (r *rows) CopySteps(run, to int64, scopes []string) (err error) {
	defer r.Miss(&err)
	return r.copy(run, to, func(e store.Entry) bool { return e.Kind == store.EntryStep && slices.Contains(scopes, e.Scope) })
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestAppend(t *testing.T) {
	step := store.Entry{Address: store.Address{Seq: 2}, Kind: store.EntryStep, Done: true, Value: []byte("new")}
	pending := step
	pending.Done, pending.Value, pending.Name = false, nil, "e"
	wait := store.Entry{Address: store.Address{Seq: 2}, Kind: store.EntryEvent, Name: "e"}
	given := wait
	given.Done = true
	for _, c := range []struct {
		name    string
		journal []string
		lease   store.Lease
		entry   store.Entry
		from    int64
		value   string // of the entry that is returned
		done    bool
		stale   bool
		log     string
	}{
		{"a step", nil, 1, step, 0, "new", true, false, ""},
		{"a step that begins", nil, 1, pending, 0, "", false, false, ""},
		{"it completes one that began", []string{"2?"}, 1, step, 0, "new", true, false, ""},
		{"it is done already", []string{"2"}, 1, step, 0, "2", true, false, ""},
		{"of an earlier execution", []string{"2"}, 2, step, 0, "new", true, true, ""},
		{"an event to come", nil, 1, wait, 12, "", false, false, "waits for e"},
		{"an event that has come", nil, 1, wait, 5, "payload", true, false, "run 1 had 11"},
		{"an event of an earlier execution", nil, 2, wait, 5, "payload", true, true, ""},
		{"a wait that timed out", nil, 1, given, 0, "", true, false, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRows(c.journal...)
			r.events[11] = "e"
			now := time.UnixMilli(1000)
			e, stale, err := entries.Append(r, 1, &store.Call{Lease: c.lease, Entry: c.entry}, []int64{c.from}, now)
			ok(t, err)
			if string(e.Value) != c.value || e.Done != c.done || stale != c.stale {
				t.Errorf("got %q, done %v, stale %v", e.Value, e.Done, stale)
			}
			if got := strings.Join(r.log, ", "); got != c.log {
				t.Errorf("got %q, want %q", got, c.log)
			}
			if stored := r.runs[1][e.Address]; !stale && (stored.Done != c.done || len(c.journal) == 0 && !stored.At.Equal(now)) {
				t.Errorf("stored: %+v", stored)
			}
		})
	}
}

func waitCall(seq int, value string) *store.Call {
	return &store.Call{Lease: 1, Entry: store.Entry{Address: store.Address{Seq: seq}, Kind: store.EntryWait, Name: "w", Value: []byte(value)}}
}

// came gives an event to the first event of a wait.
func came(r *rows, value string) error {
	at := store.Address{Scope: "5/on", Seq: 1}
	r.runs[1][store.Address{Seq: 5}] = waitCall(5, value).Entry
	r.runs[1][at] = store.Entry{Address: at, Kind: store.EntryEvent, Done: true, Value: []byte("7"), At: time.UnixMilli(3)}
	r.runs[1][store.Address{Scope: "5/on", Seq: 2}] = store.Entry{Address: store.Address{Scope: "5/on", Seq: 2}, Kind: store.EntryEvent}
	goesOn, err := entries.Came(r, 1, at, time.UnixMilli(3))
	if err == nil && !goesOn {
		err = errors.New("the wait is not over")
	}
	return err
}

func TestWait(t *testing.T) {
	for _, value := range []string{"", "[]", `{"cond":7}`} {
		if _, _, err := entries.Append(newRows(), 1, waitCall(1, value), nil, time.UnixMilli(1)); err == nil {
			t.Errorf("a wait of %q is no error", value)
		}
	}
	r := newRows()
	ok(t, came(r, `{"cond":{"any":[{"event":{"key":"a"}},{"event":{"key":"b"}}]}}`))
	r.is(t, 1, "5", "5/on/1")
	if e := r.runs[1][store.Address{Seq: 5}]; string(e.Value) != `{"a":7}` || !e.At.Equal(time.UnixMilli(3)) {
		t.Errorf("%+v", e)
	}
	for _, at := range []store.Address{{Seq: 1}, {Scope: "2", Seq: 1}} { // of no wait
		goesOn, err := entries.Came(r, 1, at, time.UnixMilli(4))
		if ok(t, err); !goesOn {
			t.Errorf("%v does not go on", at)
		}
	}
	for _, at := range []store.Address{{Scope: "5/on", Seq: 2}, {Scope: "6/on", Seq: 1}} { // over, or not there
		goesOn, err := entries.Came(r, 1, at, time.UnixMilli(4))
		if ok(t, err); goesOn {
			t.Errorf("%v goes on", at)
		}
	}
}

func TestForget(t *testing.T) {
	journal := []string{"1", "2b", "2/1", "2/2b", "2/2/1", "3b!", "3/1", "3/2", "10b", "10/1", "20/1", "undo/1", "undo/2/1"}
	for _, c := range []struct {
		name string
		at   store.Address
		want []string
	}{
		{"a step and all after it", store.Address{Seq: 1}, []string{"undo/1", "undo/2/1"}},
		{"a branch that has not failed", store.Address{Seq: 2}, []string{"1", "undo/1", "undo/2/1"}},
		{"a branch that has failed", store.Address{Seq: 3},
			[]string{"1", "2b", "2/1", "2/2b", "2/2/1", "3/1", "3/2", "10b", "10/1", "20/1", "undo/1", "undo/2/1"}},
		{"branches by their numbers", store.Address{Seq: 11},
			[]string{"1", "2b", "2/1", "2/2b", "2/2/1", "3b!", "3/1", "3/2", "10b", "10/1", "undo/1", "undo/2/1"}},
		{"within a branch", store.Address{Scope: "2", Seq: 2},
			[]string{"1", "2b", "2/1", "3b!", "3/1", "3/2", "10b", "10/1", "20/1", "undo/1", "undo/2/1"}},
		{"a compensation", store.Address{Scope: "undo", Seq: 1},
			[]string{"1", "2b", "2/1", "2/2b", "2/2/1", "3b!", "3/1", "3/2", "10b", "10/1", "20/1", "undo/2/1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRows(journal...)
			ok(t, entries.Forget(r, 1, c.at))
			r.is(t, 1, c.want...)
		})
	}
}

func TestResetUndo(t *testing.T) {
	for _, c := range []struct {
		name          string
		journal, want []string
	}{
		{"the handler's own", []string{"1", "undo/1", "undo/2?", "undo/3b!"}, []string{"1", "undone/1n", "undone/2n"}},
		{"of a branch that has ended", []string{"2b", "undo/2/1"}, []string{"2b", "undo/2/1?"}},
		{"of a branch that goes on", []string{"2b?", "undo/2/1"}, []string{"2b?", "undone/2/1n"}},
		{"of a branch without an entry", []string{"undo/2/1"}, []string{"undone/2/1n"}},
		{"within a branch that has ended", []string{"2b", "undo/2/3/1"}, []string{"2b", "undo/2/3/1?"}},
		{"of a branch that has ended, within one that goes on", []string{"2b?", "2/3b", "undo/2/3/1!"}, []string{"2b?", "2/3b", "undo/2/3/1?"}},
		{"of the engine", []string{"undo/any/1"}, []string{"undone/any/1n"}},
		{"earlier notes stay", []string{"undone/7n", "undo/1"}, []string{"undone/7n", "undone/1n"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRows(c.journal...)
			ok(t, entries.ResetUndo(r, 1))
			r.is(t, 1, c.want...)
		})
	}
}

func TestCopy(t *testing.T) {
	r := newRows("1", "2b", "2/1", "2/9", "3?", "4b", "4/1", "10b", "10/1",
		"undo/1", "undo/2/1?", "undo/4/1", "undo/10/1", "undone/1n", "note/1n")
	ok(t, entries.Copy(r, 1, 2, 4))
	r.is(t, 2, "1", "2b", "2/1", "2/9", "undo/1", "undo/2/1?", "undone/1n", "note/1n")
}

func TestMisses(t *testing.T) {
	event := store.Call{Lease: 1, Entry: store.Entry{Address: store.Address{Seq: 1}, Kind: store.EntryEvent, Name: "e"}}
	made := func() *rows { return newRows("1", "2b", "2/1", "undo/1", "undo/2/1") }
	for name, decide := range map[string]func(*rows) error{
		"append": func(r *rows) error { _, _, err := entries.Append(r, 1, &event, nil, time.UnixMilli(1)); return err },
		"wait": func(r *rows) error {
			r.events[11] = "b"
			_, _, err := entries.Append(r, 1, waitCall(5, `{"until":9,"cond":{"any":[{"all":[{"event":{"key":"a"}},{"sleep":1000}]},`+
				`{"all":[{"event":{"key":"b"}},{"event":{"key":"c"}}]}]}}`), nil, time.UnixMilli(1))
			return err
		},
		"came": func(r *rows) error {
			return came(r, `{"cond":{"any":[{"event":{"key":"a"}},{"event":{"key":"b"}}]}}`)
		},
		"forget":    func(r *rows) error { return entries.Forget(r, 1, store.Address{Seq: 1}) },
		"resetUndo": func(r *rows) error { return entries.ResetUndo(r, 1) },
		"copy":      func(r *rows) error { return entries.Copy(r, 1, 2, 3) },
	} {
		t.Run(name, func(t *testing.T) { misstest.Each(t, made, decide) })
	}
}
