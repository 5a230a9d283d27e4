// Command medians prints tables of the other commands' results: medians, and ratios of the rounds.
//
//	go run ./cmd/medians results/*.jsonl
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"slices"

	"github.com/stint-dev/stint/bench/hb"
)

type key struct{ peer, name string }

func main() {
	lines := map[key][]hb.Line{}
	var order []key
	for _, path := range os.Args[1:] {
		f, err := os.Open(path)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		for in := bufio.NewScanner(f); in.Scan(); {
			var l hb.Line
			if json.Unmarshal(in.Bytes(), &l) != nil {
				continue
			}
			k := key{l.Peer, l.Case}
			if lines[k] == nil {
				order = append(order, k)
			}
			lines[k] = append(lines[k], l)
		}
		f.Close()
	}
	fmt.Println("| library | case | per second, or MiB | of | p50 ms | p99 ms |\n|---|---|---|---|---|---|")
	for _, k := range order {
		ls := lines[k]
		fmt.Printf("| %s | %s | %.0f | %d | %.2f | %.2f |\n", k.peer, k.name,
			median(ls, func(l hb.Line) float64 { return l.PerS }), len(ls),
			median(ls, func(l hb.Line) float64 { return l.P50 }), median(ls, func(l hb.Line) float64 { return l.P99 }))
	}
	printRatios(lines)
}

func median(ls []hb.Line, of func(hb.Line) float64) float64 {
	v := make([]float64, len(ls))
	for i, l := range ls {
		v[i] = of(l)
	}
	slices.Sort(v)
	return v[len(v)/2]
}
