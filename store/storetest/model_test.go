package storetest_test

import (
	"testing"

	"github.com/stint-dev/stint/internal/selfcheck"
	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/storetest"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	selfcheck.Enable()
	goleak.VerifyTestMain(m, goleak.Cleanup(selfcheck.Exit))
}

// The model passes the rules itself: it is the oracle.
func TestModel(t *testing.T) {
	storetest.Run(t, func(testing.TB, string) store.Store { return storetest.NewModel() })
}
