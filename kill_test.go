package stint_test

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stint-dev/stint"
	"go.uber.org/goleak"
)

// The test binary is also what the tests kill: STINT_CHILD says which of children it
// is to be, on the file STINT_FILE.
func TestMain(m *testing.M) {
	if role := os.Getenv("STINT_CHILD"); role != "" {
		children[role](os.Getenv("STINT_FILE"))
		return
	}
	goleak.VerifyTestMain(m)
}

var children = map[string]func(path string){
	"busy": busyChild,
	"hang": hangChild,
	"echo": echoChild,
	"exit": exitChild,
	"soak": soakChild,
	"code": codeChild, "changed code": changedCodeChild,
}

// A child is a process of this binary in one of the roles above.
type child struct {
	*exec.Cmd
	out *bufio.Scanner
}

func startChild(t *testing.T, role, path string) *child {
	t.Helper()
	return startProgram(t, os.Args[0], role, path)
}

// startProgram is startChild with a copy of the binary.
func startProgram(t *testing.T, program, role, path string) *child {
	t.Helper()
	cmd := exec.Command(program)
	cmd.Env = append(os.Environ(), "STINT_CHILD="+role, "STINT_FILE="+path)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); io.Copy(io.Discard, out); cmd.Wait() })
	return &child{cmd, bufio.NewScanner(out)}
}

// line waits for the child's next line.
func (c *child) line(t *testing.T) string {
	t.Helper()
	if !c.out.Scan() {
		t.Fatal("the child has ended")
	}
	return c.out.Text()
}

// childClient opens a client in a child, with a worker.
func childClient(path string) (*stint.Client, *stint.Worker) {
	c, err := stint.Open(path, stint.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		panic(err)
	}
	w, err := c.NewWorker(stint.WithSlots(8))
	if err != nil {
		panic(err)
	}
	return c, w
}

// busyTask fails now and then, reports, and starts children.
func busyTask(c *stint.Client) *stint.Task[int, int] {
	var task *stint.Task[int, int]
	task = stint.NewTask(c, "busy", func(ctx context.Context, n int) (int, error) {
		info, _ := stint.Info(ctx)
		if err := errors.Join(stint.Progress(ctx, int64(n), 100), stint.Stream(ctx, []byte("x"))); err != nil {
			return 0, err
		}
		stint.Logger(ctx).Info("working", "n", n)
		if n%7 == 0 && info.Attempt < 3 {
			return 0, errors.New("not yet")
		}
		if n%5 == 1 && info.ParentID == "" {
			return task.Run(ctx, n+1)
		}
		return n, nil
	}, stint.WithRetries(3), stint.WithRetryBackoff(1, 5*time.Millisecond),
		stint.WithConcurrency(stint.Concurrency[int]{Key: func(n int) string { return fmt.Sprint(n % 3) }, Max: 4, Strategy: stint.GroupRoundRobin}))
	return task
}

// busyWorkflow is a diamond, one side of which fails now and then and starts a child.
func busyWorkflow(c *stint.Client, task *stint.Task[int, int]) *stint.Workflow[int] {
	w := stint.NewWorkflow[int](c, "graph")
	top := stint.AddTask(w, "top", func(_ context.Context, n int) (int, error) { return n, nil })
	left := stint.AddTask(w, "left", func(ctx context.Context, n int) (int, error) {
		info, _ := stint.Info(ctx)
		if n%3 == 0 && info.Attempt < 2 {
			return 0, errors.New("not yet")
		}
		return task.Run(ctx, n)
	}, stint.WithParents(top), stint.WithRetries(3))
	right := stint.AddTask(w, "right", func(ctx context.Context, n int) (int, error) { return top.Output(ctx) },
		stint.WithParents(top), stint.WithWaitFor(stint.SleepFor(time.Millisecond)))
	stint.AddTask(w, "bottom", func(ctx context.Context, n int) (int, error) {
		r, err := right.Output(ctx)
		return r + n, err
	}, stint.WithParents(left, right))
	return w
}

