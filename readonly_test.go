package stint_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stint-dev/stint"
)

// looking opens a client that only looks.
func looking(t *testing.T, path string) *stint.Client {
	ofFile(t)
	t.Helper()
	c := must[*stint.Client](t)(stint.Open(path, stint.WithReadOnly()))
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return c
}

// files is what lies in a directory: names, rights, times and contents.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && path != dir {
			return err
		}
		info, err := d.Info()
		var b []byte
		if err == nil && !d.IsDir() {
			b, err = os.ReadFile(path)
		}
		all[path] = fmt.Sprint(info.Mode(), info.ModTime(), len(b), string(b))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// overdue is a file, closed by its program, in which a cron, a scheduled run and the
// run of a dead process wait for somebody, and a run has ended.
func overdue(t *testing.T) (path string, ended *stint.Run[int]) {
	ofFile(t)
	t.Helper()
	path = filepath.Join(t.TempDir(), "app.db")
	c := must[*stint.Client](t)(stint.Open(path))
	task := stint.NewTask(c, "double", double, stint.WithCron("@yearly"))
	stop := working(t, c)
	ended = enqueue(t, task, 1)
	if n, err := ended.Wait(t.Context()); err != nil || n != 2 {
		t.Fatal(n, err)
	}
	stop()
	exit := stint.NewTask[int, int](c, "exit", nil)
	enqueue(t, exit, 1)
	schedule(t, task, time.Now().Add(time.Hour), 1)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	startChild(t, "exit", path).Wait()
	inSQL(t, path, "UPDATE stint_crons SET next_at = 1000, gone_at = NULL", "UPDATE stint_runs SET due_at = 1000 WHERE state = 2", "PRAGMA wal_checkpoint(TRUNCATE)")
	return path, ended
}

