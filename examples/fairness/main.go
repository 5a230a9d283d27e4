// Command fairness shows three tenants that call an HTTP service which accepts 40 requests a
// second and answers others with 429. One tenant is greedy: it enqueues 70 calls first, the
// others 10 each. First without limits: the greedy tenant's calls come first, and the service
// refuses most calls, which are retried; the small tenants wait as long as the greedy one. Then
// with tenants that take turns, two calls at a time each, and the service's rate as a rate limit:
// the small tenants are done long before the greedy one, and the service refuses nothing.
//
//	go run ./examples/fairness -http localhost:8080
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
	"sync/atomic"
	"syscall"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/examples/internal/database"
	"github.com/stint-dev/stint/examples/internal/page"
	"golang.org/x/time/rate"
)

const (
	perSecond = 40 // that the service takes
	burst     = 5
)

// A call is one request of a tenant.
type call struct {
	Tenant string
	N      int
}

func main() {
	path := flag.String("db", ":memory:", "database file; :memory: keeps nothing")
	httpAddr := flag.String("http", "", "show the runs on a web page at this `address`, until Ctrl-C")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	for _, limited := range []bool{false, true} {
		if err := demo(ctx, *path, *httpAddr, limited, os.Stdout); err != nil {
			log.Fatal(err)
		}
	}
}

// service returns the HTTP service. It counts the requests that it refuses.
func service(refused *atomic.Int64) *httptest.Server {
	limit := rate.NewLimiter(perSecond, burst)
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if !limit.Allow() {
			refused.Add(1)
			http.Error(w, "too many requests", http.StatusTooManyRequests)
			return
		}
		time.Sleep(10 * time.Millisecond)
		io.WriteString(w, "ok")
	}))
}

// limits makes tenants take turns and stays a little below the service's rate.
func limits() []stint.TaskOption {
	return []stint.TaskOption{
		stint.WithConcurrency(stint.Concurrency[call]{
			Key: func(c call) string { return c.Tenant }, Max: 2, Strategy: stint.StrategyGroupRoundRobin,
		}),
		stint.WithRateLimit("service", 1),
	}
}

// demo enqueues the calls of all tenants and prints when each tenant's were done.
func demo(ctx context.Context, path, httpAddr string, limited bool, out io.Writer) error {
	client, err := database.Open("fairness", path, stint.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		return err
	}
	defer client.Close()
	shown, err := page.Serve(httpAddr, client)
	if err != nil {
		return err
	}
	defer shown.Close()
	var refused atomic.Int64
	server := service(&refused)
	defer server.Close()
	opts := []stint.TaskOption{stint.WithRetries(50), stint.WithRetryBackoff(1, 100*time.Millisecond)}
	title := "without limits"
	if limited {
		title, opts = "with limits", append(opts, limits()...)
		if err := client.SetRateLimit(ctx, "service", perSecond*8/10, burst/2); err != nil {
			return err
		}
	}
	task := stint.NewTask(client, title, func(ctx context.Context, c call) (string, error) { return get(ctx, server.URL) }, opts...)
	begun := time.Now()
	runs := map[string][]*stint.Run[string]{}
	tenants := []string{"greedy", "small", "tiny"}
	counts := map[string]int{"greedy": 70, "small": 10, "tiny": 10}
	for _, tenant := range tenants {
		calls := make([]call, counts[tenant])
		for i := range calls {
			calls[i] = call{tenant, i}
		}
		if runs[tenant], err = task.EnqueueMany(ctx, calls); err != nil {
			return err
		}
	}
	worker, err := client.NewWorker(stint.WithSlots(8))
	if err != nil {
		return err
	}
	working, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- worker.Run(working) }()
	err = report(ctx, out, title, begun, tenants, runs)
	fmt.Fprintf(out, "  the service refused %d calls\n", refused.Load())
	if limited && err == nil {
		shown.Stay(ctx)
	}
	stop()
	return errors.Join(err, <-ended)
}

// report waits for each tenant's runs and prints how long they took.
func report(ctx context.Context, out io.Writer, title string, begun time.Time, tenants []string,
	runs map[string][]*stint.Run[string]) error {
	fmt.Fprintf(out, "%s:\n", title)
	for _, tenant := range tenants {
		var last time.Time
		for _, r := range runs[tenant] {
			if _, err := r.Wait(ctx); err != nil {
				return err
			}
			info, err := r.Info(ctx)
			if err != nil {
				return err
			}
			if info.Finished.After(last) {
				last = info.Finished
			}
		}
		fmt.Fprintf(out, "  %-6s  %2d calls, done after %.1f s\n", tenant, len(runs[tenant]), last.Sub(begun).Seconds())
	}
	return nil
}

// get calls the service.
func get(ctx context.Context, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("the service says %s", resp.Status)
	}
	return string(body), err
}
