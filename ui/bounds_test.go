package ui_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/ui"
)

// most bounds what one request may allocate, in bytes.
const most = 64 << 20 << raced

// opened returns a client on a new file, and a handler that gives everybody access.
func opened(t *testing.T, opts ...ui.Option) (*stint.Client, http.Handler) {
	t.Helper()
	c, err := stint.Open(filepath.Join(t.TempDir(), "bounds.db"), stint.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, ui.Handler(c, append(opts, ui.WithAuthorize(func(*http.Request, ui.Action) error { return nil }))...)
}

// asked returns the answer to a request, and how many bytes it allocated.
func asked(t *testing.T, h http.Handler, path string, header ...string) (*httptest.ResponseRecorder, uint64) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), "GET", path, nil)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	w.Body.Grow(20 << 20)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	h.ServeHTTP(w, r)
	runtime.ReadMemStats(&after)
	return w, after.TotalAlloc - before.TotalAlloc
}

// zeros returns JSON of about n bytes with as many values as possible.
func zeros(n int) json.RawMessage { return json.RawMessage("[0" + strings.Repeat(",0", n/2) + "]") }

// Pages show the beginning of large values, within bounds of bytes and of memory.
func TestLargePages(t *testing.T) {
	c, h := opened(t)
	for range 50 {
		if _, err := c.Publish(t.Context(), "large", zeros(64<<10-10)); err != nil {
			t.Fatal(err)
		}
	}
	odd, err := json.Marshal(strings.Repeat("\x01<&", 60<<10))
	if err != nil {
		t.Fatal(err)
	}
	ids := map[string]json.RawMessage{}
	deep := json.RawMessage(`{"a":` + strings.Repeat(`{"b":`, 9000) + "1" + strings.Repeat("}", 9001))
	for _, input := range []json.RawMessage{zeros(60 << 10), zeros(3 << 20), odd, deep} {
		run, err := c.EnqueueJSON(t.Context(), "large", input)
		if err != nil {
			t.Fatal(err)
		}
		ids[run.ID()] = input
	}
	paths := []string{"/events", "/runs", "/", "/tasks", "/schedules"}
	for id := range ids {
		paths = append(paths, "/runs/"+id)
	}
	for _, path := range paths {
		w, bytes := asked(t, h, path, "Accept", "text/html")
		if w.Code != 200 || w.Body.Len() > 4<<20 || bytes > most {
			t.Errorf("GET %s: %d, %d bytes, allocates %d", path, w.Code, w.Body.Len(), bytes)
		}
		if !strings.HasSuffix(strings.TrimSpace(w.Body.String()), "</html>") {
			t.Errorf("GET %s is not whole", path)
		}
	}
	if w, _ := asked(t, h, "/events", "Accept", "text/html"); strings.Count(w.Body.String(), "in all; the beginning:") != 50 {
		t.Error("/events does not say that it shows beginnings")
	}
	if _, err := c.Publish(t.Context(), "small", json.RawMessage(`{"all": [1, 2, "of it"]}`)); err != nil {
		t.Fatal(err)
	}
	w, _ := asked(t, h, "/events?key=small", "Accept", "text/html")
	if text := w.Body.String(); !strings.Contains(text, "of it") || strings.Contains(text, "the beginning:") {
		t.Error("/events does not show a small payload whole")
	}
}

