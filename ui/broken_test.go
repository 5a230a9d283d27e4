package ui_test

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/alert"
	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/ui"
	_ "modernc.org/sqlite"
)

// everything returns a client whose file has some of everything that the API lists, without a worker.
func everything(t *testing.T, opts ...ui.Option) (s *shop, path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "all.db")
	c, err := stint.Open(path, stint.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	type order struct{ ID int }
	work := stint.NewTask(c, "work", func(ctx context.Context, o order) (order, error) {
		stint.Logger(ctx).Info("working", "id", o.ID)
		if err := stint.Stream(ctx, []byte("line")); err != nil {
			return o, err
		}
		if _, err := stint.Step(ctx, "step", func(context.Context) (order, error) { return o, nil }); err != nil || o.ID > 0 {
			return o, err
		}
		return o, stint.NonRetryable(fmt.Errorf("no order %d", o.ID))
	}, stint.WithConcurrency(stint.Concurrency[order]{Name: "one", Key: func(order) string { return "k" }, Max: 1}),
		stint.WithEvents("e"), stint.WithMetadata(map[string]string{"a": "b"}), stint.WithRateLimit("r", 1))
	ok(c.SetRateLimit(t.Context(), "r", 1000, 1000))
	flow := stint.NewWorkflow[order](c, "flow")
	stint.AddTask(flow, "a", func(_ context.Context, o order) (order, error) { return o, nil })
	store.RegisterFilters(func(string) (store.Predicate, []string, error) {
		return func(*store.NewEvent, []byte) bool { return true }, nil, nil
	})
	t.Cleanup(func() { store.RegisterFilters(nil) })
	_, err = c.CreateFilter(t.Context(), stint.TriggerFilter{Task: "work", Scope: "s", Expression: "true", Payload: order{1}})
	ok(err)
	for _, name := range []string{"first", "second"} {
		ok(work.Cron(t.Context(), name, "@yearly", order{1}))
	}
	start := func(opts ...stint.WorkerOption) func() error {
		w, err := c.NewWorker(opts...)
		ok(err)
		ctx, stop := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- w.Run(ctx) }()
		return func() error { stop(); return <-done }
	}
	stop := start()
	s = &shop{t: t, c: c}
	for id := range 3 {
		r, err := work.Enqueue(t.Context(), order{id}, stint.WithIdempotencyKey(fmt.Sprint(id), time.Hour))
		ok(err)
		r.Wait(t.Context())
		s.ids = append(s.ids, r.ID())
		f, err := flow.Enqueue(t.Context(), order{id})
		ok(err)
		_, err = f.Wait(t.Context())
		ok(err)
		_, err = c.Publish(t.Context(), "other", order{id}, stint.WithMetadata(map[string]string{"a": "b"}))
		ok(err)
	}
	ok(stop())
	idle := start(stint.WithQueues("idle"))
	_, err = work.Enqueue(t.Context(), order{7}, stint.WithDelay(time.Hour))
	ok(err)
	a, err := alert.New(c, alert.Config{Rules: []alert.Rule{{Name: "rule"}}})
	ok(err)
	_, err = c.Publish(t.Context(), alert.EventKey("rule"), 7) // by somebody else
	ok(err)
	server := httptest.NewServer(ui.Handler(c, append(opts, ui.WithLocalAccess(), ui.WithAlerts(a))...))
	s.url = server.URL
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		server.CloseClientConnections()
		server.Close()
		idle()
		c.Close()
	})
	return s, path
}

// lists are the lists of the API, by path, with the field of the answer that has the rows.
func lists(id string) map[string]string {
	return map[string]string{
		"/api/runs": "runs", "/api/runs?task=work": "runs", "/api/runs?metadata=a%3Db": "runs", "/api/runs/" + id: "", "/api/runs/" + id + "/journal": "entries",
		"/api/runs/" + id + "/logs": "lines", "/api/runs/" + id + "/stream": "chunks", "/api/events": "events", "/api/crons": "crons", "/api/filters": "filters",
		"/api/queues": "queues", "/api/tasks": "tasks", "/api/workers": "workers", "/api/limits": "concurrency", "/api/stats?per_task=1": "", "/api/alerts": "rules", "/api/health": "",
	}
}

