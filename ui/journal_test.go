package ui_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/stinttest"
)

// stepped returns a client and its handler, with a run of n steps.
func stepped(t *testing.T, steps int) (http.Handler, string) {
	t.Helper()
	c, h := opened(t)
	task := stint.NewTask(c, "steps", func(ctx context.Context, _ int) (int, error) {
		for i := range steps {
			if _, err := stint.Step(ctx, fmt.Sprintf("step-%d-", i), func(context.Context) (string, error) { return strings.Repeat("x", 4<<10), nil }); err != nil {
				return 0, err
			}
		}
		return 0, nil
	})
	run, err := task.Enqueue(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := stinttest.Drain(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	return h, run.ID()
}

// The API lists all of a journal by limit and cursor; the page of a run shows the first part, with
// a link to the next.
func TestJournalInPages(t *testing.T) {
	const n = 450
	h, id := stepped(t, n)
	var want []string
	for i := range n {
		want = append(want, fmt.Sprintf("step-%d-", i))
	}
	for limit, wantPages := range map[string]int{"": 5, "7": 65, "200": 3, "1000": 1} {
		var got []string
		pages := 0
		for next := ""; pages == 0 || next != ""; pages++ {
			w, bytes := asked(t, h, "/api/runs/"+id+"/journal?"+url.Values{"limit": {limit}, "cursor": {next}}.Encode())
			var all struct {
				Entries []struct{ Name string }
				Next    string
			}
			if err := json.Unmarshal(w.Body.Bytes(), &all); err != nil || w.Code != 200 || bytes > most {
				t.Fatalf("%d, %v, allocates %d: %.300s", w.Code, err, bytes, w.Body)
			}
			for _, e := range all.Entries {
				got = append(got, e.Name)
			}
			next = all.Next
		}
		if !slices.Equal(got, want) || pages != wantPages {
			t.Errorf("limit %q: %d pages have\n%q", limit, pages, got)
		}
	}
	for _, q := range []string{"cursor=x", "cursor=0", "limit=-1", "limit=1001", "limit=x", "after=1"} {
		if w, _ := asked(t, h, "/api/runs/"+id+"/journal?"+q); w.Code != http.StatusBadRequest {
			t.Errorf("%s: %d %s", q, w.Code, w.Body)
		}
	}
	got, path := []string{}, "/runs/"+id+"?tab=journal"
	for pages := 1; path != ""; pages++ {
		w, _ := asked(t, h, path, "Accept", "text/html")
		text := w.Body.String()
		if w.Code != 200 || strings.Contains(text, "First part") != (pages > 1) {
			t.Fatalf("%s: %d: %.300s", path, w.Code, text)
		}
		_, text, _ = strings.Cut(text, `class="tabs"`)
		for _, name := range want {
			if strings.Contains(text, name) {
				got = append(got, name)
			}
		}
		path = ""
		if i := strings.Index(text, "?journal="); i > 0 {
			query, _, _ := strings.Cut(text[i:], `"`)
			path = "/runs/" + id + html.UnescapeString(query)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("pages show\n%q", got)
	}
	if w, _ := asked(t, h, "/runs/"+id+"?journal=x", "Accept", "text/html"); w.Code != http.StatusBadRequest {
		t.Errorf("a cursor that is none: %d", w.Code)
	}
}

// A failed workflow's page begins with the error of the task that failed, and a waiting run's page says when it
// goes on, which is not when it is due.
func TestWhyOnRunPage(t *testing.T) {
	c, h := opened(t)
	flow := stint.NewWorkflow[int](c, "site")
	build := stint.AddTask(flow, "build", func(context.Context, int) (int, error) { return 0, nil })
	test := stint.AddTask(flow, "test", func(context.Context, int) (int, error) { return 0, stint.NonRetryable(errors.New("2 tests failed")) },
		stint.WithParents(build))
	stint.AddTask(flow, "upload", func(context.Context, int) (int, error) { return 0, nil }, stint.WithParents(test))
	approve := stint.NewTask(c, "approve", func(ctx context.Context, _ int) (int, error) {
		return stint.WaitForEvent[int](ctx, "approved", stint.WithWaitTimeout(time.Hour))
	})
	failed, err := flow.Enqueue(t.Context(), 1)
	waits, err2 := approve.Enqueue(t.Context(), 1)
	if err = cmp.Or(err, err2, stinttest.Drain(t.Context(), c)); err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]string{
		failed.ID(): `Replay Task test failed: 2 tests failed task &#34;test&#34; did not succeed`,
		waits.ID():  "Goes on at the latest",
	} {
		w, _ := asked(t, h, "/runs/"+id, "Accept", "text/html")
		text := strings.Join(strings.Fields(markup.ReplaceAllString(w.Body.String(), " ")), " ")
		if !strings.Contains(text, want) {
			t.Errorf("no %q in %q", want, text)
		}
	}
}
