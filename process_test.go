package stint_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stint-dev/stint"
)

// echoChild works the task "echo" until it is killed.
func echoChild(path string) {
	c, w := childClient(path)
	stint.NewTask(c, "echo", func(_ context.Context, n int) (int, error) { return n, nil })
	fmt.Println("ready")
	w.Run(context.Background())
}

// hangChild takes a run of "hang", says so, and works on it until it hears more.
func hangChild(path string) {
	c, w := childClient(path)
	stint.NewTask(c, "hang", func(ctx context.Context, _ int) (string, error) {
		fmt.Println("started")
		<-ctx.Done()
		return "", context.Cause(ctx)
	})
	w.Run(context.Background())
}

// exitChild ends its process in the middle of the run "exit", and works "fine".
func exitChild(path string) {
	c, w := childClient(path)
	stint.NewTask(c, "fine", func(_ context.Context, n int) (int, error) { return n, nil })
	stint.NewTask(c, "exit", func(context.Context, int) (int, error) { os.Exit(3); return 0, nil })
	w.Run(context.Background())
}

// codeChild and changedCodeChild work the task "code", which the second has changed so
// that it does not match the journals of the first.
func codeChild(path string)        { workCode(path, "before") }
func changedCodeChild(path string) { workCode(path, "changed") }

func workCode(path, step string) {
	c, w := childClient(path)
	stint.NewTask(c, "code", func(ctx context.Context, n int) (int, error) {
		one := func(context.Context) (int, error) { return n, nil }
		if _, err := stint.Step(ctx, step, one); err != nil {
			return 0, err
		}
		event, err := stint.WaitForEvent[map[string]int](ctx, "go", stint.WithMatch("n", n))
		if err != nil {
			return 0, err
		}
		_, err = stint.Step(ctx, "after", one)
		return event["n"], err
	})
	w.Run(context.Background())
}

// waitsChild works the task "waits", which has two waits open at once.
func waitsChild(path string) {
	c, w := childClient(path)
	stint.NewTask(c, "waits", func(ctx context.Context, n int) (int, error) {
		of := func(key string) stint.Condition {
			return stint.Named(key, stint.UserEvent(key, stint.WithMatch("n", n)))
		}
		first, err := stint.StartWait(ctx, stint.AllOf(of("first"), stint.SleepFor(10*time.Millisecond)))
		if err != nil {
			return 0, err
		}
		second, err := stint.WaitFor(ctx, stint.AnyOf(of("second"), stint.SleepFor(time.Hour)))
		if err != nil {
			return 0, err
		}
		fired, err := first.Wait(ctx)
		if err != nil {
			return 0, err
		}
		var a, b struct{ V int }
		err = errors.Join(fired.Decode("first", &a), second.Decode("second", &b))
		return a.V + b.V, err
	}, stint.WithLinger(20*time.Millisecond))
	fmt.Println("ready")
	w.Run(context.Background())
}

// A second process on the same file shares the work, and each sees the other's commits
// without being told.
func TestTwoProcesses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "two.db")
	c := openedAt(t, path)
	echo := stint.NewTask[int, int](c, "echo", nil) // only the child has it
	startChild(t, "echo", path).line(t)
	for i := range 20 {
		if got, err := echo.Run(t.Context(), i); err != nil || got != i {
			t.Fatalf("Run(%d) = %d, %v", i, got, err)
		}
	}
}

// Waits that were recorded, and events that were published, outlive processes that are killed in between: each wait ends
// once, with its event.
func TestWaitsOutliveKills(t *testing.T) {
	const kills, each = 3, 8
	path := filepath.Join(t.TempDir(), "waits.db")
	c := openedAt(t, path)
	task := stint.NewTask[int, int](c, "waits", nil)
	var runs []*stint.Run[int]
	for i := range kills {
		for n := i * each; n < (i+1)*each; n++ {
			runs = append(runs, enqueue(t, task, n))
		}
		child := startChild(t, "waits", path)
		child.line(t)
		for n := i * each; n < (i+1)*each; n++ {
			publish(t, c, "first", map[string]int{"n": n, "v": n})
			if n >= each {
				publish(t, c, "second", map[string]int{"n": n - each, "v": 1000})
			}
		}
		child.Process.Kill()
		child.Wait()
	}
	startChild(t, "waits", path).line(t)
	for n := (kills - 1) * each; n < kills*each; n++ {
		publish(t, c, "second", map[string]int{"n": n, "v": 1000})
	}
	for n, run := range runs {
		if got := output(t, run); got != n+1000 {
			t.Errorf("run %d returned %d, want %d", n, got, n+1000)
		}
		var waits []string
		for _, e := range must[[]stint.JournalEntry](t)(c.Journal(t.Context(), run.ID())) {
			if e.Kind == "wait" {
				waits = append(waits, fmt.Sprint(e.Address, e.Done))
			}
		}
		if got := strings.Join(waits, " "); got != "1true 2true" {
			t.Errorf("run %d has waits %s", n, got)
		}
	}
}