// read requests a list, which must be valid, and returns its length.
func (s *shop) read(path, list string) int {
	s.t.Helper()
	code, text := s.ask("GET", path, "")
	var fields map[string]json.RawMessage
	err := json.Unmarshal([]byte(text), &fields)
	if code != 200 || err != nil || !utf8.ValidString(text) {
		s.t.Errorf("GET %s: %d, %v: %.300q", path, code, err, text)
		return -1
	}
	var all []json.RawMessage
	json.Unmarshal(fields[list], &all)
	return len(all)
}

// An unreadable value in any column of the file hides no other: every list is complete, and every
// page is shown.
func TestOneBrokenValue(t *testing.T) {
	s, path := everything(t)
	id := s.ids[0]
	whole := map[string]int{}
	for path, list := range lists(id) {
		whole[path] = s.read(path, list)
	}
	db, err := sql.Open("sqlite", path+"?_pragma=busy_timeout(30000)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, column := range []string{
		"stint_runs.input", "stint_runs.output", "stint_runs.error", "stint_runs.metadata", "stint_runs.limits", "stint_inputs.data",
		"stint_journal.value", "stint_journal.error", "stint_logs.attrs", "stint_logs.message", "stint_attempts.error", "stint_events.payload", "stint_events.metadata",
		"stint_crons.input", "stint_crons.template", "stint_filters.payload", "stint_workers.queues", "stint_workers.labels", "stint_workers.tasks",
	} {
		table, name, _ := strings.Cut(column, ".")
		for _, broken := range []string{"{", "", "\xff", "\"\xff\"", "[1", "7", `{"a":1}`, `"text"`, strings.Repeat("[", 20000)} {
			damage(t, db, table, name, broken, func() {
				for path, list := range lists(id) { // the names of tasks that ran come in later, with the figures
					if n := s.read(path, list); n >= 0 && n != whole[path] && !strings.Contains(path, "metadata") && !(list == "tasks" && n > whole[path]) {
						t.Errorf("%s is %.20q: GET %s has %d, of %d", column, broken, path, n, whole[path])
					}
				}
				for _, page := range []string{"/", "/runs", "/runs/" + id, "/runs/" + id + "?tab=logs", "/events", "/schedules", "/workers", "/limits"} {
					if code, text := s.ask("GET", page, "", "Accept", "text/html"); code != 200 {
						t.Errorf("%s is %.20q: GET %s: %d %.300s", column, broken, page, code, text)
					}
				}
				if _, err := s.c.ExportJournal(t.Context(), id); err != nil {
					t.Errorf("%s is %.20q: export: %v", column, broken, err)
				}
			})
			if t.Failed() {
				return
			}
		}
	}
}

// damage writes a value into all rows of a column but the last, while f runs.
func damage(t *testing.T, db *sql.DB, table, column, broken string, f func()) {
	t.Helper()
	exec := func(query string, args ...any) {
		t.Helper()
		if _, err := db.Exec(query, args...); err != nil {
			t.Fatalf("%s: %v", query, err)
		}
	}
	var kind, id string
	if err := db.QueryRow("SELECT type FROM pragma_table_info(?) WHERE name = ?", table, column).Scan(&kind); err != nil {
		t.Fatalf("%s.%s: %v", table, column, err)
	}
	if err := db.QueryRow("SELECT group_concat(? || '.' || name, ' || '','' || ') FROM pragma_table_info(?) WHERE pk > 0", table, table).Scan(&id); err != nil {
		t.Fatalf("key of %s: %v", table, err)
	}
	exec(fmt.Sprintf("CREATE TABLE saved AS SELECT %s AS id, %s AS value FROM %s", id, column, table))
	exec(fmt.Sprintf("UPDATE %s SET %s = CAST(? AS %s)", table, column, kind), []byte(broken))
	f()
	exec(fmt.Sprintf("UPDATE %s SET %s = (SELECT value FROM saved WHERE saved.id = %s)", table, column, id))
	exec("DROP TABLE saved")
}

