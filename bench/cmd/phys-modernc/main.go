package main

import (
	_ "modernc.org/sqlite"

	"github.com/stint-dev/stint/bench/phys"
)

func main() { phys.Main("modernc", "sqlite", func(p string) string { return "file:" + p }) }