// busyDurable is a handler with steps, a sleep, a branch and a child. However often it
// is cut off, it returns the same.
func busyDurable(c *stint.Client, task *stint.Task[int, int]) *stint.Task[int, int] {
	step := func(ctx context.Context, n int) (int, error) {
		return stint.Step(ctx, "step", func(context.Context) (int, error) { return n, nil })
	}
	return stint.NewTask(c, "durable", func(ctx context.Context, n int) (int, error) {
		f := stint.Go(ctx, "branch", func(ctx context.Context) (int, error) {
			if err := stint.Sleep(ctx, 2*time.Millisecond); err != nil {
				return 0, err
			}
			return step(ctx, n)
		})
		sum := 0
		for range 3 {
			x, err := step(ctx, n)
			if err != nil {
				return 0, err
			}
			sum += x
		}
		if _, err := task.Run(ctx, 2); err != nil {
			return 0, err
		}
		x, err := f.Wait(ctx)
		return sum + x, err
	})
}

// busyWaiter waits for the event of its number. The event starts a run, and a cron does
// each second.
func busyWaiter(c *stint.Client) *stint.Task[int, int] {
	stint.NewTask(c, "started", func(_ context.Context, e busyEvent) (int, error) { return e.N, nil }, stint.WithEvents("busy.*"))
	stint.NewTask(c, "ticked", func(context.Context, struct{}) (int, error) { return 1, nil }, stint.WithCron("@every 1s"), stint.WithCatchUp(stint.CatchUpAll))
	return stint.NewTask(c, "waiter", func(ctx context.Context, n int) (int, error) {
		e, err := stint.WaitForEvent[busyEvent](ctx, "busy.event", stint.WithMatch("n", n))
		return e.N, err
	})
}

type busyEvent struct {
	N int `json:"n"`
}

// busyChild enqueues, publishes, works, and cancels without end. It says "enqueued ID",
// "published ID" and "ended ID" once each is acknowledged.
func busyChild(path string) {
	c, w := childClient(path)
	task := busyTask(c)
	graph, durable, waiter := busyWorkflow(c, task), busyDurable(c, task), busyWaiter(c)
	go w.Run(context.Background())
	var mu sync.Mutex
	say := func(what, id string) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Println(what, id)
	}
	var wg sync.WaitGroup
	for g := range 3 {
		wg.Go(func() {
			for i := g; ; i += 3 {
				runs, err := task.EnqueueMany(context.Background(), []int{i, i + 1})
				if err != nil {
					panic(err)
				}
				for _, r := range runs {
					say("enqueued", r.ID())
				}
				if i%11 == 0 {
					runs[0].Cancel(context.Background())
				}
				if i%3 == 1 {
					d, err := durable.Enqueue(context.Background(), i)
					if err != nil {
						panic(err)
					}
					say("enqueued", d.ID())
				}
				if i%4 == 1 {
					n := 4*int(time.Now().UnixMicro()) + g // no other child's
					d, err := waiter.Enqueue(context.Background(), n)
					if err != nil {
						panic(err)
					}
					id, err := c.Publish(context.Background(), "busy.event", busyEvent{n})
					if err != nil {
						panic(err)
					}
					say("waiting", d.ID()) // acknowledged with its event
					say("published", id)
				}
				if i%4 == 0 {
					flow, err := graph.Enqueue(context.Background(), i)
					if err != nil {
						panic(err)
					}
					say("enqueued", flow.ID())
				}
				if _, err := runs[1].Wait(context.Background()); err == nil || errors.Is(err, stint.ErrCanceled) {
					say("ended", runs[1].ID())
				}
			}
		})
	}
	wg.Wait()
}

