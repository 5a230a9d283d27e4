// Command goqite benchmarks goqite with its jobs runner on modernc.org/sqlite.
package main

import (
	"database/sql"

	_ "modernc.org/sqlite"

	"github.com/stint-dev/stint/bench/goq"
	"github.com/stint-dev/stint/bench/hb"
	"github.com/stint-dev/stint/bench/sq"
)

func open(sync string) func(dir string) (*sql.DB, string, error) {
	return func(dir string) (*sql.DB, string, error) { return sq.Modernc(dir, sync, 1) }
}

func main() {
	hb.Main(hb.Variants{
		"goqite":              func() hb.Peer { return &goq.Peer{OpenDB: open("FULL")} },
		"goqite-tuned":        func() hb.Peer { return &goq.Peer{OpenDB: open("FULL"), PollMS: 1} },
		"goqite-tuned-normal": func() hb.Peer { return &goq.Peer{OpenDB: open("NORMAL"), PollMS: 1} },
	})
}