// Large lists of the API end at a row, with next, and no row is left out.
func TestLargeLists(t *testing.T) {
	c, h := opened(t)
	const n, large = 12, 3 << 20
	want := map[string][]string{}
	for i := range n {
		run, err := c.EnqueueJSON(t.Context(), "large", zeros(large))
		if err != nil {
			t.Fatal(err)
		}
		event, err := c.Publish(t.Context(), "large", json.RawMessage(fmt.Sprintf(`{"i":%d,"p":%q}`, i, strings.Repeat("x", large))))
		if err != nil {
			t.Fatal(err)
		}
		want["runs"], want["events"] = append([]string{run.ID()}, want["runs"]...), append([]string{event}, want["events"]...)
	}
	for _, list := range []string{"runs", "events"} {
		var got []string
		pages := 0
		for cursor := ""; pages == 0 || cursor != ""; pages++ {
			w, bytes := asked(t, h, "/api/"+list+"?limit=1000&cursor="+cursor)
			if w.Code != 200 || w.Body.Len() > 16<<20 || bytes > most {
				t.Fatalf("%s: %d, %d bytes, allocates %d", list, w.Code, w.Body.Len(), bytes)
			}
			var all struct {
				Runs, Events []struct {
					ID             string
					Input, Payload json.RawMessage
				}
				Next string
			}
			if err := json.Unmarshal(w.Body.Bytes(), &all); err != nil {
				t.Fatal(err)
			}
			for _, row := range append(all.Runs, all.Events...) {
				if len(row.Input)+len(row.Payload) < large {
					t.Errorf("%s has %d bytes of a payload", row.ID, len(row.Input)+len(row.Payload))
				}
				got = append(got, row.ID)
			}
			cursor = all.Next
		}
		if fmt.Sprint(got) != fmt.Sprint(want[list]) || pages < 3 {
			t.Errorf("%s, in %d pages:\n%q\nwant\n%q", list, pages, got, want[list])
		}
	}
}

// The page of a run shows the end of its stream, however many chunks there are.
func TestStreamEnd(t *testing.T) {
	c, h := opened(t)
	task := stint.NewTask(c, "tokens", func(ctx context.Context, n int) (int, error) {
		for i := range n {
			if err := stint.Stream(ctx, fmt.Appendf(nil, "token %d of a long answer, é%80s\n", i, "")); err != nil {
				return 0, err
			}
		}
		return n, nil
	})
	w, err := c.NewWorker()
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	defer func() { stop(); <-done }()
	for n, first := range map[int]string{500: "token 0 of", 1500: "token 1000 of"} {
		run, err := task.Enqueue(ctx, n)
		if err == nil {
			_, err = run.Wait(ctx)
		}
		if err != nil {
			t.Fatal(err)
		}
		page, _ := asked(t, h, "/runs/"+run.ID()+"?tab=stream", "Accept", "text/html")
		for _, text := range []string{first, fmt.Sprintf("token %d of", n-1)} {
			if !strings.Contains(page.Body.String(), text) {
				t.Errorf("of %d chunks the page does not show %q", n, text)
			}
		}
		if cut := strings.Contains(page.Body.String(), "Chunks "); cut != (n > 500) || page.Body.Len() > 256<<10 {
			t.Errorf("of %d chunks the page shows %d bytes; it says that it is cut: %v", n, page.Body.Len(), cut)
		}
	}
}