// Who only looks leaves the file, its directory and all that waits in it as they are.
func TestReadOnlyLeavesAllAsItIs(t *testing.T) {
	path, ended := overdue(t)
	before := files(t, filepath.Dir(path))
	c := must[*stint.Client](t)(stint.Open(path, stint.WithReadOnly()))
	stint.NewTask(c, "double", double, stint.WithCron("@daily"), stint.WithEvents("k"))
	if n, err := stint.RunByID[int](c, ended.ID()).Wait(t.Context()); err != nil || n != 2 {
		t.Errorf("Wait: %d, %v", n, err)
	}
	states := map[stint.State]int{}
	for _, r := range listRuns(t, c, stint.RunFilter{}).Runs {
		states[r.State]++
	}
	if want := (map[stint.State]int{stint.StateSucceeded: 1, stint.StateRunning: 1, stint.StateScheduled: 1}); !reflect.DeepEqual(states, want) {
		t.Errorf("%v, want %v", states, want)
	}
	if crons := must[[]stint.CronInfo](t)(c.ListCrons(t.Context())); len(crons) != 1 || crons[0].Spec != "@yearly" {
		t.Errorf("crons: %+v", crons)
	}
	if found, err := c.Check(t.Context()); err != nil || len(found) > 0 {
		t.Errorf("Check: %q, %v", found, err)
	}
	copied := filepath.Join(t.TempDir(), "copy.db")
	if err := c.Backup(t.Context(), copied); err != nil {
		t.Error(err)
	}
	if err := errors.Join(c.Healthy(), c.Close()); err != nil {
		t.Error(err)
	}
	if after := files(t, filepath.Dir(path)); !reflect.DeepEqual(after, before) {
		t.Errorf("the directory has changed: %d files before, %d after", len(before), len(after))
	}
	if page := listRuns(t, looking(t, copied), stint.RunFilter{}); len(page.Runs) != 3 {
		t.Errorf("the copy has %d runs", len(page.Runs))
	}
	d := openedAt(t, path) // the control: whoever works fires, and recovers
	stint.NewTask(d, "exit", func(context.Context, int) (int, error) { return 7, nil })
	stint.NewTask(d, "double", double)
	working(t, d)
	for _, r := range listRuns(t, d, stint.RunFilter{}).Runs {
		if _, err := stint.RunByID[int](d, r.ID).Wait(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// One who looks sees what others commit, from the first change on: while nobody had the file
// open when it began, and while others have it.
func TestReadOnlyFollows(t *testing.T) {
	path, ended := overdue(t)
	c := looking(t, path)
	if info, err := stint.RunByID[int](c, ended.ID()).Info(t.Context()); err != nil || info.State != stint.StateSucceeded {
		t.Fatal(info, err)
	}
	n := must[uint64](t)(c.Changed(t.Context(), 0))
	startChild(t, "echo", path).line(t)
	d := openedAt(t, path)
	echo := stint.NewTask[int, int](d, "echo", nil)
	for i := range 3 {
		run := enqueue(t, echo, i)
		if n = must[uint64](t)(c.Changed(t.Context(), n)); n == 0 {
			t.Error("not told of a change")
		}
		if got, err := stint.RunByID[int](c, run.ID()).Wait(t.Context()); err != nil || got != i {
			t.Errorf("Wait: %d, %v", got, err)
		}
	}
	if err := c.Healthy(); err != nil {
		t.Error(err)
	}
}

// What there is nothing to read in is an error that says so, and makes no file.
func TestReadOnlyRefusesWhatIsNotThere(t *testing.T) {
	ofFile(t)
	dir := t.TempDir()
	for name, text := range map[string]string{"missing.db": "-", "empty.db": "", "text.db": "this is no database, but it is long enough to be mistaken for one by its size alone....................."} {
		if text != "-" {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	before := files(t, dir)
	for _, path := range []string{"missing.db", "empty.db", "text.db", ".", "nowhere/app.db"} {
		if c, err := stint.Open(filepath.Join(dir, path), stint.WithReadOnly()); err == nil {
			c.Close()
			t.Errorf("Open(%s) = nil", path)
		}
	}
	for _, path := range []string{":memory:", "file:app.db?mode=ro"} {
		if c, err := stint.Open(path, stint.WithReadOnly()); err == nil {
			c.Close()
			t.Errorf("Open(%s) = nil", path)
		}
	}
	if after := files(t, dir); !reflect.DeepEqual(after, before) {
		t.Errorf("before %v, after %v", before, after)
	}
}

// Every exported method either reads, or is ErrReadOnly: a new one must be put into one of
// these lists.
func TestReadOnlyRefusesEveryChange(t *testing.T) {
	path, _ := overdue(t)
	c := looking(t, path)
	task := stint.NewTask(c, "double", double)
	flow := stint.NewWorkflow[int](c, "flow")
	stint.AddTask(flow, "one", double)
	run := stint.RunByID[int](c, listRuns(t, c, stint.RunFilter{}).Runs[0].ID)
	ctx, id, all := t.Context(), run.ID(), stint.RunFilter{Tasks: []string{"double"}}
	reads := map[string]string{
		"Client":   "ListTasks GetRun ListRuns Check Backup Logs StreamChunks Chunks ListLogs CountLogs Healthy Close Closing ReadOnly ListConcurrency ListCrons CronPage ListEvents Journal JournalPage ListErrors ExportJournal WriteJournal QueuePriorities Names ListQueues ListRateLimits ListWorkers Stats CountRuns CountMatching Changed Database ListFilters FilterPage Setting Settings Definition Definitions ListWebhooks WebhookHandler",
		"Task":     "Name",
		"Workflow": "Name OnFailure OnSuccess",
		"Run":      "ID Existing Info Wait Stream Chunks",
	}
	second := func(_ any, err error) error { return err }
	changes := map[string]map[string]func() error{
		"Client": {
			"CancelRuns": func() error { return second(c.CancelRuns(ctx, all)) }, "ReplayRuns": func() error { return second(c.ReplayRuns(ctx, all)) },
			"DeleteRuns": func() error { return second(c.DeleteRuns(ctx, all)) }, "MoveRuns": func() error { return second(c.MoveRuns(ctx, all, "q")) },
			"EnqueueJSON": func() error { return second(c.EnqueueJSON(ctx, "double", []byte("1"))) },
			"Publish":     func() error { return second(c.Publish(ctx, "k", 1)) }, "PublishMany": func() error { return second(c.PublishMany(ctx, []stint.Event{{Key: "k"}})) },
			"PauseQueue": func() error { return c.PauseQueue(ctx, "default") }, "ResumeQueue": func() error { return c.ResumeQueue(ctx, "default") },
			"PauseLimit": func() error { return c.PauseLimit(ctx, stint.LimitKey{Name: "x"}) }, "ResumeLimit": func() error { return c.ResumeLimit(ctx, stint.LimitKey{Name: "x"}) },
			"PauseWorker": func() error { return c.PauseWorker(ctx, "w") }, "ResumeWorker": func() error { return c.ResumeWorker(ctx, "w") },
			"UpdateCron": func() error { return c.UpdateCron(ctx, "double:@yearly", "@daily") }, "PauseCron": func() error { return c.PauseCron(ctx, "double:@yearly") },
			"ResumeCron": func() error { return c.ResumeCron(ctx, "double:@yearly") }, "DeleteCron": func() error { return c.DeleteCron(ctx, "double:@yearly") },
			"TriggerCron": func() error { return second(c.TriggerCron(ctx, "double:@yearly")) }, "Reschedule": func() error { return c.Reschedule(ctx, id, time.Now()) },
			"RestartAt":   func() error { return c.RestartAt(ctx, id, "1") },
			"WakeRun":     func() error { return c.WakeRun(ctx, id) },
			"AddLogs":     func() error { return c.AddLogs(ctx, id, stint.LogLine{Message: "m", Attempt: 1}) },
			"RestartFrom": func() error { return c.RestartFrom(ctx, id, "s") }, "Fork": func() error { return second(c.Fork(ctx, id, "s")) },
			"SetRateLimit": func() error { return c.SetRateLimit(ctx, "k", 1, 1) }, "CreateFilter": func() error {
				return second(c.CreateFilter(ctx, stint.TriggerFilter{Task: "double", Scope: "s", Expression: "true"}))
			},
			"EnqueueJSONMany": func() error {
				return second(c.EnqueueJSONMany(ctx, []stint.JSONRun{{Task: "double", Input: []byte("1")}}))
			},
			"SetSetting": func() error { return c.SetSetting(ctx, "k", []byte("v")) }, "EnsureSetting": func() error { return second(c.EnsureSetting(ctx, "k", nil)) },
			"MuteErrors": func() error { return c.MuteErrors(ctx, "0000000000000001", time.Time{}) }, "MuteErrorsToDouble": func() error { return c.MuteErrorsToDouble(ctx, "0000000000000001") }, "ResolveErrors": func() error { return c.ResolveErrors(ctx, "0000000000000001") }, "UnmuteErrors": func() error { return c.UnmuteErrors(ctx, "0000000000000001") },
			"UpdateFilter": func() error {
				return c.UpdateFilter(ctx, stint.TriggerFilter{ID: 1, Task: "double", Scope: "s", Expression: "true"})
			},
			"Define": func() error { return second(c.Define(ctx, stint.Definition{Name: "d"})) }, "DeleteDefinition": func() error { return c.DeleteDefinition(ctx, "d") },
			"CronJSON":     func() error { return c.CronJSON(ctx, "double", "n", "@daily", []byte("1")) },
			"DeleteFilter": func() error { return c.DeleteFilter(ctx, 1) }, "NewWorker": func() error { return second(c.NewWorker()) },
		},
		"Task": {
			"Enqueue": func() error { return second(task.Enqueue(ctx, 1)) }, "EnqueueMany": func() error { return second(task.EnqueueMany(ctx, []int{1})) },
			"Run": func() error { return second(task.Run(ctx, 1)) }, "Schedule": func() error { return second(task.Schedule(ctx, time.Now(), 1)) },
			"Cron": func() error { return task.Cron(ctx, "n", "@daily", 1) },
		},
		"Workflow": {
			"Enqueue": func() error { return second(flow.Enqueue(ctx, 1)) }, "EnqueueMany": func() error { return second(flow.EnqueueMany(ctx, []int{1})) },
			"Run": func() error { return second(flow.Run(ctx, 1)) }, "Schedule": func() error { return second(flow.Schedule(ctx, time.Now(), 1)) },
			"Cron": func() error { return flow.Cron(ctx, "n", "@daily", 1) },
		},
		"Run": {"Cancel": func() error { return run.Cancel(ctx) }, "Reschedule": func() error { return run.Reschedule(ctx, time.Now()) }},
	}
	for kind, v := range map[string]any{"Client": c, "Task": task, "Workflow": flow, "Run": run} {
		for m := range reflect.TypeOf(v).Methods() {
			call := changes[kind][m.Name]
			if call == nil && !slices.Contains(strings.Fields(reads[kind]), m.Name) {
				t.Errorf("%s.%s is in no list: does it change something?", kind, m.Name)
			}
			if call != nil {
				if err := call(); !errors.Is(err, stint.ErrReadOnly) {
					t.Errorf("%s.%s: %v, want ErrReadOnly", kind, m.Name, err)
				}
			}
		}
	}
}

// lookChild says how many runs a file has, or why it cannot be read.
func lookChild(path string) {
	c, err := stint.Open(path, stint.WithReadOnly())
	if err != nil {
		fmt.Println("error:", err)
		return
	}
	defer c.Close()
	page, err := c.ListRuns(context.Background(), stint.RunFilter{})
	if err != nil {
		fmt.Println("error:", err)
		return
	}
	_, err = stint.NewTask(c, "double", double).Enqueue(context.Background(), 1)
	fmt.Println(len(page.Runs), "runs,", err)
}
