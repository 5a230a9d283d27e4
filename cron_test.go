package stint_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stint-dev/stint"
)

// ticks is a task that notes the ticks that its runs were started for.
type ticks struct {
	mu  sync.Mutex
	all []string
}

func (l *ticks) note(ctx context.Context, in string) (string, error) {
	info, _ := stint.Info(ctx)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, info.Metadata[stint.MetaTick]+" "+in)
	return in, nil
}

func (l *ticks) take() []string {
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	all := l.all
	l.all = nil
	return all
}

func equal(t *testing.T, what string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
}

// Cron declared in code and made at run time: each tick one run, in its zone, with its input.
func TestCron(t *testing.T) {
	in(t, func(t *testing.T, c *stint.Client) {
		var l ticks
		stint.NewTask(c, "declared", l.note, stint.WithCron("CRON_TZ=Europe/Oslo 0 9 * * *"), stint.WithCronInput("digest"))
		made := stint.NewTask(c, "made", l.note)
		if err := made.Cron(t.Context(), "every six hours", "@every 6h", "x", stint.WithMetadata(map[string]string{"k": "v"}), stint.WithPriority(9)); err != nil {
			t.Fatal(err)
		}
		working(t, c)
		time.Sleep(24*time.Hour + time.Second)
		equal(t, "a day", l.take(), []string{"2000-01-01T06:00:00Z x", "2000-01-01T08:00:00Z digest", "2000-01-01T12:00:00Z x", "2000-01-01T18:00:00Z x", "2000-01-02T00:00:00Z x"})
		crons := must[[]stint.CronInfo](t)(c.ListCrons(t.Context()))
		if len(crons) != 2 || crons[0].Name != "declared:CRON_TZ=Europe/Oslo 0 9 * * *" || !crons[0].Declared || crons[1].Task != "made" || string(crons[1].Input) != `"x"` || !crons[1].Next.Equal(time.Date(2000, 1, 2, 6, 0, 0, 0, time.UTC)) {
			t.Errorf("crons %+v", crons)
		}
		info := getRun(t, c, crons[1].LastRunID)
		if info.Metadata["k"] != "v" || info.Metadata[stint.MetaCron] != "every six hours" || info.Priority != 9 {
			t.Errorf("run %+v", info)
		}
	})
}

// Create, replace, pause, resume, trigger now, delete, list; kept over a restart.
func TestCronChanges(t *testing.T) {
	in(t, func(t *testing.T, c *stint.Client) {
		ctx := t.Context()
		ok := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		var l ticks
		task := stint.NewTask(c, "t", l.note)
		stint.NewTask(c, "d", l.note, stint.WithCron("@yearly"))
		working(t, c)
		ok(task.Cron(ctx, "c", "@hourly", "1"))
		ok(c.PauseCron(ctx, "c"))
		id := must[string](t)(c.TriggerCron(ctx, "c"))
		must[string](t)(stint.RunByID[string](c, id).Wait(ctx))
		time.Sleep(3 * time.Hour)
		if got := l.take(); len(got) != 1 {
			t.Errorf("paused: %q", got)
		}
		ok(c.ResumeCron(ctx, "c"))
		ok(task.Cron(ctx, "c", "@hourly", "2"))
		time.Sleep(time.Hour)
		equal(t, "resumed and replaced", l.take(), []string{"2000-01-01T04:00:00Z 2"})
		ok(c.DeleteCron(ctx, "c"))
		time.Sleep(3 * time.Hour)
		equal(t, "deleted", l.take(), nil)
		for _, err := range []error{c.DeleteCron(ctx, "c"), c.PauseCron(ctx, "c"), c.ResumeCron(ctx, "c")} {
			if !errors.Is(err, stint.ErrNotFound) {
				t.Errorf("of a cron that is gone: %v", err)
			}
		}
		if err := c.DeleteCron(ctx, "d:@yearly"); !errors.Is(err, stint.ErrTaken) {
			t.Errorf("deleting a declared cron: %v", err)
		}
		if err := task.Cron(ctx, "d:@yearly", "@daily", "1"); !errors.Is(err, stint.ErrTaken) {
			t.Errorf("the name of a declared cron: %v", err)
		}
	})
}

