package stint_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/stinttest"
)

var update = flag.Bool("update", false, "write testdata/journals anew")

// An order is what the tests of replays work on.
type order struct {
	ID    string `json:"id"`
	Cents int    `json:"cents"`
}

type shop struct {
	charges atomic.Int32 // steps that ran
	ship    *stint.Task[string, string]
}

func (s *shop) fulfil(ctx context.Context, o order) (string, error) {
	receipt, err := stint.Step(ctx, "charge", func(context.Context) (string, error) {
		s.charges.Add(1)
		return "receipt of " + o.ID, nil
	})
	if err != nil {
		return "", err
	}
	notes := []*stint.Future[int]{}
	for _, to := range []string{"mail", "sms"} {
		notes = append(notes, stint.Go(ctx, to, func(ctx context.Context) (int, error) {
			return stint.Step(ctx, "send", func(context.Context) (int, error) { s.charges.Add(1); return len(to), nil })
		}))
	}
	if _, err := stint.All(ctx, notes...); err != nil {
		return "", err
	}
	parcel, err := s.ship.Run(ctx, o.ID)
	if err != nil {
		return "", err
	}
	if err := stint.Sleep(ctx, 72*time.Hour); err != nil {
		return "", err
	}
	if stint.Version(ctx, "ask for a review") {
		if _, err := stint.WaitForEvent[string](ctx, "review", stint.WithWaitTimeout(time.Hour)); err != nil && !errors.Is(err, stint.ErrTimeout) {
			return "", err
		}
	}
	return receipt + ", " + parcel, nil
}

// recordShop runs an order and exports its journal while it sleeps and when it has ended.
func recordShop(t *testing.T) (asleep, ended []byte) {
	c := stinttest.New(t)
	s := &shop{ship: stint.NewTask(c, "ship", func(_ context.Context, id string) (string, error) { return "parcel " + id, nil })}
	task := stint.NewTask(c, "fulfil", s.fulfil)
	run, err := task.Enqueue(t.Context(), order{ID: "o1", Cents: 5})
	if err != nil {
		t.Fatal(err)
	}
	export := func() []byte {
		if err := stinttest.Drain(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		b, err := c.ExportJournal(t.Context(), run.ID())
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	asleep = export()
	time.Sleep(73 * time.Hour)
	export()
	time.Sleep(2 * time.Hour)
	ended = export()
	if out, err := run.Wait(t.Context()); err != nil || out != "receipt of o1, parcel o1" {
		t.Fatalf("Wait = %q, %v", out, err)
	}
	return asleep, ended
}

// A journal of a run that waits, and of one that has ended, replays without running a
// step; code that was changed before the point that it had come to does not.
func TestReplayJournal(t *testing.T) {
	var asleep, ended []byte
	synctest.Test(t, func(t *testing.T) { asleep, ended = recordShop(t) })
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(1000 * time.Hour) // the age of a journal does not matter; no client is open, which works each minute
		c := stinttest.New(t)
		s := &shop{ship: stint.NewTask[string, string](c, "ship", nil)}
		for name, journal := range map[string][]byte{"asleep": asleep, "ended": ended} {
			stinttest.Replay(t, journal, s.fulfil)
			if s.charges.Load() > 0 {
				t.Errorf("%s: %d steps ran", name, s.charges.Load())
			}
		}
		appended := func(ctx context.Context, o order) (string, error) {
			out, err := s.fulfil(ctx, o)
			if err == nil {
				_, err = stint.Step(ctx, "archive", func(context.Context) (int, error) { s.charges.Add(1); return 1, nil })
			}
			return out, err
		}
		stinttest.Replay(t, asleep, appended)
		stinttest.Replay(t, ended, appended) // a fork or restart would go on there
		if s.charges.Load() > 0 {
			t.Errorf("%d steps ran", s.charges.Load())
		}
	})
}

// What would block a run after a deploy is an error that names both sides.
func TestReplayJournalDiverged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asleep, _ := recordShop(t)
		step := func(ctx context.Context, name string) {
			_, _ = stint.Step(ctx, name, func(context.Context) (string, error) { return "", nil })
		}
		for _, tc := range []struct {
			name string
			fn   func(context.Context, order) (string, error)
			want []string
		}{
			{"renamed", func(ctx context.Context, _ order) (string, error) { step(ctx, "bill"); return "", nil }, []string{"entry 1", `"charge"`, `"bill"`}},
			{"returns early", func(ctx context.Context, _ order) (string, error) { step(ctx, "charge"); return "", nil }, []string{"entry 2", "branch", "return"}},
			{"another type", func(ctx context.Context, _ order) (string, error) {
				_, err := stint.Step(ctx, "charge", func(context.Context) (int, error) { return 0, nil })
				return "", err
			}, []string{"entry 1", "not a int"}},
			{"another call", func(ctx context.Context, _ order) (string, error) { return "", stint.Sleep(ctx, time.Hour) }, []string{"entry 1", "sleep"}},
			{"in a branch", func(ctx context.Context, _ order) (string, error) {
				step(ctx, "charge")
				return stint.Go(ctx, "letter", func(ctx context.Context) (string, error) { return "", nil }).Wait(ctx)
			}, []string{"entry 2", `"mail"`, `"letter"`}},
		} {
			err := stint.ReplayJournal(t.Context(), asleep, tc.fn)
			if !errors.Is(err, stint.ErrDiverged) {
				t.Errorf("%s: %v", tc.name, err)
				continue
			}
			for _, w := range tc.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%s: %v does not say %q", tc.name, err, w)
				}
			}
		}
	})
}

