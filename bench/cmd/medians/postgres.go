package main

import "github.com/stint-dev/stint/bench/hb"

func onServer(name string) key { return key{"stint-pg", name} }

func seconds(l hb.Line) float64 { return l.Seconds }

// one is the divisor of a figure that is printed as it is, not as a ratio.
func one(hb.Line) float64 { return 1 }

// The ratios on PostgreSQL.
var postgresRatios = []ratio{
	{"drain: of River", onServer("C4"), perS, peersOf("C4", "river-pg-tuned"), perS},
	{"drain: of the limit, groups of 1,000", onServer("C4"), perS, []key{{"pgx", "finish+claim/group1000"}}, perS},
	{"drain: of the limit, groups of 100", onServer("C4"), perS, []key{{"pgx", "finish+claim/group100"}}, perS},
	{"the same, 1,000,000 pending: of a drain beside it", onServer("C8"), perS, []key{onServer("C8-plain")}, perS},
	{"the same, a snapshot held: of before", onServer("C4-held"), perS, []key{onServer("C4-held-before")}, perS},
	{"four processes: of one", onServer("P4"), perS, []key{onServer("P1")}, perS},
	{"enqueue, 1 goroutine: of River", onServer("C1"), perS, peersOf("C1", "river-pg-tuned"), perS},
	{"enqueue, 1 goroutine: of commits of one row", onServer("C1"), perS, []key{{"pgx", "insert/group1"}}, perS},
	{"enqueue, 64 goroutines: of River", onServer("C2"), perS, peersOf("C2", "river-pg-tuned"), perS},
	{"enqueue in 1,000s: of River", onServer("C3"), perS, peersOf("C3", "river-pg-tuned"), perS},
	{"enqueue in 1,000s: of the limit", onServer("C3"), perS, []key{{"pgx", "insert/group1000"}}, perS},
	{"idle pickup p50: of River", onServer("C5"), p50, peersOf("C5", "river-pg-tuned"), p50},
	{"idle pickup p99: of River", onServer("C5"), p99, peersOf("C5", "river-pg-tuned"), p99},
	{"pickup p50 from another process: of the own", onServer("C5-process"), p50, []key{onServer("C5")}, p50},
	{"pickup p99 from another process: of the own", onServer("C5-process"), p99, []key{onServer("C5")}, p99},
	{"workflows of 5 tasks, tasks/s: of the drain", onServer("W-chain5"), times(5), []key{onServer("C4")}, perS},
	{"the same, 100 callers that wait: of the drain", onServer("W-chain5-100"), times(5), []key{onServer("C4")}, perS},
	{"runs of 5 durable steps: of DBOS", onServer("C7"), perS, peersOf("C7", "dbos-pg"), perS},
	{"two processes of 500 slots, 1 ms of network: of none", onServer("P2x500-1ms"), perS, []key{onServer("P2x500")}, perS},
	{"move of a file: seconds", onServer("move"), seconds, []key{onServer("move")}, one},
	{"the program's longest call meanwhile: ms", onServer("move"), p50, []key{onServer("move")}, one},
	{"the longest time without a handler meanwhile: ms", onServer("move"), p99, []key{onServer("move")}, one},
}
