package stint_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/stinttest"
)

// A clockLog is what Now said in each pass of a run, by the place in the code.
type clockLog struct {
	mu    sync.Mutex
	seen  map[string]time.Time
	wrong []string
}

// note compares what Now says at a place with earlier passes, and with the time at which
// the call before was over, less what virtual time does not tell.
func (l *clockLog) note(ctx context.Context, place string, atLeast time.Time) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := stint.Now(ctx)
	if l.seen == nil {
		l.seen = map[string]time.Time{}
	}
	if had, ok := l.seen[place]; ok && !had.Equal(now) {
		l.wrong = append(l.wrong, fmt.Sprintf("%s: %v, then %v", place, had, now))
	}
	if now.Before(atLeast) {
		l.wrong = append(l.wrong, fmt.Sprintf("%s: %v, want at least %v", place, now, atLeast))
	}
	l.seen[place] = now
	return now
}

// everyCall makes each kind of durable call once, in an order, and notes the time after it.
func everyCall(ctx context.Context, l *clockLog, child *stint.Task[time.Duration, int]) error {
	start := l.note(ctx, "start", time.Time{})
	f := stint.Go(ctx, "branch", func(ctx context.Context) (int, error) {
		began := l.note(ctx, "in the branch", start)
		if err := stint.Sleep(ctx, 90*time.Minute); err != nil {
			return 0, err
		}
		l.note(ctx, "in the branch, later", began.Add(90*time.Minute))
		return 1, nil
	})
	at := l.note(ctx, "go", start)
	stint.Version(ctx, "change")
	at = l.note(ctx, "version", at)
	if _, err := stint.Step(ctx, "s", func(context.Context) (int, error) { <-time.After(time.Minute); return 1, nil }); err != nil {
		return err
	}
	at = l.note(ctx, "step", at.Add(time.Minute))
	run, err := child.Enqueue(ctx, 20*time.Minute)
	if err != nil {
		return err
	}
	at = l.note(ctx, "enqueue", at)
	if err := stint.Sleep(ctx, time.Hour+time.Microsecond); err != nil {
		return err
	}
	at = l.note(ctx, "sleep", at.Add(time.Hour))
	if _, err := run.Wait(ctx); err != nil {
		return err
	}
	at = l.note(ctx, "wait for what had ended", at)
	if _, err := child.Run(ctx, 20*time.Minute); err != nil {
		return err
	}
	at = l.note(ctx, "child", at.Add(20*time.Minute))
	if _, err := stint.WaitForEvent[int](ctx, "none", stint.WithWaitTimeout(time.Minute)); !errors.Is(err, stint.ErrTimeout) {
		return fmt.Errorf("no timeout: %v", err)
	}
	at = l.note(ctx, "timeout", at.Add(time.Minute))
	if _, err := f.Wait(ctx); err != nil {
		return err
	}
	at = l.note(ctx, "future", at)
	if err := stint.SleepUntil(ctx, at.Add(-time.Hour)); err != nil {
		return err
	}
	at = l.note(ctx, "sleep until the past", at)
	if err := stint.SleepUntil(ctx, at.Add(10*time.Hour)); err != nil {
		return err
	}
	l.note(ctx, "sleep until", at.Add(10*time.Hour))
	return stint.Sleep(ctx, time.Second)
}

// Now is the same in each pass, never goes back, and is at least the time at which the
// last wait ended: for handlers in memory, evicted, restarted while they wait, of a new
// attempt, and on an exported journal.
func TestNowIsTheSameInEachPass(t *testing.T) {
	durably(t, func(t *testing.T, c *stint.Client) {
		l := &clockLog{}
		child := stint.NewTask(c, "child", func(ctx context.Context, d time.Duration) (int, error) { return 1, stint.Sleep(ctx, d) })
		handler := func(ctx context.Context, _ int) (int, error) {
			if err := everyCall(ctx, l, child); err != nil {
				return 0, err
			}
			return stint.Step(ctx, "fails once", func(ctx context.Context) (int, error) {
				if info, _ := stint.Info(ctx); info.Attempt == 1 {
					return 0, errors.New("no")
				}
				return 1, nil
			})
		}
		task := stint.NewTask(c, "t", handler, stint.WithRetries(1))
		stop := working(t, c)
		run := enqueue(t, task, 0)
		for range 5 {
			time.Sleep(13 * time.Minute)
			stop()
			time.Sleep(3 * time.Minute)
			stop = working(t, c)
		}
		output(t, run)
		stinttest.Replay(t, must[[]byte](t)(c.ExportJournal(t.Context(), run.ID())), handler)
		for _, w := range l.wrong {
			t.Error(w)
		}
		if len(l.seen) < 14 {
			t.Errorf("came to %d places", len(l.seen))
		}
	})
}