// A process that dies is noticed at once, and its runs are queued within a second. The second
// is one of a bubble's clock, which waits for the disk and for other programs.
func TestDeadProcess(t *testing.T) {
	ofFile(t)
	path, now := filepath.Join(t.TempDir(), "dead.db"), time.Now()
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(now)) // a bubble's clock begins in 2000, the child's is the world's
		c := openedAt(t, path)
		hang := stint.NewTask[int, string](c, "hang", nil)
		run := enqueue(t, hang, 1)
		child := startChild(t, "hang", path)
		child.line(t)

		mine := openedAt(t, path)
		stint.NewTask(mine, "hang", func(ctx context.Context, _ int) (string, error) {
			info, _ := stint.Info(ctx)
			return fmt.Sprint("attempt ", info.Attempt), nil
		})
		working(t, mine)
		child.Process.Kill()
		child.Wait()
		died := time.Now()
		if got, err := run.Wait(t.Context()); err != nil || got != "attempt 1" { // the death costs no attempt
			t.Errorf("Wait = %q, %v", got, err)
		}
		if d := time.Since(died); d > time.Second {
			t.Errorf("took %v after the death, want under 1s", d)
		}
	})
}

// A run that kills its process each time is quarantined; the others complete.
// Durable scenario 26.
func TestQuarantine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "exit.db")
	c := openedAt(t, path)
	exit, fine := stint.NewTask[int, int](c, "exit", nil), stint.NewTask[int, int](c, "fine", nil)
	bad := enqueue(t, exit, 1)
	good := enqueueMany(t, fine, []int{1, 2, 3, 4, 5})
	deaths := 0
	for {
		info := infoOf(t, bad)
		if info.State == stint.StateBlocked {
			if info.Blocked == "" {
				t.Error("does not say why it is blocked")
			}
			break
		}
		if deaths++; deaths > 10 {
			t.Fatalf("not quarantined after %d deaths: %v", deaths-1, info.State)
		}
		startChild(t, "exit", path).Wait()
		waitWhile(t, bad, stint.StateRunning)
	}
	if deaths != 5 {
		t.Errorf("quarantined after %d deaths, want 5", deaths)
	}
	last := startChild(t, "exit", path)
	for i, r := range good {
		if got, err := r.Wait(t.Context()); err != nil || got != i+1 {
			t.Errorf("the others: %d, %v", got, err)
		}
	}
	last.Process.Kill()
	last.Wait()
}

// waitWhile waits until a run is in another state than this.
func waitWhile(t *testing.T, r interface {
	Info(context.Context) (*stint.RunInfo, error)
}, state stint.State) {
	t.Helper()
	for tick := time.NewTicker(5 * time.Millisecond); ; <-tick.C {
		if infoOf(t, r).State != state {
			tick.Stop()
			return
		}
	}
}

// Another build goes on with every run of the one before; runs that one blocked are
// tried again by the next, and not by the same. Durable scenario 25.
func TestAnotherBuild(t *testing.T) {
	dir := t.TempDir()
	path, rebuilt := filepath.Join(dir, "build.db"), filepath.Join(dir, "rebuilt.exe")
	program := must[[]byte](t)(os.ReadFile(os.Args[0]))
	if err := os.WriteFile(rebuilt, append(program, "rebuilt"...), 0o700); err != nil {
		t.Fatal(err)
	}
	c := openedAt(t, path)
	code := stint.NewTask[int, int](c, "code", nil)
	runs := enqueueMany(t, code, []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9})
	serve := func(program, role string, states ...stint.State) {
		t.Helper()
		child := startProgram(t, program, role, path)
		awaitStates(t, c, states...)
		child.Process.Kill()
		child.Wait()
	}
	serve(os.Args[0], "code", stint.StateWaiting)
	publish := func(from, to int) {
		for n := from; n < to; n++ {
			publish(t, c, "go", map[string]int{"n": n})
		}
	}
	publish(0, 5)
	serve(rebuilt, "code", stint.StateWaiting, stint.StateSucceeded)
	publish(5, 10)
	serve(rebuilt, "changed code", stint.StateBlocked, stint.StateSucceeded)
	info := infoOf(t, runs[9])
	for _, want := range []string{"entry 1", `step "before"`, `step "changed"`} {
		if !strings.Contains(info.Blocked, want) {
			t.Errorf("blocked by %q, want it to say %s", info.Blocked, want)
		}
	}
	last := startProgram(t, os.Args[0], "code", path)
	for i, r := range runs {
		if n, err := r.Wait(t.Context()); err != nil || n != i {
			t.Errorf("Wait = %d, %v", n, err)
		}
	}
	last.Process.Kill()
	last.Wait()
}

// awaitStates waits until each run is in one of the states, and some are in the first.
func awaitStates(t *testing.T, c *stint.Client, states ...stint.State) {
	t.Helper()
	for tick := time.NewTicker(5 * time.Millisecond); ; <-tick.C {
		page := listRuns(t, c, stint.RunFilter{Limit: 1000})
		in := map[stint.State]int{}
		for _, r := range page.Runs {
			in[r.State]++
		}
		sum := 0
		for _, s := range states {
			sum += in[s]
		}
		if sum == len(page.Runs) && in[states[0]] > 0 {
			tick.Stop()
			return
		}
	}
}