// TestKill holds R1 and R2 to account: whatever moment the process dies at, every run
// it acknowledged is in the file, what had ended stays as it ended, the file is whole,
// and in the end every run has ended.
func TestR1R2Kill(t *testing.T) {
	kills := 200
	if testing.Short() {
		kills = 20
	}
	path := filepath.Join(t.TempDir(), "kill.db")
	enqueued := map[string]bool{}
	ended := map[string]string{} // how, as first seen
	said := map[string]bool{}
	published := map[string]bool{}
	for range kills {
		c := startChild(t, "busy", path)
		for left := rand.IntN(60); c.out.Scan(); left-- {
			what, id, _ := strings.Cut(c.out.Text(), " ")
			switch what {
			case "enqueued", "waiting":
				enqueued[id] = true
			case "published":
				published[id] = true
			case "ended":
				said[id] = true
			}
			if left == 0 {
				c.Process.Kill() // and read on: what it said before it died counts
			}
		}
		if err := c.Wait(); c.ProcessState.Exited() {
			t.Fatalf("the child ended by itself: %v", err) // or this test could not fail
		}
		checkFile(t, path)
		checkLedger(t, path, enqueued, said, ended)
	}
	t.Logf("%d kills, %d runs acknowledged, %d known to have ended before", kills, len(enqueued), len(ended))
	if len(ended) == 0 {
		t.Error("no run ever ended")
	}

	c := openedAt(t, path)
	task := busyTask(c)
	busyDurable(c, task)
	busyWorkflow(c, task)
	busyWaiter(c)
	working(t, c)
	for id := range enqueued {
		if err := endOf(t, c, id); err != nil && !errors.Is(err, stint.ErrCanceled) {
			t.Errorf("run %s: %v", id, err)
		}
	}
	checkGraphs(t, path)
	checkDurable(t, c)
	checkEvents(t, path, published)
	if left := must[[]stint.ConcurrencyInfo](t)(c.ListConcurrency(t.Context())); len(left) > 0 {
		t.Errorf("nothing is open, but limits are held: %+v", left)
	}
}

// checkDurable fails the test unless every durable run returned what it must.
func checkDurable(t *testing.T, c *stint.Client) {
	page := must[*stint.RunPage](t)(c.ListRuns(t.Context(), stint.RunFilter{Tasks: []string{"durable"}, Limit: 1000}))
	for _, r := range page.Runs {
		var in, out int
		if err := errors.Join(json.Unmarshal(r.Input, &in), json.Unmarshal(r.Output, &out)); err != nil || out != 4*in {
			t.Errorf("durable run of %d is %v with %s (%v)", in, r.State, r.Output, err)
		}
	}
	if len(page.Runs) == 0 {
		t.Error("no durable run")
	}
}

// checkEvents fails the test unless each event that was acknowledged is there, each
// event started one run and woke at most one, and no tick of the cron made two.
func checkEvents(t *testing.T, path string, published map[string]bool) {
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	number := func(query string, args ...any) (n int) {
		if err := db.QueryRow(query, args...).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	for id := range published {
		if number("SELECT count(*) FROM stint_events WHERE id = ?", keyOf(t, id)) != 1 {
			t.Errorf("event %s was acknowledged and is lost", id)
		}
	}
	for what, query := range map[string]string{
		"events did not start one run":     "SELECT count(*) FROM stint_events e WHERE 1 <> (SELECT count(*) FROM stint_caused c WHERE c.event = e.id AND NOT woke)",
		"runs that no event started":       "SELECT count(*) FROM stint_runs_view r WHERE task = 'started' AND NOT EXISTS (SELECT 1 FROM stint_caused c WHERE c.run = r.id AND NOT woke)",
		"events started one run twice":     "SELECT count(*) - count(DISTINCT run) FROM stint_caused WHERE NOT woke",
		"events woke several":              "SELECT count(*) FROM (SELECT 1 FROM stint_caused WHERE woke GROUP BY event HAVING count(*) > 1)",
		"ticks of the cron made more runs": `SELECT count(*) FROM (SELECT 1 FROM stint_runs_view WHERE task = 'ticked' GROUP BY metadata ->> '$."stint.tick"' HAVING count(*) > 1)`,
	} {
		if n := number(query); n > 0 {
			t.Errorf("%d %s", n, what)
		}
	}
	if ticks := number("SELECT count(*) FROM stint_runs_view WHERE task = 'ticked'"); len(published) == 0 || ticks == 0 {
		t.Errorf("%d events were published, %d ticks came", len(published), ticks)
	}
}

// endOf waits for a run's end. What was quarantined by bad luck, now or as the last
// death is found out, is replayed.
func endOf(t *testing.T, c *stint.Client, id string) error {
	for {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		_, err := stint.RunByID[any](c, id).Wait(ctx)
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) {
			return err
		}
		must[int](t)(c.ReplayRuns(t.Context(), stint.RunFilter{States: []stint.State{stint.StateBlocked}}))
	}
}

