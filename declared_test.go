package stint_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/store"
)

// A release is a program on a file: its tasks, worked until it stops.
func release(t *testing.T, path string, define func(c *stint.Client)) (c *stint.Client, stop func()) {
	t.Helper()
	c = openedAt(t, path)
	if define != nil {
		define(c)
	}
	stopWorker := working(t, c)
	synctest.Wait()
	return c, func() { stopWorker(); c.Close() }
}

func hourly(c *stint.Client) {
	stint.NewTask(c, "report", double, stint.WithCron("0 * * * *"), stint.WithEvents("order.*"))
}

func other(c *stint.Client) { stint.NewTask(c, "other", double) }

func crons(t *testing.T, c *stint.Client) []stint.CronInfo {
	t.Helper()
	return must[[]stint.CronInfo](t)(c.ListCrons(t.Context()))
}

func runsOf(t *testing.T, c *stint.Client, task string) int {
	t.Helper()
	return len(listRuns(t, c, stint.RunFilter{Tasks: []string{task}}).Runs)
}

const hourlyCron = "report:0 * * * *"

// Ticks that were missed start no run of a cron that the next release lacks, nor for a program that opens the database for one change.
// A release that has it makes up for them.
func TestMissedTicksOfGoneCode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "test.db")
		latest := func(c *stint.Client) {
			stint.NewTask(c, "report", double, stint.WithCron("0 * * * *"), stint.WithCatchUp(stint.CatchUpLatest))
		}
		away := func(define func(c *stint.Client), want int, what string) {
			t.Helper()
			time.Sleep(90 * time.Minute)
			c, stop := release(t, path, define)
			defer stop()
			time.Sleep(5 * time.Second)
			if n := runsOf(t, c, "report"); n != want {
				t.Errorf("%s: %d runs, want %d", what, n, want)
			}
			time.Sleep(time.Minute)
			if n := runsOf(t, c, "report"); n != want {
				t.Errorf("%s: %d runs a minute later, want %d", what, n, want)
			}
		}
		_, stop := release(t, path, latest)
		stop()
		away(latest, 1, "the same code")
		time.Sleep(90 * time.Minute)
		c := openedAt(t, path)
		if err := c.PauseQueue(t.Context(), "none"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if n := runsOf(t, c, "report"); n != 1 {
			t.Errorf("a program that changes something: %d runs, want 1", n)
		}
		c.Close()
		away(other, 1, "code that lacks it")
	})
}

// What code declared goes when the next release of the program lacks it.
func TestDeclaredGoesWithItsCode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "test.db")
		c, stop := release(t, path, hourly)
		time.Sleep(3*time.Hour + time.Minute)
		if n := runsOf(t, c, "report"); n != 3 {
			t.Errorf("%d runs in 3 hours, want 3", n)
		}
		stop()
		c, stop = release(t, path, other)
		defer stop()
		time.Sleep(3 * time.Hour)
		publish(t, c, "order.paid", 1)
		if n := runsOf(t, c, "report"); n != 3 {
			t.Errorf("%d runs after the release that lacks the task, want 3", n)
		}
		if all := crons(t, c); len(all) != 0 {
			t.Errorf("crons: %+v", all)
		}
		for _, err := range []error{c.PauseCron(t.Context(), hourlyCron), c.ResumeCron(t.Context(), hourlyCron)} {
			if !errors.Is(err, stint.ErrNotFound) {
				t.Errorf("a cron that is gone: %v", err)
			}
		}
		if err := c.DeleteCron(t.Context(), hourlyCron); err != nil {
			t.Errorf("deleted by hand: %v", err)
		}
	})
}

// A program that declares only some takes nothing from one that lives, nor does who only
// looks; and what is back has missed nothing.
func TestDeclaredBesideOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "test.db")
		c, stop := release(t, path, hourly)
		time.Sleep(time.Hour - 2*time.Second)
		d, stopOther := release(t, path, other)
		if err := d.DeleteCron(t.Context(), hourlyCron); !errors.Is(err, stint.ErrTaken) {
			t.Errorf("deleted what a living worker declares: %v", err)
		}
		time.Sleep(4 * time.Second) // not longer: two that share a file look at it often
		if n := runsOf(t, c, "report"); n != 1 {
			t.Errorf("%d runs at a tick beside another program, want 1", n)
		}
		if err := c.PauseCron(t.Context(), hourlyCron); err != nil {
			t.Fatal(err)
		}
		stop()
		stopOther()
		looks := openedAt(t, path)
		if all := crons(t, looks); len(all) != 1 || all[0].Blocked != "no worker serves queue default" {
			t.Errorf("seen by who only looks: %+v", all)
		}
		_, stopOther = release(t, path, other) // it takes the cron away
		defer stopOther()
		if all := crons(t, looks); len(all) != 0 {
			t.Errorf("after a worker without it: %+v", all)
		}
		publish(t, looks, "order.paid", 1)
		c, stop = release(t, path, hourly)
		defer stop()
		if all := crons(t, c); len(all) != 1 || !all[0].Paused {
			t.Errorf("it is back, and paused as it was: %+v", all)
		}
		synctest.Wait()
		if n := runsOf(t, c, "report"); n != 2 {
			t.Errorf("%d runs, want 2: of the event that came meanwhile too", n)
		}
	})
}