// All that a handler streamed, logged and recorded is listed, in parts.
func TestLargeStreams(t *testing.T) {
	c, h := opened(t)
	const n, large = 10, 2 << 20
	task := stint.NewTask(c, "large", func(ctx context.Context, _ int) (int, error) {
		for i := range n {
			if err := stint.Stream(ctx, bytes.Repeat([]byte("<"), large)); err != nil {
				return 0, err
			}
			stint.Logger(ctx).Info(strings.Repeat("x", 16<<10))
			if _, err := stint.Step(ctx, fmt.Sprint("s", i), func(context.Context) (string, error) { return strings.Repeat("x", large), nil }); err != nil {
				return 0, err
			}
		}
		return 0, nil
	})
	w, err := c.NewWorker()
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	defer func() { stop(); <-done }()
	run, err := task.Enqueue(ctx, 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := run.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	streamed := 0
	for chunk, err := range run.Stream(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		streamed += len(chunk)
	}
	if streamed != n*large {
		t.Errorf("Stream gives %d bytes", streamed)
	}
	for part, wantPages := range map[string]int{"stream": 3, "logs": 1, "journal": 3} {
		from := "after"
		if part == "journal" {
			from = "cursor"
		}
		rows, pages := 0, 0
		for next := ""; rows < n && pages < n; pages++ {
			w, bytes := asked(t, h, fmt.Sprintf("/api/runs/%s/%s?%s=%s", run.ID(), part, from, next))
			if w.Code != 200 || w.Body.Len() > 16<<20 || bytes > most {
				t.Fatalf("%s: %d, %d bytes, allocates %d", part, w.Code, w.Body.Len(), bytes)
			}
			var all struct {
				Chunks, Lines, Entries []json.RawMessage
				Next                   any
			}
			if err := json.Unmarshal(w.Body.Bytes(), &all); err != nil {
				t.Fatal(err)
			}
			rows, next = rows+len(all.Chunks)+len(all.Lines)+len(all.Entries), fmt.Sprint(all.Next)
		}
		if rows != n || pages < wantPages {
			t.Errorf("%s: %d rows in %d pages", part, rows, pages)
		}
	}
	if w, bytes := asked(t, h, "/runs/"+run.ID(), "Accept", "text/html"); w.Code != 200 || w.Body.Len() > 4<<20 || bytes > 2*most {
		t.Errorf("the run's page: %d, %d bytes, allocates %d", w.Code, w.Body.Len(), bytes)
	}
}

// The live pages of one client are limited; a closed one makes room.
func TestStreamsOfAClient(t *testing.T) {
	_, h := opened(t)
	server := httptest.NewServer(h)
	defer server.Close()
	client := server.Client()
	client.Transport.(*http.Transport).MaxConnsPerHost = 0
	open := func(ctx context.Context) *http.Response {
		t.Helper()
		r, err := http.NewRequestWithContext(ctx, "GET", server.URL+"/live?url=/alerts", nil)
		if err != nil {
			t.Fatal(err)
		}
		got, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	first, closeFirst := context.WithCancel(t.Context())
	defer closeFirst()
	rest, closeRest := context.WithCancel(t.Context())
	defer closeRest()
	for i := range 100 {
		ctx := rest
		if i == 0 {
			ctx = first
		}
		if got := open(ctx); got.StatusCode != 200 {
			t.Fatalf("stream %d: %s", i+1, got.Status)
		}
	}
	got := open(rest)
	text, _ := io.ReadAll(got.Body)
	got.Body.Close()
	if got.StatusCode != http.StatusTooManyRequests || got.Header.Get("Retry-After") == "" {
		t.Errorf("stream 101: %s, %v: %s", got.Status, got.Header, text)
	}
	closeFirst()
	for { // until the server has seen that it is closed
		got := open(rest)
		if got.StatusCode == 200 {
			return
		}
		got.Body.Close()
		runtime.Gosched()
	}
}

// A readerOf records what is written to it, and how much of it had a deadline.
type readerOf struct {
	*httptest.ResponseRecorder
	atOnce, largest int
}

func (r *readerOf) SetWriteDeadline(at time.Time) error {
	if !at.IsZero() {
		r.atOnce = 0
	}
	return nil
}

func (r *readerOf) Write(p []byte) (int, error) {
	r.atOnce += len(p)
	r.largest = max(r.largest, r.atOnce)
	return r.ResponseRecorder.Write(p)
}

// A reader has limited time for each part of an answer, so no answer stays in memory.
func TestSlowReader(t *testing.T) {
	c, h := opened(t)
	if _, err := c.EnqueueJSON(t.Context(), "large", zeros(3<<20)); err != nil {
		t.Fatal(err)
	}
	w := &readerOf{ResponseRecorder: httptest.NewRecorder()}
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", "/api/runs", nil))
	if w.Code != 200 || w.Body.Len() < 3<<20 || w.largest > 256<<10 {
		t.Errorf("%d: %d bytes, %d of them with one deadline", w.Code, w.Body.Len(), w.largest)
	}
}

// A request with too many values is refused before it is parsed, and costs little.
func TestBoundsOfRequests(t *testing.T) {
	c, h := opened(t)
	ids := strings.Repeat(`"01890a5d-ac96-774b-bcce-b302099a8057",`, 9_999) + `"01890a5d-ac96-774b-bcce-b302099a8057"`
	const form, object = "application/x-www-form-urlencoded", "application/json"
	for what, tt := range map[string]struct {
		method, path, kind, body string
		want                     int
	}{
		"query":               {"GET", "/api/runs?error=" + strings.Repeat("x", 4<<10), "", "", 200},
		"large query":         {"GET", "/api/runs?error=" + strings.Repeat("x", 64<<10), "", "", http.StatusRequestURITooLong},
		"large query, a page": {"GET", "/runs?error=" + strings.Repeat("x", 64<<10), "", "", http.StatusRequestURITooLong},
		"IDs":                 {"POST", "/api/runs.delete", object, `{"id": [` + ids + `]}`, 200},
		"many IDs":            {"POST", "/api/runs.delete", object, `{"id": [` + ids + "," + ids + "," + ids + `]}`, http.StatusRequestEntityTooLarge},
		"too many IDs":        {"POST", "/api/runs.delete", object, `{"id": [` + ids + `, ` + ids + `]}`, http.StatusBadRequest},
		"values":              {"POST", "/api/runs.delete", form, strings.Repeat("state=failed&", 900) + "state=failed", 200},
		"many values":         {"POST", "/api/runs.delete", form, strings.Repeat("task=a&", 1<<20), http.StatusRequestEntityTooLarge},
		"empty values":        {"POST", "/api/runs.delete", form, strings.Repeat("&", 7<<20), http.StatusRequestEntityTooLarge},
		"many elements":       {"POST", "/api/runs.delete", object, `{"task": [` + strings.Repeat(`"",`, 2<<20) + `""]}`, http.StatusRequestEntityTooLarge},
		"many fields":         {"POST", "/api/runs.delete", object, "{" + strings.Repeat(`"a":1,`, 1<<20) + `"b":1}`, http.StatusRequestEntityTooLarge},
		"large body":          {"POST", "/api/runs.delete", object, `{"task": "` + strings.Repeat("x", 8<<20) + `"}`, http.StatusRequestEntityTooLarge},
		"large form, chunked": {"POST", "/api/runs.delete", form, "task=" + strings.Repeat("x", 8<<20), http.StatusRequestEntityTooLarge},
		"large form":          {"POST", "/api/runs.delete", form, "task=" + strings.Repeat("x", 8<<20), http.StatusRequestEntityTooLarge},
		"large payload":       {"POST", "/api/events", object, `{"key": "k", "payload": "` + strings.Repeat("x", 5<<20) + `"}`, http.StatusBadRequest},
		"large key":           {"POST", "/api/events", object, `{"key": "` + strings.Repeat("x", 1<<20) + `", "payload": 1}`, http.StatusBadRequest},
		"list":                {"POST", "/api/runs.delete", object, `["a"]`, http.StatusBadRequest},
		"no JSON":             {"POST", "/api/runs.delete", object, `{"a"`, http.StatusBadRequest},
	} {
		r := httptest.NewRequestWithContext(t.Context(), tt.method, tt.path, strings.NewReader(tt.body))
		r.Header.Set("Content-Type", tt.kind)
		if strings.HasSuffix(what, "chunked") {
			r.ContentLength = -1
		}
		w := httptest.NewRecorder()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		h.ServeHTTP(w, r)
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; w.Code != tt.want || n > most || w.Body.Len() > 2000 {
			t.Errorf("%s: %d, want %d, allocates %d: %.300s", what, w.Code, tt.want, n, w.Body)
		}
	}
	if page, err := c.ListRuns(t.Context(), stint.RunFilter{}); err != nil || len(page.Runs) > 0 {
		t.Errorf("%v, %v", page, err)
	}
}

// A streamReader is a browser that reads a live page, and signals its first bytes.
type streamReader struct {
	*httptest.ResponseRecorder
	once  sync.Once
	reads func()
}

func (s *streamReader) Write(b []byte) (int, error) {
	s.once.Do(s.reads)
	return len(b), nil
}

// The live pages of all clients together are limited; a closed one makes room.
func TestLivePagesOfAll(t *testing.T) {
	_, h := opened(t)
	request := func(ctx context.Context, client int) *http.Request {
		r := httptest.NewRequestWithContext(ctx, "GET", "/live?url=/alerts", nil)
		r.RemoteAddr = fmt.Sprintf("10.0.0.%d:1234", client)
		return r
	}
	var pages, reading sync.WaitGroup
	defer pages.Wait()
	all, closeAll := context.WithCancel(t.Context())
	defer closeAll()
	last, closeLast := context.WithCancel(all)
	defer closeLast()
	ended := make(chan struct{})
	for i := range 1000 {
		reading.Add(1)
		w := &streamReader{ResponseRecorder: httptest.NewRecorder(), reads: reading.Done}
		pages.Go(func() {
			if i < 999 {
				h.ServeHTTP(w, request(all, i/100))
				return
			}
			h.ServeHTTP(w, request(last, i/100))
			close(ended)
		})
	}
	reading.Wait()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, request(t.Context(), 200))
	if w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), "1000 live pages are open") {
		t.Errorf("one more: %d %.200s", w.Code, w.Body)
	}
	closeLast()
	<-ended
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	again := &streamReader{ResponseRecorder: httptest.NewRecorder(), reads: stop}
	h.ServeHTTP(again, request(ctx, 200))
	if again.Code != http.StatusOK {
		t.Errorf("after one was closed: %d %.200s", again.Code, again.Body)
	}
}