// What is no journal is an error; a handler that panics or blocks loses nothing.
func TestReplayJournalBadInput(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asleep, _ := recordShop(t)
		ok := func(context.Context, order) (string, error) { return "", nil }
		for _, bad := range []string{"", "{", "{}", `{"stint_journal": 99}`,
			`{"stint_journal": 1, "entries": [{"seq": 1, "kind": "dance"}]}`,
			`{"stint_journal": 1, "tasks": {"a": {"state": "lost"}}}`} {
			if err := stint.ReplayJournal(t.Context(), []byte(bad), ok); err == nil || errors.Is(err, stint.ErrDiverged) {
				t.Errorf("%q: %v", bad, err)
			}
		}
		err := stint.ReplayJournal(t.Context(), asleep, func(context.Context, order) (string, error) { panic("oh") })
		if err == nil || !strings.Contains(err.Error(), "oh") {
			t.Errorf("a panic: %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		err = stint.ReplayJournal(ctx, asleep, func(ctx context.Context, _ order) (string, error) { <-ctx.Done(); return "", ctx.Err() })
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a handler that blocks: %v", err)
		}
	})
}

// Journals in testdata were exported by released versions: they replay for ever.
func TestReplayGolden(t *testing.T) {
	if *update {
		synctest.Test(t, func(t *testing.T) {
			asleep, ended := recordShop(t)
			for name, b := range map[string][]byte{"asleep": asleep, "ended": ended} {
				if err := os.WriteFile(filepath.Join("testdata", "journals", name+".json"), b, 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
	files, err := filepath.Glob("testdata/journals/*.json")
	if err != nil || len(files) < 2 {
		t.Fatalf("%d journals, %v", len(files), err)
	}
	c := stinttest.New(t)
	s := &shop{ship: stint.NewTask[string, string](c, "ship", nil)}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		stinttest.Replay(t, b, s.fulfil)
	}
	if s.charges.Load() > 0 {
		t.Errorf("%d steps ran", s.charges.Load())
	}
}

// The task of a workflow finds the outputs of those before it in the recording.
func TestReplayWorkflowTask(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := stinttest.New(t)
		w := stint.NewWorkflow[int](c, "sums")
		a := stint.AddTask(w, "a", func(_ context.Context, n int) (int, error) { return n + 1, nil })
		fn := func(ctx context.Context, n int) (string, error) {
			before, err := a.Output(ctx)
			if err != nil {
				return "", err
			}
			return stint.Step(ctx, fmt.Sprint("step ", before), func(context.Context) (string, error) { return "done", nil })
		}
		b := stint.AddTask(w, "b", fn, stint.WithParents(a))
		run, err := w.Enqueue(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		if err := stinttest.Drain(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		out, err := run.Wait(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got, err := b.From(out); err != nil || got != "done" {
			t.Fatalf("From = %q, %v", got, err)
		}
		info, err := run.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, task := range info.Tasks {
			if task.Name != "b" {
				continue
			}
			journal, err := c.ExportJournal(t.Context(), task.RunID)
			if err != nil {
				t.Fatal(err)
			}
			stinttest.Replay(t, journal, fn)
			return
		}
		t.Errorf("no run of task b in %+v", info.Tasks)
	})
}

// Whatever somebody gives as a journal is refused, diverges, or is replayed.
func FuzzReplayJournal(f *testing.F) {
	files, err := filepath.Glob("testdata/journals/*.json")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte(`{"entries":[{"kind":"sleep","seq":-1}]}`))
	f.Fuzz(func(t *testing.T, journal []byte) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		stint.ReplayJournal(ctx, journal, func(ctx context.Context, in any) (any, error) {
			stint.Step(ctx, "a", func(context.Context) (int, error) { return 1, nil })
			stint.Sleep(ctx, time.Hour)
			return stint.WaitForEvent[any](ctx, "e")
		})
	})
}
