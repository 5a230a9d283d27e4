package stint_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stint-dev/stint"
)

// syncBuffer is what a logger writes into.
type syncBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// What the library itself logs, and the errors that it makes, name runs, not what is in
// them: inputs, outputs and payloads are the app's secrets.
func TestNoPayloadIsLogged(t *testing.T) {
	const secret = "4111-1111-1111-1111"
	var logs syncBuffer
	path := filepath.Join(t.TempDir(), "secret.db")
	c, err := openAt(t, path, stint.WithLogger(slog.New(slog.NewTextHandler(&logs, &slog.HandlerOptions{Level: slog.LevelDebug}))))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	type card struct{ Number string }
	fails := stint.NewTask(c, "fails", func(context.Context, card) (card, error) { return card{secret}, errors.New("no") }, stint.WithRetries(1))
	panics := stint.NewTask(c, "panics", func(context.Context, card) (card, error) { panic("no") })
	slow := stint.NewTask(c, "slow", func(ctx context.Context, _ card) (card, error) { <-ctx.Done(); return card{}, ctx.Err() }, stint.WithTimeout(time.Millisecond))
	wrong := stint.NewTask[int, int](c, "wrong", nil)
	stint.NewTask(c, "typed", func(context.Context, int) (int, error) { return 0, nil }, stint.WithEvents("pay.*"))
	working(t, c)
	var errs []error
	for _, task := range []*stint.Task[card, card]{fails, panics, slow} {
		_, err := task.Run(t.Context(), card{secret}, stint.WithIdempotencyKey("k", time.Hour))
		errs = append(errs, err)
	}
	_, err = wrong.Enqueue(t.Context(), 1, stint.WithPriority(1000))
	errs = append(errs, err)
	if _, err := c.Publish(t.Context(), "pay.in", card{secret}); err != nil { // a run of typed fails to decode it
		t.Fatal(err)
	}
	page := listRuns(t, c, stint.RunFilter{Tasks: []string{"typed"}})
	_, err = stint.RunByID[int](c, page.Runs[0].ID).Wait(t.Context())
	errs = append(errs, err)
	for _, err := range errs {
		if err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("%v", err)
		}
	}
	if text := logs.String(); !strings.Contains(text, "fails") || strings.Contains(text, secret) {
		t.Errorf("logged:\n%s", text)
	}
	if serverURL != "" {
		return
	}
	all, err := filepath.Glob(path + "*")
	if err != nil || len(all) < 3 {
		t.Fatalf("%q, %v", all, err)
	}
	for _, name := range all { // the file, its log and its lock
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v: want it readable for its owner alone", name, info.Mode(), err)
		}
	}
}
