package main

import (
	"fmt"
	"slices"

	"github.com/stint-dev/stint/bench/hb"
)

// A ratio compares a case of this library with others of the same round: with the best of them.
type ratio struct {
	name string
	of   key
	by   func(hb.Line) float64
	over []key
	than func(hb.Line) float64
}

func perS(l hb.Line) float64 { return l.PerS }
func p50(l hb.Line) float64  { return l.P50 }
func p99(l hb.Line) float64  { return l.P99 }

// times returns the rate of n tasks in each of what a case counts.
func times(n float64) func(hb.Line) float64 { return func(l hb.Line) float64 { return n * l.PerS } }

// each returns the milliseconds of one of n things that a case does in a row.
func each(n float64) func(hb.Line) float64 {
	return func(l hb.Line) float64 { return 1000 * l.Seconds / n }
}

func ours(name string) key { return key{"stint", name} }

func limitOf(name string) []key { return []key{{"modernc", name}} }

func peersOf(name string, peers ...string) (keys []key) {
	for _, p := range peers {
		keys = append(keys, key{p, name})
	}
	return keys
}

const synced, paced = "disk/append+fdatasync4k", "disk/append+fdatasync4k/each20ms"

var ratios = []ratio{
	{"enqueue, 1 goroutine: of the best peer", ours("C1"), perS, peersOf("C1", "river-sqlite", "goqite", "backlite", "dbos-sqlite-full"),
		perS},
	{"enqueue, 1 goroutine: of commits", ours("C1"), perS, limitOf("commit/full"), perS},
	{"enqueue, 64 goroutines: of the best peer", ours("C2"), perS, peersOf("C2", "river-sqlite", "goqite", "backlite",
		"dbos-sqlite-full"), perS},
	{"enqueue in 1,000s: of the best peer", ours("C3"), perS, peersOf("C3", "river-sqlite", "goqite", "backlite"), perS},
	{"enqueue in 1,000s: of the limit", ours("C3"), perS, limitOf("bulk/full/tx1000/values50"), perS},
	{"drain: of the best peer", ours("C4"), perS, peersOf("C4", "river-sqlite", "river-sqlite-tuned", "goqite", "backlite",
		"dbos-sqlite-tuned"), perS},
	{"drain: of the limit, groups of 100", ours("C4"), perS, limitOf("life/full/group100/update"), perS},
	{"the same, 1,000,000 pending: of a drain beside it", ours("C8"), perS, []key{ours("C8-plain")}, perS},
	{"idle pickup p50, in paced syncs", ours("C5"), p50, limitOf(paced), p50},
	{"idle pickup p99, in paced syncs", ours("C5"), p99, limitOf(paced), p50},
	{"chains of 5 tasks, tasks/s: of the drain", ours("W-chain5"), times(5), []key{ours("C4")}, perS},
	{"the same, 100 callers that wait: of the drain", ours("W-chain5-100"), times(5), []key{ours("C4")}, perS},
	{"10,000 tasks side by side, tasks/s: of the drain", ours("W-wide10000"), times(10_002), []key{ours("C4")}, perS},
	{"chain of 1,000: a hop in syncs", ours("W-chain1000"), each(1000), limitOf(synced), p50},
	{"1,000 keys in turns: of plain", ours("L-keys1000"), perS, []key{ours("L-keys1000-plain")}, perS},
	{"10,000 rate limits: of plain", ours("L-rates10000"), perS, []key{ours("L-rates10000-plain")}, perS},
	{"64 publishers: of enqueueing", ours("E-publishers"), perS, []key{ours("C2")}, perS},
	{"registering waits: of the drain", ours("E-waits"), perS, []key{ours("C4")}, perS},
	{"runs of 5 durable steps: of DBOS", ours("C7"), perS, peersOf("C7", "dbos-sqlite-full"), perS},
	{"the same, steps/s: of the drain", ours("C7"), times(5), []key{ours("C4")}, perS},
	{"1,000 steps in a row: a step in syncs", ours("D-seq1000"), each(1000), limitOf(synced), p50},
	{"event to handler resumed, in paced syncs", ours("D-event"), p50, limitOf(paced), p50},
}

// printRatios prints a row for each ratio whose cases were measured: the median of the rounds, the lowest and the highest.
func printRatios(lines map[key][]hb.Line) {
	fmt.Println("\n| ratio | median | lowest | highest | rounds |\n|---|---|---|---|---|")
	for _, r := range append(ratios, postgresRatios...) {
		var all []float64
		for i, l := range lines[r.of] {
			if best := bestOf(lines, r, i); best > 0 {
				all = append(all, r.by(l)/best)
			}
		}
		if len(all) == 0 {
			continue
		}
		slices.Sort(all)
		fmt.Printf("| %s | %.2f | %.2f | %.2f | %d |\n", r.name, all[len(all)/2], all[0], all[len(all)-1], len(all))
	}
}

// bestOf returns the highest of what the ratio is over in the round. What was measured in fewer rounds stands with its last.
func bestOf(lines map[key][]hb.Line, r ratio, round int) (best float64) {
	for _, k := range r.over {
		if ls := lines[k]; len(ls) > 0 {
			best = max(best, r.than(ls[min(round, len(ls)-1)]))
		}
	}
	return best
}