// The zero time means none, wherever a time is given: it has passed.
func TestZeroTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := openedAt(t, ":memory:")
		task := stint.NewTask(c, "t", func(ctx context.Context, i int) (int, error) {
			times := []time.Time{{}, time.Unix(0, 0), time.Time{}.UTC().Local(), time.Now().Add(-time.Hour)}
			if err := stint.SleepUntil(ctx, times[i%4]); err != nil {
				return 0, err
			}
			_, err := stint.Go(ctx, "b", func(ctx context.Context) (int, error) { return 0, stint.SleepUntil(ctx, times[i%4]) }).Wait(ctx)
			if err == nil {
				err = stint.Sleep(ctx, 2*time.Second) // evicts, so that what was recorded is read
			}
			return i, err
		})
		working(t, c)
		soon := func(what string, run *stint.Run[int], err error) {
			t.Helper()
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if _, err := run.Wait(ctx); err != nil {
				t.Errorf("%s: %v", what, err)
			}
		}
		for i := range 4 {
			run, err := task.Enqueue(t.Context(), i)
			soon(fmt.Sprint("SleepUntil, ", i), run, err)
		}
		run, err := task.Schedule(t.Context(), time.Time{}, 0)
		soon("Schedule", run, err)
		run, err = task.Enqueue(t.Context(), 0, stint.WithRunAt(time.Time{}))
		soon("WithRunAt", run, err)
		run, err = task.Schedule(t.Context(), time.Now().Add(time.Hour), 0)
		if err == nil {
			err = run.Reschedule(t.Context(), time.Time{})
		}
		soon("Reschedule", run, err)
		if page := listRuns(t, c, stint.RunFilter{Since: time.Time{}, Until: time.Time{}}); len(page.Runs) != 7 {
			t.Errorf("a list without bounds has %d runs, want 7", len(page.Runs))
		}
		began := time.Now()
		if err := stint.SleepUntil(t.Context(), time.Time{}); err != nil || !time.Now().Equal(began) {
			t.Errorf("outside of a run: %v, after %v", err, time.Since(began))
		}
	})
}

// laps returns from when until when the calls of a journal took place, in seconds after start, and
// the tries of steps that failed.
func laps(entries []stint.JournalEntry, start time.Time) (all []string) {
	after := func(t time.Time) string { return fmt.Sprintf("%.1f", t.Sub(start).Seconds()) }
	for _, e := range entries {
		s := fmt.Sprintf("%s %s %s-%s", e.Kind, e.Name, after(e.Began), after(e.Ended()))
		if !e.Done {
			s = fmt.Sprintf("%s %s %s-", e.Kind, e.Name, after(e.Began))
		}
		for _, try := range e.Tries {
			s += fmt.Sprintf(", %s-%s %s", after(try.Began), after(try.Ended), try.Error)
		}
		all = append(all, s)
	}
	return all
}

// The journal says when each call began and ended, also when other executions went on with it; and a
// failed attempt says which step failed, and each try of it.
func TestTimesOfCalls(t *testing.T) {
	durably(t, func(t *testing.T, c *stint.Client) {
		tick := func(seconds int) func(context.Context) (int, error) {
			return func(context.Context) (int, error) {
				<-time.After(time.Duration(seconds) * time.Second)
				return seconds, nil
			}
		}
		calls := 0
		flaky := func(fails int) func(context.Context) (int, error) {
			return func(ctx context.Context) (int, error) {
				n, _ := tick(1)(ctx)
				if calls++; calls <= fails {
					return 0, stint.RetryAfter(5*time.Second, errors.New("refused"))
				}
				return n, nil
			}
		}
		task := stint.NewTask(c, "t", func(ctx context.Context, _ int) (int, error) {
			stint.Step(ctx, "reserve", tick(2))
			stint.Compensate(ctx, "release", func(ctx context.Context) error { _, err := tick(1)(ctx); return err })
			stint.Sleep(ctx, 10*time.Second)
			f := stint.Go(ctx, "branch", func(ctx context.Context) (int, error) {
				stint.Sleep(ctx, 3*time.Second)
				return stint.Step(ctx, "in it", tick(1))
			})
			stint.Any(ctx, f)
			stint.WaitForEvent[int](ctx, "none", stint.WithWaitTimeout(4*time.Second))
			stint.WaitFor(ctx, stint.SleepFor(6*time.Second))
			stint.Step(ctx, "flaky", flaky(2), stint.WithRetries(2))
			calls = 0
			_, err := stint.Step(ctx, "charge", flaky(9), stint.WithRetries(1))
			return 0, err
		}, stint.WithRetries(1))
		working(t, c)
		run := enqueue(t, task, 0)
		if _, err := run.Wait(t.Context()); err == nil {
			t.Fatal("the run succeeded")
		}
		info := getRun(t, c, run.ID())
		entries := must[[]stint.JournalEntry](t)(c.Journal(t.Context(), run.ID()))
		start := entries[0].Began
		// The first attempt ends at 46, with the second try of charge; its error says when to try again.
		want := []string{"step reserve 0.0-2.0", "sleep  2.0-12.0", "branch branch 12.0-16.0", "any  12.0-16.0", "event none 16.0-20.0",
			"wait sleep 20.0-26.0", "step flaky 26.0-39.0, 26.0-27.0 refused, 32.0-33.0 refused, 38.0-39.0 ", "sleep  12.0-15.0", "step in it 15.0-16.0",
			"step release 58.0-59.0", "end  58.0-58.0"}
		if d := cmp.Diff(want, laps(entries, start)); d != "" {
			t.Errorf("journal (-want +got):\n%s", d)
		}
		var failed []string
		for _, e := range info.Timeline {
			for i, s := range laps(e.Failed, start) {
				failed = append(failed, fmt.Sprintf("attempt %d: %s %s, %d tries: %s", e.Attempt, e.Failed[i].Address, e.Failed[i].Error,
					e.Failed[i].Attempts, s))
			}
		}
		want = []string{
			"attempt 1: 8 refused, 2 tries: step charge 39.0-46.0, 39.0-40.0 refused, 45.0-46.0 refused",
			"attempt 2: 8 refused, 2 tries: step charge 51.0-58.0, 51.0-52.0 refused, 57.0-58.0 refused",
		}
		if d := cmp.Diff(want, failed); d != "" {
			t.Errorf("failed steps (-want +got):\n%s", d)
		}
	})
}
