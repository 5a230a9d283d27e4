package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"database/sql"

	"github.com/stint-dev/stint"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func opened(t *testing.T) *shop {
	path := filepath.Join(t.TempDir(), "orders.db")
	db, err := sql.Open("sqlite", "file:"+path+"?_txlock=immediate&_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	s, err := newShop(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func request(s *shop, method, target, body string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	s.handler().ServeHTTP(w, httptest.NewRequest(method, target, strings.NewReader(body)))
	return w
}

// An order that is stored is confirmed.
func TestOrder(t *testing.T) {
	s := opened(t)
	w := request(s, "POST", "/orders", `{"item":"tea","quantity":2}`)
	if w.Code != http.StatusCreated {
		t.Fatalf("POST = %d %s", w.Code, w.Body)
	}
	page, err := s.client.ListRuns(t.Context(), stint.RunFilter{Tasks: []string{"confirm"}})
	if err != nil || len(page.Runs) != 1 {
		t.Fatalf("runs: %v, %v", page, err)
	}
	if out, err := stint.RunByID[string](s.client, page.Runs[0].ID).Wait(context.Background()); err != nil || out != "order 1 confirmed" {
		t.Errorf("Wait = %q, %v", out, err)
	}
	var o order
	w = request(s, "GET", w.Header().Get("Location"), "")
	if err := json.NewDecoder(w.Body).Decode(&o); err != nil || o != (order{1, "tea", 2, true}) {
		t.Errorf("GET = %+v, %v", o, err)
	}
}

// An order that is refused leaves no task behind.
func TestRefused(t *testing.T) {
	s := opened(t)
	for body, want := range map[string]int{
		`{"item":"tea","quantity":0}`: http.StatusUnprocessableEntity,
		`{"item":`:                    http.StatusBadRequest,
	} {
		if w := request(s, "POST", "/orders", body); w.Code != want {
			t.Errorf("POST %s = %d, want %d", body, w.Code, want)
		}
	}
	if w := request(s, "GET", "/orders/1", ""); w.Code != http.StatusNotFound {
		t.Errorf("GET = %d", w.Code)
	}
	page, err := s.client.ListRuns(t.Context(), stint.RunFilter{})
	if err != nil || len(page.Runs) != 0 {
		t.Errorf("runs left: %v, %v", fmt.Sprint(page), err)
	}
}