// A workflow has crons too, with the shape that it has.
func TestWorkflowCron(t *testing.T) {
	in(t, func(t *testing.T, c *stint.Client) {
		var l ticks
		w := stint.NewWorkflow[string](c, "w", stint.WithCron("@hourly"), stint.WithCronInput("declared"))
		a := stint.AddTask(w, "a", func(_ context.Context, in string) (string, error) { return in, nil })
		stint.AddTask(w, "b", l.note, stint.WithParents(a))
		if err := w.Cron(t.Context(), "made", "30 * * * *", "made"); err != nil {
			t.Fatal(err)
		}
		working(t, c)
		time.Sleep(time.Hour + time.Second)
		equal(t, "an hour", l.take(), []string{"2000-01-01T00:30:00Z made", "2000-01-01T01:00:00Z declared"})
	})
}

// Each tick starts exactly one run over all processes: here two clients of a file, of
// which one comes and goes.
func TestCronTwoClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "cron.db")
		var l ticks
		open := func() (*stint.Client, func()) {
			c, err := openAt(t, path)
			if err != nil {
				t.Fatal(err)
			}
			stint.NewTask(c, "t", l.note, stint.WithCron("@every 7s"))
			return c, working(t, c)
		}
		one, stop := open()
		var want []string
		var two *stint.Client
		var stopTwo func()
		for i := range 60 {
			switch i % 10 {
			case 3:
				two, stopTwo = open()
			case 6:
				stopTwo()
				two.Close()
			}
			time.Sleep(7 * time.Second)
			want = append(want, time.Date(2000, 1, 1, 0, 0, 7*(i+1), 0, time.UTC).Format(time.RFC3339)+" ")
		}
		time.Sleep(time.Second)
		equal(t, "two clients", l.take(), want)
		stop()
		one.Close()
	})
}

// A file that is opened after a time away: schedules do what their policy says, at once and once.
func TestCronCatchUp(t *testing.T) {
	for _, tc := range []struct {
		name string
		opts []stint.TaskOption
		away time.Duration
		want int
	}{
		{"grace, young", nil, 3*time.Hour + 30*time.Second, 1},
		{"grace, old", nil, 3*time.Hour + 10*time.Minute, 0},
		{"none", []stint.TaskOption{stint.WithCatchUp(stint.CatchUpNone)}, 3*time.Hour + 30*time.Second, 0},
		{"latest", []stint.TaskOption{stint.WithCatchUp(stint.CatchUpLatest)}, 3*time.Hour + 10*time.Minute, 1},
		{"all", []stint.TaskOption{stint.WithCatchUp(stint.CatchUpAll)}, 3*time.Hour + 10*time.Minute, 3},
		{"all of a month", []stint.TaskOption{stint.WithCatchUp(stint.CatchUpAll)}, 31*24*time.Hour + 10*time.Minute, 31 * 24},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "cron.db")
				var l ticks
				open := func() func() {
					c, err := openAt(t, path)
					if err != nil {
						t.Fatal(err)
					}
					once := stint.NewTask(c, "once", l.note)
					stint.NewTask(c, "t", l.note, append(tc.opts, stint.WithCron("@hourly"))...)
					stop := working(t, c)
					if len(listRuns(t, c, stint.RunFilter{Tasks: []string{"once"}}).Runs) == 0 {
						schedule(t, once, time.Now().Add(time.Hour), "once")
					}
					return func() { stop(); c.Close() }
				}
				open()()
				time.Sleep(tc.away)
				shut := open()
				time.Sleep(5 * time.Second)
				got := l.take()
				once := slices.Index(got, " once")
				if once < 0 {
					t.Fatalf("a one-time schedule that was missed did not start: %q", got)
				}
				if got = slices.Delete(got, once, once+1); len(got) != tc.want {
					t.Errorf("%d runs %q, want %d", len(got), got, tc.want)
				}
				time.Sleep(10 * time.Minute)
				if again := l.take(); len(again) != 0 {
					t.Errorf("once more: %q", again)
				}
				shut()
			})
		})
	}
}

