package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stint-dev/stint/stinttest"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Three users: one clicks in time and is approved, one is reminded and declined, one
// has not answered yet. The days are virtual.
func TestOnboarding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := stinttest.New(t)
		mails := t.TempDir()
		h := define(c, mails, 24*time.Hour).handler()
		post := func(path string) {
			t.Helper()
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest("POST", path, nil))
			if w.Code != http.StatusSeeOther {
				t.Errorf("POST %s = %d %s", path, w.Code, w.Body)
			}
		}
		days := func(n int) {
			t.Helper()
			for range n * 2 { // a worker comes by twice a day
				if err := stinttest.Drain(t.Context(), c); err != nil {
					t.Fatal(err)
				}
				time.Sleep(12 * time.Hour)
			}
		}
		for _, user := range []string{"ada", "bob", "eve"} {
			post("/users/" + user)
			post("/users/" + user) // twice changes nothing
		}
		days(1)
		post("/users/ada/click") // before the wait: it counts
		days(6)
		post("/users/ada/approve")
		post("/users/bob/decline")
		days(1)
		var got []string
		files, _ := os.ReadDir(mails)
		for _, f := range files {
			got = append(got, strings.TrimSuffix(f.Name(), ".txt"))
		}
		want := []string{"ada - welcome", "ada - your account is open", "bob - sorry", "bob - we miss you", "bob - welcome", "eve - we miss you", "eve - welcome"}
		if !slices.Equal(got, want) {
			t.Errorf("mails %q, want %q", got, want)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
		for _, want := range []string{"<td>ada<td>succeeded<td>&#34;approved&#34;", "<td>eve<td>waiting<td>event approval"} {
			if !strings.Contains(w.Body.String(), want) {
				t.Errorf("the page lacks %q:\n%s", want, w.Body)
			}
		}
	})
}

func TestBadUser(t *testing.T) {
	c := stinttest.New(t)
	w := httptest.NewRecorder()
	define(c, t.TempDir(), time.Hour).handler().ServeHTTP(w, httptest.NewRequest("POST", "/users/..%2fetc", nil))
	if w.Code != http.StatusBadRequest {
		t.Errorf("POST = %d", w.Code)
	}
}
