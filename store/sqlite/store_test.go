package sqlite_test

import (
	"path/filepath"
	"testing"

	"github.com/stint-dev/stint/internal/selfcheck"
	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/sqlite"
	"github.com/stint-dev/stint/store/storetest"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if selfcheck.Enable(); selfcheck.Enabled() {
		sqlite.UseListSizes([...]int{3, 2})
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(selfcheck.Exit))
}

func open(t testing.TB, dir string) *sqlite.Store {
	s, err := sqlite.Open(filepath.Join(dir, "test.db"), sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStore(t *testing.T) {
	storetest.Run(t, func(t testing.TB, dir string) store.Store { return open(t, dir) })
}

func TestRandom(t *testing.T) {
	storetest.Random(t, func(t testing.TB, dir string) storetest.Crasher { return open(t, dir) })
}
