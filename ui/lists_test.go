package ui_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/ui"
)

// The API lists all crons by limit and after; their page shows them in parts.
func TestCronsInPages(t *testing.T) {
	c, h := opened(t)
	task := stint.NewTask(c, "task", func(context.Context, string) (int, error) { return 0, nil })
	const n = 620
	for i := range n {
		input := "x"
		if i < 10 {
			input = strings.Repeat("x", 3<<20)
		}
		if err := task.Cron(t.Context(), fmt.Sprintf("cron-%03d", i), "@daily", input); err != nil {
			t.Fatal(err)
		}
	}
	for limit, wantPages := range map[string]int{"": 11, "1000": 5} {
		rows, pages := 0, 0
		for next := ""; pages == 0 || next != ""; pages++ {
			w, bytes := asked(t, h, "/api/crons?"+url.Values{"limit": {limit}, "after": {next}}.Encode())
			var all struct {
				Crons []struct{ Name string }
				Next  string
			}
			if err := json.Unmarshal(w.Body.Bytes(), &all); err != nil || w.Code != 200 || bytes > most {
				t.Fatalf("%d, %v, allocates %d: %.300s", w.Code, err, bytes, w.Body)
			}
			for _, x := range all.Crons {
				if want := fmt.Sprintf("cron-%03d", rows); x.Name != want {
					t.Fatalf("%s, want %s", x.Name, want)
				}
				rows++
			}
			next = all.Next
		}
		if rows != n || pages != wantPages {
			t.Errorf("limit %q: %d crons in %d pages, want %d", limit, rows, pages, wantPages)
		}
	}
	for _, path := range []string{"/api/crons?limit=1001", "/api/crons?limit=x", "/api/filters?limit=-1", "/api/filters?after=x"} {
		if w, _ := asked(t, h, path); w.Code != http.StatusBadRequest {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
	shown, path := 0, "/schedules"
	for path != "" {
		w, bytes := asked(t, h, path, "Accept", "text/html")
		text := w.Body.String()
		if w.Code != 200 || bytes > most {
			t.Fatalf("%s: %d, allocates %d: %.300s", path, w.Code, bytes, text)
		}
		for i := range n {
			if strings.Contains(text, fmt.Sprintf(">cron-%03d<", i)) {
				shown++
			}
		}
		path = ""
		if i := strings.Index(text, "?crons="); i > 0 {
			cursor, _, _ := strings.Cut(text[i:], `"`)
			path = "/schedules" + cursor
		}
	}
	if shown != n {
		t.Errorf("pages show %d crons", shown)
	}
	if w, _ := asked(t, h, "/", "Accept", "text/html"); w.Code != 200 || !strings.Contains(w.Body.String(), "cron-007") || strings.Contains(w.Body.String(), "cron-008") {
		t.Errorf("the overview: %d, want the first 8 crons that tick next", w.Code)
	}
}

// A duration in `at` is how long from now the run is due, as in the command.
func TestTimesInBodies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, err := stint.Open(":memory:", stint.WithLogger(slog.New(slog.DiscardHandler)))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		h := ui.Handler(c, ui.WithAuthorize(func(*http.Request, ui.Action) error { return nil }))
		stint.NewTask(c, "t", func(context.Context, int) (int, error) { return 0, nil })
		post := func(path, body string) (answer struct{ Run string }) {
			t.Helper()
			r := httptest.NewRequestWithContext(t.Context(), "POST", path, strings.NewReader(body))
			r.Header.Set("Content-Type", "application/json")
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || w.Code != http.StatusOK {
				t.Fatalf("%d: %s", w.Code, w.Body)
			}
			return answer
		}
		due := func(id string, want time.Duration) {
			t.Helper()
			info, err := c.GetRun(t.Context(), id)
			if err != nil || info.State != stint.StateScheduled || !info.Scheduled.Equal(time.Now().Add(want)) {
				t.Errorf("%v at %v, want %v from now (%v)", info.State, info.Scheduled, want, err)
			}
		}
		id := post("/api/tasks/t/runs", `{"input": 1, "at": "90m"}`).Run
		due(id, 90*time.Minute)
		post("/api/runs/"+id+"/reschedule", `{"at": "2h"}`)
		due(id, 2*time.Hour)
		post("/api/runs/"+id+"/reschedule", `{"at": "7d"}`)
		due(id, 7*24*time.Hour)
		due(post("/api/tasks/t/runs", `{"input": 1, "delay": "1d"}`).Run, 24*time.Hour)
	})
}
