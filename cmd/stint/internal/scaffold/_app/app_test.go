package main

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/stinttest"
)

// A handler is a plain function: outside of a run its steps just do their work.
func TestWriteReport(t *testing.T) {
	a := &app{}
	pages, err := a.writeReport(t.Context(), report{Title: "sales", Pages: 3})
	if err != nil || len(pages) != 3 || pages[2].Number != 3 {
		t.Errorf("pages %v, %v", pages, err)
	}
}

// A job that is posted is done once a worker has worked.
func TestJobs(t *testing.T) {
	a := newApp(stinttest.New(t), time.Millisecond)
	h := a.handler(http.NotFoundHandler())
	request := func(method, target, body string) (int, job) {
		t.Helper()
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(method, target, strings.NewReader(body)))
		var j job
		json.Unmarshal(w.Body.Bytes(), &j) // an error is no JSON
		return w.Code, j
	}
	status, j := request("POST", "/jobs", `{"title":"sales","pages":3}`)
	if status != http.StatusAccepted {
		t.Fatalf("POST /jobs: status %d", status)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := stinttest.Drain(ctx, a.client); err != nil {
		t.Fatal(err)
	}
	if status, j = request("GET", "/jobs/"+j.ID, ""); status != http.StatusOK || j.State != stint.StateSucceeded || j.Done != 3 {
		t.Errorf("GET /jobs: status %d, %+v", status, j)
	}
	for body, want := range map[string]int{`{"pages":0}`: http.StatusUnprocessableEntity, `{`: http.StatusBadRequest} {
		if status, _ := request("POST", "/jobs", body); status != want {
			t.Errorf("POST %s: status %d, want %d", body, status, want)
		}
	}
	if status, _ := request("GET", "/jobs/none", ""); status != http.StatusNotFound {
		t.Errorf("GET /jobs/none: status %d", status)
	}
}

// The page with a password lets in who has it, also from another machine; the page without lets in only this machine.
func TestPage(t *testing.T) {
	a := newApp(stinttest.New(t), time.Millisecond)
	get := func(page http.Handler, link, password string) int {
		r := httptest.NewRequest("GET", link, nil) // of 192.0.2.1
		if password != "" {
			r.SetBasicAuth("me", password)
		}
		w := httptest.NewRecorder()
		a.handler(page).ServeHTTP(w, r)
		return w.Code
	}
	const right = "correct horse battery"
	shared := a.sharedPage(right)
	for password, want := range map[string]int{right: http.StatusOK, "wrong": http.StatusUnauthorized, "": http.StatusUnauthorized} {
		if got := get(shared, "/stint/", password); got != want {
			t.Errorf("the page with the password %q: status %d, want %d", password, got, want)
		}
	}
	local, link := a.localPage()
	if got := get(local, link, ""); got != http.StatusForbidden {
		t.Errorf("this machine's page, from another machine: status %d", got)
	}
}
