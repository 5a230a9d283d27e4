package hatchet_test

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if os.Getenv(childDatabase) != "" {
		serveAsChild()
	}
	goleak.VerifyTestMain(m)
}
