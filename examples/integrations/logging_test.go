package integrations

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stint-dev/stint"
	"go.uber.org/zap"
	"go.uber.org/zap/exp/zapslog"
	"go.uber.org/zap/zapcore"
)

// A logBuffer is written by several goroutines.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) Sync() error { return nil }

func (l *logBuffer) lines() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Split(strings.TrimSpace(l.b.String()), "\n")
}

// A handler's lines reach the app's log with the run's ID and task, and are stored with the run whatever the app's log keeps.
func TestLogging(t *testing.T) {
	for name, handler := range map[string]func(*logBuffer) slog.Handler{
		"slog": func(w *logBuffer) slog.Handler { return slog.NewJSONHandler(w, nil) },
		"zap": func(w *logBuffer) slog.Handler {
			config := zap.NewProductionEncoderConfig()
			config.MessageKey = "msg"
			return zapslog.NewHandler(zapcore.NewCore(zapcore.NewJSONEncoder(config), w, zap.InfoLevel))
		},
		"errors only": func(w *logBuffer) slog.Handler {
			return slog.NewJSONHandler(w, &slog.HandlerOptions{Level: slog.LevelError})
		},
	} {
		t.Run(name, func(t *testing.T) {
			var w logBuffer
			s := newShop(t, stint.WithLogger(slog.New(handler(&w))))
			if _, err := s.db.Exec("INSERT INTO orders (item) VALUES ('tea')"); err != nil {
				t.Fatal(err)
			}
			s.work(t)
			run, err := s.confirm.Enqueue(t.Context(), 1)
			if err == nil {
				_, err = run.Wait(t.Context())
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := w.confirming(t, run.ID()); got != (name != "errors only") {
				t.Errorf("the app's log has the line: %v\n%s", got, strings.Join(w.lines(), "\n"))
			}
			s.hasStored(t, run.ID())
		})
	}
}

// confirming reports whether the log has the task's line, with what it belongs to.
func (l *logBuffer) confirming(t *testing.T, run string) bool {
	for _, line := range l.lines() {
		var x struct {
			Msg, Run, Task string
			Attempt, Order int
		}
		if line != "" && json.Unmarshal([]byte(line), &x) == nil && x.Msg == "confirming" {
			if x.Run != run || x.Task != "confirm" || x.Attempt != 1 || x.Order != 1 {
				t.Errorf("the line lacks something: %s", line)
			}
			return true
		}
	}
	return false
}

// hasStored waits until the line is stored with the run.
func (s *shop) hasStored(t *testing.T, run string) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.After(2 * time.Minute); ; {
		logs, err := s.client.Logs(t.Context(), run, 0, 10)
		if err != nil {
			t.Fatal(err)
		}
		if len(logs) > 0 {
			return
		}
		select {
		case <-tick.C:
		case <-end:
			t.Fatal("the line is not stored")
		}
	}
}
