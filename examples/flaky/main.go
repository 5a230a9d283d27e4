// Command flaky calls a service that fails in typical ways, and shows how the engine reacts to
// each: it retries with backoff, waits as long as the service asks, and gives up at once where
// a retry cannot help.
//
//	go run ./examples/flaky -http localhost:8080
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/examples/internal/database"
	"github.com/stint-dev/stint/examples/internal/page"
)

func main() {
	httpAddr := flag.String("http", "", "show the runs on a web page at this `address`, until Ctrl-C")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	service := httptest.NewServer(&flakyService{})
	defer service.Close()
	if err := demo(ctx, service.URL, *httpAddr, log.Writer()); err != nil {
		log.Fatal(err)
	}
}

// flakyService answers the second request for a path that starts with /busy or /down.
type flakyService struct {
	busy, down atomic.Int32
}

func (s *flakyService) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case strings.HasPrefix(r.URL.Path, "/busy") && s.busy.Add(1) == 1:
		w.Header().Set("Retry-After", "1")
		http.Error(w, "too many requests", http.StatusTooManyRequests)
	case strings.HasPrefix(r.URL.Path, "/down") && s.down.Add(1) <= 2:
		http.Error(w, "down for a moment", http.StatusBadGateway)
	case strings.HasPrefix(r.URL.Path, "/gone"):
		http.Error(w, "no such thing", http.StatusGone)
	default:
		io.WriteString(w, "hello from "+r.URL.Path)
	}
}

// fetch is the handler. Its errors say whether to retry, and when.
func fetch(ctx context.Context, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", stint.NonRetryable(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		return "", err
	}
	switch {
	case res.StatusCode == http.StatusTooManyRequests:
		seconds, _ := strconv.Atoi(res.Header.Get("Retry-After"))
		return "", stint.RetryAfter(time.Duration(seconds)*time.Second, errors.New(res.Status))
	case res.StatusCode >= 500:
		return "", errors.New(res.Status)
	case res.StatusCode >= 400:
		return "", stint.NonRetryable(errors.New(res.Status))
	}
	return string(body), nil
}

// demo fetches four pages and prints the result of each.
func demo(ctx context.Context, base, httpAddr string, out io.Writer) error {
	c, err := database.Open("flaky", ":memory:", stint.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		return err
	}
	defer c.Close()
	shown, err := page.Serve(httpAddr, c)
	if err != nil {
		return err
	}
	defer shown.Close()
	task := stint.NewTask(c, "fetch", fetch,
		stint.WithRetries(3), stint.WithRetryBackoff(2, time.Second), stint.WithTimeout(10*time.Second))
	w, err := c.NewWorker()
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	var work sync.WaitGroup
	work.Go(func() { w.Run(ctx) })
	defer work.Wait()
	defer stop()

	runs, err := task.EnqueueMany(ctx, []string{base + "/fine", base + "/busy", base + "/down", base + "/gone"})
	if err != nil {
		return err
	}
	for _, r := range runs {
		body, err := r.Wait(ctx)
		info, ierr := r.Info(ctx)
		if ierr != nil {
			return ierr
		}
		var failed *stint.TaskError
		if errors.As(err, &failed) {
			body = failed.Err.Error()
		} else if err != nil {
			return err
		}
		fmt.Fprintf(out, "%s on attempt %d: %s\n", info.State, info.Attempt, body)
	}
	shown.Stay(ctx)
	return nil
}
