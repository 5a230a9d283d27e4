package ui_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stint-dev/stint"
)

// listed returns a shop with n runs of a task that nobody executes.
func listed(t *testing.T, n int) *shop {
	t.Helper()
	s := newEmptyShop(t)
	inputs := make([]int, n)
	for i := range inputs {
		inputs[i] = i
	}
	if _, err := stint.NewTask[int, int](s.c, "work", nil).EnqueueMany(t.Context(), inputs); err != nil {
		t.Fatal(err)
	}
	return s
}

// get returns a page, or an answer of the API.
func (s *shop) get(path string) string {
	s.t.Helper()
	status, text := s.ask("GET", path, "", "Accept", "text/html")
	if status != http.StatusOK {
		s.t.Fatalf("%s: %d, %.300s", path, status, text)
	}
	return text
}

// A list says how many runs match: at once if it shows them all, else after a count, which a link leads to.
func TestCountOfList(t *testing.T) {
	s := listed(t, 50)
	if text := s.get("/runs"); !strings.Contains(text, `<p id="count">50 runs</p>`) {
		t.Errorf("no count of a whole list: %s", around(text, "count"))
	}
	if _, err := s.c.EnqueueJSON(t.Context(), "other", []byte("1")); err != nil {
		t.Fatal(err)
	}
	if text := s.get("/runs"); !strings.Contains(text, "/count?") || strings.Contains(text, "50 runs") {
		t.Errorf("no link to a count: %s", around(text, "count"))
	}
	for query, want := range map[string]int{"": 51, "task=work": 50, "task=other": 1, "state=failed": 0, "state=queued&since=1h": 51} {
		if _, text := s.ask("GET", "/api/runs.count?"+query, ""); text != fmt.Sprintf("{\"runs\":%d}\n", want) {
			t.Errorf("%q: %s, want %d", query, text, want)
		}
		if text := s.get("/count?" + query); !strings.Contains(text, fmt.Sprintf("<b>%d</b> match: ", want)) {
			t.Errorf("%q: the page does not say %d: %s", query, want, around(text, "match"))
		}
	}
	for _, query := range []string{"state=no", "cursor=x", "cols=x"} {
		if status, text := s.ask("GET", "/api/runs.count?"+query, ""); status == http.StatusOK {
			t.Errorf("%q: %s", query, text)
		}
	}
}
