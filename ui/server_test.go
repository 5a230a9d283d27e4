package ui_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/stinttest"
	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/sqlite"
	"github.com/stint-dev/stint/ui"
)

// onServer is a store that says it is on a server.
type onServer struct {
	*sqlite.Store
	server store.Server
}

// Facts implements store.Health.
func (s *onServer) Facts(ctx context.Context) (store.Facts, error) {
	return store.Facts{Engine: "PostgreSQL 17.2", Schema: 1, Durability: "full", Size: 3 << 20, Server: &s.server}, nil
}

func serving(t *testing.T, server store.Server) http.Handler {
	t.Helper()
	file, err := sqlite.Open(":memory:", sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	c, err := stint.New(&onServer{file, server}, stint.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return ui.Handler(c, ui.WithLocalAccess(), ui.WithBackupDir(t.TempDir()))
}

func bodyOf(t *testing.T, h http.Handler, path string) string {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), "GET", "http://localhost:8080"+path, nil)
	r.RemoteAddr = "127.0.0.1:50000"
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	text, err := io.ReadAll(w.Body)
	if err != nil || w.Code != http.StatusOK {
		t.Fatalf("GET %s: %d, %v\n%.300s", path, w.Code, err, text)
	}
	return string(text)
}

// The health of a server shows what is a server's, marks what is bad, and hides what is a file's.
func TestHealthOfServer(t *testing.T) {
	good := store.Server{Address: "db.example.org:5432", Database: "orders", Schema: "stint", Connections: 12, MaxConnections: 100, Processes: 3,
		Listens: true, Skew: 2 * time.Millisecond, DeadRows: 1234, LiveRows: 5678, Standbys: 1, StandbyLag: 2048}
	bad := good
	bad.Connections, bad.Listens, bad.Skew, bad.StandbyLag = 95, false, -time.Hour, -1
	bad.OldestSnapshot, bad.SnapshotOf = 11*time.Minute, "process 7 of <psql>, role ann, idle in transaction"
	shows := map[*store.Server][]string{
		&good: {"<bdi>orders</bdi>, schema <bdi>stint</bdi>", "db.example.org:5432", "PostgreSQL 17.2, tables of version 1", "<dd>12 of 100</dd>",
			"heard by LISTEN", "<dd>less than 10 ms</dd>", "1,234, beside 5,678 live ones", "<dd>2.0 KiB, of 1</dd>", "<dt>Programs</dt><dd>3</dd>",
			"pg_dump", "<title>Health · orders</title>"},
		&bad: {`<strong class="error">95 of 100</strong>`, "polled", `<strong class="error">1 h 0 min behind this machine`,
			`<strong class="error"><bdi>11 min 0 s, process 7 of &lt;psql&gt;, role ann`, "unknown: this role needs pg_monitor"},
	}
	for server, want := range shows {
		page := bodyOf(t, serving(t, *server), "/health")
		for _, text := range want {
			if !strings.Contains(page, text) {
				t.Errorf("the page lacks %q:\n%s", text, page[strings.Index(page, "<main"):])
			}
		}
		for _, text := range []string{"checkpoint", "<dt>Log</dt>", "Back up now", "is free"} {
			if strings.Contains(page, text) {
				t.Errorf("the page of a server shows a file's %q", text)
			}
		}
		if server == &good && strings.Contains(page, "strong") {
			t.Error("the page marks what is good")
		}
	}
	h := serving(t, bad)
	answer := bodyOf(t, h, "/api/health")
	var got struct{ Server map[string]any }
	if err := json.Unmarshal([]byte(answer), &got); err != nil {
		t.Fatal(err)
	}
	for field, want := range map[string]any{"database": "orders", "schema": "stint", "connections": 95., "max_connections": 100., "listens": false,
		"skew_ms": -3600e3, "oldest_snapshot_ms": 660e3, "dead_rows": 1234., "standby_lag": -1.} {
		if got.Server[field] != want {
			t.Errorf("%s is %v, want %v", field, got.Server[field], want)
		}
	}
	for _, field := range []string{"free", "log_size", "checkpoint", "path"} {
		if strings.Contains(answer, `"`+field+`"`) {
			t.Errorf("the API tells a file's %s of a server: %s", field, answer)
		}
	}
	metrics := bodyOf(t, h, "/metrics")
	for _, line := range []string{"stint_server_connections 95\n", "stint_server_clock_skew_seconds -3600\n", "stint_server_oldest_snapshot_seconds 660\n"} {
		if !strings.Contains(metrics, line) {
			t.Errorf("the metrics lack %q", line)
		}
	}
	s := newShop(t) // the control: a file has what a server lacks, and the other way round
	_, file := s.ask("GET", "/api/health", "")
	_, metrics = s.ask("GET", "/metrics", "")
	if !strings.Contains(file, `"free"`) || !strings.Contains(file, `"checkpoint"`) || strings.Contains(file, `"server"`) ||
		strings.Contains(metrics, "stint_server") {
		t.Errorf("of a file: %s", file)
	}
}

// The page of a client on a real server.
func TestPageOnServer(t *testing.T) {
	if os.Getenv("STINT_DATABASE_URL") == "" {
		t.Skip("set STINT_DATABASE_URL to the URL of a PostgreSQL database")
	}
	c := stinttest.New(t)
	task := stint.NewTask(c, "greet", func(_ context.Context, name string) (string, error) { return "hello, " + name, nil }, stint.WithCron("@daily"))
	run, err := task.Enqueue(t.Context(), "ann")
	if err != nil {
		t.Fatal(err)
	}
	if err := stinttest.Drain(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	h := ui.Handler(c, ui.WithLocalAccess())
	for path, want := range map[string]string{"/": "greet", "/runs": "greet", "/runs/" + run.ID(): "hello, ann", "/tasks": "greet", "/queues": "default",
		"/limits": "Limits", "/workers": "Workers", "/schedules": "@daily", "/events": "Events", "/alerts": "Alerts", "/health": "PostgreSQL 1",
		"/api/health": `"listens":true`, "/metrics": "stint_server_connections", "/healthz": "ok"} {
		if got := bodyOf(t, h, path); !strings.Contains(got, want) {
			t.Errorf("%s lacks %q:\n%s", path, want, got)
		}
	}
}