// One-time: list, reschedule, cancel until it starts.
func TestReschedule(t *testing.T) {
	in(t, func(t *testing.T, c *stint.Client) {
		ctx := t.Context()
		var l ticks
		task := stint.NewTask(c, "t", l.note)
		working(t, c)
		at := time.Now().Add(time.Hour)
		a, b := must[*stint.Run[string]](t)(task.Schedule(ctx, at, "a")), must[*stint.Run[string]](t)(task.Schedule(ctx, at, "b"))
		page := must[*stint.RunPage](t)(c.ListRuns(ctx, stint.RunFilter{States: []stint.State{stint.StateScheduled}}))
		if len(page.Runs) != 2 || !page.Runs[0].Scheduled.Equal(at) {
			t.Errorf("scheduled: %+v", page.Runs)
		}
		if err := errors.Join(a.Reschedule(ctx, at.Add(time.Hour)), b.Cancel(ctx)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(90 * time.Minute)
		equal(t, "moved away", l.take(), nil)
		if err := a.Reschedule(ctx, time.Now()); err != nil {
			t.Fatal(err)
		}
		if got, err := a.Wait(ctx); got != "a" || err != nil || time.Since(at) > 31*time.Minute {
			t.Errorf("%q, %v", got, err)
		}
		for _, r := range []*stint.Run[string]{a, b} {
			if err := r.Reschedule(ctx, at); !errors.Is(err, stint.ErrStarted) {
				t.Errorf("moved what has ended: %v", err)
			}
		}
		if err := c.Reschedule(ctx, "nonsense", at); err == nil {
			t.Error("moved nonsense")
		}
	})
}

// A bad spec, an impossible date, a bad zone: a clear error, at the call.
func TestBadCron(t *testing.T) {
	c := opened(t)
	task := stint.NewTask(c, "t", func(_ context.Context, n int) (int, error) { return n, nil })
	for spec, says := range map[string]string{
		"":                       "empty spec",
		"* * * *":                "expected",
		"* * * * * * *":          "expected",
		"61 * * * *":             "above maximum",
		"0 0 30 2 *":             "never comes",
		"0 0 31 4,6 *":           "never comes",
		"CRON_TZ=Mars/Olympus *": "zone",
		"CRON_TZ=Europe/Oslo":    "",
		"TZ=":                    "",
		"@every":                 "",
		"@every 1ms":             "a second or more",
		"@every -1h":             "a second or more",
		"@fortnightly":           "@fortnightly",
		strings.Repeat("*", 300): "at most",
	} {
		err := task.Cron(t.Context(), "c", spec, 1)
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%.30q: %v, want it to say %q", spec, err, says)
		}
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("WithCron took %.30q", spec)
				}
			}()
			stint.NewTask(c, "other", func(_ context.Context, n int) (int, error) { return n, nil }, stint.WithCron(spec))
		}()
	}
	for what, err := range map[string]error{
		"an empty name": task.Cron(t.Context(), "", "@daily", 1),
		"a long name":   task.Cron(t.Context(), strings.Repeat("x", 300), "@daily", 1),
		"a bad policy":  task.Cron(t.Context(), "c", "@daily", 1, stint.WithCatchUp(9)),
	} {
		if err == nil {
			t.Errorf("took %s", what)
		}
	}
	if all, err := c.ListCrons(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("made %+v, %v", all, err)
	}
}

// A cron whose limit was refused says so, and holds up nothing.
func TestCronRefused(t *testing.T) {
	in(t, func(t *testing.T, c *stint.Client) {
		var l ticks
		bad := stint.NewTask(c, "bad", l.note, stint.WithRateLimit("unknown", 1))
		good := stint.NewTask(c, "good", l.note)
		working(t, c)
		if err := errors.Join(bad.Cron(t.Context(), "a", "@hourly", "bad"), good.Cron(t.Context(), "b", "@hourly", "good")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		equal(t, "an hour", l.take(), []string{"2000-01-01T01:00:00Z good"})
		if crons := must[[]stint.CronInfo](t)(c.ListCrons(t.Context())); !strings.Contains(crons[0].Error, "unknown") || crons[1].Error != "" {
			t.Errorf("%+v", crons)
		}
		if err := c.SetRateLimit(t.Context(), "unknown", 1, 1); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if got := l.take(); len(got) != 2 {
			t.Errorf("%q", got)
		}
	})
}

func ExampleTask_Cron() {
	c, err := stint.Open(":memory:")
	if err != nil {
		panic(err)
	}
	defer c.Close()
	digest := stint.NewTask(c, "digest", func(ctx context.Context, list string) (int, error) { return 1, nil })
	err = digest.Cron(context.Background(), "weekly digest", "CRON_TZ=Europe/Oslo 0 9 * * MON", "customers")
	fmt.Println(err)
	// Output: <nil>
}
