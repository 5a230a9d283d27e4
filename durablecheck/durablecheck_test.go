package durablecheck_test

import (
	"testing"

	"github.com/stint-dev/stint/durablecheck"
	"golang.org/x/tools/go/analysis/analysistest"
)

// testdata says what is to be reported, line by line.
func Test(t *testing.T) {
	analysistest.Run(t, analysistest.TestData(), durablecheck.Analyzer, "a", "b")
}
