package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/examples/internal/database"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Webhooks over HTTP start and wake the right runs, once.
func TestSent(t *testing.T) {
	database.Empty(t, "webhooks")
	c, err := database.Open("webhooks", filepath.Join(t.TempDir(), "w.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	said := make(chan string, 10)
	srv := httptest.NewServer(define(c, func(format string, args ...any) { said <- fmt.Sprintf(format, args...) }))
	defer srv.Close()
	defer http.DefaultClient.CloseIdleConnections()
	stop := work(t, c)
	defer stop()
	var out bytes.Buffer
	if err := sendAll(t.Context(), srv.URL, &out); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(out.String(), "\n")
	for i, want := range []string{"an order: 200", "an issue: 200", "the same delivery: 200", "a payment: 200", "a forged payment: 401"} {
		if !strings.HasPrefix(lines[i], want) {
			t.Errorf("%q, want %q", lines[i], want)
		}
	}
	var got []string
	for len(got) < 3 {
		if s := <-said; !strings.HasPrefix(s, "digest") { // should a minute begin just now
			got = append(got, s)
		}
	}
	slices.Sort(got)
	if want := []string{"order 7: paid 2000", "order 7: waits for its payment", `triage: issue 42, "It does not start"`}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// The digest comes each minute, and counts the minute's events.
func TestDigest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		database.Empty(t, "webhooks")
		c, err := database.Open("webhooks", ":memory:")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		var said []string
		define(c, func(format string, args ...any) { said = append(said, fmt.Sprintf(format, args...)) })
		defer work(t, c)()
		time.Sleep(90 * time.Second)
		if _, err := c.Publish(t.Context(), "github.push", struct{}{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		want := []string{"digest of the last minute: map[]", "digest of the last minute: map[github.push:1]"}
		if !slices.Equal(said, want) {
			t.Errorf("%q, want %q", said, want)
		}
	})
}

func work(t *testing.T, c *stint.Client) (stop func()) {
	w, err := c.NewWorker()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { w.Run(ctx) })
	return func() { cancel(); wg.Wait() }
}