// checkGraphs fails the test unless every workflow that succeeded ran each of its tasks
// once: no commit holds half of what follows from a task's end (R7).
func checkGraphs(t *testing.T, path string) {
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var flows, wrong int
	err = db.QueryRow(`SELECT count(*), coalesce(sum(tasks <> 4 OR places <> 4 OR good <> 4), 0) FROM (
		SELECT count(*) AS tasks, count(DISTINCT n.node) AS places, sum(n.state = 7) AS good
		FROM stint_runs f JOIN stint_runs n ON n.parent = f.id AND n.node IS NOT NULL
		WHERE f.flags & 2 AND f.state = 7 GROUP BY f.id)`).Scan(&flows, &wrong)
	if err != nil || flows == 0 || wrong > 0 {
		t.Errorf("%d workflows succeeded, %d of them without every task once (%v)", flows, wrong, err)
	}
	var open int
	if err := db.QueryRow("SELECT count(*) FROM stint_runs WHERE flags & 2 AND state < 7").Scan(&open); err != nil || open > 0 {
		t.Errorf("%d workflows never ended (%v)", open, err)
	}
}

// checkLedger compares the file with what was acknowledged. How a run ended is
// remembered, and must be the same at the next look.
func checkLedger(t *testing.T, path string, enqueued, said map[string]bool, ended map[string]string) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rows, err := db.Query("SELECT id, state, attempt, lease, coalesce(ended_at, 0), (SELECT count(*) FROM stint_attempts a WHERE a.run = r.id) FROM stint_runs r")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	byKey := map[int64]string{}
	for id := range enqueued {
		byKey[keyOf(t, id)] = id
	}
	found := 0
	for rows.Next() {
		var key, endedAt int64
		var state stint.State
		var attempt, lease, earlier int
		if err := rows.Scan(&key, &state, &attempt, &lease, &endedAt, &earlier); err != nil {
			t.Fatal(err)
		}
		id, ok := byKey[key]
		if !ok {
			continue // a child, or not acknowledged in time
		}
		found++
		if attempt > 4 || lease < earlier {
			t.Errorf("run %s: attempt %d of 4, %d executions, %d of them earlier", id, attempt, lease, earlier)
		}
		if said[id] && !state.Terminal() {
			t.Errorf("run %s: is %v, but was said to have ended", id, state)
		}
		how := fmt.Sprint(state, " ", endedAt, " ", lease)
		if was, ok := ended[id]; ok && was != how {
			t.Errorf("run %s: had ended as %q, now is %q", id, was, how)
		}
		if state.Terminal() {
			ended[id] = how
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	if found != len(enqueued) {
		t.Errorf("%d of %d acknowledged runs are in the file", found, len(enqueued))
	}
}

// keyOf is the key that an ID stands for: see store/sqlite/id.go.
func keyOf(t *testing.T, id string) int64 {
	u, err := uuid.Parse(id)
	if err != nil {
		t.Fatal(err)
	}
	hi := binary.BigEndian.Uint64(u[:8])
	return int64(hi>>16<<20 | hi&0xfff<<8 | uint64(u[8]&0x3f)<<2 | uint64(u[9]>>6))
}
