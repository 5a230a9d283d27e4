// The durablecheck command reports code that breaks the replay of durable functions; see package
// durablecheck. Run it with package patterns, or as go vet -vettool=$(which durablecheck).
package main

import (
	"github.com/stint-dev/stint/durablecheck"
	"golang.org/x/tools/go/analysis/singlechecker"
)

func main() { singlechecker.Main(durablecheck.Analyzer) }
