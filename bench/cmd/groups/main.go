// Command groups measures what a run costs in the writer of the SQLite store: claims and ends of 100 runs each, by one goroutine and
// without syncs, until all have ended. Of each it prints the microseconds a run that one group in eight is below, which other
// programs on the machine hardly change.
//
//	go run ./cmd/groups [plain | keys | rates | chain | wide]...
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/sqlite"
)

func main() {
	kinds := os.Args[1:]
	if len(kinds) == 0 {
		kinds = []string{"plain", "keys", "rates", "chain", "wide"}
	}
	for _, kind := range kinds {
		if err := measure(context.Background(), kind); err != nil {
			fmt.Fprintln(os.Stderr, "groups:", err)
			os.Exit(1)
		}
	}
}

// newRuns returns the runs of a kind, and the number of all with those that they start.
func newRuns(kind string) (runs []store.NewRun, total int, err error) {
	input := []byte(`{"t":1234567890123456789,"pad":"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"}`)
	runs = slices.Repeat([]store.NewRun{{Task: "t", Queue: "q", Priority: 2, Input: input}}, 20_000)
	g := store.Graph{Workflow: "t", Tasks: []store.GraphTask{{Name: "first", Queue: "q"}}}
	switch kind {
	case "plain":
		return runs, len(runs), nil
	case "keys": // 1,000, in turns
		for i := range runs {
			runs[i].Limits = []store.Limit{{Name: "l", Key: strconv.Itoa(i % 1000), Max: 2, Strategy: store.StrategyGroupRoundRobin}}
		}
		return runs, len(runs), nil
	case "rates": // 10,000
		for i := range runs {
			runs[i].Limits = []store.Limit{{Key: strconv.Itoa(i % 10_000), PerSecond: 1000, Burst: 1000, Units: 1}}
		}
		return runs, len(runs), nil
	case "chain": // of 5 tasks
		runs = runs[:4000]
		for i := range 4 {
			g.Tasks = append(g.Tasks, store.GraphTask{Name: fmt.Sprint("task", i), Queue: "q", Parents: []int{i}})
		}
	case "wide": // 10,000 between one before and one after
		runs = runs[:1]
		last := store.GraphTask{Name: "last", Queue: "q"}
		for i := range 10_000 {
			g.Tasks = append(g.Tasks, store.GraphTask{Name: fmt.Sprint("task", i), Queue: "q", Parents: []int{0}})
			last.Parents = append(last.Parents, i+1)
		}
		g.Tasks = append(g.Tasks, last)
	default:
		return nil, 0, fmt.Errorf("kind %q: want plain, keys, rates, chain or wide", kind)
	}
	graph, err := store.NewGraph(g)
	for i := range runs {
		runs[i].Graph = graph
	}
	return runs, len(runs) * len(g.Tasks), err
}

func measure(ctx context.Context, kind string) error {
	runs, left, err := newRuns(kind)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "groups")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	s, err := sqlite.Open(filepath.Join(dir, "groups.db"), sqlite.Options{Normal: true})
	if err != nil {
		return err
	}
	defer s.Close()
	worker, err := s.Register(ctx, store.WorkerInfo{Name: "groups"})
	if err != nil {
		return err
	}
	for some := range slices.Chunk(runs, 1000) {
		if _, err := s.Enqueue(ctx, time.Now(), some); err != nil {
			return err
		}
	}
	var claims, ends []float64
	for left > 0 {
		n, err := group(ctx, s, worker, &claims, &ends)
		if err != nil {
			return err
		}
		left -= n
	}
	slices.Sort(claims)
	slices.Sort(ends)
	fmt.Printf("%-6s claim %5.2f end %5.2f\n", kind, claims[len(claims)/8], ends[len(ends)/8])
	return nil
}

// group claims and ends up to 100 runs, and returns how many.
func group(ctx context.Context, s *sqlite.Store, worker int64, claims, ends *[]float64) (int, error) {
	const size = 100
	began := time.Now()
	got, err := s.Claim(ctx, store.ClaimRequest{Worker: worker, Free: func() int { return size }, Tasks: func(string) bool { return true }})
	if err != nil {
		return 0, err
	}
	claimed := time.Since(began)
	outcomes := make([]store.Outcome, len(got))
	for i, c := range got {
		outcomes[i] = store.Outcome{ID: c.ID, Lease: c.Lease, To: store.Succeeded, Output: []byte("{}"), Queue: c.Queue, Task: c.Task,
			Started: c.Started, Parent: c.Parent, Node: c.Node}
	}
	began = time.Now()
	stale, err := s.Finish(ctx, began, outcomes)
	ended := time.Since(began)
	if err == nil && slices.Contains(stale, true) {
		err = fmt.Errorf("an outcome is stale: %v", stale)
	}
	if len(got) == size {
		*claims = append(*claims, float64(claimed.Nanoseconds())/1e3/size)
		*ends = append(*ends, float64(ended.Nanoseconds())/1e3/size)
	}
	return len(got), err
}