// Whatever WithRedact returns, every answer is JSON, every page is shown, and hidden values stay
// hidden.
func TestRedactorsOfAllKinds(t *testing.T) {
	for name, redact := range map[string]func(ui.Payload) json.RawMessage{
		"no JSON":   func(ui.Payload) json.RawMessage { return json.RawMessage("[hidden") },
		"empty":     func(ui.Payload) json.RawMessage { return json.RawMessage{} },
		"nil":       func(ui.Payload) json.RawMessage { return nil },
		"no UTF-8":  func(ui.Payload) json.RawMessage { return json.RawMessage("\"\xff\"") },
		"two":       func(ui.Payload) json.RawMessage { return json.RawMessage("1 2") },
		"panics":    func(p ui.Payload) json.RawMessage { panic(string(p.JSON)) },
		"one of it": func(p ui.Payload) json.RawMessage { return p.JSON[:min(1, len(p.JSON))] },
	} {
		t.Run(name, func(t *testing.T) {
			log := slog.Default()
			slog.SetDefault(slog.New(slog.DiscardHandler))
			defer slog.SetDefault(log)
			s, _ := everything(t, ui.WithRedact(redact))
			for path, list := range lists(s.ids[0]) {
				if n := s.read(path, list); n == 0 && path == "/api/runs" {
					t.Error("no run is listed")
				}
			}
			for _, page := range []string{"/", "/runs", "/runs/" + s.ids[0], "/runs/" + s.ids[0] + "?tab=logs", "/events", "/schedules"} {
				code, text := s.ask("GET", page, "", "Accept", "text/html")
				if code != 200 || strings.Contains(text, "&#34;ID&#34;") {
					t.Errorf("GET %s: %d %.500s", page, code, text)
				}
			}
			if _, text := s.ask("GET", "/api/runs", ""); name == "no JSON" && !strings.Contains(text, `"input":"(not JSON: [hidden)"`) {
				t.Errorf("what is returned is not shown: %.500s", text)
			}
		})
	}
}

// A page's live content is complete, whatever line ends it has.
func TestLiveLines(t *testing.T) {
	s := newShop(t)
	if _, err := s.c.Publish(t.Context(), "a\rb\r\nc\nd", 1); err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(t.Context(), "GET", s.url+"/live?url="+url.QueryEscape("/events?key=a%0Db%0D%0Ac%0Ad"), nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer got.Body.Close()
	for lines := bufio.NewScanner(got.Body); lines.Scan() && lines.Text() != ""; {
		if line := lines.Text(); !strings.HasPrefix(line, "data: ") && !strings.HasPrefix(line, "event: ") || strings.Contains(line, "\r") {
			t.Errorf("a line is %.200q", line)
		}
	}
}

// If the file is gone, the status says that the request is not at fault.
func TestFileGone(t *testing.T) {
	s := newShop(t)
	db, err := s.c.Database(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	run := func() int {
		status, _ := s.ask("POST", "/api/tasks/charge/runs", `{"input": 1}`, "Content-Type", asJSON)
		return status
	}
	if err := os.Rename(db.Path, db.Path+"2"); err != nil {
		t.Fatal(err)
	}
	if status := run(); status != http.StatusServiceUnavailable {
		t.Errorf("without its file: status %d, want 503", status)
	}
	if err := os.Rename(db.Path+"2", db.Path); err != nil {
		t.Fatal(err)
	}
	if status := run(); status != http.StatusOK { // the control
		t.Errorf("with its file: status %d", status)
	}
}
