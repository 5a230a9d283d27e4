package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stint-dev/stint/examples/internal/database"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestDemo(t *testing.T) {
	service := httptest.NewServer(&flakyService{})
	defer http.DefaultClient.CloseIdleConnections()
	defer service.Close()
	database.Empty(t, "flaky")
	var out strings.Builder
	if err := demo(t.Context(), service.URL, "", &out); err != nil {
		t.Fatal(err)
	}
	want := `succeeded on attempt 1: hello from /fine
succeeded on attempt 2: hello from /busy
succeeded on attempt 3: hello from /down
failed on attempt 1: 410 Gone
`
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", &out, want)
	}
}