// A tick that came while the code was away for a moment is made up for.
func TestDeclaredMakesUpForTicks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "test.db")
		_, stop := release(t, path, hourly)
		time.Sleep(time.Hour - 10*time.Second)
		stop()
		_, stopOther := release(t, path, other)
		defer stopOther()
		time.Sleep(30 * time.Second)
		c, stop := release(t, path, hourly)
		defer stop()
		time.Sleep(time.Second)
		if n := runsOf(t, c, "report"); n != 1 {
			t.Errorf("%d runs, want that of the tick 20 s ago", n)
		}
	})
}

// A cron that was declared and whose task no living program has can be deleted by hand; a
// workflow's, too, goes with its code.
func TestDeclaredOfNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "test.db")
		_, stop := release(t, path, func(c *stint.Client) {
			hourly(c)
			w := stint.NewWorkflow[int](c, "flow", stint.WithCron("0 * * * *"))
			stint.AddTask(w, "a", func(_ context.Context, n int) (int, error) { return n, nil })
		})
		stop()
		looks := openedAt(t, path)
		if err := looks.DeleteCron(t.Context(), hourlyCron); err != nil {
			t.Errorf("of nobody: %v", err)
		}
		if all := crons(t, looks); len(all) != 1 || all[0].Task != "flow" {
			t.Errorf("%+v", all)
		}
		_, stop = release(t, path, other)
		defer stop()
		if all := crons(t, looks); len(all) != 0 {
			t.Errorf("of a workflow that is gone: %+v", all)
		}
	})
}

// calledBack calls back before and after a client stores a worker, and what its tasks declare.
type calledBack struct {
	store.Store
	at func()
}

func (s *calledBack) Register(ctx context.Context, w store.WorkerInfo) (int64, error) {
	s.at()
	defer s.at()
	return s.Store.Register(ctx, w)
}

func (s *calledBack) Declare(ctx context.Context, now time.Time, ds []store.Declaration) error {
	s.at()
	defer s.at()
	return s.Store.Declare(ctx, now, ds)
}

// Workers of one program that start at once, each with tasks that the other lacks, leave each other's
// declarations alone: those of a task that is new, and of one that an earlier release declared.
func TestDeclaredByWorkersThatStartAtOnce(t *testing.T) {
	for moment := range 4 {
		for _, released := range []bool{false, true} {
			path := filepath.Join(t.TempDir(), "test.db")
			if released {
				c := openedAt(t, path)
				hourly(c)
				stop := working(t, c)
				output(t, enqueueJSON(t, c, "report", []byte("1")))
				stop()
			}
			beside := openedAt(t, path)
			begins := stint.NewTask(beside, "begins", double)
			moments := 0
			s := &calledBack{Store: must[store.Store](t)(storeAt(path, schemaOf(path)))}
			s.at = func() {
				if moments++; moments-1 == moment {
					working(t, beside)
					output(t, enqueue(t, begins, 1)) // the worker beside is registered
				}
			}
			c := must[*stint.Client](t)(stint.New(s))
			hourly(c)
			stop := working(t, c)
			output(t, enqueueJSON(t, c, "report", []byte("1")))
			if n := len(crons(t, beside)); n != 1 || moments != 4 {
				t.Errorf("moment %d, released before %v: %d crons, want 1; %d moments, want 4", moment, released, n, moments)
			}
			publish(t, beside, "order.paid", 1)
			page := must[*stint.EventPage](t)(beside.ListEvents(t.Context(), stint.EventFilter{}))
			if n := len(page.Events[0].Started); n != 1 {
				t.Errorf("moment %d, released before %v: an event starts %d runs, want 1", moment, released, n)
			}
			stop()
			c.Close()
		}
	}
}
