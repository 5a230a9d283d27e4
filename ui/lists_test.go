package ui_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stint-dev/stint"
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
