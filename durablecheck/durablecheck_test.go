package durablecheck_test

import (
	"testing"

	"github.com/stint-dev/stint/durablecheck"
	"golang.org/x/tools/go/analysis/analysistest"
)

// The files in testdata say, line by line, what must be reported.
func Test(t *testing.T) {
	analysistest.Run(t, analysistest.TestData(), durablecheck.Analyzer, "a", "b")
}
