package stint_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stint-dev/stint"
)

const (
	soakRate, soakBurst = 400, 5
	soakMax             = 2
)

// soakTasks are a task with a rate, and one whose keys are limited, which fails now and then.
func soakTasks(c *stint.Client) (rated, counted *stint.Task[int, int]) {
	rated = stint.NewTask(c, "rated", func(context.Context, int) (int, error) { return 0, nil }, stint.WithRateLimit("r", 1))
	counted = stint.NewTask(c, "counted", func(ctx context.Context, n int) (int, error) {
		select {
		case <-time.After(rand.N(4 * time.Millisecond)):
		case <-ctx.Done():
		}
		if info, _ := stint.Info(ctx); n%4 == 0 && info.Attempt == 1 {
			return 0, errors.New("once more")
		}
		return n, nil
	}, stint.WithRetries(1), stint.WithConcurrency(stint.Concurrency[int]{
		Key: func(n int) string { return fmt.Sprint(n % 5) }, Max: soakMax, Strategy: stint.StrategyGroupRoundRobin}))
	return rated, counted
}

func soakChild(path string) {
	c, w := childClient(path)
	soakTasks(c)
	fmt.Println("ready")
	w.Run(context.Background())
}

// Two processes work one file, and one of them is killed and replaced now and then. By
// the history in the file no limit was ever exceeded.
func TestLimitsTwoProcesses(t *testing.T) {
	ofFile(t)
	path := filepath.Join(t.TempDir(), "soak.db")
	c := openedAt(t, path)
	if err := c.SetRateLimit(t.Context(), "r", soakRate, soakBurst); err != nil {
		t.Fatal(err)
	}
	rated, counted := soakTasks(c)
	runs := enqueueMany(t, rated, make([]int, 600))
	ns := make([]int, 1000)
	for i := range ns {
		ns[i] = i
	}
	runs = append(runs, enqueueMany(t, counted, ns)...)
	workers := []*child{startChild(t, "soak", path), startChild(t, "soak", path)}
	for i, r := range runs {
		if i%200 == 199 { // some of them execute in it
			dies := workers[i/200%2]
			dies.Process.Kill()
			dies.Wait()
			workers[i/200%2] = startChild(t, "soak", path)
		}
		if _, err := r.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for _, w := range workers {
		w.Process.Kill()
		w.Wait()
	}
	spans := executions(t, path)
	if len(spans["rated"]) < 600 || len(spans["counted"]) < 1250 {
		t.Fatalf("%d and %d executions in the history", len(spans["rated"]), len(spans["counted"]))
	}
	if over := overRate(spans["rated"]); over > 0.001 {
		t.Errorf("a window has %.2f starts more than its rate allows", over)
	}
	for key := range int64(5) {
		mine := slices.DeleteFunc(slices.Clone(spans["counted"]), func(s span) bool { return s.n%5 != key })
		if n := atOnce(mine); n != soakMax {
			t.Errorf("%d of key %d at once, want %d: %v", n, key, soakMax, crowd(mine))
		}
	}
}

// A span is an execution, in milliseconds.
type span struct{ n, from, to int64 }

// executions reads all that a file tells of what was executed, by task.
func executions(t *testing.T, path string) map[string][]span {
	db := asAnother(t, path)
	defer db.Close()
	rows, err := db.Query(`SELECT l.task, CAST(CAST(r.input AS TEXT) AS INTEGER), x.from_ms, x.to_ms FROM
		(SELECT id AS run, started_at AS from_ms, ended_at AS to_ms FROM stint_runs WHERE started_at IS NOT NULL
		 UNION ALL SELECT run, started_at, ended_at FROM stint_attempts) x
		JOIN stint_runs r ON r.id = x.run JOIN stint_lanes l ON l.id = r.lane`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	spans := map[string][]span{}
	for rows.Next() {
		var task string
		var s span
		if err := rows.Scan(&task, &s.n, &s.from, &s.to); err != nil {
			t.Fatal(err)
		}
		spans[task] = append(spans[task], s)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return spans
}

// overRate is how many starts the worst window has above burst + rate × its length.
func overRate(spans []span) (over float64) {
	slices.SortFunc(spans, func(a, b span) int { return cmp.Compare(a.from, b.from) })
	least := 0.0 // of i − rate × t(i): the worst window begins there
	for i, s := range spans {
		at := float64(i) - soakRate*float64(s.from-spans[0].from)/1000
		least = min(least, at)
		over = max(over, at-least+1-soakBurst)
	}
	return over
}

// crowd lists the spans around the first moment at which there are too many.
func crowd(spans []span) (all []span) {
	for _, a := range spans {
		all = all[:0]
		for _, b := range spans {
			if b.from < b.to && b.from <= a.from && a.from < b.to {
				all = append(all, b)
			}
		}
		if len(all) > soakMax {
			return all
		}
	}
	return nil
}

// atOnce is the most spans over one moment. One that ends and one that begins in a
// millisecond do not overlap.
func atOnce(spans []span) (most int) {
	type edge struct{ at, by int64 }
	var edges []edge
	for _, s := range spans {
		if s.from < s.to {
			edges = append(edges, edge{s.from, 1}, edge{s.to, -1})
		}
	}
	slices.SortFunc(edges, func(a, b edge) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.by, b.by)) })
	now := 0
	for _, e := range edges {
		now += int(e.by)
		most = max(most, now)
	}
	return most
}
