package ui_test

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/stinttest"
)

// The page of logs has the lines of all runs, newest first, by level, text, task and time, and offers them as NDJSON.
func TestLogsPage(t *testing.T) {
	c, h := opened(t)
	var err error
	for _, name := range []string{"mail", "charge"} {
		task := stint.NewTask(c, name, func(ctx context.Context, n int) (int, error) {
			stint.Logger(ctx).Info(fmt.Sprintf("%s %d begins", name, n))
			stint.Logger(ctx).Error(fmt.Sprintf("%s %d refused", name, n), "code", "E-"+fmt.Sprint(n))
			return 0, nil
		})
		for n := range 30 {
			_, err2 := task.Enqueue(t.Context(), n)
			err = cmp.Or(err, err2)
		}
	}
	if err = cmp.Or(err, stinttest.Drain(t.Context(), c)); err != nil {
		t.Fatal(err)
	}
	lines := func(query string) (all []string) {
		t.Helper()
		w, _ := asked(t, h, "/logs.ndjson"+query)
		if w.Code != http.StatusOK || w.Header().Get("Content-Type") != "application/x-ndjson" {
			t.Fatalf("%s: %d: %.300s", query, w.Code, w.Body)
		}
		page := mainOf(t, h, "/logs"+query)
		for text := range strings.Lines(w.Body.String()) {
			var l struct{ Run, Task, Level, Message, At string }
			if err := json.Unmarshal([]byte(text), &l); err != nil || l.Run == "" || l.Level == "" || l.At == "" || !strings.HasPrefix(l.Message, l.Task) {
				t.Fatalf("%s: %v: %s", query, err, text)
			}
			if all = append(all, l.Message); !strings.Contains(page, l.Level+" "+l.Task+" "+l.Message) {
				t.Errorf("%s: the page does not show %q", query, l.Message)
			}
		}
		return all
	}
	runs, err := c.ListRuns(t.Context(), stint.RunFilter{Limit: 1})
	if err != nil {
		t.Fatal(err)
	}
	for query, want := range map[string]int{"": 120, "?task=charge": 60, "?task=charge&level=ERROR": 30, "?text=e-29": 2, "?task=mail&text=29": 2,
		"?since=1h": 120, "?until=1h": 0, "?task=nobody": 0, "?run=" + runs.Runs[0].ID: 2} {
		if got := lines(query); len(got) != want {
			t.Errorf("%s: %d lines, want %d: %q", query, len(got), want, got)
		}
	}
	page := mainOf(t, h, "/logs")
	if !strings.Contains(page, "Lines per minute INFO ERROR") {
		t.Errorf("no chart of levels: %.300s", page)
	}
	for _, path := range []string{"/logs", "/logs.ndjson"} {
		for _, query := range []string{"?since=x", "?level=loud", "?cursor=x"} {
			if w, _ := asked(t, h, path+query); w.Code != http.StatusBadRequest {
				t.Errorf("%s%s: %d", path, query, w.Code)
			}
		}
	}
}

// More lines than a page has are on the next ones, in the order of their times, whatever runs they are of. A search looks at
// some lines at a time, and says so.
func TestOlderLines(t *testing.T) {
	c, h := opened(t)
	begin := time.Now().Add(-time.Hour)
	const n = 1200
	for i := range 4 {
		run, err := c.EnqueueJSON(t.Context(), "long", []byte("1"))
		if err != nil {
			t.Fatal(err)
		}
		var lines []stint.LogLine
		for k := i; k < n; k += 4 {
			lines = append(lines, stint.LogLine{At: begin.Add(time.Duration(k) * time.Second), Message: fmt.Sprintf("line %d.", k), Attempt: 1})
		}
		if err := c.AddLogs(t.Context(), run.ID(), lines...); err != nil {
			t.Fatal(err)
		}
	}
	want := n
	for path, pages := "/logs", 0; path != ""; pages++ {
		w, _ := asked(t, h, path, "Accept", "text/html")
		text := w.Body.String()
		for part := range strings.SplitSeq(text, ">line ") {
			k := 0
			if _, err := fmt.Sscanf(part, "%d.", &k); err == nil {
				if want--; k != want {
					t.Fatalf("on page %d is line %d, want %d", pages, k, want)
				}
			}
		}
		before, _, more := strings.Cut(text, `">Older lines`)
		if path = ""; more {
			path = strings.ReplaceAll(before[strings.LastIndex(before, `"`)+1:], "&amp;", "&")
		}
	}
	if want != 0 {
		t.Errorf("%d lines are on no page", want)
	}
	for query, text := range map[string]string{"?oldest=true&limit=1": `"message":"line 0."`, "?limit=1": `"message":"line 1199."`,
		"?limit=1&text=LINE+7.": `"message":"line 7."`, "?level=error": `{"lines":[]}`, "?limit=2&task=long": `"next":"`} {
		if w, _ := asked(t, h, "/api/logs"+query); !strings.Contains(w.Body.String(), text) {
			t.Errorf("%s: %.300s", query, w.Body)
		}
	}
}

// Of a log of any length the last lines are shown.
func TestLongLog(t *testing.T) {
	c, h := opened(t)
	for _, n := range []int{1, 999, 1000, 1001, 1499, 1500, 1501, 4000, 4097} {
		run, err := c.EnqueueJSON(t.Context(), "long", []byte("1"))
		if err != nil {
			t.Fatal(err)
		}
		lines := make([]stint.LogLine, n)
		for i := range lines {
			lines[i] = stint.LogLine{At: time.Now(), Message: fmt.Sprintf("line %d.", i+1), Attempt: 1}
		}
		if err := c.AddLogs(t.Context(), run.ID(), lines...); err != nil {
			t.Fatal(err)
		}
		for query, most := range map[string]int{"": 10, "?tab=logs": 500, "?tab=logs&text=line": 500} {
			text := mainOf(t, h, "/runs/"+run.ID()+query)
			first := max(n-most, 0) + 1
			if got := strings.Count(text, " line "); got != min(n, most) || !strings.Contains(text, fmt.Sprintf("line %d.", n)) ||
				!strings.Contains(text, fmt.Sprintf("line %d.", first)) {
				t.Errorf("of %d lines %q shows %d, want %d", n, query, got, min(n, most))
			}
			if cut := strings.Contains(text, "The last "); cut != (n > most) && !(most == 10 && n >= 10) {
				t.Errorf("of %d lines %q says that they are cut: %v", n, query, cut)
			}
		}
	}
}
