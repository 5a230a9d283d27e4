package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestDemo(t *testing.T) {
	service := httptest.NewServer(&flakyService{})
	defer http.DefaultClient.CloseIdleConnections()
	defer service.Close()
	var out strings.Builder
	if err := demo(t.Context(), service.URL, "", &out); err != nil {
		t.Fatal(err)
	}
	want := `succeeded after 1 attempts: hello from /fine
succeeded after 2 attempts: hello from /busy
succeeded after 3 attempts: hello from /down
failed after 1 attempts: 410 Gone
`
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", &out, want)
	}
}
