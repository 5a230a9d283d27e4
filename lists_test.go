package stint_test

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stint-dev/stint"
)

// Crons and filters are listed in pages, by limit and by size, and pages put together are what is
// listed as a whole.
func TestCronAndFilterPages(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lists.db")
	c := openedAt(t, path)
	task := stint.NewTask(c, "task", func(context.Context, string) (int, error) { return 0, nil })
	const n = 9
	var names []string
	for i := range n {
		names = append(names, fmt.Sprintf("cron %02d", i))
		if err := task.Cron(t.Context(), names[i], "@daily", strings.Repeat("x", 1<<20)); err != nil {
			t.Fatal(err)
		}
	}
	_, err := appFile(t, path).ExecContext(t.Context(), `WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < ?)
		INSERT INTO stint_filters (task, scope, expr, payload) SELECT 'task' || (i % 2), 's', 'true', json_quote(hex(zeroblob(500000))) FROM n`, 2*n)
	if err != nil {
		t.Fatal(err)
	}
	whole := must[[]stint.TriggerFilter](t)(c.ListFilters(t.Context(), "task1"))
	for limit, want := range map[int]int{0: 2, 1: n, 3: 3, 10: 2, 1000: 2} { // seven of 1 MiB are a page, eight of a million bytes
		var crons []stint.CronInfo
		pages := 0
		for f := (stint.CronFilter{Limit: limit}); pages == 0 || f.Cursor != ""; pages++ {
			page := must[*stint.CronPage](t)(c.CronPage(t.Context(), f))
			crons, f.Cursor = append(crons, page.Crons...), page.Next
		}
		var got []string
		for _, x := range crons {
			got = append(got, x.Name)
		}
		if !slices.Equal(got, names) || pages != want {
			t.Errorf("crons by %d: %q in %d pages, want %d", limit, got, pages, want)
		}
		var filters []stint.TriggerFilter
		pages = 0
		for q := (stint.FilterQuery{Task: "task1", Limit: limit}); pages == 0 || q.Cursor != ""; pages++ {
			page := must[*stint.FilterPage](t)(c.FilterPage(t.Context(), q))
			filters, q.Cursor = append(filters, page.Filters...), page.Next
		}
		same := slices.EqualFunc(filters, whole, func(a, b stint.TriggerFilter) bool {
			return a.ID == b.ID && a.Task == "task1" && len(a.Payload.(json.RawMessage)) == 1_000_002
		})
		if !same || len(whole) != n || pages != want {
			t.Errorf("filters by %d: %d in %d pages, want %d, of %d", limit, len(filters), pages, want, len(whole))
		}
	}
	if all := must[[]stint.CronInfo](t)(c.ListCrons(t.Context())); len(all) != n {
		t.Errorf("ListCrons has %d", len(all))
	}
	if all := must[[]stint.TriggerFilter](t)(c.ListFilters(t.Context(), "")); len(all) != 2*n {
		t.Errorf("ListFilters has %d", len(all))
	}
}

// What is no page of a list is an error, and a list that is too long as a whole says what lists it.
func TestListsRefuse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lists.db")
	c := openedAt(t, path)
	for _, limit := range []int{-1, 1001} {
		if page, err := c.CronPage(t.Context(), stint.CronFilter{Limit: limit}); err == nil || page != nil {
			t.Errorf("crons by %d: %v", limit, err)
		}
		if page, err := c.FilterPage(t.Context(), stint.FilterQuery{Limit: limit}); err == nil || page != nil {
			t.Errorf("filters by %d: %v", limit, err)
		}
	}
	for _, cursor := range []string{"x", "-1", "1.5", "99999999999999999999", strings.Repeat("1", 1<<20)} {
		if page, err := c.FilterPage(t.Context(), stint.FilterQuery{Cursor: cursor}); err == nil || page != nil || len(err.Error()) > 500 {
			t.Errorf("filters from %.40q: %.600v", cursor, err)
		}
	}
	for _, cursor := range []string{"\xff", strings.Repeat("x", 1<<20)} {
		if page, err := c.CronPage(t.Context(), stint.CronFilter{Cursor: cursor}); err == nil || page != nil || len(err.Error()) > 500 {
			t.Errorf("crons from %.40q: %.600v", cursor, err)
		}
	}
	_, err := appFile(t, path).ExecContext(t.Context(), `WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 100001)
		INSERT INTO stint_filters (task, scope, expr) SELECT 'task', 's', 'true' FROM n`)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.ListFilters(t.Context(), ""); err == nil || !strings.Contains(err.Error(), "FilterPage") {
		t.Errorf("ListFilters of too many: %v", err)
	}
}
