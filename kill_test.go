package stint_test

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/binary"
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
}

// A child is a process of this binary in one of the roles above.
type child struct {
	*exec.Cmd
	out *bufio.Scanner
}

func startChild(t *testing.T, role, path string) *child {
	t.Helper()
	cmd := exec.Command(os.Args[0])
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
	}, stint.WithRetries(3), stint.WithRetryBackoff(1, 5*time.Millisecond))
	return task
}

// busyChild enqueues, works, and cancels without end. It says "enqueued ID" and
// "ended ID" once each is acknowledged.
func busyChild(path string) {
	c, w := childClient(path)
	task := busyTask(c)
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
	for range kills {
		c := startChild(t, "busy", path)
		for left := rand.IntN(60); c.out.Scan(); left-- {
			what, id, _ := strings.Cut(c.out.Text(), " ")
			switch what {
			case "enqueued":
				enqueued[id] = true
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
	busyTask(c)
	working(t, c)
	must[int](t)(c.ReplayRuns(t.Context(), stint.RunFilter{States: []stint.State{stint.StateBlocked}})) // quarantined by bad luck
	for id := range enqueued {
		if _, err := stint.RunByID[int](c, id).Wait(t.Context()); err != nil && !errors.Is(err, stint.ErrCanceled) {
			t.Errorf("run %s: %v", id, err)
		}
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
