package ui_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/ui"
)

// streamed returns a run that streamed "first 0" to "first 2", failed, streamed "second 0" to "second 2", and succeeded once
// that is read from finish.
func streamed(t *testing.T, finish <-chan bool, opts ...ui.Option) (*stint.Client, http.Handler, *stint.Run[int]) {
	t.Helper()
	c, h := opened(t, opts...)
	task := stint.NewTask(c, "talk", func(ctx context.Context, _ int) (int, error) {
		word := "second"
		if info, _ := stint.Info(ctx); info.Attempt == 1 {
			word = "first"
		}
		for i := range 3 {
			if err := stint.Stream(ctx, fmt.Appendf(nil, "%s %d\n", word, i)); err != nil {
				return 0, err
			}
		}
		if word == "first" {
			return 0, errors.New("cut off")
		}
		<-finish
		return 0, nil
	}, stint.WithRetries(1), stint.WithRetryPolicy(func(int, error) time.Duration { return 0 }))
	working(t, c)
	run, err := task.Enqueue(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	return c, h, run
}

// What each attempt has streamed is shown apart, with its time.
func TestStreamOfAttempts(t *testing.T) {
	finish := make(chan bool)
	close(finish)
	_, h, run := streamed(t, finish)
	if _, err := run.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	page, _ := asked(t, h, "/runs/"+run.ID()+"?tab=stream", "Accept", "text/html")
	text := page.Body.String()
	last := 0
	for _, part := range []string{"Attempt 1", "<time", "first 2", "Attempt 2", "<time", "second 0"} {
		i := strings.Index(text[last:], part)
		if i < 0 {
			t.Fatalf("the page does not show %q where it should", part)
		}
		last += i
	}
}

// A long stream can be read back to its beginning, with nothing left out at the borders of its parts.
func TestOlderChunks(t *testing.T) {
	const n = 3000
	c, h := opened(t, ui.WithRedact(func(p ui.Payload) json.RawMessage {
		return json.RawMessage(strings.ReplaceAll(string(p.JSON), "secret", "*"))
	}))
	task := stint.NewTask(c, "long", func(ctx context.Context, _ int) (int, error) {
		for i := range n {
			if err := stint.Stream(ctx, fmt.Appendf(nil, "ret chunk %d.%60s sec", i, "")); err != nil {
				return 0, err
			}
		}
		return 0, nil
	})
	working(t, c)
	run, err := task.Enqueue(t.Context(), 1)
	if err == nil {
		_, err = run.Wait(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	seen, parts := map[int]bool{}, 0
	for path := "/runs/" + run.ID() + "?tab=stream"; path != ""; parts++ {
		page, _ := asked(t, h, path, "Accept", "text/html")
		text := page.Body.String()
		if page.Code != 200 || strings.Contains(text, "secret") || len(text) > 256<<10 {
			t.Fatalf("%s: %d, %d bytes", path, page.Code, len(text))
		}
		for i := range n {
			seen[i] = seen[i] || strings.Contains(text, fmt.Sprintf(" chunk %d.", i))
		}
		before, _, more := strings.Cut(text, `">Older chunks`)
		path = ""
		if more {
			path = strings.ReplaceAll(before[strings.LastIndex(before, `"`)+1:], "&amp;", "&")
		}
	}
	for i := range n {
		if !seen[i] {
			t.Fatalf("chunk %d is on none of %d parts", i, parts)
		}
	}
	if parts < 3 {
		t.Errorf("%d parts", parts)
	}
	for query, want := range map[string]string{"after=-2": `{"seq":2999,`, "after=-2&limit=1": `"next":2999`, "after=2999": `"next":3000`} {
		if w, _ := asked(t, h, "/api/runs/"+run.ID()+"/stream?"+query); !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s: %.300s", query, w.Body)
		}
	}
}

// Events of a stream have the numbers of chunks as IDs; who was cut off gets what follows the last one.
func TestStreamEvents(t *testing.T) {
	finish := make(chan bool)
	_, h, run := streamed(t, finish)
	server := httptest.NewServer(h)
	defer server.Close()
	ask := func(last string) (lines *bufio.Scanner, cut func()) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), "GET", server.URL+"/api/runs/"+run.ID()+"/stream", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Accept", "text/event-stream")
		r.Header.Set("Last-Event-ID", last)
		got, err := http.DefaultClient.Do(r)
		if err != nil || got.StatusCode != 200 || got.Header.Get("Content-Type") != "text/event-stream" {
			t.Fatal(got, err)
		}
		return bufio.NewScanner(got.Body), func() { got.Body.Close() }
	}
	next := func(lines *bufio.Scanner) (event string) {
		for lines.Scan() && lines.Text() != "" {
			event += lines.Text() + "\n"
		}
		return event
	}
	lines, cut := ask("")
	for i, text := range []string{"first 0", "first 1", "first 2", "second 0"} {
		if got := next(lines); !strings.HasPrefix(got, fmt.Sprintf("event: chunk\nid: %d\ndata: {", i+1)) || !strings.Contains(got, text) {
			t.Fatalf("event %d: %q", i+1, got)
		}
	}
	cut()
	lines, cut = ask("4")
	defer cut()
	for _, want := range []string{"id: 5\n", "id: 6\n"} {
		if got := next(lines); !strings.Contains(got, want) || !strings.Contains(got, `"attempt":2,"execution":2,"text":"second`) {
			t.Fatalf("resumed: %q", got)
		}
	}
	close(finish)
	if got := next(lines); got != "event: end\ndata: {}\n" {
		t.Errorf("at the end: %q", got)
	}
	if lines.Scan() {
		t.Errorf("after the end: %q", lines.Text())
	}
	for last, status := range map[string]int{"x": 400} {
		w, _ := asked(t, h, "/api/runs/"+run.ID()+"/stream", "Accept", "text/event-stream", "Last-Event-ID", last)
		if w.Code != status {
			t.Errorf("after %q: %d", last, w.Code)
		}
	}
	if w, _ := asked(t, h, "/api/runs/01234567-0123-7123-8123-0123456789ab/stream", "Accept", "text/event-stream"); w.Code != 404 {
		t.Errorf("of no run: %d", w.Code)
	}
}