// A stuckReader reads nothing of an answer until it is released.
type stuckReader struct {
	*httptest.ResponseRecorder
	once  sync.Once
	stuck func()
	letGo <-chan struct{}
}

func (s *stuckReader) Write(b []byte) (int, error) {
	s.once.Do(s.stuck)
	<-s.letGo
	return len(b), nil
}

// The memory of answers that clients have not read is limited: another request is refused for now,
// and answered once they are read. In a bubble, no request waits too long for its turn to be rendered, however slow the machine is.
func TestAnswersThatNobodyTakes(t *testing.T) { synctest.Test(t, answersThatNobodyTakes) }

func answersThatNobodyTakes(t *testing.T) {
	c, h := opened(t)
	run, err := stint.NewTask[string, int](c, "large", nil).Enqueue(t.Context(), strings.Repeat("x", 4<<20-2))
	if err != nil {
		t.Fatal(err)
	}
	request := func() *http.Request {
		return httptest.NewRequestWithContext(t.Context(), "GET", "/api/runs/"+run.ID(), nil)
	}
	letGo := make(chan struct{})
	var readers, stuck sync.WaitGroup
	for range 15 { // of 4 MiB and a little
		stuck.Add(1)
		w := &stuckReader{ResponseRecorder: httptest.NewRecorder(), stuck: stuck.Done, letGo: letGo}
		readers.Go(func() { h.ServeHTTP(w, request()) })
	}
	stuck.Wait()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, request())
	if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
		t.Errorf("one more: %d, %v", w.Code, w.Header())
	}
	close(letGo)
	readers.Wait()
	w = httptest.NewRecorder()
	if h.ServeHTTP(w, request()); w.Code != http.StatusOK || w.Body.Len() < 4<<20 {
		t.Errorf("when they are through: %d, %d bytes", w.Code, w.Body.Len())
	}
}
